"""Predictions files: the one door through which any model enters the evaluation.

Order of reading: `SCHEMA` is the contract, `read_predictions` and `write_predictions` guard the
file, `join_runs` lines several runs up on the same snapshots and refuses when they were not asked
the same questions. Past this module every array of a task has the same n rows in the same order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seqjourney.errors import DataError
from seqjourney.files import replacing_file

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("cutoff", pa.timestamp("us", tz="UTC")),
        ("task", pa.string()),
        ("split", pa.string()),
        ("label", pa.int8()),
        ("weight", pa.float64()),
        ("score", pa.float64()),
        ("probability", pa.float64()),
        ("model", pa.string()),
        ("run", pa.string()),
    ]
)
# Of a `sum` task, both or none: what came in, less refunds, and what was expected.
VALUES = {"value": pa.float64(), "expected_value": pa.float64()}
SPLITS = ("validation", "certification", "test")
SLICE_PREFIX = "slice_"
KEY = ["split", "customer_id", "cutoff"]


@dataclass(frozen=True)
class TaskPredictions:
    """Several models' answers to the same n snapshots of one task.

    `snapshots` has one row per snapshot: split, customer_id, cutoff, label, weight and the
    `slice_*` columns; of a `sum` task also value. `scores` and `probabilities` map a model's
    display name to (n,) arrays, and so does `expected` for a `sum` task.
    """

    task: str
    snapshots: pd.DataFrame
    scores: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    runs: dict[str, str]
    expected: dict[str, np.ndarray] = field(default_factory=dict)

    def split(self, name: str) -> TaskPredictions:
        """Keep the snapshots of one split."""
        rows = (self.snapshots["split"] == name).to_numpy()
        return TaskPredictions(
            self.task,
            self.snapshots[rows].reset_index(drop=True),
            {model: values[rows] for model, values in self.scores.items()},
            {model: values[rows] for model, values in self.probabilities.items()},
            self.runs,
            {model: values[rows] for model, values in self.expected.items()},
        )

    @property
    def slices(self) -> list[str]:
        """Names of the slice columns, with their prefix."""
        return [name for name in self.snapshots.columns if name.startswith(SLICE_PREFIX)]


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read and check one predictions file; `path` is the file or the run directory around it."""
    path = Path(path)
    file = path / "predictions.parquet" if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{file}: there is no predictions file. Train the run to its end, "
            "or pass the path of a run directory or of a predictions Parquet file."
        )
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{file}: not readable as Parquet ({error}). Write the file again; "
            "`write_predictions` never leaves a half-written one."
        ) from error
    return _checked(table, str(file)).to_pandas()


def write_predictions(frame: pd.DataFrame, path: str | Path) -> Path:
    """Check and write one run's predictions; an old file stays until the new one is whole."""
    path = Path(path)
    columns = [*SCHEMA.names, *(c for c in VALUES if c in frame.columns)]
    columns += [c for c in frame.columns if c.startswith(SLICE_PREFIX)]
    absent = [name for name in SCHEMA.names if name not in frame.columns]
    if absent:
        raise DataError(f"{path}: column(s) {', '.join(absent)} are missing. Add them.")
    if not isinstance(frame["cutoff"].dtype, pd.DatetimeTZDtype):
        raise DataError(
            f"{path}: column cutoff has no time zone. Use `.dt.tz_localize('UTC')` on it first."
        )
    schema = pa.schema([(c, _type(c)) for c in columns])
    try:
        table = pa.Table.from_pandas(frame[columns], schema=schema, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise DataError(
            f"{path}: the predictions do not fit the schema: {error}. "
            f"The columns and types are {_describe(schema)}."
        ) from error
    table = _checked(table, str(path))
    with replacing_file(path) as partial:
        pq.write_table(table, partial)
    return path


def join_runs(frames: Sequence[pd.DataFrame]) -> list[TaskPredictions]:
    """Line up checked frames, one per run, on (task, split, customer_id, cutoff).

    A task uses the runs that hold it, and these must agree on every snapshot, label, weight and
    slice. Models that share a name are told apart as `model (run)`. Tasks come sorted by name.
    """
    if not frames:
        raise DataError("There is no run to evaluate. Pass at least one run directory.")
    names = _display_names(frames)
    by_task: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for name, frame in zip(names, frames, strict=True):
        for task, part in frame.groupby("task", sort=True):
            rows = part.sort_values(KEY, kind="stable").reset_index(drop=True)
            by_task.setdefault(str(task), []).append((name, rows))
    return [_joined(task, runs) for task, runs in sorted(by_task.items())]


def _joined(task: str, runs: list[tuple[str, pd.DataFrame]]) -> TaskPredictions:
    first_name, first = runs[0]
    summed = ["value"] if any("value" in rows for _, rows in runs) else []
    for name, rows in runs:
        _refuse_duplicates(task, name, rows)
        if summed and "value" not in rows:
            raise DataError(
                f"Task {task!r}: {name!r} has no expected_value, which other runs have. "
                "Train it again, or leave it out."
            )
        if name != first_name:
            _refuse_other_snapshots(task, first_name, first, name, rows, summed)
    snapshots = first[[*KEY, "label", "weight", *summed]].copy()
    for name, rows in runs:
        for column in (c for c in rows.columns if c.startswith(SLICE_PREFIX)):
            values = rows[column].astype(object).where(rows[column].notna(), "unknown")
            if column not in snapshots:
                snapshots[column] = values
            _refuse_unequal(task, column, snapshots, first_name, values, name)
    _refuse_unmeasurable(task, snapshots)
    return TaskPredictions(
        task,
        snapshots,
        {name: rows["score"].to_numpy(np.float64) for name, rows in runs},
        {name: rows["probability"].to_numpy(np.float64) for name, rows in runs},
        {name: str(rows["run"].iloc[0]) for name, rows in runs},
        {name: rows["expected_value"].to_numpy(np.float64) for name, rows in runs if summed},
    )


def _display_names(frames: Sequence[pd.DataFrame]) -> list[str]:
    pairs = [(str(frame["model"].iloc[0]), str(frame["run"].iloc[0])) for frame in frames]
    repeated = [pair for pair, count in Counter(pairs).items() if count > 1]
    if repeated:
        model, run = repeated[0]
        raise DataError(
            f"Model {model!r}, run {run!r} was given {Counter(pairs)[repeated[0]]} times. "
            "Pass each run once, or write different names into the column `run`."
        )
    shared = Counter(model for model, _ in pairs)
    return [f"{model} ({run})" if shared[model] > 1 else model for model, run in pairs]


def _refuse_duplicates(task: str, name: str, rows: pd.DataFrame) -> None:
    repeated = rows.duplicated(KEY)
    if repeated.any():
        raise DataError(
            f"Task {task!r}, model {name!r}: {int(repeated.sum())} snapshot(s) occur more than "
            f"once, such as {_examples(rows[repeated])}. Write one row per snapshot."
        )


def _refuse_other_snapshots(
    task: str,
    first_name: str,
    first: pd.DataFrame,
    name: str,
    rows: pd.DataFrame,
    summed: Sequence[str],
) -> None:
    both = first[KEY].merge(rows[KEY], how="outer", on=KEY, indicator=True)
    lost = both[both["_merge"] == "left_only"]
    extra = both[both["_merge"] == "right_only"]
    if len(lost) or len(extra):
        side = lost if len(lost) else extra
        has, lacks = (first_name, name) if len(lost) else (name, first_name)
        raise DataError(
            f"Task {task!r}: the models were not asked the same snapshots. {name!r} lacks "
            f"{len(lost)} of {first_name!r}'s and has {len(extra)} of its own; for example "
            f"{has!r} has {_examples(side)} and {lacks!r} has not. "
            "Train or score both on the same task, data and cutoffs."
        )
    for column in ("label", "weight", *summed):
        _refuse_unequal(task, column, first, first_name, rows[column], name)


def _refuse_unequal(
    task: str, column: str, first: pd.DataFrame, first_name: str, values: pd.Series, name: str
) -> None:
    unequal = (first[column] != values).to_numpy()
    if unequal.any():
        row = int(np.flatnonzero(unequal)[0])
        raise DataError(
            f"Task {task!r}: column {column} differs between {first_name!r} and {name!r} on "
            f"{int(unequal.sum())} snapshot(s), such as {_examples(first[unequal].head(1))}: "
            f"{first[column].iloc[row]} against {values.iloc[row]}. "
            "Both runs must come from the same snapshots; run the older one again."
        )


def _refuse_unmeasurable(task: str, snapshots: pd.DataFrame) -> None:
    test = snapshots[(snapshots["split"] == "test") & (snapshots["weight"] > 0)]
    if test.empty:
        raise DataError(
            f"Task {task!r}: the test split is empty. Give the task a test cutoff whose label "
            "window lies inside the data, and score it again."
        )
    classes = sorted(int(label) for label in test["label"].unique())
    if len(classes) == 1:
        raise DataError(
            f"Task {task!r}: all {len(test)} test snapshots have label {classes[0]}, so nothing "
            "can be ranked. Choose another horizon or more test cutoffs, or widen the "
            "eligibility, until both outcomes occur."
        )


def _examples(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"customer {row.customer_id} at {row.cutoff:%Y-%m-%d %H:%M} ({row.split})"
        for row in rows.head(3).itertuples()
    )


def _type(column: str) -> pa.DataType:
    known = {field.name: field.type for field in SCHEMA} | VALUES
    return known.get(column, pa.string())


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _checked(table: pa.Table, origin: str) -> pa.Table:
    """Return the contract's columns with plain strings, or say what is wrong and where."""
    absent = [name for name in SCHEMA.names if name not in table.column_names]
    if absent:
        raise DataError(
            f"{origin}: column(s) {', '.join(absent)} are missing. "
            f"A predictions file has {_describe(SCHEMA)}."
        )
    slices = sorted(name for name in table.column_names if name.startswith(SLICE_PREFIX))
    given = [name for name in VALUES if name in table.column_names]
    if len(given) == 1:
        raise DataError(
            f"{origin}: column {given[0]} stands alone. A task that sums has both value (what came "
            "in) and expected_value (the model's answer), another has neither."
        )
    arrays, fields = [], []
    for name in [*SCHEMA.names, *given, *slices]:
        kind = _type(name)
        column = table[name]
        if pa.types.is_dictionary(column.type) or pa.types.is_large_string(column.type):
            # Engines differ in how they store text; the words are the same.
            column = column.cast(pa.string())
        if column.type != kind:
            raise DataError(
                f"{origin}: column {name} is {column.type} and must be {kind}. "
                f'Cast it, for example `table["{name}"].cast(...)`, and write the file again.'
            )
        if column.null_count and name not in slices:
            raise DataError(f"{origin}: column {name} has {column.null_count} empty value(s).")
        arrays.append(column)
        fields.append(pa.field(name, kind))
    if table.num_rows == 0:
        raise DataError(f"{origin}: the file has no rows. Score at least one test snapshot.")
    checked = pa.table(arrays, schema=pa.schema(fields))
    _refuse_values(checked, origin)
    return checked


def _refuse_values(table: pa.Table, origin: str) -> None:
    values = {name: table[name].to_numpy() for name in ("label", "weight", "score", "probability")}
    probability = values["probability"]
    rules = {
        "label": (np.isin(values["label"], (0, 1)), "must be 0 or 1"),
        "weight": (np.isfinite(values["weight"]) & (values["weight"] >= 0), "must be 0 or more"),
        "score": (np.isfinite(values["score"]), "must be a finite number"),
        "probability": ((probability >= 0) & (probability <= 1), "must lie between 0 and 1"),
    }
    if "value" in table.column_names:
        values |= {name: table[name].to_numpy() for name in VALUES}
        expected, came = values["expected_value"], values["value"]
        rules["value"] = (np.isfinite(came), "must be a finite number")
        rules["expected_value"] = (np.isfinite(expected) & (expected >= 0), "must be 0 or more")
        rules["label"] = (values["label"] == (came > 0), "must be 1 where value is above 0, else 0")
    for name, (good, rule) in rules.items():
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise DataError(
                f"{origin}: column {name} {rule}; {int((~good).sum())} row(s) break this, the "
                f"first is row {row} (customer {table['customer_id'][row].as_py()}): "
                f"{values[name][row]}. Correct the model's output and write the file again."
            )
    unknown = set(table["split"].unique().to_pylist()) - set(SPLITS)
    if unknown:
        raise DataError(
            f"{origin}: split {sorted(unknown)[0]!r} is unknown. Use one of {', '.join(SPLITS)}."
        )
    for name in ("model", "run"):
        found = table[name].unique().to_pylist()
        if len(found) > 1 or not found[0].strip() or not found[0].isprintable():
            raise DataError(
                f"{origin}: column {name} must hold one printable name and holds "
                f"{', '.join(repr(value) for value in found[:3])}. Write one file per run."
            )
