"""Configurations as the scripts would get them."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]


def composed(name: str, *overrides: str) -> dict[str, Any]:
    """Return a configuration as the script of that name would get it."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose(name, list(overrides))
    return {str(k): v for k, v in OmegaConf.to_container(cfg, resolve=True).items()}
