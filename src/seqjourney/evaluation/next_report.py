"""The report of a `next` task: metrics.json, report.md and report.html, all of them or none.

`build` gathers what the templates need from metrics.json alone; the answer comes first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seqjourney.evaluation import pictures
from seqjourney.evaluation.bootstrap import LEVEL
from seqjourney.evaluation.next_results import HEADLINE, LONGEST, is_count
from seqjourney.evaluation.report import fill
from seqjourney.evaluation.trials import caution
from seqjourney.page import NO_BREAK, decimal, write_together

TITLES = {
    HEADLINE: "MRR@20",
    "hit@1": "First guess right",
    "hit@10": "In the first 10",
    "hit@20": "In the first 20",
    "ndcg@10": "NDCG@10",
}
MEANINGS = {
    "MRR@20": "The mean of 1 / rank of the true value, 0 beyond the first 20; models are ranked "
    "by it.",
    "First guess right (Hit@1)": "The share of questions whose true value the model ranked first: "
    "its accuracy.",
    "In the first 10, 20 (Hit@10, Hit@20)": "The share of questions whose true value is among the "
    "first 10 or 20 of the list; also called recall.",
    "NDCG@10": "As in the first 10, but a true value counts less the further down it stands: "
    "1 / log2(rank + 1).",
    "Ties": "Of values with the same score, the mean over all their orders counts.",
    "Coverage": "How many of the values that may be answered stand in at least one list of 10; a "
    "model that names the same few to everybody covers little.",
}
_RANKINGS = {
    "full": "Ranked among all values",
    "sampled": "Ranked among drawn values (the protocol of some papers)",
}


def write_next_report(report_dir: Path, metrics: Mapping[str, Any]) -> dict[str, Path]:
    """Render the files, then write them; returns name -> path."""
    page = build(metrics)
    md, html = (fill(name, page) for name in ("next_report.md.j2", "next_report.html.j2"))
    content = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    files = {"metrics.json": content, "report.md": md, "report.html": html}
    return write_together(report_dir, files)


def build(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the templates show."""
    limited = metrics["data"]["limited"]
    full = metrics["rankings"]["full"]
    styles = pictures.model_styles([full["models"]])
    best = next(iter(full["models"]))
    return {
        "data": metrics["data"],
        "task": metrics["task"],
        "level": round(100 * LEVEL),
        "titles": TITLES,
        "meanings": MEANINGS,
        "headline": HEADLINE,
        "caution": caution(list(limited)),
        "trials": limited,
        "best": best,
        "sentence": sentence(full),
        "answers": metrics["answers"],
        # Of few values nearly all are among the first ten.
        "of_slices": "hit@1" if metrics["answers"].get("by_value") else "hit@10",
        "styles": styles,
        "rankings": [
            {"name": name, "title": _RANKINGS[name], "results": results, "pairs": _pairs(results)}
            for name, results in sorted(metrics["rankings"].items())
        ],
        # Safe: matplotlib escapes the text that it writes into an SVG.
        "pictures": {
            "forest": Markup(
                pictures.forest(
                    {name: values[HEADLINE] for name, values in full["models"].items()},
                    full["random"],
                    TITLES[HEADLINE],
                    styles,
                    "next-forest",
                )
            ),
            "within": Markup(pictures.found_within(full["found_within"], styles, "next-within")),
        },
        "longest": LONGEST,
    }


def sentence(results: Mapping[str, Any]) -> str:
    """Say which model ranks best and, against the best count, how clear that is."""
    models = list(results["models"])
    best = models[0]
    of_best = _with_interval(results["models"][best][HEADLINE])
    gaps = {c["a"]: c for c in results["comparisons"] if c["metric"] == HEADLINE}
    if not gaps:
        lacking = "any other model" if is_count(best) else "a count"
        return f"{best} was evaluated without {lacking} to hold it against: MRR@20 {of_best}."
    if is_count(best):
        rival = next((name for name in models[1:] if not is_count(name)), models[1])
        gap = gaps[rival]
        clear, role = gap["high"] < 0, "the best count"
        kind = "the next count" if is_count(rival) else "the best network"
        between = {"difference": -gap["difference"], "low": -gap["high"], "high": -gap["low"]}
    else:
        gap = between = gaps[best]
        rival, kind, role = gap["b"], "the best count", ""
        clear = gap["low"] > 0
    return (
        f"{best}{f', {role},' if role else ''} ranks what comes next best "
        f"{'and is clearly' if clear else 'but is not clearly'} ahead of {rival}, {kind}: "
        f"MRR@20 {of_best} against {_with_interval(results['models'][rival][HEADLINE])}, a "
        f"difference of {_with_interval(between, 'difference')}."
    )


def _with_interval(entry: Mapping[str, float], key: str = "value") -> str:
    value, low, high = (decimal(entry[part]) for part in (key, "low", "high"))
    return f"{value} (95{NO_BREAK}% interval {low} to {high})"


def _pairs(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per model that was compared with the best count."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in results["comparisons"]:
        row = rows.setdefault(entry["a"], {"a": entry["a"], "b": entry["b"]})
        row[entry["metric"]] = entry
    return list(rows.values())
