"""The audit's pictures, as inline SVG built element by element: what an event is called is escaped.

Bars, one line and one strip of cells need no plotting library, and so the audit imports none.
Colours are Okabe and Ito's, which colour-blind readers tell apart; nothing is told by colour alone.
The reader's own font draws the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from markupsafe import Markup

from seqjourney.events.audit.drift import Step
from seqjourney.events.audit.measure import Late
from seqjourney.events.audit.thresholds import THRESHOLDS

BLUE, ORANGE, INK, FAINT, GRID = "#0072B2", "#D55E00", "#222222", "#5c5c5c", "#e3e3e3"
_PALE, _MIDDLE, _DARK = "#eef3f7", "#F3C48F", "#B34700"
WIDTH = 900
_LEFT, _RIGHT = 66, 12
_FONT = 13
_WIDEST_BAR = 96
# A number over a grid line: white around its letters keeps it legible.
_ON_GRID = {
    "anchor": "middle", "font_size": "12", "paint_order": "stroke", "stroke": "#ffffff",
    "stroke_width": "4",
}  # fmt: skip
MOST_STRIPS = 9  # rows of the drift picture


class Canvas:
    """An SVG of a fixed inner size; the page scales it."""

    def __init__(self, height: float, description: str) -> None:
        self.root = ElementTree.Element(
            "svg",
            {
                "viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "aria-label": description,
                "style": f"--natural:{WIDTH}",
            },
        )  # fmt: skip

    def rect(self, x: float, y: float, width: float, height: float, **style: str) -> None:
        """Draw a rectangle, or nothing where it has no size."""
        if width > 0 and height > 0:
            self._add("rect", {"x": x, "y": y, "width": width, "height": height}, style)

    def line(self, x1: float, y1: float, x2: float, y2: float, **style: str) -> None:
        """Draw a straight line."""
        self._add("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, style)

    def path(self, points: Sequence[tuple[float, float]], **style: str) -> None:
        """Draw a line through points."""
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        element = ElementTree.SubElement(self.root, "polyline", {"points": where, "fill": "none"})
        element.attrib.update({key.replace("_", "-"): value for key, value in style.items()})

    def dot(self, x: float, y: float, **style: str) -> None:
        """Draw a point."""
        self._add("circle", {"cx": x, "cy": y, "r": 4}, style)

    def text(self, x: float, y: float, text: str, **style: str) -> None:
        """Write text; `anchor` is start, middle or end."""
        anchor = style.pop("anchor", "start")
        look = {"fill": INK, "font_size": str(_FONT), "text_anchor": anchor} | style
        self._add("text", {"x": x, "y": y}, look).text = text

    def svg(self) -> Markup:
        """Return the finished picture; ElementTree has escaped every text and attribute."""
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))

    def _add(
        self, tag: str, place: Mapping[str, float], style: Mapping[str, str]
    ) -> ElementTree.Element:
        numbers = {key: f"{value:.1f}".removesuffix(".0") for key, value in place.items()}
        look = {key.replace("_", "-"): value for key, value in style.items()}
        return ElementTree.SubElement(self.root, tag, numbers | look)


def months(table: pd.DataFrame) -> Markup:
    """Did volume and customers hold over the months? Incomplete months are drawn hollow."""
    panel, gap = 130, 46
    canvas = Canvas(2 * panel + gap + 46, "Events and active customers per month")
    names = [f"{m:%Y-%m}" for m in table["month"]]
    for place, (column, title) in enumerate(
        (("events", "Events per month"), ("customers", "Customers active per month"))
    ):
        top = 20 + place * (panel + gap)
        canvas.text(_LEFT, top - 7, title, font_weight="600")
        values = table[column].to_numpy(np.float64)
        _bars(canvas, values, top, panel, hollow=~table["whole"].to_numpy(bool))
        if place:
            _under(canvas, names, top + panel, len(values))
    return canvas.svg()


def per_customer(bands: Mapping[str, int], what: str) -> Markup:
    """How many customers have one identifier, two, …?"""
    panel, top = 150, 22
    canvas = Canvas(panel + 62, f"Customers by number of {what}")
    values = np.array(list(bands.values()), np.float64)
    _bars(canvas, values, top, panel)
    _under(canvas, list(bands), top + panel, len(values))
    total, step = values.sum(), (WIDTH - _LEFT - _RIGHT) / len(values)
    for place, value in enumerate(values):
        x, y = _LEFT + (place + 0.5) * step, top + panel * (1 - value / _nice_top(values.max()))
        canvas.text(x, y - 5, f"{100 * value / total:.1f} %", **_ON_GRID)
    canvas.text((WIDTH + _LEFT) / 2, top + panel + 38, f"{what} of a customer", anchor="middle",
                fill=FAINT)  # fmt: skip
    return canvas.svg()


def late_curve(found: Late) -> Markup:
    """What share of the events is known after an hour, a day, a week?"""
    panel, top = 160, 30
    canvas = Canvas(panel + 66, "Share of events known by time since they happened")
    low = np.floor(10 * min(found.known_by.values())) / 10
    low = min(low, 0.9)
    step = (WIDTH - _LEFT - _RIGHT) / len(found.known_by)
    points = []
    for tick in np.linspace(low, 1, 3):
        y = top + panel * (1 - (tick - low) / (1 - low))
        canvas.line(_LEFT, y, WIDTH - _RIGHT, y, stroke=GRID)
        canvas.text(_LEFT - 8, y + 4, f"{100 * tick:.0f} %", anchor="end", fill=FAINT)
    for place, share in enumerate(found.known_by.values()):
        points.append((_LEFT + (place + 0.5) * step, top + panel * (1 - (share - low) / (1 - low))))
    canvas.path(points, stroke=BLUE, stroke_width="2")
    for (x, y), share in zip(points, found.known_by.values(), strict=True):
        canvas.dot(x, y, fill=BLUE)
        label = "100 %" if share == 1 else f"{100 * min(share, 0.999):.1f} %"
        canvas.text(x, y - 11, label, **_ON_GRID)
    _under(canvas, list(found.known_by), top + panel + 4, len(points))
    return canvas.svg()


def drift_strip(found: Mapping[str, Sequence[Step]]) -> Markup:
    """In which month did what change? Darker is more; the number is the PSI."""
    rows = [(name, steps) for name, steps in found.items() if steps]
    rows.sort(key=lambda pair: -max(step.real for step in pair[1]))  # where something is to see
    rows = rows[:MOST_STRIPS]
    names = sorted({step.month for _, steps in rows for step in steps})
    height, left = 34, 150
    canvas = Canvas(height * len(rows) + 34, "Drift of each field against the month before")
    step = (WIDTH - left - _RIGHT) / max(1, len(names))
    gap = min(1.0, step / 10)
    limit = THRESHOLDS["drift"]
    for place, (name, steps) in enumerate(rows):
        y = 4 + place * height
        short = name if len(name) <= 20 else name[:19] + "…"
        canvas.text(left - 10, y + height / 2 + 2, short, anchor="end")
        for one in steps:
            level = (one.real >= limit.passes) + (one.real >= (limit.fails or np.inf))
            x = left + names.index(one.month) * step
            fill = (_PALE, _MIDDLE, _DARK)[level]
            canvas.rect(x + gap, y, step - 2 * gap, height - 4, fill=fill)
            if step >= 34 or level:
                ink = (FAINT, INK, "#ffffff")[level]
                size = "12" if step >= 34 else "9"
                middle = x + step / 2, y + height / 2 + 2
                canvas.text(*middle, f"{one.psi:.2f}", anchor="middle", font_size=size, fill=ink)
    _under(canvas, names, 4 + len(rows) * height - 8, len(names), left)
    return canvas.svg()


def _bars(
    canvas: Canvas, values: np.ndarray, top: float, height: float, hollow: np.ndarray | None = None
) -> None:
    """Draw bars over a grid with three lines; a hollow bar is one that is not whole."""
    highest = _nice_top(float(values.max(initial=0)))
    step = (WIDTH - _LEFT - _RIGHT) / len(values)
    for tick in (0, 0.5, 1):
        y = top + height * (1 - tick)
        canvas.line(_LEFT, y, WIDTH - _RIGHT, y, stroke=GRID)
        canvas.text(_LEFT - 8, y + 4, _short(tick * highest), anchor="end", fill=FAINT)
    for place, value in enumerate(values):
        tall = height * value / highest
        wide = min(0.72 * step, _WIDEST_BAR)
        x, y = _LEFT + (place + 0.5) * step - wide / 2, top + height - tall
        if hollow is not None and hollow[place]:
            canvas.rect(x, y, wide, tall, fill="#ffffff", stroke=BLUE,
                        stroke_dasharray="4 3")  # fmt: skip
        else:
            canvas.rect(x, y, wide, tall, fill=BLUE)


def _under(
    canvas: Canvas, labels: Sequence[str], y: float, count: int, left: float = _LEFT
) -> None:
    """Write labels under their columns; of many, every second, third, …"""
    step = (WIDTH - left - _RIGHT) / max(1, count)
    every = max(1, int(np.ceil(64 / step)))
    for place in range(0, count, every):
        x = left + (place + 0.5) * step
        canvas.text(x, y + 20, labels[place], anchor="middle", fill=FAINT)


def _nice_top(value: float) -> float:
    """Return the next number of the form 1, 2, 4, 5 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= value))


def _short(value: float) -> str:
    """Print the number at a grid line: 1.5 M, 20 k, 300."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 10 * size or (value >= size and unit != " k"):
            return f"{value / size:g}{unit}"
    return f"{value:,g}"
