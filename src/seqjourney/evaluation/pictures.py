"""The report's pictures: one question each, as inline SVG.

Matplotlib draws on a bare Figure (no pyplot, so no global state survives) and `_svg` makes the
result fit to be inlined: same input, same bytes; ids prefixed so that several pictures on one page
do not share a clip path; nothing that looks like a web address. Text stays text in the reader's
own sans-serif font, so a model name in any script is drawn by whatever font the browser has,
can be selected, and is scaled with the page; outlines from matplotlib's font would show a box.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from seqjourney.evaluation.ranking import Curve

# Okabe & Ito (2008), dark ones first: they differ for colour-blind readers. Beside colour each
# model has its own dash pattern, which a black-and-white print keeps; thin grey lines that models
# are held against are solid.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)))
INK, FAINT, GRID = "#222222", "#6b6b6b", "#e3e3e3"
_REFERENCE: Any = {"color": "#8c8c8c", "linewidth": 0.9}
HALF_WIDTH, FULL_WIDTH = 5.1, 9.4  # inches; the page scales them to its columns
MAX_PANELS = 6
BINS = 15

Styles = Mapping[str, Mapping[str, Any]]
"""Model -> `model_style`."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model may be called "$a$"
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9a9a9a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.8,
}


@contextmanager
def _drawing() -> Iterator[None]:
    """Apply the style; silence the measuring font, which is not the one that draws."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def model_styles(rankings: Iterable[Iterable[str]]) -> Styles:
    """Give each model of a report one style: the first ranking's order, then who is new in each."""
    models = dict.fromkeys(model for ranking in rankings for model in ranking)
    return {model: model_style(place) for place, model in enumerate(models)}


def model_style(position: int) -> dict[str, Any]:
    """Colour and dash pattern of the model at `position`; 35 pairs before one repeats."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": DASHES[position % len(DASHES)],
    }


def precision_recall(
    curves: Mapping[str, Curve], base_rate: float, styles: Styles, prefix: str
) -> str:
    """How clean is the list, as more of the positives are found? Curves have R = 1."""
    with _drawing():
        figure, axes = _single(HALF_WIDTH, 4.0)
        recall = np.linspace(0.01, 1, 100)
        for name, curve in curves.items():
            found, flagged = curve.found_steps[0], curve.flagged_steps[0]
            step = np.searchsorted(found, recall * found[-1] * (1 - 1e-12))
            axes.plot(recall, found[step] / flagged[step], label=name, **styles[name])
        axes.axhline(base_rate, **_REFERENCE)
        axes.annotate(f"base rate {100 * base_rate:.1f} %", (0.01, base_rate), (0, -3), color=FAINT,
                      textcoords="offset points", va="top", fontsize=8.5)  # fmt: skip
        axes.set(xlim=(0, 1.005), ylim=(0, 1.02), xlabel="Recall: share of positives found",
                 ylabel="Precision: share of the list that is right")  # fmt: skip
        _percent(axes.xaxis, axes.yaxis)
        _legend_below(axes, len(curves))
        return _svg(figure, prefix, "Precision against recall of each model")


def gain(curves: Mapping[str, Curve], base_rate: float, styles: Styles, prefix: str) -> str:
    """How many of the positives are reached by contacting the top of the list?"""
    with _drawing():
        figure, axes = _single(HALF_WIDTH, 4.0)
        axes.plot([0, base_rate, 1], [0, 1, 1], **_REFERENCE)
        axes.plot([0, 1], [0, 1], **_REFERENCE)
        axes.annotate("perfect", (base_rate, 1), (4, -3), color=FAINT, fontsize=8.5,
                      textcoords="offset points", va="top")  # fmt: skip
        axes.annotate("random order", (0.5, 0.5), (12, -14), color=FAINT, fontsize=8.5,
                      textcoords="offset points", va="top")  # fmt: skip
        share = np.linspace(0, 1, 101)
        for name, curve in curves.items():
            flagged, found = np.append(0.0, curve.flagged[0]), np.append(0.0, curve.found[0])
            reached = np.interp(share * flagged[-1], flagged, found) / found[-1]
            axes.plot(share, reached, label=name, **styles[name])
        axes.set(xlim=(0, 1.005), ylim=(0, 1.02), xlabel="Share of customers contacted, best first",
                 ylabel="Share of positives reached")  # fmt: skip
        _percent(axes.xaxis, axes.yaxis)
        _legend_below(axes, len(curves))
        return _svg(figure, prefix, "Share of positives reached by share of customers contacted")


def calibration(
    label: np.ndarray,
    weight: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    styles: Styles,
    prefix: str,
) -> str:
    """Can the probability be taken at its word? One panel per model, equal-mass bins."""
    with _drawing():
        binned = {name: _reliability(label, weight, p) for name, p in _first(probabilities)}
        top = min(1.0, 1.06 * max(float(b[:, [0, 3]].max()) for b in binned.values()))
        figure, panels = _panels(len(binned))
        for axes, (name, bins) in zip(panels, binned.items(), strict=True):
            style = styles[name]
            promised, observed, low, high = bins.T
            axes.plot([0, 1], [0, 1], **_REFERENCE)
            axes.vlines(promised, low, high, color=style["color"], linewidth=1.3, alpha=0.75)
            axes.plot(promised, observed, "o", color=style["color"], markersize=4.2)
            axes.set(xlim=(0, top), ylim=(0, top), title=_short(name))
            _percent(axes.xaxis, axes.yaxis)
        _share_labels(panels, "Probability given", "Share observed")
        return _svg(figure, prefix, "Observed share against probability given")


def value_deciles(
    groups: Mapping[str, Sequence[Mapping[str, float | None]]],
    currency: str | None,
    styles: Styles,
    prefix: str,
) -> str:
    """Does the money come in that was expected? Customers in ten groups, the least expected first.

    Below a hundredth of the highest mean the axis is linear, since groups may bring in nothing.
    `currency` is the data's, None where it has no name.
    """
    with _drawing():
        figure, panels = _panels(min(len(groups), MAX_PANELS))
        shown = list(groups.items())[:MAX_PANELS]
        keys = ("expected", "actual", "low", "high")
        everything = [g[key] or 0.0 for _, of in shown for g in of for key in keys]
        lowest, highest = min(0.0, *everything), max(1e-9, *everything)
        ticks = _money_ticks(lowest, highest)
        for axes, (name, of) in zip(panels, shown, strict=True):
            style = styles[name]
            place = np.arange(1, len(of) + 1)
            for x, group in zip(place, of, strict=True):
                if group["low"] is not None and group["high"] is not None:
                    axes.vlines(x, group["low"], group["high"], color=style["color"],
                                linewidth=1.3, alpha=0.75)  # fmt: skip
            axes.plot(place, [g["actual"] or 0.0 for g in of], "o", color=style["color"],
                      markersize=4.2, label="came in")  # fmt: skip
            axes.plot(place, [g["expected"] or 0.0 for g in of], "_", color=INK, markersize=11,
                      markeredgewidth=1.8, label="expected")  # fmt: skip
            axes.set_yscale("symlog", linthresh=highest / 100)
            axes.set(xticks=place[::3], title=_short(name), ylim=(1.4 * lowest, 1.5 * highest))
            axes.set_yticks(ticks)
            axes.set_yticks([], minor=True)
            # The usual labels of a logarithmic axis are formulas, which nothing typesets here.
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        _legend_below(panels[0], 2)
        money = f"Mean value of a customer, {currency}" if currency else "Mean value of a customer"
        _share_labels(panels, "Tenth of the customers", money)
        return _svg(figure, prefix, "Mean value expected and actual by tenth of the customers")


def score_distribution(
    label: np.ndarray, weight: np.ndarray, probabilities: Mapping[str, np.ndarray], prefix: str
) -> str:
    """Does the model tell the two groups apart? Probabilities by what happened afterwards.

    All panels have the same axes: a taller bar is a larger share wherever it stands.
    """
    with _drawing():
        shown = dict(_first(probabilities))
        top = min(1.0, 1.04 * max(float(p.max()) for p in shown.values()))
        edges = np.linspace(0, top, 26)
        figure, panels = _panels(len(shown))
        highest = 0.0
        for axes, (name, p) in zip(panels, shown.items(), strict=True):
            for value, colour, alpha in ((0, "#56B4E9", 0.55), (1, "#D55E00", 0.0)):
                rows = (label == value) & (weight > 0)
                share = np.histogram(p[rows], edges, weights=weight[rows])[0] / weight[rows].sum()
                highest = max(highest, float(share.max()))
                axes.stairs(share, edges, color=colour, linewidth=1.6 if value else 0.8,
                            fill=not value, alpha=alpha or None,
                            label="did not happen" if not value else "happened")  # fmt: skip
            axes.set(xlim=(0, top), title=_short(name))
        for axes in panels:
            axes.set_ylim(0, 1.04 * highest)
            _percent(axes.xaxis, axes.yaxis)
        _legend_below(panels[0], 2)
        _share_labels(panels, "Probability given", "Share of the group")
        return _svg(figure, prefix, "Distribution of probabilities by outcome")


def forest(
    estimates: Mapping[str, Mapping[str, float | None]],
    base_rate: float,
    title: str,
    styles: Styles,
    prefix: str,
) -> str:
    """Which model is best, and how sure is that? One row per model with its interval."""
    with _drawing():
        figure, axes = _single(FULL_WIDTH, 0.95 + 0.38 * len(estimates))
        names = list(estimates)
        for row, name in enumerate(names):
            value, low, high = (estimates[name][part] for part in ("value", "low", "high"))
            colour = styles[name]["color"]
            if value is None:
                continue
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=colour, linewidth=2.4)
                axes.annotate(f"{value:.3f}", (high, row), (7, 0), textcoords="offset points",
                              va="center", fontsize=9)  # fmt: skip
            axes.plot(value, row, "o", color=colour, markersize=7)
        axes.axvline(base_rate, **_REFERENCE)
        axes.annotate("random order", (base_rate, -0.62), (4, 0), color=FAINT, va="center",
                      textcoords="offset points", fontsize=8.5)  # fmt: skip
        axes.set_yticks(range(len(names)), [_short(name, 34) for name in names])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.set(ylim=(len(names) - 0.45, -0.95), xlabel=f"{title}, 95 % interval")
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.07 * (right - left))
        return _svg(figure, prefix, f"{title} of each model with its interval")


def found_within(shares: Mapping[str, Sequence[float]], styles: Styles, prefix: str) -> str:
    """How long must a list be? Share of true values within the first 1, 2, ... of it."""
    with _drawing():
        figure, axes = _single(FULL_WIDTH, 3.4)
        for name, found in shares.items():
            axes.plot(range(1, len(found) + 1), found, label=name, **styles[name])
        longest = max(len(found) for found in shares.values())
        axes.set(xlim=(1, longest), ylim=(0, 1.02), xticks=[1, *range(5, longest + 1, 5)],
                 xlabel="Length of the list", ylabel="Share of true values in it")  # fmt: skip
        _percent(axes.yaxis)
        _legend_below(axes, len(shares))
        return _svg(figure, prefix, "Share of true values found by length of the list")


def _reliability(label: np.ndarray, weight: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Equal-mass bins -> (B, 4) of mean probability, observed share, Wilson 95 % interval."""
    order = np.argsort(probability, kind="stable")
    p, y, w = probability[order], label[order].astype(np.float64), weight[order]
    position = (np.cumsum(w) - w / 2) / w.sum()
    bins = np.minimum((position * BINS).astype(int), BINS - 1)
    # A value shared by many customers stays in one bin: they cannot be told apart.
    bins = bins[np.searchsorted(p, p, side="left")]
    rows = []
    for b in np.unique(bins[w > 0]):
        inside = bins == b
        mass, n = w[inside].sum(), int((w[inside] > 0).sum())
        observed = float(w[inside] @ y[inside] / mass)
        low, high = _wilson(observed, n)
        rows.append((float(w[inside] @ p[inside] / mass), observed, low, high))
    return np.array(rows)


def _money_ticks(lowest: float, highest: float) -> list[float]:
    """Return 0 and round amounts, three times apart, outside the linear part of the axis."""
    digits = range(math.floor(math.log10(highest)) - 2, math.floor(math.log10(highest)) + 2)
    amounts = [m * 10.0**d for d in digits for m in (1, 3) if m * 10.0**d > highest / 100]
    owed = [-a for a in amounts if a <= -lowest]
    return [*owed[::-1], 0.0, *(a for a in amounts if a <= 1.5 * highest)]


def _wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share that stays inside [0, 1] (Wilson, 1927)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(centre - half), float(centre + half)


def _single(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    width = FULL_WIDTH * (columns / 3 if count < 3 else 1)
    figure = Figure(figsize=(width, 2.65 * rows + 0.2), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def _share_labels(panels: Sequence[Axes], x: str, y: str) -> None:
    columns = min(len(panels), 3)
    for place, axes in enumerate(panels):
        if place % columns == 0:
            axes.set_ylabel(y)
        if place + columns >= len(panels):
            axes.set_xlabel(x)


def _first(models: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return list(models.items())[:MAX_PANELS]


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _percent(*which: Any) -> None:
    for axis in which:
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _legend_below(axes: Axes, count: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles, [_short(label) for label in labels], loc="outside lower center",
        ncols=2 if count > 1 else 1, fontsize=9,
    )  # fmt: skip


def _svg(figure: Figure, prefix: str, description: str) -> str:
    """Render as an <svg> element for inlining; `prefix` must be unique on the page."""
    out = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": prefix}):
        figure.savefig(out, format="svg", metadata=empty, transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    # The <style> holds a rule for `*`, which would reach the whole page; report.html has its own.
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL
    )
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    # The family list names matplotlib's fonts; the page's own font is the reader's.
    text = re.sub(r'(font: [^;"]*?\d(?:\.\d+)?px) [^;"]*', r"\1 sans-serif", text)
    width = re.search(r'<svg[^>]*\swidth="([\d.]+)pt"', text)
    text = re.sub(r'(<svg[^>]*?)\sheight="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\swidth="[\d.]+pt"', r"\1", text, count=1)
    size = float(width.group(1)) if width else 0.0
    opening = f'<svg role="img" aria-label="{description}" style="--natural:{size:.0f}"'
    return re.sub(r"\n\s*", "\n", text.replace("<svg", opening, 1)).strip()
