"""`engine.values` on Spark: its words put right where it would read or write otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WRITTEN_TIME = (
    r"^\s*\d{1,6}[-/]\d{1,2}[-/]\d{1,2}(?:[T ]\d{1,2}:\d{1,2}(?::\d{1,2}(?:[.]\d*)?"
    r"(?:Z|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)?)?)?\s*$"
)


def json_texts(column: Any, paths: Sequence[Sequence[str]]) -> list[Any]:
    """See `engine.json_texts`."""
    import ibis
    import ibis.expr.datatypes as dt

    found: dict[int, Any] = {}
    waiting = dict(enumerate(map(tuple, paths)))
    for number in [n for n, path in waiting.items() if not path]:
        found[number] = _get_json_object(column, "$")
        del waiting[number]
    while waiting:
        # One reading takes paths of which none leads through another's end.
        now: dict[int, tuple[str, ...]] = {}
        for number, path in sorted(waiting.items(), key=lambda item: len(item[1])):
            if not any(_begins(path, other) for other in now.values()):
                now[number] = path
        tree: dict[str, Any] = {}
        for path in now.values():
            place = tree
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = None

        def struct(branch: dict[str, Any]) -> Any:
            fields = {k: struct(b) if b else dt.string for k, b in branch.items()}
            return dt.Struct(fields)

        @ibis.udf.scalar.builtin(name="from_json", signature=((dt.string, dt.string), struct(tree)))
        def from_json(text: Any, schema: Any) -> Any: ...

        record = from_json(column, f"STRUCT<{_ddl(tree)}>")
        for number, path in now.items():
            value = record
            for key in path:
                value = value[key]
            found[number] = value
            del waiting[number]
    return [found[number] for number in range(len(paths))]


def _begins(path: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one of two different paths is the beginning of the other."""
    shorter = min(len(path), len(other))
    return path[:shorter] == other[:shorter] and path != other


def _ddl(branch: Mapping[str, Any]) -> str:
    fields = []
    for key, below in branch.items():
        kind = f"STRUCT<{_ddl(below)}>" if below else "STRING"
        fields.append(f"`{key.replace('`', '``')}`: {kind}")
    return ", ".join(fields)


def _get_json_object(text: Any, path: str) -> Any:
    import ibis
    import ibis.expr.datatypes as dt

    @ibis.udf.scalar.builtin(name="get_json_object", signature=((dt.string, dt.string), dt.string))
    def get_json_object(text: Any, path: Any) -> Any: ...

    return get_json_object(text, path)


def json_items(column: Any) -> Any:
    """See `engine.json_items`."""
    import ibis
    import ibis.expr.datatypes as dt

    @ibis.udf.scalar.builtin(
        name="from_json", signature=((dt.string, dt.string), dt.Array(dt.string))
    )
    def from_json(text: Any, schema: Any) -> Any: ...

    return from_json(column, "ARRAY<STRING>")


def moment_like(text: Any) -> Any:
    """Return text that is written as a moment, null for any other that Spark would take for one."""
    import ibis

    written = text.re_search(_WRITTEN_TIME)
    return written.ifelse(text.replace("/", "-"), ibis.null("string"))


def as_text(column: Any) -> Any:
    """See `engine.as_text`."""
    import ibis
    import ibis.expr.datatypes as dt

    kind, text = column.type(), column.cast("string")
    if kind.is_floating():
        return _plain_number(text)
    if kind.is_timestamp() and kind.timezone is not None:

        @ibis.udf.scalar.builtin(
            name="date_format", signature=((dt.timestamp, dt.string), dt.string)
        )
        def date_format(moment: Any, pattern: Any) -> Any: ...

        offset = date_format(column, "xxx")
        whole = offset.endswith(":00")
        text = text + whole.ifelse(offset.substr(0, 3), offset)
    return text.re_replace("^[+]", "") if kind.is_timestamp() else text  # years of five digits


def _plain_number(text: Any) -> Any:
    """Write a number that Java wrote with an exponent as DuckDB does."""
    import ibis

    def written(text: Any) -> Any:
        shape = r"^(-?\d)\.(\d+)E(-?\d+)$"
        whole, part, power = (text.re_extract(shape, group) for group in (1, 2, 3))
        exponent = power.try_cast("int32")
        digits = power.replace("-", "")
        digits = (digits.length() < 2).ifelse(ibis.literal("0") + digits, digits)
        scientific = whole + (part == "0").ifelse("", ibis.literal(".") + part)
        scientific = scientific + power.startswith("-").ifelse("e-", "e+") + digits
        decimal = text.try_cast("decimal(38, 21)").cast("string").re_replace("0+$", "")
        decimal = decimal.re_replace("[.]$", ".0")
        plain = exponent.between(-4, 15).ifelse(decimal, scientific)
        return text.re_search(shape).ifelse(plain, text)

    # A list of one, so that the text stands in the query once.
    return ibis.array([text]).map(written)[0]
