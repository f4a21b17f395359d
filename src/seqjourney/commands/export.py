"""`export`: a trained network → one file, with tokenizer, calibrator and model card inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.cli import say, shown
from seqjourney.config import Config, NextConfig, config_of_run, nearest
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.ledger import require_current
from seqjourney.files import read_json
from seqjourney.predictors import NETWORKS
from seqjourney.provenance import model_fingerprint

if TYPE_CHECKING:
    from seqjourney.models.network import NetworkPredictor
    from seqjourney.models.next_network import NextNetworkPredictor
    from seqjourney.sequences.batching import Batch

    Parts = tuple[NetworkPredictor | NextNetworkPredictor, dict[str, Any], str, Batch]

_PARITY_SEQUENCES = 256


def export(run: Path, output: Path | None = None, kind: str = "torchscript") -> Path:
    """Export the network of a run directory.

    Args:
        run: a run of a GRU or transformer.
        output: the file to write; None means `backends.FILES` of the kind, inside the run.
        kind: torchscript, onnx or torch_export.

    Returns:
        The file's path.

    Raises:
        ConfigError: the run is a baseline, or the kind is unknown or cannot hold this network.
        DataError: the run or its prepared data is missing or damaged, or parity fails.
    """
    from seqjourney.serving.backends import FILES, FORMATS, format_of
    from seqjourney.serving.export import export_network

    chosen = next((known for known in FORMATS if known == kind), None)
    if chosen is None:
        raise ConfigError(f"format={kind}: choose {', '.join(FORMATS)}.{nearest(kind, FORMATS)}")
    if output is not None and format_of(output) != chosen:
        raise ConfigError(
            f"output={output}: the name says how to read the file. End it in "
            f"{Path(FILES[chosen]).suffix} for format={chosen}."
        )
    if not (run / "run.json").exists():
        raise DataError(f"{run} is not a run: it has no run.json. Train the model first.")
    require_current(run)
    about_run, task = read_json(run / "run.json"), read_json(run / "task.json")
    config = config_of_run(about_run["config"], str(run / "run.json"))
    if about_run["kind"] not in NETWORKS:
        raise ConfigError(
            f"{run} is a {about_run['kind']}; only networks (gru, transformer) export. "
            "seqjourney.load scores with any run directory."
        )
    file = output or run / FILES[chosen]
    if isinstance(config, NextConfig):
        parts: Parts = _next_parts(run, config, about_run, task)
    else:
        parts = _parts(run, config, about_run, task)
    difference = export_network(*parts, file, chosen)
    say(
        f"Exported {config.model.name}: differs from the trained model by {difference:.1e} on "
        f"{len(parts[-1].rows)} real sequences",
        shown(file),
    )
    return file


def _parts(
    run: Path, config: Config, about_run: dict[str, Any], task: dict[str, Any]
) -> tuple[NetworkPredictor, dict[str, Any], str, Batch]:
    """Return the network, what the file says of it, its model card, and real sequences."""
    import tempfile

    from seqjourney.events.engine import connect
    from seqjourney.models.network import NetworkPredictor
    from seqjourney.sequences.cutting import load_task_data
    from seqjourney.serving.export import model_card

    network = NetworkPredictor.load(run)
    assert network.tokenizer is not None
    calibrators = ("calibrator", "value_calibrator", "horizon_calibrators")
    about = _about(run, config, about_run, network.config.context)
    about |= {key: about_run[key] for key in calibrators if key in about_run}
    about |= {"task": task["task"], "consent": config.data.consent.model_dump(mode="json")}
    card = model_card(
        config, about, about_run, task, metrics_of_test(run, config), network.tokenizer
    )
    with (
        tempfile.TemporaryDirectory(prefix="seqjourney-") as scratch,
        connect(Path(scratch)) as backend,
    ):
        data = load_task_data(backend, config.prepared, config.task)
        batch = network.first_batch(data.of("validation"), _PARITY_SEQUENCES)
    return network, about, card, batch


def _next_parts(
    run: Path, config: NextConfig, about_run: dict[str, Any], task: dict[str, Any]
) -> tuple[NextNetworkPredictor, dict[str, Any], str, Batch]:
    """Return the same as `_parts`, of a `next` task."""
    import numpy as np

    from seqjourney.models.next_network import NextNetworkPredictor
    from seqjourney.sequences.next_cases import NextData
    from seqjourney.sequences.store import open_store
    from seqjourney.serving.next_card import next_model_card
    from seqjourney.serving.next_scorer import as_trained
    from seqjourney.serving.tokens import moment_us, snapshots_of

    network = NextNetworkPredictor.load(run)
    assert network.tokenizer is not None
    about = _about(run, config, about_run, network.config.context)
    about["task"] = config.task.model_dump(mode="json")
    card = next_model_card(config, about_run, task, _next_metrics(run), network.tokenizer)
    store = open_store(config.prepared / "store")
    customers = min(_PARITY_SEQUENCES, len(store.customer_ids))
    asked = snapshots_of(store, moment_us(store, None), 0, customers)
    known = np.flatnonzero(asked["end"].to_numpy() > 0)
    data = as_trained(NextData(config.task, store, network.tokenizer, asked), known)
    return network, about, card, network.first_batch(data, _PARITY_SEQUENCES)


def _about(
    run: Path, config: Config | NextConfig, about_run: dict[str, Any], context: int
) -> dict[str, Any]:
    """Return what `seqjourney.json` says of every network."""
    from seqjourney.serving.tokens import READING

    return {
        "format": 1,
        "name": config.name,
        "data": config.data.name,
        "model": config.model.name,
        "context": context,
        "reading": config.data.model_dump(mode="json", include=set(READING)),
        "data_fingerprint": about_run["data_fingerprint"],
        "fingerprint": model_fingerprint(run),
        "revision": about_run["revision"],
    }


def _next_metrics(run: Path) -> dict[str, Any] | None:
    """Take the test metrics from the experiment's report, if it measured these very ranks."""
    from seqjourney.commands.train_next import RANKS
    from seqjourney.events.ledger import sha256_of

    report = run.parent / "report" / "metrics.json"
    if not report.exists():
        return None
    content, ranks = read_json(report), sha256_of(run / RANKS)
    names = [entry["model"] for entry in content["data"]["runs"] if entry.get("ranks") == ranks]
    return content["rankings"]["full"]["models"][names[0]] if names else None


def metrics_of_test(run: Path, config: Config) -> dict | None:
    """Take the test metrics from the experiment's report, if it measured these very predictions."""
    from seqjourney.commands.evaluate import predictions_digest

    report = run.parent / "report" / "metrics.json"
    if not report.exists():
        return None
    content = read_json(report)
    digest = predictions_digest(run)
    if digest not in [entry.get("predictions") for entry in content["data"]["runs"]]:
        return None  # trained again since
    return content["tasks"].get(config.task.main, {}).get("models", {}).get(config.model.name)
