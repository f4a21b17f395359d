"""What the gate says of every model: the promise, what came true, or why there is none."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqjourney.commands.evaluate import evaluate
from seqjourney.config import GateConfig, parse
from seqjourney.errors import ConfigError
from seqjourney.evaluation.gate import Certificate, Finding
from seqjourney.evaluation.gate_results import gate_results, refusal, summary
from seqjourney.evaluation.predictions import TaskPredictions, write_predictions

GATE = GateConfig()
MONTHS = (("validation", "2024-01-01"), ("test", "2024-02-01"))


def frame_of(n: int = 4000, *, later: float = 0.0, moved: float = 0.0, seed: int = 0) -> Any:
    """A model with odds exp(2.5 * score - 1); on the test its odds fall by `later` at equal scores,
    or its scores move down by `moved`.
    """
    draw = np.random.default_rng(seed)
    parts = []
    for split, cutoff in MONTHS:
        score = draw.normal(size=n) - moved * (split == "test")
        odds = np.exp(2.5 * score - 1 - later * (split == "test"))
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": [f"C{i:05d}" for i in range(n)],
                    "cutoff": pd.Timestamp(cutoff, tz="UTC"),
                    "task": "buys",
                    "split": split,
                    "label": (draw.random(n) < odds / (1 + odds)).astype("int8"),
                    "weight": 1.0,
                    "score": score,
                    "probability": odds / (1 + odds),
                    "model": "mine",
                    "run": "march",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_customers_kept_apart_answer_alone():
    frame = frame_of()
    kept = (frame["split"] == "validation") & (frame["customer_id"] < "C02000")
    apart = frame.assign(split=frame["split"].mask(kept, "certification"))
    alone = frame[kept | (frame["split"] == "test")]
    certificate = gate_of(apart)[1][0]
    assert certificate.customers < 2000
    assert certificate == gate_of(alone)[1][0]
    # What the others of validation had for an outcome makes no difference.
    others = apart["split"] == "validation"
    assert gate_of(apart.assign(label=apart["label"].mask(others, 0)))[1][0] == certificate


def gate_of(frame: pd.DataFrame, gate: GateConfig = GATE, **options: Any) -> Any:
    task = TaskPredictions(
        "buys", frame[["split", "customer_id", "cutoff", "label", "weight"]],
        {"mine": frame["score"].to_numpy()}, {}, {"mine": "march"},
    )  # fmt: skip
    settings = {"horizon": None, "replicates": 100, "seed": 0} | options
    entry, certificates = gate_results(task, gate, {"mine": "abc"}, **settings)
    return entry["models"]["mine"], certificates


def test_promise_and_outcome_stand_side_by_side():
    frame = frame_of()
    found, (certificate,) = gate_of(frame, horizon=timedelta(days=10))
    assert found["certified"] and found["lower_bound"] >= 0.8
    assert certificate.expires == "2024-04-10T00:00:00+00:00"  # cutoff + horizon + 90 days
    assert certificate.calibrated == ("2024-01-01T00:00:00+00:00",) * 2
    assert (certificate.model, certificate.run, certificate.fingerprint) == ("mine", "march", "abc")
    test = frame[(frame["split"] == "test") & (frame["score"] >= certificate.threshold)]
    realised = found["realised"]
    assert realised["flagged"] == len(test)
    assert realised["value"] == pytest.approx(test["label"].mean())
    assert realised["low"] < realised["value"] < realised["high"]
    assert realised["verdict"] == "kept"
    assert not found["drift"]["found"] and not found["expired_at_test"]
    assert "the promise was kept" in found["sentence"] and "refused" not in found["sentence"]


def test_a_promise_that_was_broken_is_called_broken():
    found, certificates = gate_of(frame_of(later=2.0))
    assert found["certified"] and not certificates  # withdrawn
    assert found["realised"]["verdict"] == "broken"
    assert found["realised"]["high"] < 0.8
    assert not found["drift"]["found"]  # the scores are the same: only labels could tell
    assert "the promise was broken, and the certificate is withdrawn" in found["sentence"]
    gate = {"precision": 0.8, "confidence": 0.95, "models": {"mine": found, "other": found}}
    assert "mine, other certified, but not borne out by the test" in summary(gate)
    kept, _ = gate_of(frame_of())
    assert "Gate (precision 80\u00a0% at 95\u00a0% confidence): a certified; see" in summary(
        gate | {"models": {"a": kept}}
    )
    none = {"models": {"a": {"certified": False}}}
    assert "no model is certified" in summary(gate | none)


def test_scores_that_drifted_and_a_certificate_that_expired_are_said():
    found, _ = gate_of(frame_of(moved=0.7), parse(GateConfig, {"valid_for": "7d"}, "gate"))
    assert found["drift"]["found"] and found["expired_at_test"]
    assert found["drift"]["p_value"] < 0.01 and found["drift"]["psi"] > 0.1
    assert "would be refused: its scores have drifted" in found["sentence"]
    assert "and it has expired" in found["sentence"]


def test_where_nobody_reaches_the_score_again_nothing_was_proved():
    found, _ = gate_of(frame_of(moved=9.0))
    assert found["realised"] == {
        "value": None, "low": None, "high": None, "flagged": 0, "verdict": "open"
    }  # fmt: skip
    assert "nobody reached that score" in found["sentence"]


def test_different_weights_and_no_validation_at_all_are_refused_in_words():
    frame = frame_of()
    found, certificates = gate_of(frame.assign(weight=np.tile([1.0, 2.0], len(frame) // 2)))
    assert not certificates and not found["certified"]
    assert "different weights" in found["sentence"]
    found, certificates = gate_of(frame.assign(split="test"))
    assert not certificates
    assert "too few customers" in found["sentence"]


def test_a_refusal_says_what_would_be_needed():
    lucky = refusal(Finding(False, 1.0, 850, 40, 36, 0.785), GATE)
    assert "36 of the 40" in lucky and "may be luck" in lucky
    assert "about 1,300 validation customers" in lucky and "today is 78\u00a0%" in lucky
    weak = refusal(Finding(False, 1.0, 850, 100, 70, 0.615), GATE)
    assert "it takes 87 of 100" in weak and "More customers alone would hardly help" in weak
    short = refusal(Finding(False, 1.0, 850, 5, 2, 0.08), GATE)
    assert "it takes 14 of 14" in short
    few = refusal(Finding(False, None, 9, 0, 0, 0.0), GATE)
    assert "Of the 9 that could be checked at least 14" in few
    close = refusal(Finding(False, 1.0, 9_000, 1_000, 801, 0.78), GATE)
    assert "more than a million validation customers" in close


def test_a_predictions_file_alone_is_certified_and_an_old_certificate_does_not_stay(tmp_path):
    file = write_predictions(frame_of(), tmp_path / "mine.parquet")
    result = evaluate([file], tmp_path / "out", title="t", replicates=50)
    (content,) = json.loads(result.certificates.read_text())["certificates"]
    certificate = Certificate.from_dict(content)
    assert certificate.fingerprint == result.metrics["data"]["runs"][0]["predictions"]
    gate = result.metrics["tasks"]["buys"]["gate"]
    assert {k: v for k, v in gate.items() if k != "models"} == {
        "precision": 0.8, "confidence": 0.95, "valid_for_days": 90, "kept_apart": False
    }  # fmt: skip
    realised = gate["models"]["mine"]["realised"]
    for text in (result.html.read_text(), result.markdown.read_text()):
        for part in (gate["models"]["mine"]["lower_bound"], realised["value"], realised["low"]):
            assert f"{100 * part:.1f}" in text
        assert "the promise was kept" in text
    hard = parse(GateConfig, {"precision": 0.999}, "gate")
    result = evaluate([file], tmp_path / "out", title="t", replicates=50, gate=hard)
    assert json.loads(result.certificates.read_text()) == {"certificates": []}
    assert "No certificate" in result.html.read_text()
    assert "'precision': 0.999" in result.metrics["data"]["command"]


def test_two_runs_of_one_model_have_each_its_own_certificate(tmp_path):
    files = [
        write_predictions(frame_of().assign(run=run), tmp_path / run / "predictions.parquet")
        for run in ("march", "april")
    ]
    (files[1].parent / "run.json").write_text("{}")
    result = evaluate(files, tmp_path / "out", title="t", replicates=10)
    certificates = json.loads(result.certificates.read_text())["certificates"]
    assert [(c["model"], c["run"]) for c in certificates] == [("mine", "march"), ("mine", "april")]
    assert certificates[0]["fingerprint"] != certificates[1]["fingerprint"]
    assert set(result.metrics["tasks"]["buys"]["gate"]["models"]) == {
        "mine (march)", "mine (april)"
    }  # fmt: skip


def test_a_misspelt_key_of_the_gate_is_refused():
    with pytest.raises(ConfigError, match="precision"):
        parse(GateConfig, {"precison": 0.8}, "gate")
    with pytest.raises(ConfigError, match="confidence"):
        parse(GateConfig, {"confidence": 1}, "gate")
