"""One customer out of one file: rows that are theirs go, mentions elsewhere are blotted out.

A row of a Parquet file is the customer's when a `customer_id` column names them or a pair of type
and identifier does (`identifier_type`, `identifier`; `type_a`, `identifier_a`). In what remains,
text that holds one of their telling names (see `customers.Customer`) as a whole word gets
`[erased]` in its place: somebody else's `referred_by`, say. Files are streamed, keep their schema
and appear whole or not at all. `commands.forget` decides which files.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.errors import DataError
from seqjourney.events.customers import Customer
from seqjourney.files import explaining_full_disk

BLOT = "[erased]"
_PAIRS = (("identifier_type", "identifier"), ("type_a", "identifier_a"), ("type_b", "identifier_b"))
_TEXT = (".json", ".yaml", ".yml", ".md", ".html", ".txt", ".log")
_LINES = (".jsonl", ".ndjson", ".csv", ".tsv")
_BATCH_ROWS = 200_000
_EDGE = r"[^0-9A-Za-z_\-]"  # what may stand beside a whole name


@dataclass(frozen=True)
class Erased:
    """What was taken out of one file."""

    rows: int = 0
    mentions: int = 0
    """Cells of other rows, or places in a text, that named the customer."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.mentions)


def erase_from(source: Path, customer: Customer, target: Path, *, bad_rows: bool = False) -> Erased:
    """Write what remains of a file to `target`; where nothing is to be erased, write nothing.

    Args:
        source: a Parquet or text file.
        customer: who.
        target: the caller puts it in the source's place.
        bad_rows: the rows could not be read when they came, so that a row goes if any of its cells
            names the customer.
    """
    with explaining_full_disk(source):
        if source.suffix == ".parquet":
            return _from_parquet(source, customer, target, bad_rows)
        return _from_text(source, customer, target)


def can_erase(file: Path) -> bool:
    """Whether a file is of a kind that `erasing` can rewrite."""
    return file.suffix.lower() in (".parquet", *_TEXT, *_LINES)


def names_customer(file: Path, customer: Customer) -> bool:
    """Whether any file at all holds a telling name of the customer, byte by byte."""
    pattern = re.compile(b"|".join(re.escape(n.encode()) for n in _spellings(customer)) or b"(?!)")
    overlap = max((len(n) for n in _spellings(customer)), default=0) * 4
    with file.open("rb") as stream:
        tail = b""
        while block := stream.read(1 << 22):
            for found in pattern.finditer(tail + block):
                around = (tail + block)[max(found.start() - 1, 0) : found.end() + 1]
                if _is_whole(around, found.group()):
                    return True
            tail = block[-overlap:] if overlap else b""
    return False


def _is_whole(around: bytes, name: bytes) -> bool:
    edge = _EDGE.encode()
    return re.search(rb"(^|%b)%b($|%b)" % (edge, re.escape(name), edge), around) is not None


def _spellings(customer: Customer) -> list[str]:
    """Telling names as they are, and as JSON and HTML write them."""
    found: set[str] = set()
    for name in customer.telling:
        escaped = json.dumps(name)[1:-1]
        found |= {name, escaped, json.dumps(name, ensure_ascii=False)[1:-1], html.escape(name)}
    return sorted(found, key=lambda name: (-len(name), name))


def _whole_names(customer: Customer) -> str | None:
    """Regular expression (RE2 and Python) of a telling name that stands as a whole word."""
    names = "|".join(re.escape(name) for name in _spellings(customer))
    return f"(^|{_EDGE})(?:{names})($|{_EDGE})" if names else None


def _from_parquet(source: Path, customer: Customer, target: Path, bad_rows: bool) -> Erased:
    pattern = _whole_names(customer)
    try:
        if not bad_rows and not _is_touched(source, customer, pattern):
            return Erased()
        rows = mentions = 0
        with (
            pq.ParquetFile(source) as file,
            pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(_BATCH_ROWS):
                theirs = _rows_of(batch, customer, pattern if bad_rows else None)
                here = pc.sum(theirs).as_py() or 0
                kept = batch.filter(pc.invert(theirs)) if here else batch
                kept, blotted = _blot(kept, pattern)
                rows += here
                mentions += blotted
                writer.write_batch(kept)
    except pa.ArrowInvalid as error:
        raise DataError(f"{source} is damaged ({error}); delete it or write it again.") from None
    if not rows and not mentions:
        target.unlink()
    return Erased(rows, mentions)


def _is_touched(source: Path, customer: Customer, pattern: str | None) -> bool:
    """Whether a file has anything to erase; looks at each distinct text of a batch only once."""
    schema = pq.read_schema(source)
    texts = [f.name for f in schema if _texts(pa.array([], f.type)) is not None]
    names = pa.array(sorted({v for _, v in customer.names} | {customer.hash}), pa.large_string())
    with pq.ParquetFile(source, read_dictionary=texts) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=texts):
            for column in batch.columns:
                distinct = column.dictionary if pa.types.is_dictionary(column.type) else column
                words = distinct.cast(pa.large_string())
                if pc.any(pc.is_in(words, value_set=names)).as_py():
                    return True
                if pattern and pc.any(pc.match_substring_regex(words, pattern)).as_py():
                    return True
    return False


def _texts(column: pa.Array) -> pa.Array | None:
    """Return a column of text as plain strings; None for any other."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    return None


def _rows_of(batch: pa.RecordBatch, customer: Customer, anywhere: str | None) -> pa.Array:
    """Mark the rows that are the customer's, (n,) bool."""
    theirs = pa.repeat(pa.scalar(False), len(batch))
    columns = {name: _texts(batch[name]) for name in batch.schema.names}
    for name, text in columns.items():
        if text is None:
            continue
        if name == "customer_id" or name.endswith("_customer_id"):
            # A bad row's id may be as the source had it: with blanks, or read as a number.
            ids = pa.array([customer.id, f"{customer.id}.0"], text.type)
            theirs = _or(
                theirs,
                pc.is_in(pc.utf8_trim_whitespace(text), value_set=ids[: 2 if anywhere else 1]),
            )
        elif name == "customer_hash":
            theirs = _or(theirs, pc.equal(text, customer.hash))
        elif anywhere is not None:
            theirs = _or(theirs, _named_in_bad(text, name, customer, anywhere))
    for type_column, column in _PAIRS:
        types, values = columns.get(type_column), columns.get(column)
        if types is None or values is None:
            continue
        for kind in {name for name, _ in customer.identifiers}:
            of_kind = pa.array([v for n, v in customer.identifiers if n == kind], values.type)
            pair = pc.and_(pc.equal(types, kind), pc.is_in(values, value_set=of_kind))
            theirs = _or(theirs, pair)
    return theirs


def _named_in_bad(text: pa.Array, column: str, customer: Customer, anywhere: str) -> pa.Array:
    """Mark cells of rows that could not be read and may be the customer's."""
    found = pc.match_substring_regex(text, anywhere)
    if column.startswith(("id_", "previous_id")):
        kind = column.removeprefix("id_")
        kind = "anonymous" if column == "previous_id" else kind
        values = [v for n, v in customer.identifiers if n == kind]
        trimmed = pc.utf8_trim_whitespace(text)
        found = _or(found, pc.is_in(trimmed, value_set=pa.array(values, text.type)))
    elif column not in ("problem", "source"):  # a short id in a text is one between quotes
        for _, value in customer.names:
            found = _or(found, pc.match_substring(text, json.dumps(value)))
    return found


def _or(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.or_(left, pc.fill_null(right, False))


def _blot(batch: pa.RecordBatch, pattern: str | None) -> tuple[pa.RecordBatch, int]:
    """Blot telling names out of the text of other people's rows."""
    if pattern is None or not len(batch):
        return batch, 0
    blotted = 0
    for position, name in enumerate(batch.schema.names):
        text = _texts(batch.column(position))
        if text is None or name == "customer_id" or name.endswith("_customer_id"):
            continue
        found = pc.sum(pc.match_substring_regex(text, pattern)).as_py() or 0
        if not found:
            continue
        blotted += found
        while pc.any(pc.match_substring_regex(text, pattern)).as_py():  # neighbours share an edge
            text = pc.replace_substring_regex(text, pattern, rf"\1{BLOT}\2")
        field = batch.schema.field(position)
        batch = batch.set_column(position, field, text.cast(field.type))
    return batch, blotted


def _from_text(source: Path, customer: Customer, target: Path) -> Erased:
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return Erased()  # not text after all; `names_customer` tells what it holds
    rows = 0
    if source.suffix.lower() in _LINES:
        text, rows = _without_lines(text, source.suffix.lower(), customer)
    mentions = 0
    pattern = _whole_names(customer)
    if pattern is not None:
        while True:
            text, found = re.subn(pattern, rf"\1{BLOT}\2", text)
            if not found:
                break
            mentions += found
    if rows or mentions:
        target.write_text(text, encoding="utf-8")
    return Erased(rows, mentions)


def _without_lines(text: str, suffix: str, customer: Customer) -> tuple[str, int]:
    """Drop the lines of a table of customers that are the customer's."""
    if suffix in (".csv", ".tsv"):
        mark = "," if suffix == ".csv" else "\t"
        records = list(csv.reader(io.StringIO(text), delimiter=mark))
        if not records or "customer_id" not in records[0]:
            return text, 0
        column = records[0].index("customer_id")
        kept = [r for r in records if len(r) <= column or r[column] != customer.id]
        if len(kept) == len(records):
            return text, 0
        out = io.StringIO()
        csv.writer(out, delimiter=mark, lineterminator="\n").writerows(kept)
        return out.getvalue(), len(records) - len(kept)
    lines = text.splitlines(keepends=True)
    remaining = [line for line in lines if _customer_of_line(line) != customer.id]
    return "".join(remaining), len(lines) - len(remaining)


def _customer_of_line(line: str) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record.get("customer_id") if isinstance(record, dict) else None
