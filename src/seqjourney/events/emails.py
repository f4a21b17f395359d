"""How long until an e-mail was opened, and whether a person or a machine opened it.

An open is a picture that was fetched. Mail services fetch pictures for their users: Apple Mail
Privacy Protection for every message, read or not; Gmail and Yahoo through a proxy; security
gateways within seconds of delivery. Such opens are kept and flagged, never dropped, since whether
they count is the model's or the report's decision. A flagged open through Gmail's proxy is often
a person's; only its device, place and repeats are hidden.
"""

from __future__ import annotations

from typing import Any

import ibis

from seqjourney.events.channels.agents import automated

SENT, DELIVERED, OPENED = "email_sent", "email_delivered", "email_opened"
# A gateway scans a message before or just after it hands it over; a person needs to see that it
# has come. Our choice; vendors use between one second and ten.
MACHINE_SECONDS = 5
# Gmail: `... (via ggpht.com GoogleImageProxy)`; Yahoo and AOL: `YahooMailProxy; ...`.
_PROXY = r"(?i)googleimageproxy|ggpht[.]com|yahoomailproxy|yahoocachesystem|imageproxy|mail ?proxy"
_APPLE = "Mozilla/5.0"  # Apple Mail Privacy Protection sends this and nothing else
_MICROSECONDS_PER_HOUR = 3_600_000_000


def add_open_times(events: Any, machine_seconds: float = MACHINE_SECONDS) -> Any:
    """Add `hours_to_open` and `machine_open` to the rows that open an e-mail.

    The clock starts at the earliest `email_delivered` of the same customer and message, or at the
    earliest `email_sent` where no delivery is known. A delivery that became known only after the
    open (`known_at`) is not used: at that time nobody could have computed the hours.

    Args:
        events: Ibis table with `customer_id`, `event` (canonical names), `message_id`,
            `timestamp`, and optionally `known_at` and `user_agent`; other columns pass through.
        machine_seconds: an open at most this long after (or before) the delivery is a machine's.

    Returns:
        The events in no particular order with `hours_to_open` (float64; null where unknown or
        where the open precedes the delivery) and `machine_open` (boolean); both null on rows that
        are no `email_opened`. `machine_open` is false where nothing speaks for a machine.
    """
    known = "known_at" if "known_at" in events.columns else "timestamp"
    if "message_id" not in events.columns:  # no source names its messages
        events = events.mutate(message_id=ibis.null("string"))
    starts = _starts(events, known)
    # Other events get no key, so that the join compares opens only.
    key = ibis.cases((events.event == OPENED, events.message_id))
    rows = events.mutate(__email_key=key).left_join(
        starts, [("customer_id", "__email_customer"), ("__email_key", "__email_message")]
    )
    start = ibis.cases(
        *(
            (rows[f"__{name}_known"] <= rows[known], rows[f"__{name}_at"])
            for name in (DELIVERED, SENT)
        )
    )
    is_open = rows.event == OPENED
    waited_us = rows.timestamp.delta(start, unit="microsecond")
    hours = waited_us.cast("float64") / _MICROSECONDS_PER_HOUR
    # A gateway's open may bear an earlier time than the delivery that it holds up.
    soon = (waited_us.abs() <= round(machine_seconds * 1_000_000)).fill_null(False)
    return rows.select(
        *(c for c in events.columns if c not in ("hours_to_open", "machine_open")),
        hours_to_open=ibis.cases((is_open & (waited_us >= 0), hours)),
        machine_open=ibis.cases((is_open, soon | _fetched_by_machine(rows))),
    )


def _starts(events: Any, known: str) -> Any:
    """Return when each customer's message was first sent and delivered, and when that was known."""
    mails = events.filter(events.event.isin([SENT, DELIVERED]) & events.message_id.notnull())
    # Two rows can name the same moment and become known apart: the earlier knowledge counts.
    moments = mails.group_by(["customer_id", "message_id", "event", "timestamp"]).aggregate(
        known=mails[known].min()
    )
    columns: dict[str, Any] = {}
    for name in (SENT, DELIVERED):
        one = moments.event == name
        columns[f"__{name}_at"] = moments.timestamp.min(where=one)
        columns[f"__{name}_known"] = moments.known.argmin(moments.timestamp, where=one)
    starts = moments.group_by(["customer_id", "message_id"]).aggregate(**columns)
    return starts.rename(__email_customer="customer_id", __email_message="message_id")


def _fetched_by_machine(rows: Any) -> Any:
    """Judge by the user agent alone; false where it is unknown."""
    if "user_agent" not in rows.columns:
        return ibis.literal(False)
    agent = rows.user_agent.cast("string").strip()
    # An HTTP library that fetches the picture of a message is a gateway, whatever it is elsewhere.
    machine = automated(agent, ibis.literal(True)) | agent.re_search(_PROXY) | (agent == _APPLE)
    return machine.fill_null(False)
