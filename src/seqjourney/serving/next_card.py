"""The model card of an exported network of a `next` task."""

from __future__ import annotations

from typing import Any

from seqjourney.config import NextConfig
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.export import describe_fields


def next_model_card(
    config: NextConfig,
    run: dict[str, Any],
    task: dict[str, Any],
    metrics: dict[str, Any] | None,
    tokenizer: Tokenizer,
) -> str:
    """Write the model card: data, split, metrics, input and output, intended use.

    Args:
        config: of the run.
        run: its run.json.
        task: its task.json.
        metrics: of its test, by name, if a report measured it.
        tokenizer: of the network.
    """
    validation = ", ".join(f"{name} {value:.4f}" for name, value in run["validation"].items())
    tested = "The test split has not been evaluated yet (scripts/evaluate.py does it)."
    if metrics:
        tested = "On the test, with customer-bootstrap 95 % intervals:\n\n" + "\n".join(
            f"- {name}: {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
            for name, found in metrics.items()
        )
    repeats = "" if config.task.repeats else (
        "Values that a history already holds are no candidates: set their scores to minus "
        "infinity before the softmax.\n"
    )  # fmt: skip
    return f"""# {config.name} / {config.model.name}

Predicts: {task["description"]} ({task["kind"]}). Split {task["split"]}.

## Data

`{config.data.name}`, fingerprint {run["data_fingerprint"]}.
Questions: {", ".join(f"{count:,} in {split}" for split, count in task["questions"].items())}.

## Metrics

On validation, where settings were chosen: {validation}.

{tested}

## Input

{describe_fields(tokenizer, field=config.task.field)}

{repeats}
## Intended use

Ranking what may come next for customers and events like the training data, for decisions that a
person can review. A value that training never saw is never answered. Not for decisions with legal
or similarly grave effects on people.

Made by seqjourney at {run["revision"]}, seed {config.seed}.
"""
