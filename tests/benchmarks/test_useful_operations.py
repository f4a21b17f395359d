"""The operations that the training benchmark calls useful, against PyTorch's own counter."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seqjourney.config import TransformerConfig
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "benchmarks"))
operations = pytest.importorskip("useful_operations")
training = pytest.importorskip("training")

WINDOWS, EVENTS, SNAPSHOTS = 3, 7, 4


def full_batch(words: Tokenizer) -> Batch:
    """A batch without padding whose snapshots know everything."""
    asked = (WINDOWS, SNAPSHOTS)
    return Batch(
        categorical=torch.full((WINDOWS, EVENTS, len(words.categorical_fields)), 1),
        numeric=torch.ones(WINDOWS, EVENTS, len(words.numeric_fields)),
        times=torch.arange(EVENTS).expand(WINDOWS, EVENTS) * 1_000_000,
        ends=torch.full(asked, EVENTS),
        cutoffs=torch.full(asked, 10_000_000),
        labels=torch.zeros(asked),
        weights=torch.ones(asked),
        rows=torch.arange(WINDOWS * SNAPSHOTS).reshape(asked),
        values=torch.zeros(asked),
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_useful_operations_of_a_transformer_lie_below_those_that_run(
    small_data: TaskData, layers: int
) -> None:
    config = TransformerConfig(kind="transformer", name="t", width=32, layers=layers, dropout=0.0)
    model = JourneyModel(config, small_data.tokenizer, BinaryHead(0.5))
    batch = full_batch(small_data.tokenizer)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*batch.inputs)
    useful = operations.forward_flops(model, config, batch)
    # What runs beyond the useful: the upper half of causal attention, keys and values of
    # snapshots, and whatever the last layer makes of events. No more than one layer's share.
    one_layer = 24 * 32**2 * WINDOWS * (EVENTS + 1 + SNAPSHOTS)
    assert counter.get_total_flops() - 1.1 * one_layer < useful <= counter.get_total_flops()


def test_windows_of_single_snapshots_ask_each_once() -> None:
    class Data:
        class store:
            offsets = np.array([0, 10, 700])

        class snapshots(dict):
            pass

    import pandas as pd

    data = Data()
    data.snapshots = pd.DataFrame({"customer_index": [0, 1, 1], "end": [4, 0, 600]})
    windows = training.single_windows(data, context=512)
    assert len(windows) == 3
    assert np.diff(windows.bounds).tolist() == [1, 1, 1]
    assert windows.first_token.tolist() == [0, 10, 10 + 256]
    assert windows.lengths.tolist() == [4, 0, 600 - 256]
