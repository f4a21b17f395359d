"""Nobody is flagged without a certificate that is of this model, in date, and of such customers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import seqjourney
from seqjourney.commands.export import export
from seqjourney.commands.score import score
from seqjourney.errors import DataError
from seqjourney.evaluation.drift import Reference
from seqjourney.evaluation.gate import Certificate
from seqjourney.provenance import model_fingerprint
from seqjourney.serving.flagging import may_be_acted_on, read_certificate, require_in_date

RunOf = Callable[[str], Path]
CUTOFF = "2023-10-01"


@pytest.fixture
def certify(run_of: RunOf, tmp_path: Path) -> Callable[..., Path]:
    """Write the certificate that a run would have if its upper half had passed the gate."""

    def write(kind: str, **changes: Any) -> Path:
        run = run_of(kind)
        scores = pd.read_parquet(run / "predictions.parquet").query("split == 'test'")["score"]
        threshold = float(scores.median())
        certificate = Certificate(
            "buys", kind, f"small/{kind}", model_fingerprint(run), 0.8, 0.95, threshold, 100, 50,
            48, 0.9, ("2023-08-01T00:00:00+00:00",) * 2, "2023-12-01T00:00:00+00:00",
            Reference.of(scores.to_numpy(), threshold),
        )  # fmt: skip
        content = {"certificates": [certificate.to_dict() | changes]}
        file = tmp_path / "report" / "certificates.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    return write


@pytest.mark.parametrize("kind", ["gru", "logistic"])
def test_those_above_the_threshold_are_flagged_in_bulk_and_in_a_frame(
    kind: str, run_of: RunOf, certify: Callable[..., Path], frame: pd.DataFrame, tmp_path: Path
):
    file = certify(kind)
    plain = seqjourney.load(run_of(kind)).score(frame, CUTOFF)
    found = seqjourney.load(run_of(kind)).score(frame, CUTOFF, certificate=file)
    pd.testing.assert_frame_equal(found.drop(columns="flagged"), plain)
    own = pd.read_parquet(run_of(kind) / "predictions.parquet").query("split == 'test'")
    eligible = found["customer_id"].isin(own["customer_id"])  # who was asked about there
    threshold = own["score"].median()
    assert (found["flagged"] == (eligible & (found["score"] >= threshold - 1e-9))).all()
    assert 0 < found["flagged"].sum() < len(found)
    scored = score(run_of(kind), cutoff=CUTOFF, output=tmp_path / "s", certificate=file.parent)
    listed = pd.read_parquet(scored.folder / "flagged.parquet")
    assert set(listed["customer_id"]) == set(found.loc[found["flagged"], "customer_id"])
    assert scored.flagged == len(listed)
    score(run_of(kind), cutoff=CUTOFF, output=tmp_path / "s")
    assert not (scored.folder / "flagged.parquet").exists()  # without a certificate nobody is
    score(run_of(kind), cutoff=CUTOFF, output=tmp_path / "s", certificate=file.parent)
    with pytest.raises(DataError):
        score(run_of(kind), cutoff=CUTOFF, output=tmp_path / "s", certificate=tmp_path / "none")
    assert not (scored.folder / "flagged.parquet").exists()  # nor with one that is none


def test_an_exported_file_knows_which_model_it_is(
    run_of: RunOf, certify: Callable[..., Path], frame: pd.DataFrame, tmp_path: Path
):
    file = export(run_of("gru"), output=tmp_path / "model.pt")
    found = seqjourney.load(file).score(frame, CUTOFF, certificate=certify("gru"))
    assert found["flagged"].any()


def test_the_certificate_of_another_model_or_task_is_refused(
    run_of: RunOf, certify: Callable[..., Path], frame: pd.DataFrame, tmp_path: Path
):
    file = certify("logistic")
    with pytest.raises(DataError, match=r"certifies logistic \(small/logistic, task buys\)"):
        seqjourney.load(run_of("recency")).score(frame, CUTOFF, certificate=file)
    with pytest.raises(DataError, match="not this model"):
        score(run_of("recency"), cutoff=CUTOFF, output=tmp_path / "s", certificate=file)
    assert not (tmp_path / "s").exists()
    with pytest.raises(DataError, match="task leaves"):
        read_certificate(certify("logistic", task="leaves"), "buys", "x")


def test_an_expired_certificate_is_refused_before_anything_is_scored(
    run_of: RunOf, certify: Callable[..., Path], frame: pd.DataFrame, tmp_path: Path
):
    file = certify("logistic", expires="2023-09-01T00:00:00+00:00")
    with pytest.raises(DataError, match="expired at 2023-09-01"):
        seqjourney.load(run_of("logistic")).score(frame, CUTOFF, certificate=file)
    with pytest.raises(DataError, match="expired at 2023-09-01"):
        score(run_of("logistic"), cutoff=CUTOFF, output=tmp_path / "s", certificate=file)
    assert not (tmp_path / "s").exists()


def test_scores_that_drifted_are_refused_and_stay(
    run_of: RunOf, certify: Callable[..., Path], tmp_path: Path
):
    other = {"edges": [-9.0, 9.0], "counts": [500, 500, 500]}
    file = certify("logistic", reference=other)
    with pytest.raises(DataError, match="not like those that were certified at 2023-08-01"):
        score(run_of("logistic"), cutoff=CUTOFF, output=tmp_path / "s", certificate=file)
    assert not (tmp_path / "s/flagged.parquet").exists()
    assert "finished" in json.loads((tmp_path / "s/manifest.json").read_text())


def test_a_few_customers_alone_are_refused(
    run_of: RunOf, certify: Callable[..., Path], frame: pd.DataFrame
):
    few = frame[frame["customer_id"] < "c0020"]
    with pytest.raises(DataError, match="Score all customers of the cutoff at once"):
        seqjourney.load(run_of("logistic")).score(few, CUTOFF, certificate=certify("logistic"))


def test_what_is_no_file_of_certificates_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="missing"):
        read_certificate(tmp_path, "buys", "x")
    (tmp_path / "certificates.json").write_text("[]")
    with pytest.raises(DataError, match="no list of certificates"):
        read_certificate(tmp_path, "buys", "x")
    (tmp_path / "certificates.json").write_text('{"certificates": []}')
    with pytest.raises(DataError, match="certifies no model"):
        read_certificate(tmp_path, "buys", "x")


def scored(score: np.ndarray) -> pd.DataFrame:
    ids = [f"c{i}" for i in range(len(score))]
    return pd.DataFrame({"customer_id": ids, "cutoff": pd.Timestamp(CUTOFF, tz="UTC")}).assign(
        score=score
    )


def test_only_eligible_customers_with_a_score_are_compared_and_flagged(
    certify: Callable[..., Path],
):
    given = json.loads(certify("logistic").read_text())["certificates"][0]
    values = np.random.default_rng(0).normal(size=400)
    reference = Reference.of(values[:200], 1.0)
    certificate = Certificate.from_dict(given | {"threshold": 1.0})
    certificate = Certificate(**{**vars(certificate), "reference": reference})
    score = values.copy()
    score[200:] = 50.0  # not eligible: neither a drift nor flagged
    score[0] = np.nan  # withheld
    asked = [f"c{i}" for i in range(200)]
    flagged = may_be_acted_on(certificate, scored(score), asked)
    assert (np.flatnonzero(flagged) == np.flatnonzero(score[:200] >= 1.0)).all()
    assert may_be_acted_on(certificate, scored(score[:0]), asked).shape == (0,)


def test_the_last_day_counts_and_the_next_moment_does_not(certify: Callable[..., Path]):
    content = json.loads(certify("recency").read_text())
    certificate = Certificate.from_dict(content["certificates"][0])
    require_in_date(certificate, datetime(2023, 12, 1, tzinfo=UTC))
    with pytest.raises(DataError, match="expired"):
        require_in_date(certificate, datetime(2023, 12, 1, 0, 0, 1, tzinfo=UTC))
