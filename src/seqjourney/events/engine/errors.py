"""What the engine's errors say, for a person: the file and the line, no hints about SQL."""

from __future__ import annotations

import codecs
import gzip
import re
from pathlib import Path


def explain(error: BaseException) -> str:
    """Return what a person needs of an engine's message: the file, not its hints about SQL."""
    file = _file_of(error)
    text = re.split(r"\n\s*(?:Possible|File|file =|LINE)", str(error))[0]
    text = re.sub(r"(Original Line: .{60}).*", r"\1 ...", text)
    return (f"{file}: " if file else "") + " ".join(text.split())


def of_stream(error: OSError) -> Exception:
    """Return the engine's own error for what Arrow makes of it when rows are read as a stream.

    Arrow keeps the message alone, which begins with the error's kind.
    """
    import duckdb

    kinds = {
        "Invalid Input Error": duckdb.InvalidInputException,
        "Out of Memory Error": duckdb.OutOfMemoryException,
        "IO Error": duckdb.IOException,
    }
    kind = kinds.get(str(error).split(":")[0])
    return error if kind is None else kind(str(error))


def not_utf8(error: BaseException) -> str | None:
    """Say which line of which file is no UTF-8 and how to mend it, if that stopped the engine."""
    file = _file_of(error)
    if "not utf-8 encoded" not in str(error) or file is None:
        return None
    line = re.search(r"Line: (\d+)", str(error))
    is_utf16 = _starts_as_utf16(Path(file))
    found, encoding = ("UTF-16", "UTF-16") if is_utf16 else ("not UTF-8", "WINDOWS-1252")
    place = f" (line {line[1]})" if line and not is_utf16 else ""
    return (
        f"{file} is {found}{place}; text must be UTF-8. Save it as UTF-8, or convert it, for "
        f"example: iconv -f {encoding} -t UTF-8 old.csv > new.csv"
    )


def _file_of(error: BaseException) -> str | None:
    found = re.search(r"^\s*file = (.+)$", str(error), re.MULTILINE)
    return found[1] if found else None


def _starts_as_utf16(file: Path) -> bool:
    with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as content:
        return content.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
