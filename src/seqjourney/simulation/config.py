"""What may be chosen about the simulated shop, checked when it is made."""

from dataclasses import dataclass

import numpy as np

from seqjourney.errors import ConfigError


@dataclass(frozen=True)
class ShopConfig:
    """The dials of the shop; the same config always gives the same tables."""

    customers: int = 5000
    """How many customers arrive during the period."""
    months: int = 18
    """Length of the period in calendar months."""
    seed: int = 7
    """Seed of the one random generator behind everything."""
    start: str = "2023-01-01"
    """First day of the period (UTC), as YYYY-MM-DD."""
    sequence_strength: float = 1.0
    """Scale of the effects that only the order of events reveals (see `process`); 0 removes
    them, so that one can check that a sequence model's lead comes from there."""

    def __post_init__(self) -> None:
        if not 1 <= self.customers <= 10_000_000:
            raise ConfigError(f"customers must lie in 1 … 10,000,000, not {self.customers}.")
        if not 1 <= self.months <= 120:
            raise ConfigError(f"months must lie in 1 … 120, not {self.months}.")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, and is {self.seed}.")
        if not 0 <= self.sequence_strength <= 3:
            raise ConfigError(f"sequence_strength must lie in 0 … 3, not {self.sequence_strength}.")
        try:
            np.datetime64(self.start, "D")
        except ValueError:
            raise ConfigError(
                f"start must be a day such as 2023-01-01, not {self.start!r}."
            ) from None
        if len(self.start) != len("2023-01-01"):
            raise ConfigError(f"start must be a full day such as 2023-01-01, not {self.start!r}.")

    @property
    def dates(self) -> np.ndarray:
        """Every day of the period, as datetime64[D]."""
        first = np.datetime64(self.start, "D")
        month = first.astype("datetime64[M]")
        day_of_month = first - month.astype("datetime64[D]")
        last = (month + np.timedelta64(self.months, "M")).astype("datetime64[D]") + day_of_month
        return np.arange(first, last)
