"""The side of pytorch-lifestream 0.6.0 in the throughput benchmark, as its documentation uses it.

`PandasDataPreprocessor` makes records; `SequenceToTarget` learns from them under a Lightning
trainer; `InferenceModule` scores them. Its records are kept as flat arrays between processes, and
a record that was cut at a cutoff holds exactly as many events as our snapshot sees at most.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from throughput_process import answer  # type: ignore[import-not-found]  # sys.path[0]

warnings.filterwarnings("ignore")

Measured = dict[str, float]
CATEGORIES = ["event", "channel", "device", "country", "page_type"]
NUMBERS = ["value", "waiting_hours", "discount_percent"]
EMBEDDING = 16


def prepare(log: str, records: str | None) -> Measured:
    """Read a log and make records; keep them in a file afterwards, when one is named."""
    import pandas as pd
    from ptls.preprocessing import PandasDataPreprocessor

    start = time.perf_counter()
    frame = pd.read_parquet(log, columns=["customer_id", "timestamp", *CATEGORIES, *NUMBERS])
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    frame[NUMBERS] = frame[NUMBERS].fillna(0.0)  # ptls knows no missing numbers
    preprocessor = PandasDataPreprocessor(
        col_id="customer_id",
        col_event_time="timestamp",
        event_time_transformation="dt_to_timestamp",
        cols_category=CATEGORIES,
        cols_numerical=NUMBERS,
        return_records=True,
    )
    made = preprocessor.fit_transform(frame)
    seconds = time.perf_counter() - start
    if records:
        lengths = [len(record["event_time"]) for record in made]
        columns: dict[str, Any] = {
            name: np.concatenate([record[name].numpy() for record in made])
            for name in ("event_time", *CATEGORIES, *NUMBERS)
        }
        sizes = preprocessor.get_category_dictionary_sizes()
        np.savez(
            records,
            customers=np.array([record["customer_id"] for record in made]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            sizes=np.array([sizes[name] for name in CATEGORIES]),
            **columns,
        )
    return {"seconds": seconds, "customers": len(made)}


def train(
    records: str,
    snapshots: str,
    model: dict[str, Any],
    threads: int,
    warm_up: int,
    batch: int,
    batches: int,
    seconds: float,
) -> Measured:
    """Train on one record for each (customer, cutoff), for so many batches or seconds.

    A batch is so many records, drawn at random and padded to the longest.

    `snapshots` is the table of our own task, from whose training rows as many are drawn as are
    needed.
    """
    import pandas as pd
    import pytorch_lightning as pl
    import torch
    from ptls.frames import PtlsDataModule
    from ptls.frames.supervised import SeqToTargetDataset, SequenceToTarget
    from torchmetrics.classification import BinaryAUROC

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    stored = _Records(Path(records), model["context"])
    table = pd.read_parquet(snapshots)
    table = table[(table["split"] == "train") & (table["end"] > 0)]
    wanted = batch * (batches + warm_up)
    table = table.sample(min(len(table), wanted), random_state=0)
    repeats = -(-wanted // len(table))  # too few for all batches (in a quick run): some come again
    data = [
        stored.cut(customer, end) | {"target": int(label)}
        for customer, end, label in zip(
            table["customer_id"], table["end"], table["label"], strict=True
        )
    ] * repeats
    module = SequenceToTarget(
        seq_encoder=_encoder(model, stored.sizes),
        head=_head(model),
        loss=torch.nn.BCELoss(),
        metric_list=BinaryAUROC(),
        optimizer_partial=partial(torch.optim.AdamW, lr=model["learning_rate"]),
        lr_scheduler_partial=partial(torch.optim.lr_scheduler.StepLR, step_size=10, gamma=0.9),
    )

    class Watch(pl.Callback):
        """Count batches after the first ones, and end when it is time."""

        batches = events = labels = 0
        start = end = 0.0

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.end, self.batches = time.perf_counter(), self.batches + 1
            if self.batches == warm_up:
                self.start = self.end
            if self.batches > warm_up:
                self.events += int(batch[0].seq_lens.sum())
                self.labels += len(batch[1])
                enough = self.batches >= warm_up + batches or self.end - self.start > seconds
                trainer.should_stop = enough

    watch = Watch()
    trainer = pl.Trainer(
        max_epochs=1,
        min_epochs=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
    )
    loaded = PtlsDataModule(
        train_data=SeqToTargetDataset(data, target_col_name="target", target_dtype="float"),
        train_batch_size=batch,
        train_num_workers=0,
    )
    trainer.fit(module, loaded)
    taken = watch.end - watch.start
    return {"seconds": taken, "events": watch.events, "labels": watch.labels}


def score(
    records: str, model: dict[str, Any], threads: int, batch: int, customers: int
) -> Measured:
    """Score whole histories, from records in memory to a frame of scores in memory."""
    import pandas as pd
    import pytorch_lightning as pl
    import torch
    from ptls.data_load.datasets import inference_data_loader
    from ptls.frames.inference_module import InferenceModule

    torch.set_num_threads(threads)
    stored = _Records(Path(records), model["context"])
    drawn = np.random.default_rng(0).permutation(list(stored.customers))[:customers]
    data = [stored.cut(customer, None) | {"customer_id": str(customer)} for customer in drawn]
    network = torch.nn.Sequential(_encoder(model, stored.sizes), _head(model))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    start = time.perf_counter()
    loader = inference_data_loader(data, max_seq_len=model["context"], batch_size=batch)
    answers: Any = trainer.predict(InferenceModule(network), loader)
    scored: pd.DataFrame = pd.concat(answers)
    return {"seconds": time.perf_counter() - start, "customers": len(scored)}


class _Records:
    """Records of all customers as views of flat arrays."""

    def __init__(self, file: Path, context: int):
        import torch

        with np.load(file) as stored:
            self.sizes = dict(zip(CATEGORIES, stored["sizes"].tolist(), strict=True))
            self.customers = {name: i for i, name in enumerate(stored["customers"].tolist())}
            self._offsets = stored["offsets"]
            self._columns = {
                name: torch.from_numpy(stored[name])
                for name in ("event_time", *CATEGORIES, *NUMBERS)
            }
        self._context = context

    def cut(self, customer: str, end: int | None) -> dict[str, Any]:
        """Return a customer's first `end` events (all without it), the most recent of them."""
        first, beyond = self._offsets[self.customers[customer] :][:2]
        last = beyond if end is None else min(beyond, first + end)
        rows = slice(max(first, last - self._context), last)
        return {name: column[rows] for name, column in self._columns.items()}


def _encoder(model: dict[str, Any], sizes: dict[str, int]) -> Any:
    """Return ptls's encoder with our width, layers, heads, feed-forward and dropout."""
    from ptls.nn import RnnSeqEncoder, TransformerSeqEncoder, TrxEncoder

    events = TrxEncoder(
        embeddings={name: {"in": size, "out": EMBEDDING} for name, size in sizes.items()},
        numeric_values=dict.fromkeys(NUMBERS, "log"),
        linear_projection_size=model["width"],
    )
    if model["kind"] == "gru":
        return RnnSeqEncoder(
            trx_encoder=events,
            type="gru",
            hidden_size=model["width"],
            num_layers=model["layers"],
        )
    return TransformerSeqEncoder(
        trx_encoder=events,
        n_heads=model["heads"],
        n_layers=model["layers"],
        dim_hidden=4 * model["width"],
        dropout=model["dropout"],
    )


def _head(model: dict[str, Any]) -> Any:
    import torch

    return torch.nn.Sequential(
        torch.nn.Linear(model["width"], 1), torch.nn.Sigmoid(), torch.nn.Flatten(start_dim=0)
    )


WORKS = {"prepare": prepare, "train": train, "score": score}

if __name__ == "__main__":
    answer(WORKS)
