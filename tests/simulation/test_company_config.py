"""`configs/data/company.yaml` describes what `simulate.py company=true` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqjourney.config import DataConfig, parse
from seqjourney.simulation.company.guide import sources


def test_the_data_config_of_the_company_is_what_the_simulator_says_of_its_files(
    compose: Callable[..., dict[str, Any]], monkeypatch
):
    monkeypatch.setenv("SEQJOURNEY_COMPANY", "somewhere/else")
    ours = parse(DataConfig, compose("prepare", "data=company")["data"], "company")
    theirs = parse(DataConfig, sources(Path("somewhere/else")), "guide")
    assert ours == theirs
