"""The hidden state of the customers, and how it moves from day to day.

The formulas stand in the header of `process`. All functions here and in `contacts` and `visits`
take views on the customers who have arrived, shape (arrived,), change the state in place and
return what happened as columns.
"""

from dataclasses import dataclass, fields

import numpy as np

from seqjourney.simulation.traits import Traits

Columns = dict[str, np.ndarray]
"""A table in memory: equally long arrays by column name."""


@dataclass(frozen=True)
class State:
    """The hidden state, each array of shape (customers,) and changed in place."""

    intent: np.ndarray
    satisfaction: np.ndarray
    interest: np.ndarray
    trouble: np.ndarray
    pull: np.ndarray
    leaving: np.ndarray
    leaving_since: np.ndarray
    """Day on which the customer last began to leave, -1 for never."""
    idle_days: np.ndarray
    """Days since the last visit."""
    need: np.ndarray
    """0 right after an order, 1 after the customer's need cycle, 1.4 at most."""
    subscribed: np.ndarray
    due_day: np.ndarray
    """Day of the next renewal."""
    ticket_day: np.ndarray
    """Day on which the open ticket was opened, far in the future when none is open."""
    ticket_end_day: np.ndarray
    """Day on which the open ticket will be resolved or given up."""

    def first(self, count: int) -> "State":
        """Views on the first `count` customers."""
        return State(**{f.name: getattr(self, f.name)[:count] for f in fields(self)})


NEVER = np.int32(1 << 30)


def initial_state(customers: int, rng: np.random.Generator) -> State:
    """The state in which customers arrive: curious, content, with no ticket."""
    return State(
        intent=rng.normal(0.4, 0.8, customers).astype(np.float32),
        satisfaction=rng.normal(0.0, 0.25, customers).astype(np.float32),
        interest=np.zeros(customers, np.float32),
        trouble=np.zeros(customers, np.float32),
        pull=np.ones(customers, np.float32),
        leaving=np.zeros(customers, bool),
        leaving_since=np.full(customers, -1, np.int32),
        idle_days=np.zeros(customers, np.float32),
        need=np.full(customers, 0.6, np.float32),
        subscribed=np.zeros(customers, bool),
        due_day=np.full(customers, NEVER, np.int32),
        ticket_day=np.full(customers, NEVER, np.int32),
        ticket_end_day=np.full(customers, NEVER, np.int32),
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def happens(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One biased coin per entry."""
    return rng.random(chance.shape, dtype=np.float32) < chance


def daytime(count: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds after midnight at which people do things: mostly evenings, 06:00 to 22:30."""
    return (6 + 16.5 * rng.beta(2.2, 1.7, count)) * 3600.0


def drift(now: State, traits: Traits, waits: np.ndarray, rng: np.random.Generator) -> None:
    """Let intent, satisfaction, interest and trouble move on by a day."""
    count = len(waits)
    service = 1 + np.tanh(traits.service_sensitivity[:count])
    now.intent[:] = 0.95 * now.intent + 0.27 * rng.standard_normal(count, dtype=np.float32)
    now.satisfaction[:] *= 0.97
    now.satisfaction[:] += 0.06 * rng.standard_normal(count, dtype=np.float32)
    now.satisfaction[:] -= 0.05 * waits * service
    now.interest[:] *= 0.85
    now.trouble[:] *= 0.85
    now.idle_days[:] += 1
    now.need[:] = np.minimum(now.need + 1 / traits.need_cycle_days[:count], 1.4)


def leave_or_return(
    now: State,
    traits: Traits,
    day: int,
    waits: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> None:
    """Some begin to leave, some who were leaving stay after all, the rest of them fade."""
    engagement = traits.engagement[: len(waits)]
    leaves = 0.0032 * np.exp(-0.7 * now.satisfaction - 0.35 * engagement + 1.8 * strength * waits)
    changes = happens(np.where(now.leaving, 0.012 * now.pull + 0.0006, leaves), rng)
    now.leaving[:] ^= changes
    now.leaving_since[changes & now.leaving] = day
    # In units of their own rhythm: a gap that means nothing for one is a farewell for another.
    fade = np.exp(-0.6 / np.clip(traits.visit_period_days[: len(waits)], 4, 40))
    now.pull[:] = np.where(now.leaving, fade * now.pull, 1)


def renew(
    now: State, traits: Traits, day: int, next_month: np.ndarray, rng: np.random.Generator
) -> Columns:
    """Charge the subscriptions that are due today, at night."""
    who = np.flatnonzero(now.subscribed & (now.due_day == day))
    now.due_day[who] = next_month[day]
    second = rng.uniform(2 * 3600, 4 * 3600, len(who))
    return {"customer": who, "second": second, "value": traits.plan_price[who]}


def cancel(
    now: State, traits: Traits, waits: np.ndarray, strength: float, rng: np.random.Generator
) -> Columns:
    """End some subscriptions; the formula is in the module's header."""
    who = np.flatnonzero(now.subscribed)
    fading = 1 - now.pull[who]
    logs = -0.6 * now.satisfaction[who] + 0.3 * traits.price_sensitivity[who]
    logs += 1.2 * fading + strength * waits[who] * (0.6 + 1.8 * fading)
    who = who[happens(0.0020 * np.exp(logs), rng)]
    now.subscribed[who] = False
    return {"customer": who, "second": daytime(len(who), rng)}
