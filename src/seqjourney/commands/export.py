"""`export`: a trained network → one file, with tokenizer, calibrator and model card inside."""

from __future__ import annotations

from pathlib import Path

from seqjourney.cli import say, shown
from seqjourney.config import Config, nearest, served_config
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.ledger import require_current
from seqjourney.files import read_json
from seqjourney.predictors import NETWORKS
from seqjourney.provenance import model_fingerprint

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
    import tempfile

    from seqjourney.events.engine import connect
    from seqjourney.models.network import NetworkPredictor
    from seqjourney.sequences.cutting import load_task_data
    from seqjourney.serving.backends import FILES, FORMATS, format_of
    from seqjourney.serving.export import export_network, model_card
    from seqjourney.serving.tokens import READING

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
    config = served_config(about_run["config"], str(run / "run.json"))
    if about_run["kind"] not in NETWORKS:
        raise ConfigError(
            f"{run} is a {about_run['kind']}; only networks (gru, transformer) export. "
            "seqjourney.load scores with any run directory."
        )
    network = NetworkPredictor.load(run)
    assert network.tokenizer is not None
    about = {
        "format": 1,
        "name": config.name,
        "data": config.data.name,
        "model": config.model.name,
        "context": network.config.context,
        "calibrator": about_run["calibrator"],
        **{k: about_run[k] for k in ("value_calibrator", "horizon_calibrators") if k in about_run},
        "task": task["task"],
        "reading": config.data.model_dump(mode="json", include=set(READING)),
        "consent": config.data.consent.model_dump(mode="json"),
        "data_fingerprint": about_run["data_fingerprint"],
        "fingerprint": model_fingerprint(run),
        "revision": about_run["revision"],
    }
    card = model_card(
        config, about, about_run, task, metrics_of_test(run, config), network.tokenizer
    )
    file = output or run / FILES[chosen]
    with (
        tempfile.TemporaryDirectory(prefix="seqjourney-") as scratch,
        connect(Path(scratch)) as backend,
    ):
        data = load_task_data(backend, config.prepared, config.task)
        batch = network.first_batch(data.of("validation"), _PARITY_SEQUENCES)
    difference = export_network(network, about, card, batch, file, chosen)
    say(
        f"Exported {config.model.name}: differs from the trained model by {difference:.1e} on "
        f"{len(batch.rows)} real sequences",
        shown(file),
    )
    return file


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
