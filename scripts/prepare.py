"""Prepare a data set: raw files to event log, sequence store and snapshots; see --help."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="prepare")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.prepare import prepare
    from seqjourney.config import DataConfig, TaskConfig, parse

    data = parse(DataConfig, cli.to_plain(cfg)["data"], "data")
    tasks = [
        parse(TaskConfig, cli.to_plain(hydra.compose("train", [f"task={name}"]))["task"], name)
        for name in data.tasks
    ]
    # Each task of a data config has an experiment of the same name.
    chosen = HydraConfig.get().runtime.choices["data"]
    experiments = Path(__file__).parents[1] / "configs/experiment"
    named = f"data={chosen}" + f" data.name={data.name}" * (data.name != chosen)
    following = (
        f"experiment={data.tasks[0]}"
        if data.tasks and (experiments / f"{data.tasks[0]}.yaml").exists()
        else f"{named} 'task.target=[...]'"
    )
    prepare(data, Path(cfg.processed), tasks, named=named, following=following)


if __name__ == "__main__":
    cli.run(main)
