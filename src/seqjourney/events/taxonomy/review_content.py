"""What stands in a review file, and how findings become proposals."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict

from seqjourney.events.taxonomy.findings import Findings
from seqjourney.events.taxonomy.mapping import Rules, coverage, lookup, rules
from seqjourney.events.taxonomy.names import object_action, shown, template
from seqjourney.events.taxonomy.plan import Names, TrackingPlan
from seqjourney.events.taxonomy.words import is_past

MOST_LISTED = 1000  # of each kind; the most frequent
_MOST_SPELLINGS = 3


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Proposal(_Strict):
    """One unmapped name, or one form of names, and what to do with it."""

    name: str
    canonical: str
    """What it is to be called; edit it."""
    accept: bool = False
    """Set to true to map it."""
    proposed: str = ""
    """What we think; comparing it with `canonical` tells an edit."""
    because: str = ""
    rows: int = 0
    share: float = 0.0
    """Of all rows."""
    names: int = 1
    """Distinct raw names behind it."""
    seen_as: Names = ()
    """A few raw spellings, cut."""

    @property
    def decided(self) -> bool:
        """Whether a person touched it."""
        return self.accept or self.canonical != self.proposed


class Violation(_Strict):
    """One way in which an event breaks the plan."""

    event: str
    property: str
    problem: str
    expected: str
    rows: int
    share: float
    """Of the event's rows."""
    example: str | None = None


_nothing = BeforeValidator(lambda value: () if value is None else value)


class Review(_Strict):
    """The content of a review file."""

    coverage: dict[str, int | float] = {}
    warnings: Names = ()
    unmapped: Annotated[tuple[Proposal, ...], _nothing] = ()
    suspects: Annotated[tuple[Proposal, ...], _nothing] = ()
    violations: Annotated[tuple[Violation, ...], _nothing] = ()


def draft(findings: Findings, plan: TrackingPlan) -> Review:
    """Put findings into a review in which nothing is decided."""
    covered = coverage(findings.resolved)
    # A name of the plan was chosen by somebody: say what is unusual about it, propose no other.
    odd = [name for name in plan.events if not any(map(is_past, name.split("_")))]
    warnings = [
        f"{name}: has no action in the past tense, as order_completed has"
        for name in odd[:MOST_LISTED]
    ]
    unmapped, suspects = _proposals(findings, plan)
    return Review(
        coverage={
            "rows": covered.rows,
            "mapped_rows": covered.mapped_rows,
            "share_of_rows": round(covered.share_of_rows, 6),
            "names": covered.names,
            "mapped_names": covered.mapped_names,
            "share_of_names": round(covered.share_of_names, 6),
        },
        warnings=tuple(warnings),
        unmapped=unmapped,
        suspects=suspects,
        violations=tuple(
            Violation.model_validate(record | {"share": round(record["share"], 6)})
            for record in findings.violations.head(MOST_LISTED).to_dict("records")
        ),
    )


def _proposals(
    findings: Findings, plan: TrackingPlan
) -> tuple[tuple[Proposal, ...], tuple[Proposal, ...]]:
    """Return the unmapped names, and the forms of unmapped names that carry data."""
    total = max(int(findings.resolved["rows"].sum()), 1)
    unknown = findings.resolved[~findings.resolved["mapped"].astype(bool)]
    forms = [template(str(event)) for event in unknown["event"]]
    suspect = pd.Series([form is not None for form in forms], dtype=bool, index=unknown.index)
    labels = [form or str(event) for form, event in zip(forms, unknown["event"], strict=True)]
    unknown = unknown.assign(label=pd.Series(labels, dtype=object, index=unknown.index))
    best = {
        str(record["event"]): record
        for record in findings.candidates.drop_duplicates("event").to_dict("records")
    }
    found = rules(plan)
    listed: list[tuple[Proposal, ...]] = []
    for part in (unknown[~suspect], unknown[suspect]):
        grouped = part.groupby("label", sort=True).agg(
            rows=("rows", "sum"), names=("name", "nunique")
        )
        grouped = grouped.sort_values("rows", ascending=False, kind="stable").head(MOST_LISTED)
        spellings = part[part["label"].isin(grouped.index)].groupby("label")["name"]
        seen = spellings.apply(lambda names: tuple(map(shown, names[:_MOST_SPELLINGS])))
        entries = []
        for label, rows, names in grouped.itertuples():
            proposed, because = _guess(label, best, found)
            entries.append(
                Proposal(
                    name=label,
                    canonical=proposed,
                    proposed=proposed,
                    because=because,
                    rows=rows,
                    share=round(rows / total, 6),
                    names=names,
                    seen_as=tuple(dict.fromkeys(seen[label])),
                )
            )
        listed.append(tuple(entries))
    return listed[0], listed[1]


def _guess(name: str, best: dict[str, Any], found: Rules) -> tuple[str, str]:
    """Return the proposed canonical name of a name or a form, and why."""
    if name in best:
        record = best[name]
        kinds = {"name": "name_score", "properties": "property_score", "context": "context_score"}
        known = [f"{kind} {record[c]:.2f}" for kind, c in kinds.items() if pd.notna(record[c])]
        candidate = str(record["candidate"])
        canonical = candidate if record["candidate_mapped"] else object_action(candidate)
        like = "" if canonical == candidate else f"like {candidate}, "
        return canonical, f"{like}score {record['score']:.2f}: {', '.join(known)}"
    words = "_".join(word for word in name.split("_") if word != "*")
    canonical = object_action(words)
    known_as = lookup(found, None, words) or lookup(found, None, canonical)
    return known_as or canonical, "its own words" if words == name else "the name carries data"
