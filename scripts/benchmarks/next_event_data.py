"""The data sets of `next_event`, read into stores: the only code that knows one from another.

Each published protocol becomes a field `split` that says of every event in which split it is
asked (`train`, `validation`, `test`; anything else is history only). Data sets without times have
`even_spacing` in their task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.sequences.store import SequenceStore

SPLITS = ("train", "validation", "test", "history")
TRAIN, VALIDATION, TEST, HISTORY = range(4)


@dataclass(frozen=True)
class Histories:
    """Flat columns of all events, history by history in order."""

    history: np.ndarray  # (N,) ascending
    value: np.ndarray  # (N,) int or str
    split: np.ndarray  # (N,) position in SPLITS
    times_us: np.ndarray | None = None  # (N,) None: order only


def as_store(histories: Histories, asked: str) -> SequenceStore:
    """Build a store in memory with two categorical fields: the asked one and `split`."""
    names, first = np.unique(histories.history, return_index=True)
    words, codes = np.unique(histories.value.astype(str), return_inverse=True)
    times = histories.times_us
    if times is None:  # `even_spacing` sets them
        times = np.zeros(len(codes), np.int64)
    return SequenceStore(
        customer_ids=names.astype(str).astype(object),
        offsets=np.append(first, len(codes)).astype(np.int64),
        categorical=np.stack([codes, histories.split], axis=1).astype(np.int32),
        numeric=np.zeros((len(codes), 0), np.float32),
        times=np.stack([times, times], axis=1).astype(np.int64),
        categorical_fields=(asked, "split"),
        numeric_fields=(),
        dictionaries={asked: words.tolist(), "split": list(SPLITS)},
    )


def amazon_games(folder: Path) -> Histories:
    """Read SASRec's Games: the last item of each user is the test, the one before validation."""
    table = pd.read_parquet(folder / "seqrec_benchmarks" / "sasrec_amazon_games.parquet")
    table = table.sort_values(["user_id", "position"], kind="stable")
    user = table["user_id"].to_numpy()
    from_end = table.groupby("user_id").cumcount(ascending=False).to_numpy()
    length = table.groupby("user_id")["item_id"].transform("size").to_numpy()
    split = np.where(length < 3, TRAIN, np.select([from_end == 0, from_end == 1],
                                                  [TEST, VALIDATION], TRAIN))  # fmt: skip
    return Histories(user, table["item_id"].to_numpy(), split)


def sessions(name: str) -> Callable[[Path], Histories]:
    """Return the reader of a session benchmark with given training and test sessions."""

    def read(folder: Path) -> Histories:
        """Validate on 3 % of the training sessions, drawn evenly as the publishers draw theirs.

        The latest ones would take from training what resembles the test most, and items that
        the test asks for.
        """
        folder = folder / "session_benchmarks"
        train = pd.read_parquet(folder / f"{name}_train.parquet")
        train = train.sort_values(["session_id", "position"], kind="stable")
        session = train["session_id"].to_numpy(np.int64)
        drawn = np.random.default_rng(0).random(session.max() + 1) < 0.03
        asked = pd.read_parquet(folder / f"{name}_test.parquet")
        whole = [np.append(p, t) for p, t in zip(asked["prefix"], asked["target"], strict=True)]
        # A session's rows stand together, the longest prefix first: each next one lacks the last
        # click. Which prefixes are asked is the publishers' choice, so it is read, not derived.
        tests: list[np.ndarray] = []
        roles: list[np.ndarray] = []
        for clicks in whole:
            if not tests or not np.array_equal(clicks, tests[-1][: len(clicks)]) or (
                roles[-1][len(clicks) - 1] == TEST
            ):  # fmt: skip
                tests.append(clicks)
                roles.append(np.full(len(clicks), HISTORY))
            roles[-1][len(clicks) - 1] = TEST
        numbers = session.max() + 1 + np.arange(len(tests))
        return Histories(
            np.concatenate([session, np.repeat(numbers, [len(t) for t in tests])]),
            np.concatenate([train["item_id"].to_numpy(), *tests]),
            np.concatenate([np.where(drawn[session], VALIDATION, TRAIN), *roles]),
        )

    return read


def helpdesk(folder: Path) -> Histories:
    """Read the help-desk log as Tax et al. do: two thirds of the cases, in file order, to learn.

    Tests ask after each event of the last third but its first and last. Their end is a value
    too, which training learns and a wrong answer may name.
    """
    table = pd.read_parquet(folder / "support_tickets" / "helpdesk_tax2017_coded.parquet")
    case = pd.factorize(table["case_id"])[0]
    number, length = np.unique(case, return_counts=True)
    fold = round((len(number) + 1) / 3)  # their count of cases is one too high
    last = np.cumsum(length) - 1
    value = table["activity_id"].astype(str).to_numpy(object)
    times = table["timestamp"].dt.tz_convert(None).to_numpy("M8[us]").astype(np.int64)
    ended = case[last]
    case, value = np.append(case, ended), np.append(value, ["end"] * len(ended))
    times = np.append(times, times[last])
    order = np.argsort(case, kind="stable")
    case, value, times = case[order], value[order], times[order]
    position = np.arange(len(case)) - np.searchsorted(case, case)
    asked = (position >= 2) & (value != "end")
    # The last tenth of the learning cases validates.
    split = np.select(
        [case < round(1.8 * fold), case < 2 * fold, asked], [TRAIN, VALIDATION, TEST], HISTORY
    )
    return Histories(case, value, split, times)


@dataclass(frozen=True)
class DataSet:
    """A data set, its task, and what was published on it."""

    read: Callable[[Path], Histories]
    file: str
    asked: str
    """The field whose next value is asked."""
    protocol: str
    task: dict[str, Any]
    metrics: dict[str, tuple[str, str]]
    """Figure -> (ranking, metric)."""
    published: dict[str, dict[str, float]]
    per_cent: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the networks, where they follow from its size: an epoch needs some hundred steps."""


DATA_SETS = {
    "helpdesk": DataSet(
        read=helpdesk,
        file="support_tickets/helpdesk_tax2017_coded.parquet",
        asked="activity",
        protocol="two thirds of the cases in file order learn, prefixes of at least two events of "
        "the others are asked (Tax et al. 2017)",
        task={"negatives": None},
        metrics={"helpdesk_accuracy": ("full", "hit@1")},
        published={"LSTM of Tax et al. 2017": {"helpdesk_accuracy": 0.7123}},
        settings={"width": 32, "batch_tokens": 1024, "dropout": 0.2},
    ),
    "retailrocket": DataSet(
        read=sessions("retailrocket"),
        file="session_benchmarks/retailrocket_test.parquet",
        asked="item",
        protocol="given training and test sessions (COTREC)",
        task={"even_spacing": True},
        metrics={"retailrocket_p20": ("full", "hit@20"), "retailrocket_mrr20": ("full", "mrr@20")},
        published={
            "GRU4Rec, in COTREC 2021": {"retailrocket_p20": 44.01, "retailrocket_mrr20": 23.67},
            "SR-GNN, in COTREC 2021": {"retailrocket_p20": 50.32, "retailrocket_mrr20": 26.57},
            "COTREC 2021": {"retailrocket_p20": 56.17, "retailrocket_mrr20": 29.97},
        },
        per_cent=True,
    ),
    "amazon_games": DataSet(
        read=amazon_games,
        file="seqrec_benchmarks/sasrec_amazon_games.parquet",
        asked="item",
        protocol="leave one out (Kang & McAuley 2018)",
        task={"even_spacing": True, "repeats": False, "sampled": 100},
        metrics={
            "amazon_games_hit10_sampled": ("sampled", "hit@10"),
            "amazon_games_ndcg10_sampled": ("sampled", "ndcg@10"),
            "amazon_games_ndcg10_full": ("full", "ndcg@10"),
        },
        published={
            "PopRec, in SASRec 2018": {
                "amazon_games_hit10_sampled": 0.4724,
                "amazon_games_ndcg10_sampled": 0.2779,
            },
            "GRU4Rec+, in SASRec 2018": {
                "amazon_games_hit10_sampled": 0.6599,
                "amazon_games_ndcg10_sampled": 0.4759,
            },
            "SASRec 2018": {
                "amazon_games_hit10_sampled": 0.7410,
                "amazon_games_ndcg10_sampled": 0.5360,
            },
        },
        settings={"batch_tokens": 2048, "dropout": 0.5},
    ),
    "diginetica": DataSet(
        read=sessions("diginetica"),
        file="session_benchmarks/diginetica_test.parquet",
        asked="item",
        protocol="given training and test sessions (GCE-GNN)",
        task={"even_spacing": True},
        metrics={"diginetica_p20": ("full", "hit@20"), "diginetica_mrr20": ("full", "mrr@20")},
        published={
            "GRU4Rec, in GCE-GNN 2020": {"diginetica_p20": 29.45, "diginetica_mrr20": 8.33},
            "SR-GNN, in GCE-GNN 2020": {"diginetica_p20": 50.73, "diginetica_mrr20": 17.59},
            "GCE-GNN 2020": {"diginetica_p20": 54.22, "diginetica_mrr20": 19.04},
        },
        per_cent=True,
    ),
}
