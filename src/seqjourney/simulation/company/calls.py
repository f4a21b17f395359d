"""What only the company's tools know: log-ins and their calls, consent answers, stages, proxies.

Each function returns families of rows beside the shop's own events (see `trace`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqjourney.simulation.company.browsers import Browsing
from seqjourney.simulation.company.consent import Decisions
from seqjourney.simulation.company.happenings import CODE
from seqjourney.simulation.company.people import BLOG, NEVER_US, OUTLET, SHOP, US, People
from seqjourney.simulation.company.rows import MARGIN_US, SECOND_US, block
from seqjourney.simulation.company.sources import SOURCE
from seqjourney.simulation.state import Columns
from seqjourney.simulation.visits import EMAIL

STAGES = ("lead", "customer", "subscriber", "former_subscriber")
ALIAS_SHARE = 0.1


def log_in_rows(
    visits: Columns,
    site: np.ndarray,
    people: People,
    browsing: Browsing,
    events: Columns,
    rng: np.random.Generator,
) -> list[Columns]:
    """Sign-ups and log-ins, a second before the first step that knows them, and their calls.

    The shop's log-in belongs to the account area (PostHog), which links its own cookie to the user;
    Segment gets an identify call, and with some sign-ups an alias call.
    """
    visit = np.flatnonzero(browsing.logs_in)
    who, at = visits["customer"][visit], browsing.known_from[visit]
    times = step_times(events, visits)
    steps = visits["steps"][visit]
    last = visits["first_row"][visit] + np.minimum(at, steps - 1)
    time_us = times[last] + np.where(at < steps, -SECOND_US, 2 * SECOND_US)
    signs_up = people.signed_up_visit[who] == visit
    place = site[visit]
    event = np.where(signs_up, CODE["signed_up"], CODE["logged_in"])
    event = np.where(place == BLOG, CODE["identified"], event)
    at_account = (place == SHOP) & ~signs_up
    source = np.select(
        [at_account, place == SHOP, place == OUTLET, place == US, place == BLOG],
        [SOURCE[name] for name in ("account", "web", "outlet", "us", "blog")],
        default=SOURCE["app"],
    )
    common: dict[str, Any] = {
        "person": who,
        "visit": visit,
        "step": at,
        "cookie": browsing.cookie[visit],
        "site": place,
        "known": True,
        "device": visits["device"][visit],
    }
    rows = block(
        len(visit),
        **common,
        time_us=time_us,
        event=event,
        source=source,
        mail=np.where(place == BLOG, 1, 0),
    )

    def call(which: np.ndarray, later_us: int, name: str, tool: str, **more: Any) -> Columns:
        chosen = {key: value[which] for key, value in common.items() if key != "known"}
        columns = chosen | {key: value[which] for key, value in more.items()}
        return block(
            int(which.sum()),
            **columns,
            known=True,
            time_us=time_us[which] + later_us,
            event=CODE[name],
            source=SOURCE[tool],
        )

    aliases = signs_up & (place == SHOP) & (rng.random(len(visit)) < ALIAS_SHARE)
    mail = (signs_up | (rng.random(len(visit)) < 0.9)).astype(np.int64)
    return [
        rows,
        call(place == SHOP, 50_000, "identified", "web", mail=mail, phone=signs_up),
        call(at_account, -20_000, "identified", "account"),
        call(aliases, 80_000, "aliased", "web"),
    ]


def step_times(events: Columns, visits: Columns) -> np.ndarray:
    """Times of all steps in the order of visits, with each visit's `first_row` added to `visits`.

    Steps after the end of the period are missing from the events and take the last time seen.
    """
    lengths = visits["steps"]
    visits["first_row"] = np.cumsum(lengths) - lengths
    times = np.repeat(visits["time_us"], lengths)
    inside = events["visit"] >= 0
    times[visits["first_row"][events["visit"][inside]] + events["step"][inside]] = events[
        "time_us"
    ][inside]
    return times


def consent_rows(site: np.ndarray, browsing: Browsing, decisions: Decisions) -> list[Columns]:
    """Answers to the banner, where the tool has an event for them."""
    blocks = []
    for place, tool in ((SHOP, "web"), (OUTLET, "outlet")):
        here = site[decisions.visit] == place
        visit = decisions.visit[here]
        blocks.append(
            block(
                len(visit),
                person=decisions.person[here],
                time_us=decisions.time_us[here],
                event=CODE["consent_updated"],
                source=SOURCE[tool],
                visit=visit,
                step=0,
                cookie=browsing.cookie[visit],
                site=place,
                known=browsing.known_from[visit] == 0,
                device=0,
            )
        )
    return blocks


def stage_rows(rows: Columns, people: People) -> Columns:
    """The CRM's stages of account holders: lead, customer, subscriber, former subscriber."""
    holders = np.flatnonzero(people.signed_up_visit >= 0)
    parts = [(holders, people.signed_up_us[holders] + MARGIN_US, 0)]
    for event, stage in (
        ("order_completed", 1),
        ("subscription_started", 2),
        ("subscription_cancelled", 3),
    ):
        chosen = (rows["event"] == CODE[event]) & (rows["person"] >= 0)
        chosen &= people.signed_up_us[rows["person"]] < NEVER_US
        who, times = rows["person"][chosen], rows["time_us"][chosen]
        order = np.lexsort((times, who))
        first = np.unique(who[order], return_index=True)[1]
        who, times = who[order][first], times[order][first]
        # Not before the account: what happened earlier is entered when it is opened.
        times = np.maximum(times, people.signed_up_us[who] + MARGIN_US) + stage * 60 * SECOND_US
        parts.append((who, times, stage))
    return block(
        sum(len(who) for who, _, _ in parts),
        person=np.concatenate([who for who, _, _ in parts]),
        time_us=np.concatenate([times for _, times, _ in parts]),
        stage=np.concatenate([np.full(len(who), stage) for who, _, stage in parts]),
        event=CODE["stage_changed"],
        source=SOURCE["crm"],
        known=True,
        mail=1,
        phone=True,
        by_server=True,
    )


def machine_opens(rows: Columns, people: People, rng: np.random.Generator) -> Columns:
    """Opens that a mail program's proxy makes by itself, minutes after the delivery."""
    sent = (rows["event"] == CODE["email_sent"]) & people.private_mail[rows["person"]]
    count = int(sent.sum())
    wait = (np.minimum(rng.exponential(600, count), 3600) + 1) * SECOND_US
    return block(
        count,
        person=rows["person"][sent],
        time_us=rows["time_us"][sent] + wait.astype(np.int64),
        event=CODE["email_opened"],
        source=SOURCE["email"],
        mail_number=rows["mail_number"][sent],
        known=rows["known"][sent],
        discount_percent=rows["discount_percent"][sent],
        machine_open=True,
        by_server=True,
    )


def newsletter_rows(
    visits: Columns, site: np.ndarray, people: People, browsing: Browsing
) -> Columns:
    """Readers of the newsletter without an account left their address in the shop once.

    A link in an e-mail names the address to the shop's site, which makes an identify call of it.
    """
    places = np.flatnonzero((site == SHOP) & (browsing.cookie >= 0))
    who, first = np.unique(visits["customer"][places], return_index=True)
    chosen = (people.signed_up_visit[who] < 0) & people.mails_welcome[who]
    clicked = places[visits["source"][places] == EMAIL]
    visit = np.union1d(places[first][chosen], clicked)
    who = visits["customer"][visit]
    return block(
        len(who),
        person=who,
        time_us=visits["time_us"][visit] + 1_500_000,
        event=CODE["identified"],
        source=SOURCE["web"],
        visit=visit,
        step=1,
        cookie=browsing.cookie[visit],
        site=SHOP,
        known=browsing.known_from[visit] == 0,
        mail=1,
        device=visits["device"][visit],
    )
