"""Which value of a categorical field comes next: the `next` kind of task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seqjourney.config.task import Cutoffs
from seqjourney.config.types import Duration, Name, Strict


class NextTaskConfig(Strict):
    """Which value of a categorical field the next event will have.

    Splits are by time as everywhere, unless a published protocol demands another one. Such a
    protocol is declared here and named in every result, because it is no forecast: other
    customers' later events may stand in the training part.
    """

    name: Name
    kind: Literal["next"]
    field: str = "event"
    """The categorical field whose next value is asked: `event`, or a column such as `item`."""
    split: Literal["time", "leave_one_out", "given"] = "time"
    """`time`: asked at cutoffs. `leave_one_out`: the last event of each history is the test, the
    one before it the validation. `given`: each event says so itself, in the field `given`."""
    given: str | None = None
    """Field with `train`, `validation` or `test` for events that are asked in that split; any
    other value is history only."""
    cutoffs: Cutoffs | None = None
    """For `time`. Training learns from every event known by the last training cutoff."""
    horizon: Duration | None = None
    """For `time`: how soon the next event must follow for a customer to be asked."""
    even_spacing: bool = False
    """The times of the data are only an order: its events are set a day apart, and no calendar
    is read from them. Not with `split: time`."""
    repeats: bool = True
    """Whether a value of the history may come again; if not, it is no candidate."""
    sampled: int = Field(0, ge=0)
    """Also rank against so many candidates drawn evenly (the protocol of SASRec: 100)."""
    sampled_seed: int = 0
    negatives: int | None = Field(1024, ge=256)
    """Values that the loss compares the true one with, drawn anew for each batch and corrected
    for how often each is drawn; null: all values (full softmax)."""
    min_count: int = Field(1, ge=1)
    """A value seen less often in training is unknown, and never answered."""
    most_values: int = Field(200_000, ge=1)

    @model_validator(mode="after")
    def _check_split(self) -> NextTaskConfig:
        if self.split == "time" and (self.cutoffs is None or self.horizon is None):
            raise ValueError("split: time needs cutoffs (train, validation, test) and a horizon")
        if self.split == "time" and self.even_spacing:
            raise ValueError("even_spacing has no cutoffs; use split: leave_one_out or given")
        if self.sampled and self.repeats:
            raise ValueError(
                "sampled candidates are values that the history does not hold, so the true one "
                "may not be either: give repeats: false"
            )
        if (self.split == "given") != (self.given is not None):
            raise ValueError(
                "split: given needs `given`, the field that names the split, and only it"
            )
        return self
