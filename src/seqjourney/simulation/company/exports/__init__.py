"""The company's exports: one short module per vendor's shape, each a query over `traces`.

A module's `QUERIES` maps its sources to SQL, whose rows are either a `line` of JSON or columns of a
table. `traces` (see there) makes ids and texts of the codes; `ALL` lists what is written where.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqjourney.simulation.company.exports import (
    amplitude,
    cloudevents,
    ga4,
    mparticle,
    posthog,
    rudderstack,
    segment,
    snowplow,
    tables,
)


@dataclass(frozen=True)
class Export:
    """How one source is written."""

    source: str
    query: str
    ending: str
    """Of its files: jsonl, jsonl.gz, parquet or csv."""
    files: int = 1
    """For each part of the company."""


ALL = (
    *(
        Export(source, query, module.ENDING, module.FILES)
        for module in (
            segment,
            rudderstack,
            amplitude,
            mparticle,
            snowplow,
            ga4,
            posthog,
            cloudevents,
        )
        for source, query in module.QUERIES.items()
    ),
    *(Export(source, query, tables.ENDINGS[source]) for source, query in tables.QUERIES.items()),
)

__all__ = ["ALL", "Export"]
