"""An exported network is one file: torch alone runs it, and it answers as the trained one does."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from seqjourney.commands.export import export
from seqjourney.config import parse
from seqjourney.errors import DataError
from seqjourney.events.engine import connect
from seqjourney.models.head import BinaryHead
from seqjourney.models.network import NetworkPredictor
from seqjourney.sequences.batching import Batch, Collator, build_windows
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.task_data import TaskData

RunOf = Callable[[str], Path]


@pytest.fixture(scope="session", params=["gru", "transformer"])
def run(request: pytest.FixtureRequest, run_of: RunOf) -> Path:
    return run_of(request.param)


@pytest.fixture(scope="session")
def file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("exported") / "model.pt")


def batch_of(data: TaskData, context: int, size: int) -> Batch:
    windows = build_windows(data, context)
    chosen = np.random.default_rng(size).integers(0, len(windows), size)
    longest = int(np.argmax(windows.lengths))
    return Collator(data, windows)([*chosen[:-1].tolist(), longest])


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_on_real_sequences_the_export_answers_as_the_eager_network(
    kind: str, real_log: TaskData, tmp_path: Path
):
    from seqjourney.config import GRUConfig, TransformerConfig
    from seqjourney.models.model import JourneyModel
    from seqjourney.serving.export import export_network

    settings = {"kind": kind, "name": kind, "width": 16, "layers": 2}
    schema = GRUConfig if kind == "gru" else TransformerConfig
    network = NetworkPredictor(parse(schema, settings, kind))
    network.tokenizer = real_log.tokenizer
    torch.manual_seed(0)
    network.model = JourneyModel(network.config, real_log.tokenizer, BinaryHead(0.3)).eval()
    for member in network.model.members:
        torch.nn.init.normal_(member.head[-1].weight, std=1.0)
    batches = [batch_of(real_log, 600, size) for size in (1, 7, 64)]
    assert batches[-1].times.shape[1] > 50
    file = tmp_path / "model.pt"
    assert export_network(network, {}, "", batches[-1], file) <= 1e-5
    loaded = torch.jit.load(str(file))
    for batch in batches:
        with torch.inference_mode():
            expected = network.model(*batch.inputs)
            torch.testing.assert_close(loaded(*batch.inputs), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.05


@pytest.mark.parametrize("size", [1, 7, 64])
def test_any_batch_size_and_length_goes_through(run: Path, file: Path, size: int):
    network = NetworkPredictor.load(run)
    loaded = torch.jit.load(str(file))
    random = torch.Generator().manual_seed(size)
    fields = len(network.tokenizer.categorical_fields), len(network.tokenizer.numeric_fields)
    for length in (1, 2, 33, 257, 600):
        times, _ = torch.sort(
            1_680_000_000_000_000 + torch.randint(0, 10**13, (size, length), generator=random)
        )
        ends = torch.randint(0, length + 1, (size, 4), generator=random)
        inputs = (
            torch.randint(0, 3, (size, length, fields[0]), generator=random),
            torch.randn(size, length, fields[1], generator=random) * 20,
            times,
            ends,
            times[:, -1:] + torch.arange(4) * 86_400_000_000,
        )
        with torch.inference_mode():
            expected = network.model(*inputs)
            torch.testing.assert_close(loaded(*inputs), expected, atol=1e-5, rtol=0)


def test_a_fresh_process_with_torch_alone_runs_the_file(
    run: Path, file: Path, small_log: object, tmp_path: Path
):
    with connect(tmp_path) as backend:
        data = load_task_data(backend, small_log.prepared, small_log.task).of("test")
    network = NetworkPredictor.load(run)
    batch = network.first_batch(data, 50)
    with torch.inference_mode():
        torch.save((batch.inputs, network.model(*batch.inputs)), tmp_path / "batch.pt")
    code = textwrap.dedent("""
        import json, sys, warnings
        import torch
        extra = {"tokenizer.json": "", "seqjourney.json": "", "model_card.md": ""}
        model = torch.jit.load(sys.argv[1], _extra_files=extra)
        inputs, expected = torch.load(sys.argv[2])
        with torch.inference_mode():
            difference = (model(*inputs) - expected).abs().max()
        assert difference <= 1e-5, difference
        assert json.loads(extra["tokenizer.json"])["vocabulary"]["event"]
        assert json.loads(extra["seqjourney.json"])["calibrator"]["kind"] == "platt"
        assert extra["model_card.md"].decode().startswith("# small / ")
        for name in ("seqjourney", "pandas", "duckdb", "pytorch_lightning"):
            assert name not in sys.modules, name
        print("ran")
    """)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(file), str(tmp_path / "batch.pt")],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "ran", done.stderr


def test_the_model_card_names_data_cutoffs_metrics_and_intended_use(run: Path, tmp_path: Path):
    from seqjourney.commands.evaluate import evaluate

    report = run.parent / "report"
    extra = {"model_card.md": ""}
    torch.jit.load(str(export(run, tmp_path / "before.pt")), _extra_files=extra)
    assert "has not been evaluated yet" in extra["model_card.md"].decode()
    evaluate([run], report, title="small", replicates=20)
    torch.jit.load(str(export(run, tmp_path / "after.pt")), _extra_files=extra)
    card = extra["model_card.md"].decode()
    import shutil

    shutil.rmtree(report)
    validation = json.loads((run / "validation.json").read_text())
    for words in (
        "purchase within 30 days after the cutoff",
        "`small`, fingerprint",
        "3 cutoffs from 2023-04-01 00:00 to 2023-06-01 00:00",
        "Validation and calibration: 2023-08-01 00:00",
        "Test: 2023-10-01 00:00",
        f"average_precision {validation['average_precision']:.4f}",
        "95 % intervals",
        "- average_precision: 0.",
        "## Intended use",
        "Not for",
        "event, channel, country",
        "value, items",
    ):
        assert words in card, words


def test_an_export_that_answers_otherwise_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from seqjourney.serving import export as module

    monkeypatch.setattr(module, "parity", lambda *_: float("nan"))
    with pytest.raises(DataError, match="nothing was written"):
        export(run, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_without_its_prepared_data_a_run_says_what_to_do(run: Path, tmp_path: Path):
    import shutil

    copy = shutil.copytree(run, tmp_path / "run")
    about = json.loads((copy / "run.json").read_text())
    about["config"]["processed"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="prepare"):
        export(copy)


def test_a_scored_frame_is_what_the_file_was_asked(file: Path, run: Path, frame: pd.DataFrame):
    import seqjourney

    scored = seqjourney.load(file).score(frame, "2023-10-01")
    assert scored["score"].std() > 1e-4
    slope = json.loads((run / "run.json").read_text())["calibrator"]
    log_odds = slope["slope"] * scored["score"] + slope["intercept"]
    np.testing.assert_allclose(scored["probability"], 1 / (1 + np.exp(-log_odds)), atol=1e-9)
