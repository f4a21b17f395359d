"""Every back end answers as the trained network, at any number of windows, events and snapshots."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import seqjourney
from models.random_histories import draw, lively, network_config, tokenizer
from seqjourney.commands.export import export
from seqjourney.errors import ConfigError, DataError
from seqjourney.models.network import NetworkPredictor
from seqjourney.sequences.batching import Collator, build_windows
from seqjourney.sequences.task_data import TaskData
from seqjourney.serving.backends import (
    FILES,
    INPUTS,
    example_inputs,
    open_program,
    refuse_frozen,
    write_program,
)

RunOf = Callable[[str], Path]
HOLDS = [
    ("gru", "torchscript"),
    ("gru", "onnx"),
    ("transformer", "torchscript"),
    ("transformer", "onnx"),
    ("transformer", "torch_export"),
]
BARE = {"vocabulary": {"event": ["visit"]}, "scales": {}, "event_cycles": (), "snapshot_cycles": ()}


def needs_onnx(kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx", reason="needs the onnx extra")
        pytest.importorskip("onnxruntime", reason="needs the onnx extra")


@pytest.fixture(scope="session")
def exported(run_of: RunOf) -> Callable[[str, str], Path]:
    """Return a run's exported file, inside the run, made when first asked for."""

    def file(model: str, kind: str) -> Path:
        needs_onnx(kind)
        place = run_of(model) / FILES[kind]
        return place if place.exists() else export(run_of(model), kind=kind)

    return file


@pytest.mark.parametrize(("model", "kind"), HOLDS)
def test_on_real_sequences_of_any_shape_a_back_end_answers_as_the_network(
    model: str, kind: str, real_log: TaskData, tmp_path: Path
):
    needs_onnx(kind)
    network = lively(network_config(model), real_log.tokenizer)
    file = tmp_path / FILES[kind]
    write_program(kind, network, {}, file)
    program, _ = open_program(file)
    windows = build_windows(real_log, 600)
    collate = Collator(real_log, windows)
    longest, shortest = int(np.argmax(windows.lengths)), int(np.argmin(windows.lengths))
    seen = set()
    for chosen in ([shortest], range(7), [*range(50), longest], [longest], range(220)):
        batch = collate(list(chosen))
        seen.add((*batch.times.shape, batch.ends.shape[1]))
        with torch.inference_mode():
            expected, found = network(*batch.inputs), program(*batch.inputs)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.05
    assert len(seen) == 5
    traced = example_inputs(network)
    assert (*traced[2].shape, traced[3].shape[1]) not in seen


@pytest.mark.parametrize(("model", "kind"), HOLDS)
@pytest.mark.parametrize("fields", [{}, BARE], ids=["all fields", "events only"])
def test_a_back_end_takes_shapes_that_were_never_traced(
    model: str, kind: str, fields: dict[str, Any], tmp_path: Path
):
    needs_onnx(kind)
    words = tokenizer(**fields)
    network = lively(network_config(model), words)
    file = tmp_path / FILES[kind]
    write_program(kind, network, {"tokenizer.json": "{}"}, file)
    program, extra = open_program(file)
    assert extra["tokenizer.json"] == "{}"
    random = np.random.default_rng(0)
    for shape in ((1, 1, 1), (1, 2, 1), (2, 1, 5), (5, 33, 3), (1, 200, 1), (40, 9, 9), (3, 7, 4)):
        inputs = draw(random, words, *shape)
        with torch.inference_mode():
            expected = network(*inputs)
            torch.testing.assert_close(program(*inputs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("model", "kind"), HOLDS)
def test_an_exported_file_scores_a_frame_as_its_run_does(
    model: str,
    kind: str,
    exported: Callable[[str, str], Path],
    run_of: RunOf,
    frame: pd.DataFrame,
):
    found = seqjourney.load(exported(model, kind)).score(frame, "2023-10-01")
    expected = seqjourney.load(run_of(model)).score(frame, "2023-10-01")
    pd.testing.assert_frame_equal(found, expected, atol=1e-4)
    assert expected["score"].std() > 1e-4


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_an_exported_file_carries_tokenizer_settings_and_model_card(
    kind: str, exported: Callable[[str, str], Path]
):
    _, extra = open_program(exported("transformer", kind))
    assert json.loads(extra["tokenizer.json"])["vocabulary"]["event"]
    assert json.loads(extra["seqjourney.json"])["calibrator"]["kind"] == "platt"
    assert extra["model_card.md"].startswith("# small / transformer")


def frozen_onnx(network: torch.nn.Module, file: Path, dynamic: dict[str, dict[int, str]]) -> None:
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(
            network, example_inputs(network), str(file), input_names=list(INPUTS),
            output_names=["scores"], dynamic_axes=dynamic, opset_version=17, dynamo=False,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_with_a_frozen_length_is_refused(tmp_path: Path):
    needs_onnx("onnx")
    network = lively(network_config("gru"), tokenizer())
    frozen_onnx(network, tmp_path / "all.onnx", {})
    with pytest.raises(DataError, match="takes exactly 3 windows"):
        open_program(tmp_path / "all.onnx")
    batch_only = {name: {0: "windows"} for name in INPUTS}
    frozen_onnx(network, tmp_path / "length.onnx", batch_only)
    with pytest.raises(DataError, match="takes exactly 7 events"):
        open_program(tmp_path / "length.onnx")


def test_a_torch_export_program_with_a_frozen_length_is_refused(tmp_path: Path):
    network = lively(network_config("gru"), tokenizer())
    inputs = example_inputs(network)
    program = torch.export.export(network, inputs)  # which goes without a word
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(DataError, match="takes exactly 3 windows"):
        open_program(tmp_path / "model.pt2")


def test_only_symbolic_sizes_pass_the_check_for_frozen_lengths():
    free = {name: ["windows", "length", 3] for name in INPUTS}
    refuse_frozen(Path("model.onnx"), free)
    for name, axis in (("categorical", 1), ("ends", 0), ("cutoffs", 1)):
        sizes = list(free[name])
        sizes[axis] = 7
        with pytest.raises(DataError, match="takes exactly 7"):
            refuse_frozen(Path("model.onnx"), {**free, name: sizes})


def test_a_program_that_fails_at_another_length_is_not_written(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from seqjourney.serving import export as module
    from seqjourney.serving.backends import Program

    network = NetworkPredictor.load(run_of("gru"))

    def only_long(*inputs: torch.Tensor) -> torch.Tensor:
        if inputs[2].shape[1] < 5:
            raise RuntimeError("shape '[5]' is invalid")
        return network.model(*inputs)

    monkeypatch.setattr(module, "open_program", lambda *_: (Program(only_long), {}))
    with pytest.raises(DataError, match=r"not take 2 windows of 1 events.*nothing was written"):
        export(run_of("gru"), tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_torch_export_of_a_gru_is_refused_with_the_reason(run_of: RunOf, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"fixes the length.*unrolls a GRU.*format=onnx"):
        export(run_of("gru"), tmp_path / "model.pt2", "torch_export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_without_the_extra_the_message_says_how_to_install_it(
    name: str, run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    needs_onnx("onnx")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf'needs {name}: pip install "seqjourney\[onnx\]"'):
        export(run_of("gru"), tmp_path / "model.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_and_a_misleading_name_are_refused(run_of: RunOf, tmp_path: Path):
    with pytest.raises(ConfigError, match="Did you mean 'onnx'"):
        export(run_of("gru"), kind="onx")
    with pytest.raises(ConfigError, match=r"End it in \.onnx for format=onnx"):
        export(run_of("gru"), tmp_path / "model.pt", "onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.pt"])
def test_a_damaged_file_of_any_format_is_refused(name: str, tmp_path: Path):
    needs_onnx("onnx" if name.endswith("onnx") else "")
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"is not a .* file of ours, or is damaged"):
        seqjourney.load(tmp_path / name)
