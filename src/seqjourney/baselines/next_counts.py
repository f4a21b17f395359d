"""Opponents of a network on `next` tasks: popularity, repetition, a Markov chain, session rules.

All of them are one product: the last values of a history, weighted by how long ago they came,
times a sparse matrix of what follows what, plus popularity for what no rule knows. `rules` are
the sequential rules of Ludewig & Jannach (2018, "Evaluation of session-based recommendation
algorithms"): a value that comes d events after another counts 1 / d.

Shapes: Q questions, V values of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
from scipy import sparse

from seqjourney.config import NextCountsConfig, TrainerConfig, parse
from seqjourney.errors import DataError
from seqjourney.files import read_json, replacing_file, write_json
from seqjourney.sequences.next_cases import NextData, past, questions_at_once
from seqjourney.sequences.tokenizer import FIRST

_TUNING = 5_000  # validation questions that choose the settings of rules
_BACK_OFF = 1e-6  # popularity orders only what no rule knows


class NextCounts:
    """One of the four, by `config.kind`."""

    log_scores = False

    def __init__(self, config: NextCountsConfig):
        self.config = config
        self.chosen_: dict[str, float] = {}
        self._decay, self._steps = 0.0, 1

    def fit(self, data: NextData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Count on `train`; `rules` choose decay and norm on `validation`."""
        train, values = data.of("train"), data.values
        label = train.snapshots["label"].to_numpy() - FIRST
        self._counts = np.zeros(values)
        self._popularity = np.bincount(label, minlength=values) / len(label)
        self._steps = 1 if self.config.kind == "markov" else self.config.steps
        if self.config.kind == "popularity":
            self._rules = sparse.csr_matrix((values, values), dtype=np.float64)
        elif self.config.kind == "recent":
            self._rules = sparse.identity(values, format="csr")
            self._decay = 0.5  # any decay gives the same order: the latest first
        else:
            question, ago, row = past(train, self._steps)
            before = data.ids()[row] - FIRST
            kept = before >= 0
            counts = sparse.coo_matrix(
                (1.0 / (ago[kept] + 1), (before[kept], label[question[kept]])),
                shape=(values, values),
            ).tocsr()
            self._counts = np.asarray(counts.sum(1)).ravel()
            if self.config.kind == "markov":
                self._rules = sparse.diags(1.0 / (self._counts + 1.0)) @ counts
            else:
                self._choose(data, counts)

    def _choose(self, data: NextData, counts: sparse.csr_matrix) -> None:
        validation = data.of("validation")
        some = np.random.default_rng(0).permutation(len(validation.snapshots))[:_TUNING]
        chosen = validation.snapshots.iloc[np.sort(some)].reset_index(drop=True)
        validation = replace(validation, snapshots=chosen)
        best = -1.0
        for decay, norm in product(self.config.decays, self.config.norms):
            rules = sparse.diags(np.maximum(self._counts, 1e-9) ** -norm) @ counts
            self._rules, self._decay = rules.tocsr(), decay
            score = _reciprocal_rank(validation, self.scores(validation))
            if score > best:
                best, kept = score, (self._rules, decay)
                self.chosen_ = {"decay": decay, "norm": norm}
        self._rules, self._decay = kept

    def save(self, folder: Path) -> None:
        """Write `model.json` and, with the counts, `counts.npz`."""
        write_json(
            folder / "model.json",
            {
                "config": self.config.model_dump(mode="json"),
                "decay": self._decay,
                "steps": self._steps,
                "popularity": self._popularity.tolist(),
                "followed": self._counts.tolist(),
            },
        )
        with replacing_file(folder / "counts.npz") as partial, partial.open("wb") as file:
            sparse.save_npz(file, self._rules)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing or damaged.
        """
        file = folder / "model.json"
        content = read_json(file)
        model = cls(parse(NextCountsConfig, content["config"], str(file)))
        model._decay, model._steps = content["decay"], content["steps"]
        model._popularity = np.array(content["popularity"])
        model._counts = np.array(content["followed"])
        try:
            model._rules = sparse.load_npz(folder / "counts.npz").tocsr()
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(
                f"{folder / 'counts.npz'} is missing or damaged ({error}); train again."
            ) from None
        return model

    def scores(self, data: NextData) -> Iterator[np.ndarray]:
        """Yield scores of all values, (q, V), for consecutive questions."""
        total, values = len(data.snapshots), data.values
        question, ago, row = past(data, self._steps)
        column = data.ids()[row] - FIRST
        kept = column >= 0
        question, ago, column = question[kept], ago[kept], column[kept]
        history = sparse.coo_matrix(
            (self._decay ** ago.astype(np.float64), (question, column)), shape=(total, values)
        ).tocsr()  # what came twice counts twice
        back_off = np.full(total, _BACK_OFF)
        if self.config.kind == "markov":
            # Witten-Bell like: a value seen n times leaves 1 / (n + 1) to popularity.
            back_off[:] = 1.0
            back_off[question] = 1.0 / (self._counts[column] + 1.0)
        at_once = questions_at_once(values)
        for start in range(0, total, at_once):
            rows = slice(start, start + at_once)
            known = (history[rows] @ self._rules).toarray()
            yield known + back_off[rows, None] * self._popularity


def _reciprocal_rank(data: NextData, scores: Iterator[np.ndarray]) -> float:
    """Mean reciprocal rank of the true values, behind all that score the same."""
    total, labels = 0.0, data.snapshots["label"].to_numpy() - FIRST
    for chunk in scores:
        label, labels = labels[: len(chunk)], labels[len(chunk) :]
        own = chunk[np.arange(len(chunk)), np.maximum(label, 0)]
        rank = (chunk >= own[:, None]).sum(1)
        total += float((1.0 / rank)[label >= 0].sum())
    return total / len(data.snapshots)
