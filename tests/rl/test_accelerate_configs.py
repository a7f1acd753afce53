"""The configs of accelerate: read as it reads them, and as far as a CPU can go, run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DeepSpeedPlugin, is_deepspeed_available
from safetensors.torch import load_file
from small_run import ROOT, arguments

from rl.distributed import check_launcher

CONFIGS = ROOT / "configs" / "accelerate"
LIMIT_S = 240.0
WHERE: dict[str, Any] = {
    "env": {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
    },
    "cwd": ROOT,
}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_reads_every_config_and_its_header_says_how_it_is_started(path: Path) -> None:
    assert load_config_from_file(str(path)).num_processes == 2
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    launch = f"accelerate launch --config_file configs/accelerate/{path.name}"
    assert header[0].startswith(f"# {launch} -m rl.grpo --config")
    assert "--machine_rank R" in "".join(header)  # several machines
    assert f"{launch} --num_machines 2" in "".join(header)


def test_the_deepspeed_config_fills_accelerates_plugin() -> None:
    given = yaml.safe_load((CONFIGS / "deepspeed.yaml").read_text(encoding="utf-8"))
    own = given["deepspeed_config"]
    launcher = own.pop("deepspeed_multinode_launcher")
    assert launcher == "standard"
    fields = DeepSpeedPlugin.__dataclass_fields__
    assert own.keys() <= fields.keys()
    assert own["zero_stage"] == 2  # parameters whole: rollouts need all of them


@pytest.mark.slow
@pytest.mark.skipif(is_deepspeed_available(), reason="deepspeed is installed")
def test_without_deepspeed_the_launcher_says_that_it_is_missing() -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    config = ["--config_file", str(CONFIGS / "deepspeed.yaml"), "-m", "rl.grpo"]
    ended = subprocess.run(
        [*launch, *config], capture_output=True, text=True, timeout=LIMIT_S, check=False, **WHERE
    )
    assert ended.returncode != 0
    assert "DeepSpeed is not installed" in ended.stderr


def trained(place: Path, folder: Path, script: list[str]) -> dict[str, torch.Tensor]:
    """Return the adapter after a step of two processes."""
    given = arguments(
        place, folder, max_steps=1, optim="sgd", learning_rate=1.0, per_device_train_batch_size=4
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", "2", *script, *given]
    subprocess.run(command, check=True, timeout=LIMIT_S, **WHERE)
    return load_file(folder / "out" / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_divided_model_plays_and_learns_what_a_whole_one_does(
    place: Path, tmp_path: Path
) -> None:
    script = str(Path(__file__).with_name("sharded_rank.py"))
    divided = trained(place, tmp_path / "fsdp", [script, str(tmp_path), "rl.grpo"])
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["True", "True"]
    whole = trained(place, tmp_path / "ddp", ["-m", "rl.grpo"])
    start = load_file(place / "sft" / "adapter_model.safetensors")
    assert divided.keys() == whole.keys() == start.keys()
    for name, weight in whole.items():
        assert not torch.equal(weight, start[name])
        torch.testing.assert_close(divided[name] - start[name], weight - start[name])
    checkpoint = tmp_path / "fsdp" / "out" / "checkpoint-1" / "adapter_model.safetensors"
    assert load_file(checkpoint).keys() >= whole.keys()
    summaries = [(tmp_path / name / "summary.json").read_bytes() for name in ("fsdp", "ddp")]
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("engine", ["FSDP", "DEEPSPEED"])
def test_what_an_engine_cannot_do_is_refused_before_anything_is_loaded(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_launcher("ppo", 4096)
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    check_launcher("grpo", 0)
    with pytest.raises(SystemExit, match=f"{engine}.*start it with torchrun"):
        check_launcher("ppo", 0)
    if engine == "DEEPSPEED":
        with pytest.raises(SystemExit, match="--tokens_per_forward 0"):
            check_launcher("grpo", 4096)
