"""Every benchmark stays alive: its quick run writes the contract and spares committed results."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"
FIGURES = {
    "prepare": {
        "raw_events",
        "ratio_to_bare_duckdb",
        "ratio_to_bare_duckdb_parquet",
        "ratio_to_bare_duckdb_jsonl",
        "peak_memory_gib",
    },
    "identity": {
        "edges",
        "pairwise_f1",
        "bcubed_f1",
        "overmerged_customers_share",
        "ratio_to_connected_components",
    },
    "identity_churn": {
        f"churn_ap_{strategy}_{model}"
        for strategy in ("none", "user_id", "full", "full_minus_none", "full_minus_user_id")
        for model in ("logistic", "lightgbm")
    },
    "serving": {
        "stream_p99_ms_gru",
        "stream_p99_ms_transformer",
        "stream_speedup_over_reencode_500",
        "stream_max_error",
    },
    "gate": {
        "certificates_issued",
        "certificates_violated",
        "nominal_failure_rate",
        "simulated_failure_rate",
    },
    "quality": {
        "pooled_ap_difference",
        "data_sets",
        "significantly_better",
        "significantly_worse",
        "worst_ece",
    },
    "next_event": set(),
    "techniques": set(),
    "scoring": {"customers_per_second", "restart_repeats"},
    "training": {
        "gemm_share_gru",
        "gemm_share_transformer",
        "snapshot_token_speedup_gru",
        "snapshot_token_speedup_transformer",
        "step_speedup_fused_adamw_gru",
        "step_speedup_fused_adamw_transformer",
        "step_speedup_bf16_autocast_gru",
        "step_speedup_bf16_autocast_transformer",
    },
    "throughput": {
        "prepare_ratio_to_bare_duckdb",
        "training_ratio_to_bare_loop_gru",
        "training_ratio_to_bare_loop_transformer",
        "cost_exponent_prepare",
        "cost_exponent_training",
        "loader_wait_share",
    },
}
MAY_BE_ZERO = {
    "restart_repeats",
    "lost_events",
    "double_counted_events",
    "certificates_issued",
    "certificates_violated",
    "simulated_failure_rate",
    "pooled_ap_difference",
    "significantly_better",
    "significantly_worse",
    "worst_ece",
}
WHERE_INSTALLED = {
    "identity": {"spark_equals_duckdb"},
    "next_event": {"helpdesk_accuracy"},
    "scoring": {"speedup_over_ptls"},
    "serving": {"requests_per_second", "p99_ms", "lost_events", "double_counted_events"},
    "throughput": {
        "prepare_speedup_over_ptls",
        "events_per_second_over_ptls_gru",
        "events_per_second_over_ptls_transformer",
        "labels_per_second_over_ptls_gru",
        "labels_per_second_over_ptls_transformer",
        "scoring_speedup_over_ptls",
        "scoring_speedup_over_ptls_transformer",
    },
    "training": {"mfu_transformer_10m", "mfu_transformer_100m"},  # where CUDA is
}
"""Figures that are there where Spark, Redis, a data set, or pytorch-lifestream in the user's cache,
is."""
PROFILES = {
    "throughput": {
        (None, "profile: prepare, read and type"),
        (None, "profile: prepare, rest"),
        ("gru", "profile: training step, all others"),
        ("transformer", "profile: training step, all others"),
    }
}
"""Some of the rows, by model, that say where time goes."""
NOISY_WHEN_QUICK = {"cost_exponent_prepare", "cost_exponent_training"}
"""Slopes between two small sizes, where fixed costs are all there is."""


def run(name: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)


def committed() -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (BENCHMARKS / "results").glob("*.*")
    }


@pytest.mark.parametrize("name", FIGURES)
def test_a_quick_run_writes_the_contract_and_spares_committed_results(
    name: str, tmp_path: Path
) -> None:
    before = committed()
    done = run(name, "--quick", "--output", str(tmp_path / "out"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert set(result) == {"command", "revision", "machine", "seconds", "figures", "rows"}
    assert result["command"].startswith(f"python scripts/benchmarks/{name}.py --quick")
    optional = WHERE_INSTALLED.get(name, set())
    assert set(result["figures"]) in (FIGURES[name], FIGURES[name] | optional)
    for key, figure in result["figures"].items():
        assert set(figure) == {"value", "low", "high", "unit"}
        assert figure["low"] > 0 or key in MAY_BE_ZERO | NOISY_WHEN_QUICK or "_minus_" in key
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert result["rows"] and result["machine"]["threads"] >= 1
    profiled = {(row.get("model"), row.get("stage")) for row in result["rows"]}
    assert profiled >= PROFILES.get(name, set())
    text = (tmp_path / "out" / f"{name}.md").read_text()
    assert all(f"| {figure} |" in text for figure in FIGURES[name])
    assert committed() == before


def test_a_quick_run_refuses_the_folder_of_committed_results(tmp_path: Path) -> None:
    done = run("prepare", "--quick", "--output", str(BENCHMARKS / "results"), folder=tmp_path)
    assert done.returncode == 2
    assert "never writes to the committed results" in done.stderr
