import itertools
import json
import math
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from seqjourney.commands.evaluate import evaluate
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation import report
from seqjourney.evaluation.metrics import METRICS
from seqjourney.evaluation.trials import caution, trials
from seqjourney.evaluation.verdict import is_neural, verdict

TASK = {
    "name": "churn",
    "kind": "absence",
    "horizon": "90 days",
    "description": "Will the customer buy nothing?",
    "eligibility": "customers active in the last 180 days",
    "excluded": {"test": {"too_new": 12, "<i>why</i>": 3}},
}


HAPPENINGS = pd.DataFrame(
    {
        "event": ["page_viewed", "<b>left</b>"],
        "events": [3, 1],
        "days_before": [1.5, 40.2],
        "place": [7, 7],
        "probability": [0.5, 0.5],
        "probability_without": [0.45, 0.8],
    }
)


@pytest.fixture(scope="module")
def written(tmp_path_factory, synthetic):
    from seqjourney.evaluation.ablation import write_ablations
    from seqjourney.evaluation.predictions import write_predictions

    folder = tmp_path_factory.mktemp("report")
    names = {"gru": 0.6, "<script>alert(1)</script>|$x$": 0.7, "recency_rule": 1.6}
    runs = []
    for number, frame in enumerate(synthetic(names=names)):
        runs.append(folder / "runs" / str(number))
        write_predictions(frame, runs[-1] / "predictions.parquet")
        test = frame[frame["split"] == "test"]
        if number < 2:  # as networks do
            poorer = test[["customer_id", "cutoff"]].assign(shuffled=-test["score"])
            write_ablations(poorer, runs[-1])
            happenings = test[["customer_id", "cutoff"]].head(1).merge(HAPPENINGS, "cross")
            happenings.to_parquet(runs[-1] / "explanations.parquet")
    (runs[0] / "task.json").write_text(json.dumps(TASK))
    return runs, evaluate(runs, folder / "out", title="A & B <c>", replicates=60)


def test_examples_stand_strongest_first_and_name_nobody(written):
    runs, result = written
    (example,) = result.metrics["tasks"]["churn"]["examples"]["gru"]
    assert example["place"] == 7
    assert [it["event"] for it in example["happenings"]] == ["<b>left</b>", "page_viewed"]
    text = result.html.read_text(encoding="utf-8")
    assert "&lt;b&gt;left&lt;/b&gt;" in text
    assert "page viewed × 3" in text and "36 hours before" in text and "40 days before" in text
    assert "+5.0" in text and "−30.0" in text
    who = pd.read_parquet(runs[0] / "explanations.parquet")["customer_id"].iloc[0]
    for page in (result.html, result.markdown, result.json):
        assert who not in page.read_text(encoding="utf-8")


def test_the_report_says_what_a_poorer_history_costs(written):
    _, result = written
    measured = result.metrics["tasks"]["churn"]["ablations"]
    assert list(measured) == ["gru", "<script>alert(1)</script>|$x$"]
    loss = measured["gru"]["variants"]["shuffled"]["difference"]
    assert loss["high"] < 0
    for page in (result.html, result.markdown):
        text = page.read_text(encoding="utf-8")
        assert "what happened, in random order" in text
        assert f"{loss['value']:.3f}".replace("-", "−") in text
        assert "only the last 30 days" not in text  # nobody was asked that


def test_metrics_json_keeps_the_contract(written, frames):
    _, result = written
    content = json.loads(result.json.read_text(encoding="utf-8"))
    assert content == result.metrics
    assert set(content) == {"data", "tasks"}
    churn = content["tasks"]["churn"]
    assert churn["n"] == churn["customers"] == 400
    assert set(churn["models"]) == {"gru", "<script>alert(1)</script>|$x$", "recency_rule"}
    for values in churn["models"].values():
        assert list(values) == list(METRICS)
        for name, entry in values.items():
            assert set(entry) == {"value", "low", "high"}, name
            assert entry["low"] <= entry["value"] <= entry["high"], name
    values = [m["average_precision"]["value"] for m in churn["models"].values()]
    assert values == sorted(values, reverse=True)
    for entry in churn["comparisons"]:
        assert set(entry) == {"a", "b", "metric", "difference", "low", "high"}
        a, b = (churn["models"][entry[side]][entry["metric"]]["value"] for side in "ab")
        assert math.isclose(entry["difference"], a - b, abs_tol=1e-12)
    assert [c["split"] for c in churn["by_cutoff"]] == ["validation", "validation", "test"]
    assert {row["value"] for row in churn["slices"]["tenure"]} == {"new", "old", "<b>odd</b>"}
    assert sum(row["n"] for row in churn["slices"]["tenure"]) == 400
    assert churn["excluded"] == TASK["excluded"]


def test_the_numbers_come_from_the_test_split_alone(make_runs, frames, tmp_path):
    result = evaluate(make_runs(frames), tmp_path / "out", title="t", replicates=20)
    test = frames[0][frames[0]["split"] == "test"]
    expected = average_precision_score(test["label"], test["score"])
    entry = result.metrics["tasks"]["churn"]["models"]["gru"]["average_precision"]
    assert entry["value"] == pytest.approx(expected)


def test_names_from_user_data_are_escaped(written):
    html = written[1].html.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>odd</b>" not in html
    assert "<i>why</i>" not in html
    assert "<title>A &amp; B &lt;c&gt;</title>" in html
    markdown = written[1].markdown.read_text(encoding="utf-8")
    assert "<script" not in markdown.replace("\\<script", "")
    tables = re.findall(r"^\|.*\|$", markdown, flags=re.MULTILINE)
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert columns[:5] == [7] * 5  # head, rule and three models, none split by a pipe in a name


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.references = [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.references.append(value)
            for target in re.findall(r"url\(([^)]*)\)", value or ""):
                self.references.append(target)


def test_the_page_asks_for_nothing_and_its_references_meet(written):
    html = written[1].html.read_text(encoding="utf-8")
    page = _Page()
    page.feed(html)
    assert "http" not in html
    assert "@import" not in html
    assert len(page.ids) == len(set(page.ids))
    outside = {r for r in page.references if not r.startswith("#")}
    assert outside == {"data:,"}
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)


def test_the_same_runs_give_the_same_bytes(written, tmp_path):
    runs, first = written
    again = evaluate(runs, tmp_path / "out", title="A & B <c>", replicates=60)
    for name in ("json", "markdown", "html"):
        assert getattr(again, name).read_bytes() == getattr(first, name).read_bytes()


def test_no_folder_of_this_machine_gets_into_the_report(written):
    runs, result = written
    for file in (result.json, result.markdown, result.html):
        assert str(runs[0].parent) not in file.read_text(encoding="utf-8")


def test_a_writer_that_fails_leaves_the_old_report(written, monkeypatch):
    runs, result = written
    folder = result.html.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(*args, **kwargs):
        raise RuntimeError("no ink")

    monkeypatch.setattr(report.pictures, "gain", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        evaluate(runs, folder, title="new", replicates=20)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_table_on_the_screen_says_what_was_written(written, tmp_path, capsys):
    runs, _ = written
    evaluate(runs, tmp_path / "out", title="t", replicates=20)
    printed = capsys.readouterr().out
    assert "base rate" in printed
    assert "report.html" in printed
    assert "<script>" in printed


def test_task_json_is_optional_and_refused_when_broken(make_runs, frames, tmp_path):
    runs = make_runs(frames[:1])
    evaluate([runs[0] / "predictions.parquet"], tmp_path / "out", title="t", replicates=20)
    (runs[0] / "task.json").write_text("{")
    with pytest.raises(DataError, match=r"task\.json: not valid JSON"):
        evaluate(runs, tmp_path / "out", title="t", replicates=20)
    (runs[0] / "task.json").write_text('{"name": "churn", "excluded": {"test": 3}}')
    with pytest.raises(DataError, match="excluded"):
        evaluate(runs, tmp_path / "out", title="t", replicates=20)
    with pytest.raises(ConfigError, match="replicates=1"):
        evaluate(runs, tmp_path / "out", title="t", replicates=1)


def test_two_tasks_stand_in_one_report(make_runs, frames, tmp_path):
    import pandas as pd

    both = [pd.concat([f, f.assign(task="conversion")]) for f in frames[:2]]
    result = evaluate(make_runs(both), tmp_path / "out", title="t", replicates=20)
    page = _Page()
    page.feed(result.html.read_text(encoding="utf-8"))
    assert {"task-1", "task-2"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_a_name_that_the_measuring_font_lacks_draws_no_warning(make_runs, synthetic, tmp_path):
    frames = synthetic(names={"日本語": 0.6, "gru": 0.7})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(make_runs(frames), tmp_path / "out", title="t", replicates=20)
    assert "日本語" in result.html.read_text(encoding="utf-8")


def test_a_run_that_was_cut_short_is_named_as_no_result(make_runs, synthetic, tmp_path, capsys):
    runs = make_runs(synthetic(names={"gru": 0.6, "lightgbm": 0.7, "transformer": 0.8}))
    for run, kind, batches in zip(
        runs, ("gru", "lightgbm", "transformer"), (3, 3, None), strict=True
    ):
        settings = {"kind": kind, "config": {"trainer": {"limit_batches": batches}}}
        (run / "run.json").write_text(json.dumps(settings))
    result = evaluate(runs, tmp_path / "out", title="t", replicates=20)
    printed = " ".join(capsys.readouterr().out.split())
    html, markdown = (f.read_text(encoding="utf-8") for f in (result.html, result.markdown))
    assert html.count("not a result: trained on 3 batches an epoch") == 1
    assert "| gru (not a result: trained on 3 batches an epoch) |" in markdown
    for text in (html, markdown.replace("\\", ""), printed):
        assert "gru: a trial run with trainer=fast or trainer.limit_batches" in text
    assert [run.get("limited") for run in result.metrics["data"]["runs"]] == [
        "trained on 3 batches an epoch", None, None,  # a baseline sees all of the data
    ]  # fmt: skip


def test_two_runs_of_one_model_are_told_apart_when_one_was_cut_short():
    runs = [{"model": "gru", "run": "a", "limited": "short"}, {"model": "gru", "run": "b"}]
    assert trials(runs, {"gru (a)": "a", "gru (b)": "b"}) == {"gru (a)": "short"}
    assert caution([]) == ""
    assert "Their figures" in caution(["gru", "transformer"])


def test_no_number_has_a_hyphen_for_its_minus(written):
    for file in (written[1].html, written[1].markdown):
        text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", file.read_text("utf-8"), flags=re.S)
        assert "−0." in text
        assert re.findall(r"(?<![\w-])-\d*\.\d", text) == []


def test_how_many_stand_at_the_top_of_the_list_is_said(written):
    html = written[1].html.read_text(encoding="utf-8")
    assert html.count("· 4 ranked: too few<") == 3  # precision, recall and lift in the top 1 %
    assert html.count("· 40 ranked<") == 3


def test_the_panels_of_scores_have_the_same_axes(monkeypatch):
    label = np.tile([0.0, 1.0], 50)
    probabilities = {"flat": np.full(100, 0.5), "wide": np.linspace(0, 0.9, 100)}
    drawn = []
    monkeypatch.setattr(report.pictures, "_svg", lambda figure, *_: drawn.append(figure) or "")
    report.pictures.score_distribution(label, np.ones(100), probabilities, "p")
    (figure,) = drawn
    limits = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert len(figure.axes) == 2 and len(limits) == 1
    assert [axes.get_legend() for axes in figure.axes] == [None, None]  # it stands below


def _results(gap_low, gap_high, names=("gru", "lightgbm")):
    entry = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "base_rate": 0.3,
        "models": {name: {"average_precision": entry} for name in names},
        "comparisons": [
            {"a": a, "b": b, "metric": "average_precision", "difference": 0.02}
            | {"low": gap_low, "high": gap_high}
            for a, b in itertools.combinations(names, 2)
        ],
    }


def test_the_answer_says_clear_only_when_the_interval_excludes_zero():
    clear = verdict(_results(0.01, 0.03))
    assert clear.clear
    assert "gru ranks best and is clearly ahead of lightgbm, the best non-neural" in clear.sentence
    unclear = verdict(_results(-0.01, 0.05))
    assert not unclear.clear
    assert "not clearly ahead" in unclear.sentence
    assert not verdict(_results(None, None)).clear


def test_the_best_is_held_against_the_best_of_the_other_kind():
    answer = verdict(_results(0.01, 0.03, ("lightgbm", "logistic_regression", "gru_small")))
    assert answer.rival == "gru_small"
    assert verdict(_results(0.01, 0.03, ("gru", "gru_large"))).rival == "gru_large"
    assert verdict(_results(0.01, 0.03, ("gru",))).rival is None
    trial = verdict(_results(0.01, 0.03, ("gru", "lightgbm", "logistic")), ["gru"])
    assert (trial.best, trial.rival) == ("lightgbm", "logistic")
    assert verdict(_results(0.01, 0.03, ("gru",)), ["gru"]).best == "gru"
    assert is_neural("Transformer-2") and not is_neural("regrung")


def test_importing_the_package_and_the_command_is_cheap():
    code = (
        "import sys, seqjourney.evaluation, seqjourney.commands.evaluate;"
        "print([m for m in ('numpy', 'pandas', 'matplotlib', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_probabilities_are_judged_by_month_and_slice_where_enough_outcomes_were_seen(written):
    from sklearn.linear_model import LogisticRegression

    from seqjourney.evaluation.predictions import read_predictions

    runs, result = written
    churn = result.metrics["tasks"]["churn"]
    named = ("ece", "calibration_slope", "calibration_intercept")
    months = {(row["split"], row["month"]): row for row in churn["by_month"]}
    assert list(months) == [
        ("validation", "2011-04"), ("validation", "2011-06"), ("test", "2011-09")
    ]  # fmt: skip
    for metric in named:  # one month of test: the headline again, with the same intervals
        assert months["test", "2011-09"]["models"]["gru"][metric] == churn["models"]["gru"][metric]
    tenure = {row["value"]: row["models"].get("gru", {}) for row in churn["slices"]["tenure"]}
    assert not set(named) & set(tenure["<b>odd</b>"])  # some 40 snapshots
    frame = read_predictions(runs[0])
    new = frame[(frame["split"] == "test") & (frame["slice_tenure"] == "new")]
    old = frame[(frame["split"] == "test") & (frame["slice_tenure"] == "old")]
    enough = {"new": new["label"], "old": old["label"]}
    for value, label in enough.items():
        judged = min(label.sum(), len(label) - label.sum()) >= 100
        assert (set(named) <= set(tenure[value])) == judged
    logit = np.log(frame["probability"]) - np.log1p(-frame["probability"])
    test = (frame["split"] == "test").to_numpy()
    oracle = LogisticRegression(C=1e12, tol=1e-10).fit(
        logit[test].to_numpy()[:, None], frame["label"][test]
    )
    slope = months["test", "2011-09"]["models"]["gru"]["calibration_slope"]["value"]
    assert slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    page, text = (path.read_text(encoding="utf-8") for path in (result.html, result.markdown))
    assert "Do the probabilities hold over time and for everyone?" in page
    assert "2011-09, test" in page and "2011-09, test" in text


def test_a_model_keeps_its_colour_wherever_it_ranks(make_runs, synthetic, tmp_path):
    frames = synthetic(names={"gru": 0.5, "lightgbm": 1.5})
    swapped = [
        frame.assign(task="other", score=-frame["score"] if frame["model"].iloc[0] == "gru" else 0)
        for frame in frames
    ]
    both = [pd.concat(pair) for pair in zip(frames, swapped, strict=True)]
    result = evaluate(make_runs(both), tmp_path / "out", title="t", replicates=20)
    ranked = [list(task["models"]) for task in result.metrics["tasks"].values()]
    assert ranked == [["gru", "lightgbm"], ["lightgbm", "gru"]]
    html = result.html.read_text(encoding="utf-8")
    key = r'stroke="(#\w+)" stroke-width="3.4"[^>]*/></svg>(gru|lightgbm)'
    colours = set(re.findall(key, html))
    assert len(colours) == 2  # one each, not one per rank
    assert {model for _, model in colours} == {"gru", "lightgbm"}


def test_runs_of_a_model_are_one_row_on_the_screen(make_runs, synthetic, tmp_path, capsys):
    gru, other, rule = synthetic(names={"gru": 0.5, "gru2": 0.9, "lightgbm": 0.7})
    seeds = [gru, other.assign(model="gru", run="run_gru_seed1_of_a_long_name")]
    result = evaluate(make_runs([*seeds, rule]), tmp_path / "out", title="t", replicates=20)
    printed = capsys.readouterr().out
    models = result.metrics["tasks"]["churn"]["models"]
    aps = [v["average_precision"]["value"] for m, v in models.items() if m.startswith("gru")]
    row = next(line for line in printed.splitlines() if "gru ×2" in line)
    assert f"{np.mean(aps):.3f} [{min(aps):.3f}–{max(aps):.3f}]" in row
    assert "seed1_of_a_long_name" not in printed and "lowest and highest" in " ".join(
        printed.split()
    )


@pytest.mark.parametrize(
    "lowest, highest, ticks",
    [
        (0.0, 93.0, [0, 1, 3, 10, 30, 100]),
        (-4.0, 250.0, [-3, 0, 3, 10, 30, 100, 300]),
        (0.0, 0.08, [0, 0.001, 0.003, 0.01, 0.03, 0.1]),
    ],
)
def test_ticks_of_money_are_round_and_do_not_crowd_zero(lowest, highest, ticks):
    assert report.pictures._money_ticks(lowest, highest) == pytest.approx(ticks)
