"""`seqjourney.load`: a run or an exported file → something that scores a frame of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjourney import predictors
from seqjourney.config import NextConfig, NextTaskConfig, TaskConfig, config_of_run, parse
from seqjourney.errors import DataError
from seqjourney.evaluation.calibration import read_calibrator
from seqjourney.events.consent.policy import ConsentPolicy
from seqjourney.events.ledger import Overdue, require_current
from seqjourney.files import read_json
from seqjourney.provenance import model_fingerprint
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.next_scorer import ExportedNext, NextScorer
from seqjourney.serving.scorer import Scorer
from seqjourney.serving.tokens import READING

if TYPE_CHECKING:
    from seqjourney.baselines.next_counts import NextCounts
    from seqjourney.models.next_network import NextNetworkPredictor


def load(path: str | Path, overdue: Overdue = "refuse") -> Scorer | NextScorer:
    """Load a run directory or an exported TorchScript file for scoring.

    Args:
        path: the folder or the file.
        overdue: what to do with a model that saw a customer who has been erased since, and that
            should have been retrained by now: `refuse` it, or `allow` it with a warning.

    Raises:
        DataError: it is neither, or damaged, or overdue for retraining.
    """
    place = Path(path)
    require_current(place if place.is_dir() else place.parent, overdue)
    if place.is_dir():
        return _load_run(place)
    if place.is_file():
        return _load_export(place)
    raise DataError(f"{place} does not exist; give a run directory or an exported file.")


def _load_run(folder: Path) -> Scorer | NextScorer:
    if not (folder / "run.json").exists():
        raise DataError(f"{folder} is not a run: it has no run.json. Train the model first.")
    with _ours(folder / "run.json") as path:
        about = read_json(path)
        config = config_of_run(about["config"], str(path))
        if isinstance(config, NextConfig):
            return _load_next_run(folder, config)
        kind, calibrator = about["kind"], read_calibrator(about["calibrator"], path)
        values, horizons = about.get("value_calibrator"), about.get("horizon_calibrators")
    with _ours(folder / "task.json") as path:
        task = parse(TaskConfig, read_json(path)["task"], str(path))
    with _ours(folder / ("model.pt" if kind in predictors.NETWORKS else "model.json")):
        model = predictors.load(folder, kind)
    return Scorer(
        model,
        Tokenizer.load(folder / "tokenizer.json"),
        calibrator,
        task,
        config.data.model_dump(include=set(READING)),
        config.data.consent,
        kind,
        config.data.name,
        model_fingerprint(folder),
        values,
        horizons,
    )


def _load_next_run(folder: Path, config: NextConfig) -> NextScorer:
    kind = config.model.kind
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    model: NextNetworkPredictor | NextCounts
    if kind in predictors.NETWORKS:
        from seqjourney.models.next_network import NextNetworkPredictor

        model = NextNetworkPredictor.load(folder)
        assert model.tokenizer is not None
        tokenizer = model.tokenizer
    else:
        from seqjourney.baselines.next_counts import NextCounts

        with _ours(folder / "model.json"):
            model = NextCounts.load(folder)
    return NextScorer(
        model,
        tokenizer,
        config.task,
        config.data.model_dump(include=set(READING)),
        kind,
        config.data.name,
        model_fingerprint(folder),
    )


class Exported:
    """An exported network: the same batches through TorchScript."""

    def __init__(self, module: Any, tokenizer: Tokenizer, context: int, horizons: int = 0):
        self.module, self._tokenizer, self.context = module, tokenizer, context
        self._horizons = horizons

    def score(self, data: TaskData) -> np.ndarray:
        """Return one score per snapshot; see `Predictor.score`."""
        if self._horizons:
            return self.score_each(data)[:, -1]
        answers = self._answers(data)
        return answers if answers.ndim == 1 else answers[:, 0]

    def score_each(self, data: TaskData) -> np.ndarray:
        """Return scores by each horizon; see `HorizonPredictor`."""
        return self._answers(data).reshape(-1, self._horizons)

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and amounts of a task that sums; see `ValuePredictor`."""
        from seqjourney.models.network import scores_and_amounts

        return scores_and_amounts(self._answers(data))

    def _answers(self, data: TaskData) -> np.ndarray:
        from seqjourney.models.network import score_windows

        return score_windows(self.module, data, self._tokenizer, self.context)


def _load_export(file: Path) -> Scorer | NextScorer:
    from seqjourney.serving.backends import open_program

    module, content = open_program(file)
    if not content["seqjourney.json"]:
        raise DataError(f"{file} carries no tokenizer: it was not written by scripts/export.py.")
    with _ours(file):
        about = json.loads(content["seqjourney.json"])
        tokenizer = Tokenizer.from_dict(json.loads(content["tokenizer.json"]))
        if about["task"]["kind"] == "next":
            return NextScorer(
                ExportedNext(module, tokenizer, about["context"]),
                tokenizer,
                parse(NextTaskConfig, about["task"], str(file)),
                about["reading"],
                about["model"],
                about["data"],
                about["fingerprint"],
            )
        task = parse(TaskConfig, about["task"], str(file))
        return Scorer(
            Exported(module, tokenizer, about["context"], len(task.by_horizon())),
            tokenizer,
            read_calibrator(about["calibrator"], file),
            task,
            about["reading"],
            parse(ConsentPolicy, about["consent"], str(file)),
            about["model"],
            about.get("data", about["name"]),
            about.get("fingerprint", ""),
            about.get("value_calibrator"),
            about.get("horizon_calibrators"),
        )


@contextmanager
def _ours(path: Path) -> Iterator[Path]:
    """Name the file whose content is not what we write."""
    try:
        yield path
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path} does not hold what this version writes there ({error!r}); write it again."
        ) from error
