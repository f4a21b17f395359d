"""A search that goes on: what is counted in the study that Optuna left."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from seqjourney import sweeps


def sweep_of(folder: Path, wanted: int) -> DictConfig:
    """As Hydra gives a callback the configuration: read-only."""
    sweeper = {"n_trials": wanted, "sampler": {"seed": None}}
    hydra = {"sweep": {"dir": str(folder)}, "sweeper": sweeper, "overrides": {"hydra": []}}
    config = OmegaConf.create({"hydra": hydra, "processed": str(folder), "data": {"name": "shop"}})
    OmegaConf.set_readonly(config.hydra, True)
    OmegaConf.set_struct(config, True)
    return config


def test_a_new_search_begins_at_nothing_and_makes_its_folder(tmp_path: Path, capsys):
    config = sweep_of(Path(sweeps.existing_folder(str(tmp_path / "sweep"))), 20)
    sweeps.Search().on_multirun_start(config)
    assert config.hydra.sweeper == {"n_trials": 20, "sampler": {"seed": 0}}
    assert config.hydra.overrides.hydra == ["hydra.callbacks.search.before=0"]
    assert not capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # of optuna 2's own libraries
def test_unfinished_trials_keep_their_number_and_are_tried_again(tmp_path: Path, capsys):
    optuna = pytest.importorskip("optuna", reason="needs the sweep extra")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="s")
    for _ in range(2):
        study.tell(study.ask(), 0.5)
    study.ask()  # and interrupted
    for wanted, left, words in ((5, 3, "3 more to go."), (1, 0, "Ask for more with hydra.sweep")):
        config = sweep_of(tmp_path, wanted)
        sweeps.Search().on_multirun_start(config)
        assert config.hydra.sweeper.n_trials == left
        assert config.hydra.sweeper.sampler.seed == 3
        assert config.hydra.overrides.hydra == ["hydra.callbacks.search.before=3"]
        said = f"2 trials are finished, {wanted} are asked for. {words}"
        assert said in capsys.readouterr().out
    assert sweeps.trial(1, 3) == 4
    given = sweep_of(tmp_path, 5)
    given.hydra.sweeper.sampler._set_flag("readonly", False)
    given.hydra.sweeper.sampler.seed = 7
    sweeps.Search().on_multirun_start(given)
    assert given.hydra.sweeper.sampler.seed == 7


@pytest.mark.parametrize(
    ("shift", "end"),
    [("0d", ""), ("0 d", ""), ("00h", ""), ("30d", "_shift_30d"), ("4w", "_shift_28d")],
)
def test_a_search_on_an_earlier_period_has_another_name(shift: str, end: str):
    assert sweeps.shifted(shift) == end
