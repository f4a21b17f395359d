"""A search that goes on: what is counted in the study that Optuna left."""

from pathlib import Path

import pytest

from seqjourney import sweeps


@pytest.fixture(autouse=True)
def a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what a test leaves is undone and reaches no other test's commands.
    monkeypatch.setenv("SEQJOURNEY_TRIALS_BEFORE", "")
    monkeypatch.delenv("SEQJOURNEY_TRIALS_BEFORE")


def test_a_new_search_begins_at_nothing_and_makes_its_folder(tmp_path: Path):
    folder = sweeps.existing_folder(str(tmp_path / "sweep"))
    assert sweeps.trials_before(folder) == 0
    assert sweeps.trials_left(20, folder) == 20
    assert sweeps.trial(3, folder) == 3


@pytest.mark.filterwarnings("ignore")  # of optuna 2's own libraries
def test_unfinished_trials_keep_their_number_and_are_tried_again(tmp_path: Path):
    optuna = pytest.importorskip("optuna", reason="needs the sweep extra")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="s")
    for _ in range(2):
        study.tell(study.ask(), 0.5)
    study.ask()  # and interrupted
    folder = str(tmp_path)
    assert sweeps.trials_left(5, folder) == 3
    assert sweeps.trials_left(1, folder) == 0
    assert sweeps.trial(0, folder) == 3
    study.ask()
    assert sweeps.trial(1, folder) == 4  # counted once, when the search began


@pytest.mark.parametrize(("shift", "end"), [("0d", ""), ("0 d", ""), ("30d", "_shift_30d")])
def test_a_search_on_an_earlier_period_has_another_name(shift: str, end: str):
    assert sweeps.shifted(shift) == end
