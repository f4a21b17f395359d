"""How fast each stage is, beside bare references and pytorch-lifestream, and how its cost grows.

Stages: `prepare` (a table of known customers to event log and store), `cut` (snapshots and
tokenizer of a task), `features` (of the baselines), training of both networks, scoring in bulk.
One simulated shop serves everyone: two million events where sides are compared, 0.2 to 20 million
for ours. Each measurement is a process of its own, the sides in turn. Where the time goes is asked
last (`throughput_profile`): rows `profile: ...`, no figures.

References: a bare DuckDB that encodes, sorts and writes the same columns; a plain torch loop of
the same network on the same batches; pytorch-lifestream 0.6.0, from PyPI into the user's cache (a
quick run takes it only from there).
"""

from __future__ import annotations

from dataclasses import replace

from record import options, scratch, write_results  # type: ignore[import-not-found]  # sys.path[0]
from throughput_plot import draw_growth  # type: ignore[import-not-found]
from throughput_stages import FULL, QUICK, Stages  # type: ignore[import-not-found]

NOTE = """The same simulated shop for everyone, {events:,} events where sides are compared; every
measurement in a process of its own, sides in turn. Figures are medians over {rounds} rounds with
the lowest and the highest; rows are medians, memory the highest peak (resident, libraries
included).

`prepare_ratio_to_bare_duckdb`: seconds of our whole `prepare` by those of a bare DuckDB that turns
categories into codes, sorts and writes the same columns. `prepare_speedup_over_ptls`: seconds of
reading the log and pytorch-lifestream's `PandasDataPreprocessor` (records stay in memory) by ours.

`training_ratio_to_bare_loop_*`: events per second of our training (Lightning, loader, logging,
clipping, averaged weights, checkpoints) by those of a plain torch loop over the same batches, which
lie in memory, with the same network and loss and a plain AdamW. `events_per_second_over_ptls_*`:
the same by pytorch-lifestream's; one cutoff for each customer in all three.
`labels_per_second_over_ptls_*`: labels per second of a task with weekly cutoffs, one record for
each (customer, cutoff) there. `loader_wait_share`: time in the loader's `next` by the time of our
training, of the GRU, which asks for more batches a second.

`scoring_speedup_over_ptls*`: customers per second of `scripts/score.py`'s function, from the saved
run to the last shard, by those of `InferenceModule` on a sample of records in memory; without a
suffix, of the GRU.

`cost_exponent_*`: slope of log seconds over log events, 1 is linear; of `prepare` over {sizes}
million events, of an epoch of the GRU over its own. Low and high are the slopes between
neighbouring sizes.

Rows `profile: prepare, ...`: seconds of each part of one run, what it calls of other parts apart.
Rows `profile: training step, ...`: CPU seconds within the ten heaviest torch operators over five
steps of one cutoff, by torch.profiler, what they call apart; `share` is of all operators. Watching
costs time; no figure comes from these runs.

Equal with pytorch-lifestream 0.6.0: customers, cutoffs, labels and the five categories and three
numbers of an event; width, layers, heads, feed-forward width, dropout; 512 events at most; AdamW
and its learning rate; torch, pandas, Lightning and threads. Its own: embeddings of 16 a category
projected to the width, batches of 128 random records padded to the longest, no time features, no
logger, no checkpoints.

![Seconds and memory against events](throughput.svg)"""


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    if chosen.quick:  # on so little, threads only wait for each other
        chosen = replace(chosen, threads=1)
    plan = QUICK if chosen.quick else FULL
    with scratch() as folder:
        stages = Stages(plan, folder, chosen.threads, install=not chosen.quick)
        try:
            stages.run()
        finally:
            stages.close()
    sizes = [stages.events[share] / 1e6 for share in sorted(plan.shares)]
    note = NOTE.format(
        events=stages.events[1],
        rounds=plan.rounds,
        sizes=f"{sizes[0]:.2g} to {sizes[-1]:.2g}",
    )
    write_results("throughput", chosen, stages.figures, stages.rows, note)
    draw_growth(stages.growth, chosen.output / "throughput.svg")


if __name__ == "__main__":
    main()
