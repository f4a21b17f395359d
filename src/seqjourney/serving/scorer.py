"""A trained model with all that it needs to score a frame of events; see `loading.load`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa

from seqjourney.config import TaskConfig
from seqjourney.errors import DataError
from seqjourney.evaluation.calibration import Calibrator
from seqjourney.evaluation.gate import Certificate
from seqjourney.events.consent.policy import ConsentPolicy
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.flagging import may_be_acted_on, read_certificate
from seqjourney.serving.loaded import ASKED, WHO, Loaded, moment_of, require_frame


class _Scores(Protocol):
    def score(self, data: TaskData) -> np.ndarray: ...


@runtime_checkable
class _ValueScores(_Scores, Protocol):
    """What a task that sums asks of a model."""

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """See `ValuePredictor`."""
        ...


@runtime_checkable
class _HorizonScores(_Scores, Protocol):
    """What a task of several horizons asks of a model."""

    def score_each(self, data: TaskData) -> np.ndarray:
        """See `HorizonPredictor`."""
        ...


class Scorer(Loaded):
    """A trained model with its tokenizer and calibrator."""

    def __init__(
        self,
        model: _Scores,
        tokenizer: Tokenizer,
        calibrator: Calibrator,
        task: TaskConfig,
        reading: dict[str, Any],
        consent: ConsentPolicy,
        kind: str,
        trained_on: str,
        fingerprint: str,
        value_calibrator: dict[str, Any] | None = None,
        horizon_calibrators: dict[str, Any] | None = None,
    ):
        from seqjourney.evaluation.horizons import HorizonCalibrator
        from seqjourney.evaluation.value_calibration import ValueCalibrator

        super().__init__(tokenizer, reading, consent, kind, trained_on, fingerprint)
        self.model, self.task, self.calibrator = model, task, calibrator
        if (task.kind == "sum") != (value_calibrator is not None):
            raise DataError(
                f"task '{task.name}' is of kind {task.kind}, but the model's value_calibrator is "
                f"{'there' if value_calibrator else 'missing'}; train or export it again."
            )
        self.value_calibrator = (
            None if value_calibrator is None else ValueCalibrator.from_dict(value_calibrator)
        )
        if list(task.by_horizon()) != list(horizon_calibrators or ()):
            raise DataError(
                f"task '{task.name}' has horizons {', '.join(task.by_horizon()) or 'none'}, and "
                f"the model's calibrators are of {', '.join(horizon_calibrators or ()) or 'none'}; "
                "train or export it again."
            )
        self.horizon_calibrator = (
            None
            if horizon_calibrators is None
            else HorizonCalibrator.from_dict(horizon_calibrators, f"task '{task.name}'")
        )

    @property
    def columns(self) -> list[tuple[str, pa.DataType]]:
        """Columns of its scores in bulk, with their types."""
        value = [("expected_value", pa.float64())] if self.value_calibrator is not None else []
        value += [(name, pa.float64()) for name in self.horizon_columns]
        withheld = [("withheld", pa.string())] if self.consent.purpose is not None else []
        score = [("score", pa.float64()), ("probability", pa.float64())]
        return [*ASKED, *score, *WHO, *value, *withheld]

    @property
    def horizon_columns(self) -> list[str]:
        """Columns of a task with several horizons: `score_7d`, `probability_7d` and so on."""
        names = self.task.by_horizon()
        return [f"{what}_{name}" for name in names for what in ("score", "probability")]

    def __repr__(self) -> str:
        return f"Scorer(model={self.kind!r}, task={self.task.name!r}, data={self.trained_on!r})"

    def score(
        self,
        events: pd.DataFrame,
        cutoff: datetime | str | None = None,
        certificate: str | Path | None = None,
    ) -> pd.DataFrame:
        """Score every customer of a frame of events.

        Args:
            events: one row per event: `customer_id`, `timestamp`, `event` and the fields that the
                model was trained on (a missing one is an error that names it); optionally
                `known_at`, `event_id` and `consent` (granted, denied or unknown for the purpose
                that training needed, on rows that say so). Categories that training never saw are
                fine.
            cutoff: the moment that is asked about, UTC unless it has an offset; later events
                are not looked at, but for what they say of consent. None means the moment when
                the last event became known.
            certificate: the `certificates.json` of a report that certified this model; with it
                `flagged` says who may be acted on. All customers have to be in the frame then.

        Returns:
            One row per customer: `customer_id`, `cutoff`, `score` (log-odds or rank, as the model
            gives it) and `probability` (calibrated), of a task that sums also `expected_value`, of
            one with several horizons (these are of the longest) `score_7d`, `probability_7d` etc.;
            all are NaN for a customer of whom nothing was known by then, and for one who may not
            be scored (`withheld` says why, where the model's data needed consent).

        Raises:
            DataError: it is no frame, a column is missing, or a row cannot be used; or the
                certificate is not of this model, has expired, or the scores have drifted.
        """
        from seqjourney.serving.tokens import task_data_of_frame

        require_frame(events)
        moment = moment_of(cutoff) if cutoff is not None else None
        also = self.consent_column(events.columns)
        held = self.certificate(certificate) if certificate is not None else None
        reading = self.reading
        with task_data_of_frame(events, self.task, self.tokenizer, reading, moment, also) as data:
            result = self.score_data(data, self.withheld(data) if also else None)
            if held is not None:
                eligible = self.eligible(data.events, result["cutoff"].iloc[0].to_pydatetime())
                result["flagged"] = may_be_acted_on(held, result, eligible)
            return result

    def explain(self, events: pd.DataFrame, cutoff: datetime | str | None = None) -> pd.DataFrame:
        """Say what moved the score of each customer of a small frame; networks only.

        Args:
            events: as for `score`; hundreds of customers take minutes.
            cutoff: as for `score`.

        Returns:
            One row per customer and happening, see `evaluation.occlusion.explain`, with
            `probability` and `probability_without` it. Who may not be scored is left out.

        Raises:
            DataError: as `score`; or the model is no network.
        """
        from seqjourney.evaluation.occlusion import explain
        from seqjourney.serving.tokens import task_data_of_frame

        require_frame(events)
        context = getattr(self.model, "context", None)  # networks alone have one
        if context is None:
            raise DataError(
                f"explain is for networks, and this is a {self.kind} model; load a run of "
                "model=gru or model=transformer."
            )
        moment = moment_of(cutoff) if cutoff is not None else None
        also = self.consent_column(events.columns)
        with task_data_of_frame(
            events, self.task, self.tokenizer, self.reading, moment, also
        ) as data:
            asked = data.snapshots
            if also:
                asked = asked[self.withheld(data).isna()].reset_index(drop=True)
            found = explain(self.model.score, replace(data, snapshots=asked), context)
        scores = found[["score", "score_without"]].to_numpy(np.float64)
        found[["probability", "probability_without"]] = self.calibrator(scores)
        return found

    def certificate(self, path: str | Path) -> Certificate:
        """Find this model's certificate of the precision gate; see `flagging.read_certificate`."""
        return read_certificate(path, self.task.main, self.fingerprint)

    def eligible(self, events: Any, cutoff: datetime) -> np.ndarray:
        """Return the ids of the customers in an event log (Ibis) whom the task asks about."""
        from seqjourney.sequences.snapshots import eligible_customers

        return eligible_customers(events, self.task, cutoff, self.tokenizer.label_only_events)

    def score_data(self, data: TaskData, withheld: pd.Series | None = None) -> pd.DataFrame:
        """Score the snapshots of task data; `withheld` says who may not be, and why."""
        amounts = each = None
        if self.horizon_calibrator is not None:
            assert isinstance(self.model, _HorizonScores)
            each = self.model.score_each(data)
            scores = each[:, -1]
        elif self.value_calibrator is None:
            scores = np.asarray(self.model.score(data), np.float64)
        else:
            assert isinstance(self.model, _ValueScores)
            scores, amounts = self.model.score_and_amount(data)
        known = data.snapshots["end"].to_numpy() > 0
        result = data.snapshots[["customer_id", "cutoff"]].copy()
        if self.consent.purpose is not None:
            result["withheld"] = withheld
            known &= result["withheld"].isna().to_numpy()
        result["score"] = np.where(known, scores, np.nan)
        result["probability"] = np.where(known, self.calibrator(scores), np.nan)
        if each is not None and self.horizon_calibrator is not None:
            by_horizon = np.stack([each, self.horizon_calibrator(each)], axis=2)
            by_horizon[~known] = np.nan
            result[self.horizon_columns] = by_horizon.reshape(len(result), -1)
            result["probability"] = by_horizon[:, -1, 1]
        if amounts is not None and self.value_calibrator is not None:
            expected = self.value_calibrator(amounts, result["probability"].to_numpy())
            result["expected_value"] = np.where(known, expected, np.nan)
        return result
