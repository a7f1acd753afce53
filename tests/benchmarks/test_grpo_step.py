from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "grpo_step.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grpo_step", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["grpo_step"] = module
    spec.loader.exec_module(module)
    return module


SMALL = ["--groups", "2", "--group_size", "2", "--rounds", "2", "--threads", "1"]


def test_the_benchmark_writes_ratios_with_their_range(benchmark: Any, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    file = tmp_path / "figures.json"
    benchmark.main([*SMALL, "--json", str(file)])
    torch.set_num_threads(threads)
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures["episodes"] == 4
    assert 0 < figures["gradient_error"] < 1e-3
    for name in ("rollout", "update"):
        low, high = figures[f"{name}_ratio_range"]
        assert 0 < low <= figures[f"{name}_ratio"] <= high
        assert len(figures["seconds"][name]) == len(figures["seconds"][f"{name}_peer"]) == 2


def test_the_benchmark_measures_nothing_where_the_two_updates_differ(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = benchmark.repeated_log_probs
    monkeypatch.setattr(
        benchmark,
        "repeated_log_probs",
        lambda model, played: (part * 1.01 for part in right(model, played)),
    )
    with pytest.raises(SystemExit, match="gradients differ"):
        benchmark.main(SMALL)
