"""Both networks keep the promises that everything else rests on.

One pass answers all cutoffs as if each were asked alone, from nothing but what was known there,
whatever stands beside it in the batch, and at the cost of about one pass.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_histories import (
    Inputs,
    draw,
    lively,
    long_and_short_histories,
    network_config,
    tokenizer,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.models.network import score_windows
from seqjourney.sequences.batching import build_windows, window_start
from seqjourney.sequences.tokenizer import DAY_US, Tokenizer

SIZES = [
    {"layers": 1, "members": 1},
    {"layers": 2, "members": 1},
    {"layers": 2, "members": 2},
]
TOLERANCE = 1e-5


@pytest.fixture(params=["gru", "transformer"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SIZES, ids=lambda size: "-".join(f"{v}{k}" for k, v in size.items()))
def model(kind: str, request: pytest.FixtureRequest) -> JourneyModel:
    return lively(network_config(kind, **request.param), tokenizer())


def answers(model: JourneyModel, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(*inputs)


def alone(model: JourneyModel, inputs: Inputs, window: int, slot: int) -> float:
    """Ask one snapshot with exactly the events that it knows, nothing else in the batch."""
    categorical, numeric, times, ends, cutoffs = inputs
    end = int(ends[window, slot])
    seen = slice(window, window + 1), slice(0, max(end, 1))
    if end == 0:  # no event, but tensors of length one, as the collator pads them
        blank = torch.zeros_like(categorical[seen]), torch.full_like(numeric[seen], torch.nan)
        events = (*blank, torch.zeros_like(times[seen]))
    else:
        events = categorical[seen], numeric[seen], times[seen]
    ask = slice(window, window + 1), slice(slot, slot + 1)
    return float(answers(model, *events, ends[ask], cutoffs[ask]))


@pytest.mark.parametrize("length", [1, 2, 40])
def test_one_pass_over_30_cutoffs_equals_asking_each_alone(model: JourneyModel, length: int):
    inputs = draw(np.random.default_rng(length), tokenizer(), 2, length, 30)
    together = answers(model, *inputs)
    assert together.shape == (2, 30)
    assert together.std() > 0.05  # the answers do differ
    for window in range(2):
        single = [alone(model, inputs, window, slot) for slot in range(30)]
        np.testing.assert_allclose(together[window].numpy(), single, atol=TOLERANCE)


def test_scoring_equals_asking_each_snapshot_alone_beyond_the_context_too(model: JourneyModel):
    context = 16
    data = long_and_short_histories((1, 2, 5, 16, 17, 24, 100, 333), asked=30)
    ends = data.snapshots["end"].to_numpy()
    assert ends.min() == 0
    assert len(build_windows(data, context)) > len(data.store.customer_ids)
    together = score_windows(model, data, data.tokenizer, context, batch_tokens=400)
    # The independent way: cut each window by hand and pass it alone.
    maps = data.tokenizer.code_maps(data.store.dictionaries)
    for row in range(0, len(ends), 5):
        snapshot = data.snapshots.iloc[row]
        first = int(data.store.offsets[snapshot["customer_index"]])
        start = int(window_start(ends[row : row + 1], context)[0])
        assert ends[row] - start <= context
        seen = slice(first + start, first + int(ends[row]))
        codes = data.store.categorical[seen]
        ids = np.stack([maps[f][codes[:, f]] for f in range(codes.shape[1])], axis=-1)
        times = data.store.times[seen, 0]
        numeric = data.store.numeric[seen]
        if ends[row] == 0:
            ids, numeric, times = np.zeros((1, 2), int), np.full((1, 2), np.nan, "f4"), np.zeros(1)
        single = answers(
            model,
            torch.from_numpy(ids)[None],
            torch.from_numpy(np.array(numeric))[None],
            torch.from_numpy(np.array(times, np.int64))[None],
            torch.tensor([[ends[row] - start]]),
            torch.tensor([[snapshot["cutoff"].value // 1000]]),
        )
        assert together[row] == pytest.approx(float(single), abs=TOLERANCE)


def test_a_score_does_not_depend_on_the_batch_size_or_on_who_else_is_asked(model: JourneyModel):
    data = long_and_short_histories((1, 3, 40, 41, 90), asked=12)
    scores = score_windows(model, data, data.tokenizer, 32, batch_tokens=64)
    np.testing.assert_allclose(
        score_windows(model, data, data.tokenizer, 32, batch_tokens=100_000),
        scores,
        atol=TOLERANCE,
    )
    half = data.snapshots.iloc[::2].reset_index(drop=True)
    fewer = score_windows(model, replace(data, snapshots=half), data.tokenizer, 32)
    np.testing.assert_allclose(fewer, scores[::2], atol=TOLERANCE)


def test_batched_equals_one_by_one(model: JourneyModel):
    inputs = draw(np.random.default_rng(0), tokenizer(), 6, 20, 5)
    batched = answers(model, *inputs)
    for window in range(6):
        single = answers(model, *(part[window : window + 1] for part in inputs))
        torch.testing.assert_close(single[0], batched[window], atol=TOLERANCE, rtol=0)


def test_padding_never_matters(model: JourneyModel):
    categorical, numeric, times, ends, cutoffs = inputs = draw(
        np.random.default_rng(1), tokenizer(), 3, 12, 4
    )
    expected = answers(model, *inputs)
    padded = (
        torch.nn.functional.pad(categorical, (0, 0, 0, 9)),
        torch.nn.functional.pad(numeric, (0, 0, 0, 9), value=torch.nan),
        torch.nn.functional.pad(times, (0, 9)),
        torch.nn.functional.pad(ends, (0, 3)),
        torch.nn.functional.pad(cutoffs, (0, 3)),
    )
    torch.testing.assert_close(answers(model, *padded)[:, :4], expected, atol=TOLERANCE, rtol=0)


def test_nothing_after_a_snapshots_end_changes_its_answer(model: JourneyModel):
    random = np.random.default_rng(2)
    categorical, numeric, times, ends, cutoffs = draw(random, tokenizer(), 4, 25, 3)
    ends[:, :] = torch.tensor([0, 10, 15])
    before = answers(model, categorical, numeric, times, ends, cutoffs)
    categorical[:, 15:] = 5 - categorical[:, 15:].clamp(max=4)
    numeric[:, 15:] = 1e6
    times[:, 15:] = times[:, 15:] - 200 * DAY_US
    after = answers(model, categorical, numeric, times, ends, cutoffs)
    torch.testing.assert_close(after, before, atol=0, rtol=0)
    numeric[:, 12:] = -1e6  # what only the last of them knows
    moved = answers(model, categorical, numeric, times, ends, cutoffs)
    torch.testing.assert_close(moved[:, :2], before[:, :2], atol=0, rtol=0)
    assert (moved[:, 2] - before[:, 2]).abs().min() > 1e-4


def test_snapshots_do_not_influence_each_other(model: JourneyModel):
    categorical, numeric, times, ends, cutoffs = inputs = draw(
        np.random.default_rng(3), tokenizer(), 3, 15, 6
    )
    expected = answers(model, *inputs)
    others = ends.clone(), cutoffs.clone()
    others[0][:, 1:], others[1][:, 1:] = 15, cutoffs[:, 1:] + 100 * DAY_US
    moved = answers(model, categorical, numeric, times, *others)
    torch.testing.assert_close(moved[:, 0], expected[:, 0], atol=TOLERANCE, rtol=0)
    order = torch.tensor([5, 0, 3, 1, 2, 4])
    shuffled = answers(model, categorical, numeric, times, ends[:, order], cutoffs[:, order])
    torch.testing.assert_close(shuffled, expected[:, order], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "words",
    [
        tokenizer(scales={}),
        tokenizer(event_cycles=(), snapshot_cycles=()),
        tokenizer(scales={}, event_cycles=(), snapshot_cycles=(), vocabulary={"event": []}),
        tokenizer(history_us=0),
    ],
    ids=["no numbers", "no cycles", "one field, no words", "no history before training"],
)
def test_a_poor_vocabulary_is_enough(kind: str, words: Tokenizer):
    model = lively(network_config(kind), words)
    inputs = draw(np.random.default_rng(4), words, 2, 8, 3)
    assert torch.isfinite(answers(model, *inputs)).all()


def test_missing_and_extreme_numbers_give_finite_answers_and_gradients(kind: str):
    model = lively(network_config(kind), tokenizer())
    categorical, numeric, times, ends, cutoffs = draw(
        np.random.default_rng(5), tokenizer(), 2, 9, 3
    )
    for value in (torch.nan, 0.0, 3e38, -3e38):
        numeric[:, :, 0] = value
        model.zero_grad()
        scores = model(categorical, numeric, times, ends, cutoffs)
        assert torch.isfinite(scores).all()
        scores.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_missing_number_differs_from_a_zero(kind: str):
    model = lively(network_config(kind), tokenizer())
    categorical, numeric, times, ends, cutoffs = draw(
        np.random.default_rng(6), tokenizer(), 2, 9, 1
    )
    ends[:] = 9
    zero = answers(model, categorical, torch.zeros_like(numeric), times, ends, cutoffs)
    missing = torch.full_like(numeric, torch.nan)
    assert (answers(model, categorical, missing, times, ends, cutoffs) - zero).abs().min() > 1e-3


def test_gradients_reach_all_parameters_of_every_member(model: JourneyModel):
    inputs = draw(np.random.default_rng(7), tokenizer(), 4, 12, 5)
    model.each(*inputs).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_only_time_differences_count_when_no_calendar_is_read(kind: str):
    words = tokenizer(event_cycles=(), snapshot_cycles=())
    model = lively(network_config(kind, layers=2), words)
    categorical, numeric, times, ends, cutoffs = draw(np.random.default_rng(8), words, 3, 20, 5)
    expected = answers(model, categorical, numeric, times, ends, cutoffs)
    for shift in (7 * 3600 * 1_000_000, 1234 * DAY_US + 1):
        moved = answers(model, categorical, numeric, times + shift, ends, cutoffs + shift)
        torch.testing.assert_close(moved, expected, atol=TOLERANCE, rtol=0)
    reading = lively(network_config(kind, layers=2), tokenizer())
    shift = 3 * DAY_US + 7 * 3600 * 1_000_000
    assert (
        answers(reading, categorical, numeric, times + shift, ends, cutoffs + shift)
        - answers(reading, categorical, numeric, times, ends, cutoffs)
    ).abs().max() > 1e-3


def test_30_cutoffs_in_one_pass_cost_less_than_twice_one_cutoff(kind: str):
    model = lively(network_config(kind, width=64, layers=2), tokenizer())

    def operations(asked: int) -> int:
        inputs = draw(np.random.default_rng(9), tokenizer(), 1, 256, asked)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            model(*inputs)
        return counter.get_total_flops()

    assert operations(30) < 2 * operations(1)


def test_a_fresh_network_answers_the_base_rate(kind: str):
    torch.manual_seed(0)
    model = JourneyModel(network_config(kind, members=2), tokenizer(), BinaryHead(0.07)).eval()
    rate = torch.sigmoid(answers(model, *draw(np.random.default_rng(10), tokenizer(), 8, 20, 6)))
    assert rate.min() > 0.05
    assert rate.max() < 0.10


def test_members_answer_with_their_mean_and_differ(kind: str):
    model = lively(network_config(kind, members=2), tokenizer())
    inputs = draw(np.random.default_rng(11), tokenizer(), 2, 10, 3)
    with torch.inference_mode():
        each = model.each(*inputs)
    torch.testing.assert_close(answers(model, *inputs), each.mean(0))
    assert (each[0] - each[1]).abs().max() > 1e-2
