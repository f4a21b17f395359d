"""The truth behind the exports: never a model's input, only what results are compared with.

events       one row per event (copies are counted, not listed), under the id that its source
             gives it; `channel` is the visit's true one, also where nothing shows it
identifiers  one row per identifier and person; `component` numbers what the exports link, so
             two identifiers of a person in two components cannot be joined by anybody
links        pairs of identifiers of a person that stand on one raw event, and since when
consent      every answer to a banner
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from seqjourney.simulation.company.exports.ga4 import KEY as GA4_KEY
from seqjourney.simulation.company.exports.traces import ZERO_ID, ZERO_PHONE
from seqjourney.simulation.company.part import JUNK_USERS

JUNK = (*JUNK_USERS, ZERO_ID, ZERO_PHONE)

_COLUMNS = (
    ("user", "user_id"),
    # PostHog writes its cookie under `$device_id`, and as an id of a visitor only when it is tied
    # to a user; users stand under `distinct_id` as well.
    ("anonymous", "case when source <> 'account' or event = 'identified' then anonymous_id end"),
    ("anonymous", "case when source = 'account' then user_id end"),
    ("device", "coalesce(device_id, case when source = 'account' then anonymous_id end)"),
    ("email", "plain_email"),
    ("phone", "plain_phone"),
    ("external", "external_id"),
)
EVENTS = f"""
    select source,
        case source when 'us' then {GA4_KEY} when 'support' then '/helpdesk/eu ' || event_uuid
            else event_uuid end as source_event_id,
        person_id(person) as person, event, name as original_event, channel,
        ai_engine,
        moment(time_us) as "timestamp", moment(known_us + case source
            when 'outlet' then 60000000 when 'app' then 40000 else 0 end) as known_at, value_eur,
        machine_open, bot >= 0 as bot, analytics, advertising,
        skew_us / 1000000 as clock_skew_seconds, late, copies,
        case defect when 1 then 'missing_property' when 2 then 'wrong_type' end as defect,
        user_id is not null or anonymous_id is not null or device_id is not null
            or plain_email is not null or plain_phone is not null as has_identifier
    from traces where not copy order by time_us, uid"""
CONSENT = """
    select distinct person_id(person) as person, purpose, state, moment(since_us) as since
    from (unpivot (select person, since_us, analytics, advertising from traces
            where since_us is not null)
        on analytics, advertising into name purpose value state)
    order by all"""


def identities(connection: Any, part: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the identifiers and the links of the part in `traces`."""
    types = dict(enumerate(kind for kind, _ in _COLUMNS))
    columns = ", ".join(f"{sql} as id_{place}" for place, (_, sql) in enumerate(_COLUMNS))
    combos = connection.sql(f"""
        with ids as (select person, bot >= 0 as bot, source, time_us, known_us, {columns}
            from traces)
        select person, bot, {", ".join(f"id_{place}" for place in types)}, min(time_us) as time_us,
            min(known_us) as known_us
        from ids group by all order by all""").df()
    long = combos.reset_index(names="combo").melt(
        ["combo", "person", "bot", "time_us", "known_us"],
        [f"id_{place}" for place in types],
        "place",
        "identifier",
    )
    long = long.dropna(subset="identifier")
    long["type"] = long["place"].str.removeprefix("id_").astype(int).map(types)
    long["junk"] = long["identifier"].isin(JUNK)
    keys = ["type", "identifier", "person"]
    found = long.groupby(keys, dropna=False, sort=True).agg(
        junk=("junk", "first"),
        bot=("bot", "max"),
        first_us=("time_us", "min"),
        known_us=("known_us", "min"),
    )
    found = found.reset_index()
    found["node"] = np.arange(len(found))
    found["shared"] = (
        found.groupby(["type", "identifier"])["person"].transform("nunique") > 1
    ) & ~found["junk"]
    long = long[~long["junk"] & long["person"].notna()].merge(found[[*keys, "node"]], on=keys)
    first = long.groupby("combo")["node"].transform("min")
    size = len(found)
    graph = coo_matrix((np.ones(len(long), np.int8), (long["node"], first)), (size, size))
    component = connected_components(graph, directed=False)[1].astype(np.int64)
    found["component"] = component + part * 100_000_000
    people = np.where(found["person"].notna(), found["person"].fillna(-1), -1).astype(np.int64)
    found["person"] = [f"p{number:07d}" if number >= 0 else None for number in people]
    return found.drop(columns="node"), link_pairs(long)


def link_pairs(long: pd.DataFrame) -> pd.DataFrame:
    """Pairs of identifiers on one raw event, with the earliest times at which this was so."""
    sides = long[["combo", "person", "type", "identifier", "time_us", "known_us"]]
    pairs = sides.merge(sides, on="combo", suffixes=("", "_other"))
    pairs = pairs[pairs["type"] < pairs["type_other"]]
    keys = ["person", "type", "identifier", "type_other", "identifier_other"]
    pairs = pairs.groupby(keys, sort=True)[["time_us", "known_us"]].min().reset_index()
    pairs["person"] = [f"p{number:07d}" for number in pairs["person"].astype(np.int64)]
    return pairs


def reachable_pairs(identifiers: pd.DataFrame) -> tuple[int, int]:
    """Pairs of identifiers of one person that the exports link, and all such pairs.

    Shared and junk identifiers are left out. Their ratio is the best recall that anyone can reach.
    """
    own = identifiers[~identifiers["junk"] & ~identifiers["shared"] & identifiers["person"].notna()]
    return tuple(  # type: ignore[return-value]
        int((sizes * (sizes - 1) // 2).sum())
        for sizes in (own.groupby("component").size(), own.groupby("person").size())
    )
