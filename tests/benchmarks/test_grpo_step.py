"""The benchmark of a step against TRL's own trainer, at a size that says nothing about speed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_models import shipped_tokenizer

from envs.parsing import parse_turn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = ["--tools", "2", "--turns", "2", "--group", "2", "--turn_tokens", "40", "--threads", "1"]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """Import the benchmark with what stands beside it."""
    for name in ("step_server", "random_policy", "grpo_sides", "grpo_step", "decoding"):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules["grpo_step"]


@pytest.fixture
def sides(benchmark: ModuleType) -> ModuleType:
    return sys.modules["grpo_sides"]


@pytest.mark.parametrize("turn_tokens", [40, 41, 64])
def test_every_scripted_turn_has_the_wanted_length_and_says_what_it_should(
    sides: Any, turn_tokens: int
) -> None:
    tokenizer = shipped_tokenizer()
    setting = replace(sides.Setting("ours"), turns=3, group=4, turn_tokens=turn_tokens)
    script = sides.Script(setting, tokenizer)
    for number in range(3):
        for row, ids in enumerate(script.turn(number)):
            assert len(ids) == turn_tokens
            assert ids[-1] == tokenizer.eos_token_id
            turn = parse_turn(tokenizer.decode(ids[:-1]))
            assert turn.fault is None
            assert len(turn.calls) == (number < 2)
            if number == 2:
                assert ("42" in turn.text) == script.right(row)


def test_a_length_that_no_turn_can_have_is_refused(sides: Any) -> None:
    script = sides.Script(replace(sides.Setting("ours"), turn_tokens=5), shipped_tokenizer())
    with pytest.raises(SystemExit, match="no turn has exactly 5 tokens"):
        script.turn(0)


def test_growth_is_the_straight_line_through_each_of_the_scales(benchmark: Any) -> None:
    def figures(name: str, value: int, seconds: float, mib: float) -> dict[str, Any]:
        steps = [{"seconds": seconds + noise} for noise in (0.0, 7.0, -0.5)]
        return {name: value, "steps": steps, "peak_mib": mib}

    found = [
        figures(name, value, 3.0 + 0.5 * value, 100.0 + (value % 4) ** 2)
        for name, values in benchmark.SCALES.items()
        for value in values
    ]
    tools, turns, group = benchmark.growth(found)
    for name, text in (("tools", tools), ("turns", turns), ("group", group)):
        assert text.startswith(f"by {name}: 0.50 s each (R2 1.000), ")
    assert not tools.endswith("(R2 1.000)")


@pytest.mark.slow
def test_both_sides_do_the_same_work_and_the_figures_are_written(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    flags = ["--short_tools", "1", "--rounds", "2", "--trials", "1", "--json", str(file)]
    command = [sys.executable, str(BENCHMARKS / "grpo_step.py"), *SMALL, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert {"step_speedup", "rollout_speedup", "update_speedup"} <= figures.keys()
    assert {"memory_ratio", "short_prompt_speedup"} <= figures.keys()
    for pair in (*figures["rounds"], *figures["short_prompt"]["rounds"]):
        ours, theirs = pair
        for name in ("prompt_tokens", "completion_tokens"):
            assert ours[name] == theirs[name] > 0
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    assert "target" in done.stdout


def test_decoding_is_timed_beside_generate(tmp_path: Path) -> None:
    small = ["--rows", "2", "--prompt", "20", "--tokens", "6", "--observation", "4"]
    figures = tmp_path / "decoding.json"
    command = [sys.executable, str(BENCHMARKS / "decoding.py"), *small]
    command += ["--rounds", "2", "--threads", "1", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["", "ours", "generate"]
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert {name: len(times) for name, times in found["seconds_a_token"].items()} == {
        "ours": 4,
        "generate": 2,
    }
    assert all(one > 0 for times in found["seconds_a_token"].values() for one in times)


@pytest.mark.parametrize("name", ["grpo_step", "decoding"])
def test_a_gpu_that_is_not_there_is_said_before_anything_is_made(
    benchmark: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="PyTorch sees no GPU here"):
        sys.modules[name].main(["--gpu"])
