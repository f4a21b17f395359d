"""Where the time of `prepare` and of a training step goes: profiles of the throughput benchmark.

They run in a process of their own when all else is measured: to look costs time, so that no figure
comes from here. Nothing in the package knows that it is watched; a part that gets another name
there must get it here.
"""

from __future__ import annotations

import io
import pkgutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

from throughput_ours import network_config, open_task_data  # type: ignore[import-not-found]
from throughput_process import answer  # type: ignore[import-not-found]

PREPARE = {
    "read and type": ("seqjourney.events.engine", "stage"),
    "checks": ("seqjourney.events.log", "stage"),
    "repeated ids": ("seqjourney.events.log", "_repeated_ids"),
    "write buckets": ("seqjourney.events.log", "_write_events"),
    "store": ("seqjourney.sequences.store.StoreWriter", "add"),
}
"""Parts of `prepare` -> the module or class that looks up what does them, and its name."""
HEAVIEST = 10
STEPS = 5
Parts = dict[str, dict[str, float]]


@contextmanager
def watched(functions: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, float]]:
    """Yield seconds by part, that grow while functions run.

    The time of one within another is that one's alone.
    """
    seconds = dict.fromkeys(functions, 0.0)
    within = [0.0]  # of each function that runs now, the seconds of others inside it

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            within.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                seconds[part] += took - within.pop()
                within[-1] += took

        return run

    with ExitStack() as stack:
        for part, (module, name) in functions.items():
            home = pkgutil.resolve_name(module)
            stack.enter_context(mock.patch.object(home, name, timed(part, getattr(home, name))))
        yield seconds


def profile_prepare(data: dict[str, Any], processed: str) -> Parts:
    """Return the seconds of each part of one `prepare`, and of the rest."""
    import ibis.backends.duckdb  # noqa: F401 - what a process imports is not what we measure
    import pandas  # noqa: F401
    import rich.console  # noqa: F401

    from seqjourney.commands.prepare import prepare
    from seqjourney.config import DataConfig, parse

    config = parse(DataConfig, data, "data")
    with redirect_stdout(io.StringIO()), watched(PREPARE) as seconds:
        start = time.perf_counter()
        prepare(config, Path(processed), progress=False)
        whole = time.perf_counter() - start
    return {"parts": {**seconds, "rest": whole - sum(seconds.values())}}


def profile_step(
    prepared: str, task: dict[str, Any], model: dict[str, Any], threads: int, warm_up: int
) -> Parts:
    """Return the CPU seconds within the heaviest torch operators over a few steps, and all others.

    The seconds of an operator are without those of the operators that it calls; a step is forward,
    loss, backward, clipping, AdamW and the average of the weights.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile
    from training_arm import Arm  # type: ignore[import-not-found]

    from seqjourney.sequences.batching import BucketBatchSampler, Collator, build_windows

    torch.set_num_threads(threads)
    config = network_config(model)
    with open_task_data(prepared, task) as data:
        train = data.of("train")
        windows = build_windows(train, config.context)
        arm, collate = Arm(train, config, windows), Collator(train, windows)
        sampler = BucketBatchSampler(windows, config.batch_tokens, seed=0)
        batches = [collate(numbers) for numbers in list(sampler)[: warm_up + STEPS]]
    for batch in batches[:warm_up]:
        arm.step(batch)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for batch in batches[warm_up:]:
            arm.step(batch)
    spent = {operator.key: operator.self_cpu_time_total / 1e6 for operator in seen.key_averages()}
    order = sorted(spent, key=lambda operator: -spent[operator])
    others = sum(spent[operator] for operator in order[HEAVIEST:])
    return {"parts": {**{key: spent[key] for key in order[:HEAVIEST]}, "all others": others}}


WORKS = {"prepare": profile_prepare, "step": profile_step}

if __name__ == "__main__":
    answer(WORKS)
