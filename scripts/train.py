"""Train one model, or several with -m; see --help."""

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
@cli.mendable
def main(cfg: DictConfig) -> float:
    from seqjourney.config import Config, NextConfig, parse

    cli.check_search()
    settings = cli.to_plain(cli.take_prepared_data(cli.leave_out_settings_that_know_too_much(cfg)))
    if settings["task"].get("kind") == "next":
        from seqjourney.commands.train_next import train_next

        return train_next(parse(NextConfig, settings, "configuration")).validation["mrr@20"]
    from seqjourney.commands.train import train

    settings = cli.take_other_tasks(settings)

    return train(parse(Config, settings, "configuration")).objective


if __name__ == "__main__":
    cli.run(main)
