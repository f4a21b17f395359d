"""Trained runs of the quality benchmark, kept by the fingerprint of all that made them."""

from __future__ import annotations

import io
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from record import Options, digest_of_code, load_config  # type: ignore[import-not-found]

MODELS = (
    "base_rate",
    "recency",
    "past_value",
    "logistic",
    "lightgbm",
    "catboost",
    "bgnbd",
    "paretonbd",
    "gru",
    "transformer",
)
NETWORKS = ("gru", "transformer")
# By what they average; trained runs of the same task, of the same seed where it is a network.
BLENDS = {
    "blend": ("gru", "lightgbm"),
    "blend_all": ("gru", "transformer", "lightgbm", "catboost"),
    "blend_baselines": ("logistic", "lightgbm", "catboost"),
}
# What decides how a run comes out, beside the models; `prepare` has its own, that of the log.
_CODE = (
    "sequences/cutoffs.py",
    "sequences/cutting.py",
    "sequences/snapshots.py",
    "sequences/store.py",
    "sequences/task_data.py",
    "sequences/tokenizer.py",
    "evaluation/calibration.py",
    "evaluation/calibrator_choice.py",
    "evaluation/logistic.py",
    "predictors",
)
# Settings that say where and how fast, not what.
_ASIDE = ("processed", "output", "run", "logger")


@dataclass(frozen=True)
class Asked:
    """One run."""

    experiment: str
    model: str
    seed: int
    settings: tuple[str, ...] = ()
    """Beyond those of the experiment, as on a command line."""


class Runs:
    """Finished runs in a folder; what is missing is trained."""

    def __init__(self, folder: Path, chosen: Options):
        self._folder, self._chosen = folder, chosen
        self._prepared: dict[str, Path | None] = {}

    def get(self, asked: Asked, *, train: bool) -> Path | None:
        """Return the folder of a run; None without its data, or when it may not be trained."""
        from seqjourney.commands.train import train as train_run
        from seqjourney.config import Config, parse

        content = self._content(asked)
        processed = self._processed(content)
        if processed is None:
            return None
        if asked.model in BLENDS:
            members = [
                self.get(
                    Asked(asked.experiment, m, asked.seed if m in NETWORKS else 0), train=train
                )
                for m in self.members(asked.model)
            ]
            if None in members:
                return None
            content["model"] |= {
                "name": asked.model,
                "runs": [str(m.resolve()) for m in members if m],
            }
        run = self.place(asked, content, processed)
        if (run / "run.json").is_file():
            return run
        if not train:
            return None
        # An interrupted network goes on where it stopped.
        checkpoints = run.with_name(run.name + ".partial") / "checkpoints"
        content["trainer"]["resume"] = any(checkpoints.rglob("latest.ckpt"))
        content |= {"run": str(run), "processed": str(processed)}
        started = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            done = train_run(parse(Config, content, "configuration"))
        print(
            f"{asked.experiment} {asked.model} seed {asked.seed}: validation "
            f"{done.objective:.4f}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        return done.folder

    @staticmethod
    def members(blend: str) -> tuple[str, ...]:
        """Return the models that a blend averages; CatBoost is an extra."""
        return tuple(m for m in BLENDS[blend] if m != "catboost" or find_spec("catboost"))

    def place(self, asked: Asked, content: dict[str, Any], processed: Path) -> Path:
        """Return where a run lies, named by all that decides how it comes out."""
        from seqjourney.events.log import digest, read_manifest

        name = content["data"]["name"]
        kept = {key: value for key, value in content.items() if key not in _ASIDE}
        kept["data"] = {k: v for k, v in content["data"].items() if k not in ("path", "threads")}
        if asked.model in NETWORKS:
            kept["trainer"] = {k: v for k, v in content["trainer"].items() if k != "threads"}
            code = digest_of_code(*_CODE, "models", "sequences")
        else:
            del kept["trainer"]
            code = digest_of_code(*_CODE, "baselines")
        log = read_manifest(processed / name)["fingerprint"]
        mark = digest([kept, log, code])
        return self._folder / "runs" / asked.experiment / f"{asked.model}-s{asked.seed}-{mark}"

    def _content(self, asked: Asked) -> dict[str, Any]:
        """Compose the configuration that `scripts/train.py` would train with."""
        quick = ["trainer=fast"] * self._chosen.quick
        model = "blend" if asked.model in BLENDS else asked.model
        words = [
            f"experiment={asked.experiment}",
            f"model={model}",
            f"seed={asked.seed}",
            *asked.settings,
        ]
        content = load_config("train", *words, *quick)
        content["data"] |= {"tasks": [], "threads": self._chosen.threads}
        content["trainer"] |= {"progress": False, "threads": self._chosen.threads}
        if content["data"]["name"] == "demo":
            content["data"]["path"] = str(self._folder / "raw/events.parquet")
        return content

    def _processed(self, content: dict[str, Any]) -> Path | None:
        """Prepare a data set once; None when its raw files are not there."""
        from seqjourney.commands.prepare import prepare
        from seqjourney.commands.simulate import simulate
        from seqjourney.config import DataConfig, parse
        from seqjourney.events.ledger import sha256_of
        from seqjourney.events.log import digest

        name = content["data"]["name"]
        if name in self._prepared:
            return self._prepared[name]
        raw = Path(content["data"]["path"])
        if name == "demo" and not raw.exists():
            with redirect_stdout(io.StringIO()):
                simulate(raw.parent, customers=500)
        files = sorted(p for p in raw.rglob("*") if p.is_file()) if raw.is_dir() else [raw]
        if not all(file.exists() for file in files):
            self._prepared[name] = None
            return None
        settings = {k: v for k, v in content["data"].items() if k not in ("path", "threads")}
        mark = digest(
            [settings, [sha256_of(file) for file in files], digest_of_code("events", "sequences")]
        )
        processed = self._folder / "prepared" / mark
        if not (processed / name).exists():
            with redirect_stdout(io.StringIO()):
                prepare(parse(DataConfig, content["data"], "data"), processed, progress=False)
        self._prepared[name] = processed
        return processed
