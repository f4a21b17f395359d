"""What is predicted, for whom, and when."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from seqjourney.config.types import Duration, Moment, Name, Span, Strict, span_name
from seqjourney.errors import ConfigError

QUESTION = (
    *("kind", "target", "value", "above", "horizon", "horizons", "eligible"),
    *("field", "split", "given", "even_spacing", "repeats"),  # of next tasks
)
"""Keys of a task that say what is asked; the others say when, and of whom it is learned."""


class Eligible(Strict):
    """Who counts at a cutoff."""

    events: tuple[str, ...] | None = None
    """Events that make a customer count; unset means any event of the customer's own."""
    within: Duration | None = None
    """How recent such an event must be; unset means ever."""
    without: tuple[str, ...] = ()
    """Customers with one of these events before the cutoff do not count (converted already)."""


class CutoffRange(Strict):
    """Cutoffs from `start` to `end`, both included, every `every`."""

    start: Moment
    end: Moment
    every: Duration

    @model_validator(mode="after")
    def _check_order(self) -> CutoffRange:
        if self.end < self.start:
            raise ValueError(
                f"end {self.end:%Y-%m-%d %H:%M} lies before start {self.start:%Y-%m-%d %H:%M}"
            )
        return self

    def moments(self) -> tuple[datetime, ...]:
        """Return the cutoffs, ascending."""
        count = (self.end - self.start) // self.every
        return tuple(self.start + step * self.every for step in range(count + 1))


Moments = Annotated[tuple[Moment, ...], Field(min_length=1)]


class Cutoffs(Strict):
    """The cutoffs of the three splits; every list ascending, no label windows overlapping."""

    train: CutoffRange | Moments
    validation: CutoffRange | Moments
    test: CutoffRange | Moments

    def of(self, split: str) -> tuple[datetime, ...]:
        """Return the cutoffs of a split (train, validation, test), ascending."""
        chosen: CutoffRange | tuple[datetime, ...] = getattr(self, split)
        return chosen.moments() if isinstance(chosen, CutoffRange) else tuple(sorted(set(chosen)))


def period_of(shift: str | timedelta) -> str:
    """Return the folder of a shifted task's runs within the experiment's, such as `shift_30d`.

    Of a task that is not shifted, nothing.

    Raises:
        ConfigError: it is no time span.
    """
    try:
        span = TypeAdapter(Span).validate_python(shift)
    except ValidationError:
        raise ConfigError(f"task.shift: must be a time span, such as 30d (got {shift!r})") from None
    return f"shift_{span_name(span)}" if span else ""


class TaskConfig(Strict):
    """What is predicted, for whom, and when."""

    name: Name
    kind: Literal["occurrence", "absence", "sum", "time_to"]
    """`occurrence`: a target event happens within the horizon. `absence`: none does. `sum`: what
    target events bring in within it; refunds are targets too, with negative values. `time_to`: by
    which of several horizons the first one has happened."""
    target: tuple[str, ...] = Field(min_length=1)
    """Events that count as the target."""
    value: str = "value"
    """The numeric column of the event log that a `sum` adds up, and that `above` looks at."""
    above: (
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["mean", "largest"] | None
    ) = None
    """Not of a `sum`: a target event counts only with a value above this, a number
    or the customer's own `mean` or `largest` value of target events known at the cutoff; who has
    none is not asked then. An event without a value never counts. Compared to a millionth."""
    horizon: Duration
    """Length of the label window, `(cutoff, cutoff + horizon]`; of a `time_to` its longest horizon
    where unset."""
    horizons: tuple[Duration, ...] | None = Field(None, min_length=2)
    """Of a `time_to`: ascending. All label windows close within the data."""
    eligible: Eligible = Eligible()
    cutoffs: Cutoffs | None = None
    """Unset: derived from the data's time span and the horizon."""
    shift: Span = timedelta(0)
    """The same task so much earlier, a test period of its own: all cutoffs move back, derived ones
    too. Training cutoffs that would lie before the data fall away."""
    customer_holdout: float = Field(0.0, ge=0, lt=1)
    """Share of customers kept out of training and validation; the test then has only them."""
    certify: float = Field(0.0, ge=0, lt=1)
    """Share of customers whose validation snapshots are kept for the precision gate alone, a split
    called `certification`: no early stopping, setting or calibrator looks at them."""
    trusted_fields: tuple[str, ...] = ()
    """Fields that may tell the labels apart almost perfectly without counting as a leak."""

    def by_horizon(self) -> dict[str, TaskConfig]:
        """Return the question by each horizon as an occurrence of its own; none but of `time_to`.

        By `7d` and so on, ascending; each is named as in predictions, `NAME@7d`.
        """
        names = {span_name(horizon): horizon for horizon in self.horizons or ()}
        return {
            name: self.model_copy(
                update={"name": f"{self.name}@{name}", "kind": "occurrence", "horizon": horizon}
                | {"horizons": None}
            )
            for name, horizon in names.items()
        }

    @property
    def main(self) -> str:
        """The name under which predictions hold the answer by `horizon`."""
        return [self.name, *(task.name for task in self.by_horizon().values())][-1]

    @property
    def above_own(self) -> bool:
        """Whether the label compares a customer with their own past."""
        return isinstance(self.above, str)

    @model_validator(mode="before")
    @classmethod
    def _take_longest(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("horizon") is None and values.get("horizons"):
            return {**values, "horizon": values["horizons"][-1]}
        return values

    @model_validator(mode="after")
    def _check_horizons(self) -> TaskConfig:
        if (self.kind == "time_to") != (self.horizons is not None):
            raise ValueError("kind time_to needs horizons, such as [7d, 14d, 30d], and only it")
        if self.horizons is not None:
            if any(a >= b for a, b in itertools.pairwise(self.horizons)):
                raise ValueError("horizons must ascend")
            if self.horizon != self.horizons[-1]:
                raise ValueError(
                    f"horizon is {span_name(self.horizon)} and the longest of horizons is "
                    f"{span_name(self.horizons[-1])}; set horizon to null"
                )
        return self

    @model_validator(mode="after")
    def _check_above(self) -> TaskConfig:
        if self.above is not None and self.kind == "sum":
            raise ValueError("above is not for kind sum, which adds up every value")
        return self

    @property
    def period(self) -> str:
        """Folder of a shifted task's runs within the experiment's, such as `shift_30d`."""
        return period_of(self.shift)

    @property
    def folder(self) -> str:
        """Folder of its snapshots within the data's `tasks`."""
        return f"{self.period}/{self.name}" if self.period else self.name
