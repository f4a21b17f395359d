"""Who each customer is: traits that never change and that the company does not see.

Arrays have one entry per customer and are ordered by arrival, so that the customers who have
arrived by a day are a prefix and the daily loop works on views. Ids are dealt at random, so that
an id says nothing about its customer.

    engagement e, price sensitivity p, service sensitivity s    ~ N(0, 1); p + 0.3 in PL, ES
    visit period P [days]        = clip(exp(3.1 - 0.4 e + 0.4 N), 2, 90)
    need cycle C [days]          = clip(exp(3.5 + 0.6 N), 10, 150)
    basket level                 ~ N(0, 1) - 0.3 p; scales the value of orders
    arrival day                  = 0.92 · D · Beta(0.8, 1.5): many are there early, some come late
    affinity to traffic sources  ~ Dirichlet over organic, direct, paid_search, paid_social, display
"""

from dataclasses import dataclass

import numpy as np

COUNTRIES = ("DE", "FR", "GB", "PL", "ES", "US")
COUNTRY_SHARES = (0.30, 0.18, 0.18, 0.13, 0.11, 0.10)
DEVICES = ("mobile", "desktop", "tablet")
DEVICE_SHARES = (0.58, 0.34, 0.08)
SOURCES = ("organic", "direct", "paid_search", "paid_social", "display")
SOURCE_SHARES = (0.38, 0.27, 0.18, 0.12, 0.05)
PLAN_PRICES = (9.90, 19.90, 39.90)
PLAN_SHARES = (0.55, 0.35, 0.10)


@dataclass(frozen=True)
class Traits:
    """The fixed traits of all customers, each array of shape (customers,)."""

    number: np.ndarray
    """The number in the customer's id."""
    arrival_day: np.ndarray
    """Day of the first visit, counted from the start; ascending."""
    engagement: np.ndarray
    price_sensitivity: np.ndarray
    service_sensitivity: np.ndarray
    basket_level: np.ndarray
    visit_period_days: np.ndarray
    need_cycle_days: np.ndarray
    """Days after an order until the customer fully wants the next."""
    app_affinity: np.ndarray
    """Share of visits made in the app."""
    store_affinity: np.ndarray
    """Share of visits made in the store."""
    source_affinity: np.ndarray
    """Cumulative shares of `SOURCES` among visits to the web shop; (customers, sources)."""
    ad_affinity: np.ndarray
    """Multiplies the chance to see and to click an ad."""
    email_opt_in: np.ndarray
    country: np.ndarray
    """Index into `COUNTRIES`."""
    device: np.ndarray
    """Index into `DEVICES`: the one used most."""
    plan_price: np.ndarray
    """Monthly price of the plan that the customer takes, if any."""


def draw_traits(customers: int, days: int, rng: np.random.Generator) -> Traits:
    """Draw all customers of a period of `days` days."""
    engagement = rng.standard_normal(customers, dtype=np.float32)
    country = rng.choice(len(COUNTRIES), customers, p=COUNTRY_SHARES).astype(np.int8)
    price = rng.standard_normal(customers, dtype=np.float32)
    price += np.float32(0.3) * np.isin(country, [COUNTRIES.index("PL"), COUNTRIES.index("ES")])
    period = np.exp(3.1 - 0.4 * engagement + 0.4 * rng.standard_normal(customers))
    cycle = np.clip(np.exp(3.5 + 0.6 * rng.standard_normal(customers)), 10, 150)
    device = rng.choice(len(DEVICES), customers, p=DEVICE_SHARES).astype(np.int8)
    # The app is for the phone's friends: others hardly open it.
    app = rng.beta(0.5, 2.0, customers) * np.where(device == DEVICES.index("mobile"), 1.0, 0.15)
    gammas = rng.standard_gamma(4 * np.asarray(SOURCE_SHARES), (customers, len(SOURCES)))
    shares = gammas.cumsum(axis=1)
    return Traits(
        number=rng.permutation(customers).astype(np.int32),
        arrival_day=np.sort((0.92 * days * rng.beta(0.8, 1.5, customers)).astype(np.int32)),
        engagement=engagement,
        price_sensitivity=price,
        service_sensitivity=rng.standard_normal(customers, dtype=np.float32),
        basket_level=(rng.standard_normal(customers) - 0.3 * price).astype(np.float32),
        visit_period_days=np.clip(period, 2, 90).astype(np.float32),
        need_cycle_days=cycle.astype(np.float32),
        app_affinity=app.astype(np.float32),
        store_affinity=(0.5 * rng.beta(0.4, 4.0, customers)).astype(np.float32),
        source_affinity=(shares / shares[:, -1:]).astype(np.float32),
        ad_affinity=rng.gamma(2.0, 0.5, customers).astype(np.float32),
        email_opt_in=rng.random(customers) < 0.65,
        country=country,
        device=device,
        plan_price=rng.choice(PLAN_PRICES, customers, p=PLAN_SHARES),
    )
