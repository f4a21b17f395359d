"""What every loaded model knows beside its answers: its fields, its data, who may be scored."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from seqjourney.errors import DataError
from seqjourney.events.consent.policy import (
    DENIED,
    STATES,
    UNKNOWN,
    UNSTATED,
    WITHDRAWN,
    ConsentPolicy,
)
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer

ASKED = (("customer_id", pa.string()), ("cutoff", pa.timestamp("us", "UTC")))
WHO = (("model", pa.string()), ("run", pa.string()))
"""Columns of all scores in bulk: what was asked, and who answered."""


class Loaded:
    """A trained model without what it is asked; see `Scorer` and `NextScorer`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        reading: dict[str, Any],
        consent: ConsentPolicy,
        kind: str,
        trained_on: str,
        fingerprint: str,
    ):
        self.tokenizer, self.reading, self.consent = tokenizer, reading, consent
        self.kind, self.trained_on, self.fingerprint = kind, trained_on, fingerprint

    @property
    def rows_each(self) -> int:
        """At most so many rows are answered of a customer."""
        return 1

    def consent_column(self, columns: Collection[str], where: str = "the frame") -> tuple[str, ...]:
        """Return the column that says who may be scored, if the model's data needed consent."""
        if self.consent.purpose is None:
            return ()
        if "consent" in columns:
            return ("consent",)
        policy = {"withhold": "who granted", "allow": "who have not denied"}[self.consent.unknown]
        raise DataError(
            f"this model may score only customers {policy} '{self.consent.purpose}', and {where} "
            "has no column 'consent'. Add it: granted, denied or unknown on rows that say so, null "
            "on others. Prepared data (scripts/score.py data=...) knows what was said."
        )

    def withheld(self, data: TaskData) -> pd.Series:
        """Say why customers may not be scored at their cutoff, or nothing.

        Who has withdrawn since is not scored either. A refusal stands until consent is given
        later; of two statements at one moment the stricter counts.
        """
        asked = data.snapshots
        said = data.events.filter(data.events.consent.notnull())
        said = said.select("customer_id", "timestamp", "known_at", "consent").to_pandas()
        strange = sorted(set(said["consent"]) - set(STATES))
        if strange:
            raise DataError(
                f"column 'consent' holds '{strange[0]}'; write {', '.join(STATES)}, or nothing."
            )
        reason = pd.Series(None, index=asked.index, dtype=object)
        by_then = said[said["known_at"] <= asked["cutoff"].iloc[0]]
        for statements, refused, unstated in (
            (said, WITHDRAWN, UNSTATED),
            (by_then, DENIED, UNKNOWN),
        ):
            last = statements.pivot_table("timestamp", "customer_id", "consent", "max")
            last = last.reindex(index=asked["customer_id"], columns=list(STATES))
            last = last.astype("datetime64[us, UTC]").set_axis(asked.index)
            denied = last["denied"].notna() & ~(last["granted"] > last["denied"])
            granted = last["granted"].notna() & ~denied & ~(last["unknown"] > last["granted"])
            reason[denied] = refused
            if self.consent.unknown == "withhold":
                reason[~denied & ~granted] = unstated
        return reason


def require_frame(events: object) -> None:
    """Refuse what is no pandas frame.

    Raises:
        DataError: says what it is.
    """
    if not isinstance(events, pd.DataFrame):
        raise DataError(
            f"events must be a pandas frame, not {type(events).__name__}; read a file first, for "
            "example with pandas.read_parquet."
        )


def moment_of(cutoff: datetime | str) -> datetime:
    """Read a cutoff.

    Raises:
        DataError: it is not a time.
    """
    try:
        return pd.Timestamp(cutoff).to_pydatetime()
    except ValueError:
        raise DataError(f"cutoff {cutoff!r} is not a time; write it as 2024-05-31T12:00.") from None
