"""The CUDA part of the training benchmark, tiny and on the CPU: it runs, and counts as it says."""

import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from seqjourney.config import TransformerConfig
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.sequences.batching import Collator, build_windows
from seqjourney.sequences.task_data import TaskData

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "benchmarks"))
cuda = pytest.importorskip("training_cuda")
operations = pytest.importorskip("useful_operations")

TINY = cuda.Plan(
    models={
        "narrow": ("model=transformer", "model.width=16", "model.heads=2"),
        "gru": ("model=gru", "model.width=8"),
    },
    length=12,
    snapshots=3,
    windows=6,
    batches=2,
    rounds=2,
    gemm=32,
)


def test_every_model_is_measured_and_a_transformer_has_a_utilisation(small_data: TaskData) -> None:
    figures, rows = cuda.measure_device(small_data, TINY, "cpu")
    assert set(figures) == {"mfu_narrow"}
    mfu = figures["mfu_narrow"]
    assert 0 < mfu.low <= mfu.value <= mfu.high
    assert mfu.unit == "share of the device's float32 matrix product"
    assert [row["model"] for row in rows] == ["narrow", "gru"]
    for row in rows:
        assert (row["device"], row["arm"], row["batches"]) == ("cpu", "float32", 4)
        assert row["events_per_second"] == pytest.approx(4 * row["labels_per_second"], rel=0.1)
        assert 0 < row["loader_wait_share"] < 1
    share = rows[0]["useful_gflops"] / rows[0]["gemm_gflops"]
    assert 0 < share < 1 and "useful_gflops" not in rows[1]


def test_the_networks_of_the_full_plan_have_the_parameters_in_their_names(
    small_data: TaskData,
) -> None:
    for name, millions in (("transformer_10m", 10), ("transformer_100m", 100)):
        config = cuda.configured(cuda.FULL, cuda.FULL.models[name])
        blocks = 12 * config.width**2 * config.layers / 1e6
        assert blocks == pytest.approx(millions, rel=0.1)
        assert config.width / config.heads == 64 and config.members == 1


def test_long_histories_fill_their_windows_and_are_asked_to_the_end(small_data: TaskData) -> None:
    long = cuda.long_histories(small_data, TINY)
    windows = build_windows(long, TINY.length)
    assert windows.lengths.tolist() == [12] * 12
    batch = Collator(long, windows)([0, 1, 2, 3])
    assert (batch.categorical[..., 0] != 0).all()
    assert batch.ends.tolist() == [[4, 8, 12]] * 4
    last_known = batch.times.gather(1, batch.ends - 1)
    assert (batch.cutoffs == last_known).all()
    history = small_data.tokenizer.history_us
    assert int(batch.times.max() - batch.times.min()) <= history
    assert np.isfinite(batch.labels.numpy()).all()


def test_flops_of_a_token_are_those_that_all_tokens_need_shared_out(small_data: TaskData) -> None:
    """Of windows so long that the start token and the one snapshot weigh little."""
    config = TransformerConfig(kind="transformer", name="t", width=32, layers=3, dropout=0.0)
    model = JourneyModel(config, small_data.tokenizer, BinaryHead(0.5))
    plan = cuda.replace(TINY, length=512, snapshots=1)
    long = cuda.long_histories(small_data, plan)
    batch = Collator(long, build_windows(long, 512))([0, 1])
    features = model.members[0].embedding.project_event.in_features
    tokens: Tensor = batch.times
    each = operations.flops_per_token(config, features, 512)
    needed = 3 * operations.forward_flops(model, config, batch)
    assert each * tokens.numel() < needed < 1.02 * each * tokens.numel()
