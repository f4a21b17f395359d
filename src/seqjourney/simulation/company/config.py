"""What may be chosen about the simulated company, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.errors import ConfigError
from seqjourney.simulation.config import ShopConfig

CUSTOMERS_PER_PART = 5_000
"""Customers that are simulated and written together: memory depends on this number alone."""
_SHARES = (
    "accounts",
    "forgotten_browsers",
    "households",
    "duplicates",
    "late",
    "skewed_devices",
    "junk_ids",
    "bots",
    "dark_ai",
)


@dataclass(frozen=True)
class CompanyConfig:
    """The dials of the company; the same config always writes the same bytes."""

    customers: int = 2000
    """How many people arrive during the period."""
    months: int = 12
    """Length of the period in calendar months."""
    seed: int = 7
    """Seed of everything."""
    start: str = "2023-01-01"
    """First day of the period (UTC), as YYYY-MM-DD."""
    accounts: float = 0.9
    """Share of people who would open an account (some have no occasion to)."""
    forgotten_browsers: float = 0.005
    """Share of an account holder's browsers on which they never log in, so that nothing in the
    data ties these to the person."""
    households: float = 0.04
    """Share of account holders who share a browser or a phone with another one."""
    duplicates: float = 0.01
    """Share of events that are sent again with the same id and arrive later."""
    late: float = 0.02
    """Share of events from browsers and phones that arrive hours or days late."""
    skewed_devices: float = 0.03
    """Share of devices whose clock is wrong, by a minute to three days."""
    junk_ids: float = 0.003
    """Share of events that carry an id such as `null` or `00000000-…`."""
    bots: float = 0.03
    """Events of crawlers and monitors, as a share of all."""
    dark_ai: float = 0.04
    """Share of the direct visits that an AI assistant sent without leaving any trace."""
    broken: bool = False
    """Adds files with broken JSON lines and absurd dates."""

    def __post_init__(self) -> None:
        ShopConfig(self.customers, self.months, self.seed, self.start)  # checks these four
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 0.9:
                raise ConfigError(f"{name} must lie in 0 … 0.9, not {getattr(self, name)}.")

    @property
    def parts(self) -> int:
        """How many independent parts the people are simulated in."""
        return -(-self.customers // CUSTOMERS_PER_PART)

    def shop(self, part: int) -> ShopConfig:
        """The shop whose process makes one part's events; no two parts share a seed."""
        sizes = np.full(self.parts, self.customers // self.parts)
        sizes[: self.customers % self.parts] += 1
        seed = np.random.SeedSequence([self.seed, part]).generate_state(1)[0]
        return ShopConfig(int(sizes[part]), self.months, int(seed), self.start)

    def first_person(self, part: int) -> int:
        """The number of a part's first person."""
        return sum(self.shop(earlier).customers for earlier in range(part))
