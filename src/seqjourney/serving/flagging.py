"""Who of the scored may be acted on: only under a certificate that holds for them.

A certificate (`evaluation.gate`) speaks of one model, until a date, and of eligible customers
whose scores are like those of calibration. Where one of these is not so, nobody is flagged and the
message says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from seqjourney.errors import DataError
from seqjourney.evaluation.drift import FEWEST
from seqjourney.evaluation.gate import Certificate
from seqjourney.files import read_json


def read_certificate(path: str | Path, task: str, fingerprint: str) -> Certificate:
    """Find the certificate of a model in a certificates.json, or in the report folder around it.

    Args:
        path: of the file or the folder.
        task: that the model answers.
        fingerprint: of the model, see `provenance.model_fingerprint`.

    Raises:
        DataError: the file is something else, or holds none of this model.
    """
    file = Path(path) / "certificates.json" if Path(path).is_dir() else Path(path)
    content = read_json(file)
    listed = content.get("certificates") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"{file} holds no list of certificates; scripts/evaluate.py writes it.")
    found = [Certificate.from_dict(entry) for entry in listed]
    for certificate in found:
        if (certificate.task, certificate.fingerprint) == (task, fingerprint):
            return certificate
    others = ", ".join(f"{c.model} ({c.run}, task {c.task})" for c in found) or "no model"
    raise DataError(
        f"{file} certifies {others}, and not this model as it is now, so nobody may be flagged. "
        "If the model was trained again, run scripts/evaluate.py again; its report says for every "
        "model why it has no certificate and what would be needed."
    )


def require_in_date(certificate: Certificate, cutoff: datetime) -> None:
    """Refuse a certificate that has expired by the cutoff.

    Raises:
        DataError: it has.
    """
    if cutoff > datetime.fromisoformat(certificate.expires):
        raise DataError(
            f"the certificate of {certificate.run} expired at {certificate.expires[:16]}, and the "
            f"cutoff is {cutoff:%Y-%m-%d %H:%M}, so nobody may be flagged. Train with validation "
            "cutoffs that are nearer and evaluate again."
        )


def may_be_acted_on(
    certificate: Certificate, scored: pd.DataFrame, eligible: Sequence[str] | np.ndarray
) -> np.ndarray:
    """Flag the eligible customers whose score reaches the certified threshold -> (n,) bool.

    Args:
        certificate: of the model that scored.
        scored: (n,) rows with `customer_id`, `cutoff` (the same for all) and `score`; NaN where
            nobody may be scored.
        eligible: the ids of those whom the task asks about at the cutoff.

    Raises:
        DataError: expired, or the scores are not like those of calibration, or too few to tell.
    """
    if scored.empty:
        return np.zeros(0, bool)
    require_in_date(certificate, scored["cutoff"].iloc[0].to_pydatetime())
    score = scored["score"].to_numpy(np.float64)
    asked = scored["customer_id"].isin(list(eligible)).to_numpy() & np.isfinite(score)
    drift = certificate.reference.compare(score[asked])
    if drift.customers < FEWEST:
        raise DataError(
            f"{drift.customers} of these customers are eligible for task '{certificate.task}'. "
            f"It takes {FEWEST} to see whether their scores are like those that were certified, "
            "so nobody may be flagged. Score all customers of the cutoff at once."
        )
    if drift.found:
        raise DataError(
            f"the scores of these {drift.customers:,} eligible customers are not like those that "
            f"were certified at {certificate.calibrated[1][:10]} (population stability index "
            f"{drift.psi:.2f}, p = {drift.p_value:.1g}), so nobody may be flagged. Look for what "
            "changed in the data (scripts/audit.py), then train and evaluate again."
        )
    return asked & (score >= certificate.threshold)
