"""A trained network as a program of another runtime: TorchScript, ONNX or torch.export.

`write_program` writes one file, `open_program` brings it back as a module with the network's
`forward`. Each file carries what scoring needs around it (`EXTRA`). A program must take any number
of windows, events and snapshots: one whose length was frozen when it was made would be wrong or
fail on every other length, so it is refused, both when it is written and when it is opened.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from seqjourney.errors import ConfigError, DataError
from seqjourney.models.embedding import EventEmbedding

Format = Literal["torchscript", "onnx", "torch_export"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILES: dict[Format, str] = {
    "torchscript": "model.torchscript.pt",
    "onnx": "model.onnx",
    "torch_export": "model.pt2",
}
EXTRA = ("tokenizer.json", "seqjourney.json", "model_card.md")
INPUTS = ("categorical", "numeric", "times", "ends", "cutoffs")
_LENGTHS = ("events", "events", "events", "snapshots", "snapshots")  # second axis of each input
_OPSET = 17  # the first with LayerNormalization
_HOUR_US = 3_600_000_000


class Program(torch.nn.Module):
    """An opened program behind a network's `forward`."""

    def __init__(self, call: Callable[..., Tensor]):
        super().__init__()
        self._call = call  # a function: exported programs as submodules refuse `eval()`

    def forward(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """See `JourneyModel.forward`."""
        return self._call(categorical, numeric, times, ends, cutoffs)


def format_of(file: Path) -> Format:
    """Return the format that a file's name stands for; what is not ONNX or PT2 is TorchScript."""
    endings: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch_export"}
    return endings.get(file.suffix.lower(), "torchscript")


def write_program(
    kind: Format, model: torch.nn.Module, extra: Mapping[str, str], file: Path
) -> None:
    """Write a network as a program.

    Args:
        kind: of the program.
        model: trained, in evaluation mode, on the CPU.
        extra: texts that the file carries, by name.
        file: where to write; the caller sees to it that it appears whole.

    Raises:
        ConfigError: the runtime cannot express this network, or is not installed.
    """
    with warnings.catch_warnings():
        # torch marks TorchScript, and the ONNX exporter that rests on it, as deprecated. It is
        # what people deploy, and the newer exporter fixes the length of a GRU without a word.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)  # tracers tell of their own workings
        if kind == "torchscript":
            torch.jit.save(torch.jit.script(model), str(file), _extra_files=dict(extra))
        elif kind == "onnx":
            _write_onnx(model, extra, file)
        else:
            _write_torch_export(model, extra, file)


def open_program(file: Path, kind: Format | None = None) -> tuple[torch.nn.Module, dict[str, str]]:
    """Open a program on the CPU, with as many threads as torch has now.

    Args:
        file: written by `write_program`.
        kind: unset means that the file's name says it.

    Returns:
        The module, and the texts that the file carries; empty ones where it is not ours.

    Raises:
        ConfigError: the runtime is not installed.
        DataError: the file is damaged, or takes only one length.
    """
    kind = kind or format_of(file)
    opener = {
        "torchscript": _open_torchscript,
        "onnx": _open_onnx,
        "torch_export": _open_torch_export,
    }[kind]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return opener(file)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # each runtime raises several kinds for a damaged file
        name = {"torchscript": "TorchScript", "onnx": "ONNX", "torch_export": "torch.export"}[kind]
        raise DataError(f"{file} is not a {name} file of ours, or is damaged.") from error


def example_inputs(model: torch.nn.Module) -> tuple[Tensor, ...]:
    """Return inputs to trace a network with: all lengths differ, and none is 1.

    A tracer may take two equal lengths for one and the same, and a 1 for a constant.
    """
    found = (module for module in model.modules() if isinstance(module, EventEmbedding))
    embedding: Any = next(found)
    windows, events, snapshots = 3, 7, 4
    times = (torch.arange(windows * events) * _HOUR_US).reshape(windows, events)
    return (
        torch.ones(windows, events, len(embedding.fields), dtype=torch.int64),
        torch.zeros(windows, events, len(embedding.numbers)),
        times,
        torch.arange(windows * snapshots).reshape(windows, snapshots) % events,
        times[:, -1:] + torch.arange(snapshots) * _HOUR_US,
    )


def refuse_frozen(file: Path, shapes: Mapping[str, Sequence[object]]) -> None:
    """Refuse a program with a fixed number of windows, events or snapshots.

    Args:
        file: for the message.
        shapes: input → its axes as the program declares them; a whole number is a fixed one.

    Raises:
        DataError: names the axis and its length.
    """
    for name, length in zip(INPUTS, _LENGTHS, strict=True):
        for axis, size in zip(("windows", length), shapes.get(name, ()), strict=False):
            if isinstance(size, int):
                raise DataError(
                    f"{file} takes exactly {size} {axis} and nothing else: a length was frozen "
                    "when it was made. Export the run again with scripts/export.py."
                )


def _write_onnx(model: torch.nn.Module, extra: Mapping[str, str], file: Path) -> None:
    onnx = _import("onnx")
    axes = {name: {0: "windows", 1: length} for name, length in zip(INPUTS, _LENGTHS, strict=True)}
    written = io.BytesIO()
    with warnings.catch_warnings():
        # That a GRU may fail on other batch sizes; `parity` tries them.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            example_inputs(model),
            written,  # type: ignore[arg-type]
            input_names=list(INPUTS),
            output_names=["scores"],
            dynamic_axes={**axes, "scores": {0: "windows", 1: "snapshots"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    content = onnx.load_from_string(written.getvalue())
    onnx.helper.set_model_props(content, dict(extra))
    file.write_bytes(content.SerializeToString())


def _write_torch_export(model: torch.nn.Module, extra: Mapping[str, str], file: Path) -> None:
    from torch.export import Dim

    dims = {name: Dim(name) for name in ("windows", "events", "snapshots")}
    shapes = tuple({0: dims["windows"], 1: dims[length]} for length in _LENGTHS)
    try:
        program = torch.export.export(model, example_inputs(model), dynamic_shapes=shapes)
    except torch._dynamo.exc.UserError as error:
        if "specialized" not in str(error):
            raise
        raise ConfigError(
            f"torch.export of torch {torch.__version__} fixes the length of this network (it "
            "unrolls a GRU over time), so that the file would take one length only. Use "
            "format=onnx or format=torchscript."
        ) from None
    with file.open("wb") as stream:
        torch.export.save(program, stream, extra_files=dict(extra))


def _open_torchscript(file: Path) -> tuple[torch.nn.Module, dict[str, str]]:
    extra: dict[str, Any] = dict.fromkeys(EXTRA, "")
    module = torch.jit.load(str(file), map_location="cpu", _extra_files=extra)
    return module, {name: _text(value) for name, value in extra.items()}


def _open_onnx(file: Path) -> tuple[torch.nn.Module, dict[str, str]]:
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    declared = {given.name: given.shape for given in session.get_inputs()}
    refuse_frozen(file, declared)

    def call(*inputs: Tensor) -> Tensor:
        named = zip(INPUTS, inputs, strict=True)
        # A field that the data does not have is an input that the program does not have.
        feed = {name: value.numpy() for name, value in named if name in declared}
        return torch.from_numpy(session.run(None, feed)[0])

    found = session.get_modelmeta().custom_metadata_map
    return Program(call), {name: found.get(name, "") for name in EXTRA}


def _open_torch_export(file: Path) -> tuple[torch.nn.Module, dict[str, str]]:
    extra: dict[str, Any] = dict.fromkeys(EXTRA, "")
    program = torch.export.load(str(file), extra_files=extra)
    given = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    shapes = {name: tuple(given[name].meta["val"].shape) for name in INPUTS if name in given}
    refuse_frozen(file, shapes)
    module = program.module()
    return Program(lambda *inputs: module(*inputs)), {k: _text(v) for k, v in extra.items()}


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(f'ONNX needs {name}: pip install "seqjourney[onnx]"') from None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value
