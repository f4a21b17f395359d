"""What people allow, and when they say so.

A banner asks for two purposes. Three in four people answer it on their first visit to a site, some
never do; one in eight changes the answer on a later visit. The state is the person's and holds
everywhere from then on; each tool reports it in its own words (see `exports`), or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.company.happenings import latest_before
from seqjourney.simulation.company.people import IN_APP, IN_STORE, NEVER_US
from seqjourney.simulation.state import Columns

PURPOSES = ("analytics", "advertising")
STATES = ("unknown", "denied", "granted")
UNKNOWN, DENIED, GRANTED = range(3)
ANSWERS = ((GRANTED, GRANTED), (GRANTED, DENIED), (DENIED, DENIED))
ANSWER_SHARES = (0.72, 0.13, 0.15)
ANSWERS_BANNER = 0.75
CHANGES_LATER = 0.12


@dataclass(frozen=True)
class Decisions:
    """Every answer of everyone, each array of shape (decisions,)."""

    visit: np.ndarray
    person: np.ndarray
    time_us: np.ndarray
    state: np.ndarray
    """(decisions, purposes), as indices into `STATES`."""

    def at(self, person: np.ndarray, time_us: np.ndarray) -> np.ndarray:
        """The states of these people at these times, (n, purposes)."""
        place = self.place_at(person, time_us)
        if len(self.person) == 0:
            return np.full((len(person), len(PURPOSES)), UNKNOWN, np.int8)
        return np.where(place[:, None] < 0, UNKNOWN, self.state[place]).astype(np.int8)

    def place_at(self, person: np.ndarray, time_us: np.ndarray) -> np.ndarray:
        """The position of the decision that held, -1 for none."""
        return latest_before(self.person, self.time_us, person, time_us)


def decide(visits: Columns, site: np.ndarray, rng: np.random.Generator) -> Decisions:
    """Draw all answers; each is given with the first event of a visit to a site."""
    asked = np.flatnonzero((site != IN_STORE) & (site != IN_APP) & (visits["time_us"] < NEVER_US))
    who = visits["customer"][asked]
    order = np.argsort(who, kind="stable")
    asked, who = asked[order], who[order]
    _, first, counts = np.unique(who, return_index=True, return_counts=True)
    answers = rng.random(len(first)) < ANSWERS_BANNER
    changes = (rng.random(len(first)) < CHANGES_LATER) & (counts > 1)
    later = first + 1 + np.floor(rng.random(len(first)) * np.maximum(counts - 1, 1)).astype(int)
    initial = rng.choice(len(ANSWERS), len(first), p=ANSWER_SHARES)
    # Those who change their minds: from anything allowed to nothing, from nothing to everything.
    changed = np.where(answers & (initial == 2), 0, 2)
    places = np.concatenate([first[answers], later[changes]])
    answer = np.concatenate([initial[answers], changed[changes]])
    visit = asked[places]
    return Decisions(
        visit=visit,
        person=visits["customer"][visit],
        time_us=visits["time_us"][visit],
        state=np.asarray(ANSWERS, np.int8)[answer],
    )
