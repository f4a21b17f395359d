"""What rows show: the distinct identifiers, and the links between those seen on one row.

Pure Ibis, alike on every engine. A row links each of its identifiers to its strongest one (a star,
not all pairs: the strongest is what the row is about), and an alias row links `previous_id` to its
user. Both results are small aggregates that `resolve` takes; those of two loads are added by
`merge_observed`, so that replaying increments equals the batch.
"""

from __future__ import annotations

import re
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from seqjourney.config.types import nearest
from seqjourney.errors import ConfigError
from seqjourney.events.identity.rules import IdentityRules

OF_ALIAS = "anonymous"
"""The type of `previous_id`."""


def unblocked(text: Any, rules: IdentityRules) -> Any:
    """Return a text column stripped, with null in place of values that identify nobody."""
    text = text.cast("string").strip()
    plain, expressions = _patterns(rules)
    found = text.lower().isin(plain)
    if expressions:
        found |= text.re_search("(?i)^(?:" + "|".join(f"(?:{p})" for p in expressions) + ")$")
    return found.ifelse(ibis.null("string"), text)


def without_blocked(rows: Any, rules: IdentityRules) -> Any:
    """Return rows whose identifier columns hold null where a value identifies nobody.

    This comes once, before e-mails and telephone numbers are hashed; the other functions of this
    module take such rows.

    Raises:
        ConfigError: the rows carry an identifier type that the rules do not know.
    """
    columns = [f"id_{name}" for name in _types(rows, rules)]
    columns += [name for name in ("previous_id",) if name in rows.columns]
    return rows.mutate(**{name: unblocked(rows[name], rules) for name in columns})


def combinations(rows: Any, rules: IdentityRules) -> Any:
    """Return the distinct combinations of identifiers on a row.

    Args:
        rows: of `without_blocked`, with `id_<type>` columns, `known_at` and perhaps `previous_id`.
        rules: the types.

    Returns:
        Ibis table of the same identifier columns with `known_at` (the earliest) and `rows` (how
        many). Materialise it and give it to `identifiers` and `links`: they scan far less then.

    Raises:
        ConfigError: the rows carry an identifier type that the rules do not know.
    """
    keys = [f"id_{name}" for name in _types(rows, rules)]
    keys += [name for name in ("previous_id",) if name in rows.columns]
    return rows.group_by(keys).aggregate(known_at=rows.known_at.min(), rows=rows.count())


def identifiers(rows: Any, rules: IdentityRules) -> Any:
    """Return the distinct identifiers: `identifier_type, identifier, first_known, rows`.

    Args:
        rows: of `without_blocked`, or of `combinations` (these have a column `rows`).
        rules: the types.

    Raises:
        ConfigError: the rows carry an identifier type that the rules do not know.
    """
    seen = rows if "rows" in rows.columns else combinations(rows, rules)
    named = {name: f"id_{name}" for name in _types(seen, rules)}
    parts = [_one(seen, name, column) for name, column in named.items()]
    if "previous_id" in seen.columns:
        parts.append(_one(seen, OF_ALIAS, "previous_id"))
    return _summed(ibis.union(*parts), ["identifier_type", "identifier"])


def links(rows: Any, rules: IdentityRules) -> Any:
    """Return the distinct links between identifiers that a row carries, the stronger end first.

    Args:
        rows: of `without_blocked`, or of `combinations` (these have a column `rows`).
        rules: the types and their strength.

    Returns:
        Ibis table `type_a, identifier_a, type_b, identifier_b, first_known, rows`.

    Raises:
        ConfigError: the rows carry an identifier type that the rules do not know.
    """
    seen = rows if "rows" in rows.columns else combinations(rows, rules)
    types = _types(seen, rules)
    by_strength = [(name, seen[f"id_{name}"]) for name in types]
    strongest_type = _first_type(by_strength)
    strongest = ibis.coalesce(*(value for _, value in by_strength))
    parts = [
        _link(seen, seen[f"id_{name}"].notnull() & (strongest_type != name),
              (strongest_type, strongest), (ibis.literal(name), seen[f"id_{name}"]))
        for name in types[1:]
    ]  # fmt: skip
    if "previous_id" in seen.columns and "user" in types:
        ends = [("user", seen.id_user), (OF_ALIAS, seen.previous_id)]
        ends.sort(key=lambda end: rules.strength(end[0]))
        named = [(ibis.literal(name), value) for name, value in ends]
        parts.append(_link(seen, seen.id_user.notnull() & seen.previous_id.notnull(), *named))
    if not parts:
        nothing = (ibis.literal(""), ibis.literal(""))
        parts.append(_link(seen, ibis.literal(False), nothing, nothing))
    return _summed(ibis.union(*parts), ["type_a", "identifier_a", "type_b", "identifier_b"])


def row_identifier(rows: Any, rules: IdentityRules, shared: pa.Table | None = None) -> Any:
    """Add `identifier_type` and `identifier`, by which a row's event finds its customer.

    It is the strongest identifier that is not shared by several customers, else the strongest;
    null when the row has none. With `strategy: none` it is the weakest.

    Args:
        rows: of `without_blocked`, with `id_<type>` columns.
        rules: the types and their strength.
        shared: the identifiers that several customers use (`Resolution.shared`).

    Raises:
        ConfigError: the rows carry an identifier type that the rules do not know.
    """
    types = _types(rows, rules)
    if rules.strategy == "none":
        types.reverse()
    values = [(name, f"id_{name}") for name in types]
    wide, own = rows, []
    if shared is not None and rules.strategy == "full":
        for name, column in values:
            wide, column = _unless_shared(wide, name, column, shared)
            own.append((name, column))
    columns = [(name, wide[column]) for name, column in [*own, *values]]
    found = wide.mutate(
        identifier_type=_first_type(columns),
        identifier=ibis.coalesce(*(value for _, value in columns)),
    )
    return found.select(*rows.columns, "identifier_type", "identifier")


def merge_observed(old: pa.Table, new: pa.Table) -> pa.Table:
    """Add two tables of `identifiers`, or two of `links`: of two loads, what both show together.

    Returns:
        The same columns: the earlier `first_known` and the sum of `rows` of each.
    """
    columns = old.column_names
    keys = [name for name in columns if name not in ("first_known", "rows")]
    both = pa.concat_tables([old, new.select(columns).cast(old.schema)])
    summed = both.group_by(keys).aggregate([("first_known", "min"), ("rows", "sum")])
    names = {"first_known_min": "first_known", "rows_sum": "rows"}
    return summed.rename_columns([names.get(c, c) for c in summed.column_names]).select(columns)


def _types(rows: Any, rules: IdentityRules) -> list[str]:
    """Return the types that the rows carry, strongest first."""
    carried = [name.removeprefix("id_") for name in rows.columns if name.startswith("id_")]
    for name in carried:
        if name not in rules.priority:
            raise ConfigError(
                f"the rows carry identifiers of type '{name}', which identity.priority does not "
                f"name.{nearest(name, rules.priority)} Add it there, at the place of its strength."
            )
    if not carried:
        raise ConfigError(
            "the rows carry no identifiers: no column is mapped to id_user, id_anonymous or "
            "another type of identity.priority."
        )
    if "previous_id" in rows.columns and OF_ALIAS not in rules.priority:
        raise ConfigError(
            f"alias rows name previous ids of type '{OF_ALIAS}'; add it to identity.priority."
        )
    return [name for name in rules.priority if name in carried]


def _patterns(rules: IdentityRules) -> tuple[list[str], list[str]]:
    """Return the blocked values that are plain text, in lower case, and the expressions."""
    plain, expressions = {""}, set()
    for pattern in (*rules.blocked, *rules.also_blocked):
        if re.search(r"[.^$*+?{}\[\]|()\\]", re.sub(r"\\\W", "", pattern)):
            expressions.add(pattern)
        else:
            plain.add(re.sub(r"\\(\W)", r"\1", pattern).lower())
    return sorted(plain), sorted(expressions)


def _unless_shared(wide: Any, name: str, column: str, shared: pa.Table) -> tuple[Any, str]:
    """Return the rows with a column that holds the identifiers of a type that are not shared."""
    theirs = shared.filter(pc.equal(shared["identifier_type"], name))["identifier"]
    if not len(theirs):
        return wide, column
    mark, mine = f"__shared_{name}", f"__own_{name}"
    table = ibis.memtable(pa.table({mark: theirs}))
    wide = wide.left_join(table, wide[column] == table[mark])
    own = wide[mark].isnull().ifelse(wide[column], ibis.null("string"))
    return wide.mutate(**{mine: own}), mine


def _first_type(columns: list[tuple[str, Any]]) -> Any:
    return ibis.cases(*((value.notnull(), ibis.literal(name)) for name, value in columns))


def _one(seen: Any, name: str, column: str) -> Any:
    return seen.filter(seen[column].notnull()).select(
        identifier_type=ibis.literal(name),
        identifier=seen[column],
        first_known=seen.known_at,
        rows=seen["rows"],
    )


def _link(seen: Any, where: Any, stronger: tuple[Any, Any], weaker: tuple[Any, Any]) -> Any:
    wide = seen.select(
        type_a=stronger[0],
        identifier_a=stronger[1],
        type_b=weaker[0],
        identifier_b=weaker[1],
        first_known=seen.known_at,
        rows=seen["rows"],
        where=where,
    )
    return wide.filter(wide["where"]).drop("where")


def _summed(parts: Any, keys: list[str]) -> Any:
    return parts.group_by(keys).aggregate(
        first_known=parts.first_known.min(), rows=parts["rows"].sum()
    )
