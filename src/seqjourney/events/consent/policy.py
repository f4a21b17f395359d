"""What a company needs consent for, and how it reads silence.

Sources differ in opposite directions (in Segment a missing consent object enforces nothing and an
empty one denies everything), so each connector writes its own semantics out as `granted`,
`denied` or `unknown`; this policy alone decides what `unknown`, or nothing at all, leads to.
This module knows no other of ours, so that any configuration can hold the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EVERY = "*"
"""A category that stands for every purpose: who refuses all is `{"*": "denied"}`."""
STATES = ("unknown", "granted", "denied")
"""From loose to strict: of two statements at one time the later in this order counts."""
DENIED, UNKNOWN = "consent denied", "consent unknown"
WITHDRAWN, UNSTATED = "consent withdrawn since", "consent not given since"
"""Why something is withheld: by what was known then, and by what has become known since."""


class ConsentPolicy(BaseModel):
    """Which purpose analysis and training need, and what silence means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: str | None = Field(None, min_length=1)
    """The purpose that must be granted, such as `analytics`. Unset: consent is recorded but not
    enforced, and the manifest says so."""
    unknown: Literal["allow", "withhold"] = "withhold"
    """What happens to events of a customer who has said nothing, or only `unknown`, by then."""
    purposes: dict[str, str] = Field(default_factory=dict)
    """Purposes of the sources' own category names or ids (case matters), such as
    `{C0002: analytics}`. A name that is not listed is a purpose of its own. Where one row names
    several categories of a purpose, the purpose needs all of them."""

    def of_categories(
        self, categories: Mapping[str, str], every: Iterable[str] = ()
    ) -> dict[str, str]:
        """Return the state of each purpose that one row's categories speak of.

        Args:
            categories: category → state, one row's statement. The category `*` speaks of every
                purpose.
            every: the purposes that there are.
        """
        found: dict[str, set[str]] = {}
        for category, state in categories.items():
            named = self.purposes.get(category, category)
            for purpose in every if category == EVERY else (named,):
                found.setdefault(purpose, set()).add(state)
        needed = ("denied", "unknown", "granted")  # one that is open leaves the purpose open
        return {
            purpose: next(state for state in needed if state in states)
            for purpose, states in found.items()
        }
