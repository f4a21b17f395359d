"""What all reports share: the page around them, how text and numbers stand in it, safe writing.

`frame.html.j2` is the HTML page; a report's own template extends it and fills its blocks. The page
is one file that asks the network for nothing. Names in a report come from user data: the HTML
escapes everything but our own pictures, the Markdown has `cell`.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.files import explaining_full_disk, in_parents

if TYPE_CHECKING:
    from jinja2 import Environment

NO_BREAK = "\u00a0"  # keeps a number and its unit on one line
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$!&@])|(?<=www)(\.)|(:)(?=//)")


def render(
    package: str, template: str, page: Mapping[str, Any], **filters: Callable[..., Any]
) -> str:
    """Fill a template of `<package>/templates`; the ending of its name (`.html.j2`) says how."""
    environment = _environment(package, html=template.endswith(".html.j2"))
    environment.filters |= {"cell": cell, "count": count, **filters}
    return environment.get_template(template).render(page)


def _environment(package: str, *, html: bool) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    places = [PackageLoader(package, "templates"), PackageLoader("seqjourney", "page")]
    return Environment(
        loader=ChoiceLoader(places),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def write_together(folder: Path, contents: Mapping[str, str]) -> dict[str, Path]:
    """Write files beside the folder, then move them in; returns name -> path.

    A failure while writing leaves an older report as it was.
    """
    fresh = folder / f".new-{uuid.uuid4().hex[:8]}"
    with in_parents(fresh), explaining_full_disk(folder):
        fresh.mkdir()
        try:
            for name, text in contents.items():
                (fresh / name).write_text(text.rstrip() + "\n", encoding="utf-8")
            for name in contents:
                (fresh / name).replace(folder / name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return {name: folder / name for name in contents}


def cell(text: object) -> str:
    """Escape text for Markdown, where a pipe would end a table cell and an address be a link."""
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))


def count(number: float) -> str:
    """Print a whole number with its thousands apart."""
    return f"{number:,.0f}"


def decimal(value: float, places: int = 3, sign: str = "") -> str:
    """Print a number with a true minus, after which no line breaks; `sign="+"` shows a plus."""
    return f"{value:{sign}z.{places}f}".replace("-", "−")
