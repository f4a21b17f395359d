"""Every model of a task before the precision gate: its certificate, and what came of it.

The certificate is made on validation and held against the test: what was promised and what came
true, side by side. Where none can be given, `sentence` says why and what would be needed, in words
for who has to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.config import GateConfig
from seqjourney.evaluation.bootstrap import Estimate, Resampling, estimate, replicate_weights
from seqjourney.evaluation.drift import Reference
from seqjourney.evaluation.gate import (
    LEARNING_SHARE,
    Certificate,
    Finding,
    calibration_rows,
    correct_needed,
    fewest_flagged,
    flagged_needed,
    learn_then_test,
    learns,
)
from seqjourney.evaluation.predictions import TaskPredictions
from seqjourney.page import NO_BREAK

_MILLION = 1_000_000


def gate_results(
    predictions: TaskPredictions,
    gate: GateConfig,
    fingerprints: Mapping[str, str],
    *,
    horizon: timedelta | None,
    replicates: int,
    seed: int,
) -> tuple[dict[str, Any], list[Certificate]]:
    """Return the `gate` entry of a task in metrics.json, and the certificates that may be used.

    A certificate whose promise the test refutes stands in the entry, and is withdrawn.

    Args:
        predictions: of one task, validation (and certification) and test.
        gate: what is asked of a model.
        fingerprints: of each model, by its name in the report.
        horizon: of the task; None counts the labels as known at the cutoff.
        replicates: of the bootstrap of the realised precision.
        seed: of the bootstrap.
    """
    asked = {"precision": gate.precision, "confidence": gate.confidence}
    entry: dict[str, Any] = {**asked, "valid_for_days": gate.valid_for.total_seconds() / 86400}
    entry["kept_apart"] = bool((predictions.snapshots["split"] == "certification").any())
    models: dict[str, Any] = {}
    certificates = []
    rows = calibration_rows(predictions.snapshots)
    used = predictions.snapshots.iloc[rows]
    weight = used["weight"].to_numpy()
    learning = learns(used["customer_id"].to_numpy(object))
    label = used["label"].to_numpy()
    test = predictions.split("test")
    for model, scores in predictions.scores.items():
        score = scores[rows]
        if len(rows) and np.ptp(weight) > 0:
            models[model] = _none(
                "No certificate: the validation customers have different weights, and a "
                "certificate counts each customer once. Write the predictions with equal weights."
            )
            continue
        tested = learn_then_test(score, label, learning, **_levels(gate))
        if not tested.passed or tested.threshold is None:
            found = {k: v for k, v in vars(tested).items() if k not in ("passed", "threshold")}
            models[model] = _none(refusal(tested, gate)) | found
            continue
        first, last = used["cutoff"].min(), used["cutoff"].max()
        certificate = Certificate(
            task=predictions.task,
            model=model.removesuffix(f" ({predictions.runs[model]})"),
            run=predictions.runs[model],
            fingerprint=fingerprints[model],
            **_levels(gate),
            threshold=tested.threshold,
            customers=tested.customers,
            flagged=tested.flagged,
            correct=tested.correct,
            lower_bound=tested.lower_bound,
            calibrated=(first.isoformat(), last.isoformat()),
            expires=(last + (horizon or timedelta()) + gate.valid_for).isoformat(),
            reference=Reference.of(score, tested.threshold),
        )
        models[model] = _certified(certificate, test, test.scores[model], replicates, seed)
        if models[model]["realised"]["verdict"] != "broken":
            certificates.append(certificate)
    return entry | {"models": models}, certificates


def realised_precision(
    snapshots: pd.DataFrame, flagged: np.ndarray, replicates: int, seed: int
) -> Estimate:
    """Return the precision of the flagged (n,) bool, with its interval over customers."""
    chosen = snapshots[flagged & (snapshots["weight"] > 0).to_numpy()]
    if chosen.empty:
        return estimate(float("nan"), np.array([]))
    label, weight = chosen["label"].to_numpy(np.float64), chosen["weight"].to_numpy(np.float64)
    draws = Resampling(pd.factorize(chosen["customer_id"])[0], weight, replicates, seed)
    shares = [w @ label / w.sum(axis=1) for w in replicate_weights(draws)]
    return estimate(float(weight @ label / weight.sum()), np.concatenate(shares))


def refusal(tested: Finding, gate: GateConfig) -> str:
    """Say why there is no certificate, and what would be needed."""
    target, sure = percent(gate.precision), percent(gate.confidence)
    fewest = fewest_flagged(**_levels(gate))
    if not tested.flagged:
        return (
            f"No certificate: too few customers. Of the {tested.customers:,} that could be checked "
            f"at least {fewest:,} have to stand at the top of the list, all of them right, to be "
            f"{sure} sure of {target}. Have more customers at the last validation cutoff, or ask "
            "for less in gate.precision."
        )
    seen = (
        f"No certificate: {tested.correct:,} of the {tested.flagged:,} at the top of its list were "
        f"right ({percent(tested.correct / tested.flagged, 1)})"
    )
    end = (
        f" What is sure of them today is {_at_least(tested.lower_bound)}. Use the list "
        "to rank and to test, not to act unwatched."
    )
    needed = flagged_needed(tested, **_levels(gate))
    if needed is not None:
        people = needed / tested.flagged * tested.customers / (1 - LEARNING_SHARE)
        many = f"about {_rounded(people)}" if people < _MILLION else "more than a million"
        return (
            f"{seen}, which is more than {target} but may be luck. At this rate it takes {many} "
            f"validation customers to be {sure} sure.{end}"
        )
    length = max(tested.flagged, fewest)
    right = correct_needed(length, **_levels(gate))
    return (
        f"{seen}; to be {sure} sure of {target} it takes {right:,} of {length:,}. More customers "
        "alone would hardly help: the model has to be better at the top, or gate.precision "
        f"lower.{end}"
    )


def summary(gate: Mapping[str, Any]) -> str:
    """Say in one line who may be acted on."""
    asked = f"precision {percent(gate['precision'])} at {percent(gate['confidence'])} confidence"
    certified = {n: found for n, found in gate["models"].items() if found["certified"]}
    broken = [n for n, found in certified.items() if found["realised"]["verdict"] == "broken"]
    kept = [name for name in certified if name not in broken]
    parts = [f"{', '.join(kept)} certified; see certificates.json"] * bool(kept)
    parts += [f"{', '.join(broken)} certified, but not borne out by the test"] * bool(broken)
    parts = parts or ["no model is certified; the report says what would be needed"]
    return f"Gate ({asked}): {'; '.join(parts)}."


def percent(share: float, places: int = 0) -> str:
    """Print a share as a percentage, such as a target of 80 % or 99.5 %."""
    exact = f"{100 * share:.{places}f}" if places else f"{100 * share:.6g}"
    return f"{exact}{NO_BREAK}%"


def _at_least(share: float) -> str:
    """Print a bound in whole percent, rounded down: no more is promised than there is."""
    return f"{int(100 * share)}{NO_BREAK}%"


def _certified(
    certificate: Certificate, test: TaskPredictions, score: np.ndarray, replicates: int, seed: int
) -> dict[str, Any]:
    flagged = score >= certificate.threshold
    counted = (test.snapshots["weight"] > 0).to_numpy()
    realised = realised_precision(test.snapshots, flagged, replicates, seed)
    drift = certificate.reference.compare(score[counted])
    last = test.snapshots["cutoff"].max()
    expired = bool(last > datetime.fromisoformat(certificate.expires))
    number = int((flagged & counted).sum())
    verdict = _verdict(realised, certificate.target)
    told = certificate.to_dict()
    return {
        "certified": True,
        **{k: told[k] for k in ("threshold", "customers", "flagged", "correct", "lower_bound")},
        **{k: told[k] for k in ("calibrated", "expires")},
        "realised": {
            "value": _number(realised.value),
            "low": _number(realised.low),
            "high": _number(realised.high),
            "flagged": number,
            "verdict": verdict,
        },
        "drift": {"p_value": drift.p_value, "psi": drift.psi, "found": drift.found},
        "expired_at_test": expired,
        "sentence": _promise(certificate) + _came_true(realised, number, verdict)
        + _warning(drift.found, expired),
    }  # fmt: skip


def _promise(certificate: Certificate) -> str:
    return (
        f"Certified until {certificate.expires[:10]}: with {percent(certificate.confidence)} "
        f"confidence at least {percent(certificate.target)} of the customers with a score of "
        f"{certificate.threshold:.4g} or more have the outcome (checked: {certificate.correct:,} "
        f"of {certificate.flagged:,} flagged among {certificate.customers:,}). "
    )


def _came_true(realised: Estimate, flagged: int, verdict: str) -> str:
    if not flagged:
        return "On the test nobody reached that score, so nothing was put to the proof."
    said = {
        "kept": "the promise was kept",
        "open": "the promise is neither confirmed nor refuted",
        "broken": "the promise was broken, and the certificate is withdrawn",
    }
    return (
        f"On the later test {percent(realised.value, 1)} of {flagged:,} flagged were right: "
        f"{said[verdict]}."
    )


def _warning(drifted: bool, expired: bool) -> str:
    """Say why scoring would refuse the certificate at the test cutoff."""
    reasons = ["its scores have drifted from those of calibration"] * drifted
    reasons += ["it has expired"] * expired
    return f" At the test it would be refused: {' and '.join(reasons)}." if reasons else ""


def _verdict(realised: Estimate, target: float) -> str:
    """`kept`: value at or above the target. `broken`: the whole interval below. Else `open`."""
    if not np.isfinite(realised.value):
        return "open"
    if realised.value >= target:
        return "kept"
    return "broken" if realised.high < target else "open"


def _none(sentence: str) -> dict[str, Any]:
    return {"certified": False, "sentence": sentence}


def _levels(gate: GateConfig) -> dict[str, float]:
    return {"target": gate.precision, "confidence": gate.confidence}


def _rounded(number: float) -> str:
    """Two digits are all that such an estimate is worth."""
    digits = max(0, len(str(int(number))) - 2)
    return f"{-int(-number // 10**digits) * 10**digits:,}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
