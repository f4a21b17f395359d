"""Score all customers with a trained run; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="score")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.score import score
    from seqjourney.errors import ConfigError

    data = cfg.get("data")
    # Of prepared data only the name counts here; where it came from may be left out.
    options = cli.to_plain(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "data"]))
    prepared, cutoff = options["prepared"], options["cutoff"]
    if data and prepared:
        raise ConfigError("give one of data and prepared, not both.")
    if data:
        prepared = Path(options["processed"]) / data.name
    score(
        Path(options["run"]),
        prepared=Path(prepared) if prepared else None,
        events=options["events"],
        cutoff=None if cutoff is None else str(cutoff),
        output=Path(options["output"]) if options["output"] else None,
        backend=options["backend"],
        threads=options["threads"],
        overdue=options["overdue"],
        k=options["k"],
        certificate=Path(options["certificate"]) if options["certificate"] else None,
    )


if __name__ == "__main__":
    cli.run(main)
