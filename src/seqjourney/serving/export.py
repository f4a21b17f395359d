"""A trained network → one file of another runtime: TorchScript, ONNX or torch.export.

The file takes raw token tensors of any batch size and length (`JourneyModel.forward`) and carries
what is needed around it as extra files: `tokenizer.json`, `seqjourney.json` (calibrator, task,
context) and `model_card.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from seqjourney.config import Config
from seqjourney.errors import DataError
from seqjourney.evaluation.calibration import read_calibrator
from seqjourney.files import replacing_file
from seqjourney.models.network import NetworkPredictor
from seqjourney.models.next_network import NextNetworkPredictor
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.backends import Format, open_program, write_program

TOLERANCE: dict[Format, float] = {"torchscript": 1e-5, "onnx": 1e-4, "torch_export": 1e-4}


def export_network(
    network: NetworkPredictor | NextNetworkPredictor,
    about: dict[str, Any],
    card: str,
    batch: Batch,
    file: Path,
    kind: Format = "torchscript",
) -> float:
    """Export a network, check it against the eager one, and write it.

    Args:
        network: trained.
        about: contents of `seqjourney.json`.
        card: contents of `model_card.md`.
        batch: real sequences for the parity check.
        file: where to write, whole or not at all.
        kind: of the file.

    Returns:
        The largest difference to the eager network on the batch.

    Raises:
        ConfigError: this kind of file cannot hold this network.
        DataError: the written file does not answer as the network does.
    """
    assert network.tokenizer is not None
    model = network.program()
    extra = {
        "tokenizer.json": json.dumps(network.tokenizer.to_dict(), indent=2),
        "seqjourney.json": json.dumps(about, indent=2, default=str),
        "model_card.md": card,
    }
    with replacing_file(file) as partial:
        write_program(kind, model, extra, partial)
        program, _ = open_program(partial, kind)
        difference = parity(model, program, batch)
        if not difference <= TOLERANCE[kind]:
            raise DataError(
                f"the exported model differs from the trained one by {difference:.2g} on real "
                f"sequences (limit {TOLERANCE[kind]:g}); nothing was written."
            )
    return difference


def parity(model: torch.nn.Module, other: Any, batch: Batch) -> float:
    """Return the largest difference of two models on the snapshots of a batch, in many shapes.

    Raises:
        DataError: the other model does not take one of the shapes.
    """
    differences = []
    for inputs in shapes_of(batch):
        with torch.inference_mode():
            expected = model(*inputs)
            try:
                found = other(*inputs)
            except Exception as error:  # each runtime has its own kinds
                windows, events = inputs[2].shape
                raise DataError(
                    f"the exported model does not take {windows} windows of {events} events and "
                    f"{inputs[3].shape[1]} snapshots; nothing was written."
                ) from error
            if found.shape != expected.shape:
                return float("inf")
            differences.append((expected - found).abs().max())
    return float(torch.stack(differences).max())  # a NaN stays one


def shapes_of(batch: Batch) -> list[tuple[torch.Tensor, ...]]:
    """Return the inputs of a batch as they are, and of other numbers of windows, events, asked."""
    length = batch.times.shape[1]
    found = []
    for windows, events, times_asked in (
        (len(batch.rows), length, 1),
        (1, length, 3),
        (min(5, len(batch.rows)), max(1, length // 2), 2),
        (min(2, len(batch.rows)), 1, 1),
    ):
        tokens = (batch.categorical, batch.numeric, batch.times)
        ends = batch.ends[:windows].clamp(max=events).repeat(1, times_asked)
        cutoffs = batch.cutoffs[:windows].repeat(1, times_asked)
        found.append((*(t[:windows, :events].contiguous() for t in tokens), ends, cutoffs))
    return found


def describe_fields(
    tokenizer: Tokenizer, *, summed: bool = False, horizons: Sequence[str] = (), field: str = ""
) -> str:
    """Say what the tensors hold, for the model card.

    `summed` is for a task that sums, `horizons` for one that has several, `field` for one that
    asks which value of it comes next.
    """
    of_values = (
        "returns (B, S, V) float32, a score of each value that may come next, in the order of "
        f"`vocabulary.{field}` of tokenizer.json; their softmax is the probability, uncalibrated. "
    )
    by_horizon = (
        f"returns (B, S, {len(horizons)}) float32 log-odds before calibration that the event has "
        f"come by {', '.join(horizons)}. "
    )
    categorical = ", ".join(tokenizer.categorical_fields)
    numeric = ", ".join(tokenizer.numeric_fields) or "none"
    return (
        "`forward(categorical, numeric, times, ends, cutoffs)`\n\n"
        f"- `categorical` (B, T, {len(tokenizer.categorical_fields)}) int64, ids of: {categorical} "
        "(0 padding, 1 unknown, 2 missing, then `vocabulary` of tokenizer.json from 3 on)\n"
        f"- `numeric` (B, T, {len(tokenizer.numeric_fields)}) float32, raw values of: {numeric} "
        "(NaN where missing)\n"
        "- `times` (B, T) int64, microseconds UTC\n"
        "- `ends` (B, S) int64, events known at each cutoff\n"
        "- `cutoffs` (B, S) int64, microseconds UTC\n\n"
        + (
            "returns (B, S, 2) float32: log-odds before calibration, and the natural logarithm of "
            "the amount expected of a buyer. "
            if summed
            else by_horizon
            if horizons
            else of_values
            if field
            else "returns (B, S) float32 log-odds before calibration. "
        )
        + "Events are ordered by when they "
        "became known, padded on the right, and at most the newest `context` of a customer."
    )


def model_card(
    config: Config,
    about: dict[str, Any],
    run: dict[str, Any],
    task: dict[str, Any],
    metrics: dict[str, Any] | None,
    tokenizer: Tokenizer,
) -> str:
    """Write the model card: data, cutoffs, metrics, intended use, limits."""
    cutoffs = task["cutoffs"]
    horizons = about.get("horizon_calibrators") or {}

    def span(split: str) -> str:
        moments = cutoffs[split]
        return (
            moments[0]
            if len(moments) == 1
            else (f"{len(moments)} cutoffs from {moments[0]} to {moments[-1]}")
        )

    validation = ", ".join(f"{k} {v:.4f}" for k, v in run["validation"].items())
    if metrics:
        names = ("concordance", "normalised_gini", "value_total_bias", "average_precision",
                 "roc_auc", "lift_at_10", "brier", "ece")  # fmt: skip
        found = [
            f"- {n}: {metrics[n]['value']:.4f} [{metrics[n]['low']:.4f}, {metrics[n]['high']:.4f}]"
            for n in names
            if n in metrics and None not in metrics[n].values()
        ]
        tested = "On the test cutoffs, with customer-bootstrap 95 % intervals:\n\n" + "\n".join(
            found
        )
    else:
        tested = "The test split has not been evaluated yet (scripts/evaluate.py does it)."
    return f"""# {config.name} / {config.model.name}

Predicts: {task["description"]} ({task["kind"]}), for {task["eligibility"]}.

## Data

`{config.data.name}`, fingerprint {run["data_fingerprint"]}. {_describe_consent(run["consent"])}
Training: {span("train")}. Validation and calibration: {span("validation")}.
Test: {span("test")}. All times UTC.

## Metrics

On validation, where settings were chosen: {validation}.

{tested}

## Input

{describe_fields(tokenizer, summed="value_calibrator" in about, horizons=list(horizons))}

{_describe_probability(about)}
{_describe_value(about)}
## Intended use

Ranking the customers that the task's eligibility describes, at cutoffs soon after the training
period, for decisions that a person can review. Not for decisions with legal or similarly grave
effects on people, not for customers or events unlike the training data, and not after the base
rate has moved without calibrating again.

Made by seqjourney at {run["revision"]}, seed {config.seed}.
"""


def _describe_probability(about: dict[str, Any]) -> str:
    """Say how a probability is reckoned, by each horizon where there are several."""
    horizons = about.get("horizon_calibrators")
    if not horizons:
        return f"The probability is {read_calibrator(about['calibrator'], 'run.json').formula}."
    lines = [f"- by {h}: {read_calibrator(v, 'run.json').formula}" for h, v in horizons.items()]
    return (
        "The probability, or that by a shorter horizon where that one is higher, is\n\n"
        + "\n".join(lines)
    )


def _describe_value(about: dict[str, Any]) -> str:
    """Say how the expected value is reckoned, where the task sums."""
    found = about.get("value_calibrator")
    if found is None:
        return ""
    return f"The expected value is `{found['scale']:.6g} * probability * exp(log amount)`.\n"


def _describe_consent(consent: Any) -> str:
    """Say in a sentence which consent the training data rests on."""
    if not isinstance(consent, dict):
        return f"Consent: {consent}."
    policy = consent["policy"]
    if not consent["enforced"]:
        return "Consent: recorded in the event log, not enforced."
    return (
        f"Consent: only events and customers with consent to '{policy['purpose']}' "
        f"(customers who said nothing: {policy['unknown']})."
    )
