from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft.checkpoints import last_checkpoint


def checkpoint(folder: Path, step: int, state: str | None = '{"global_step": 1}') -> str:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"x")
    if state is not None:
        (path / "trainer_state.json").write_text(state, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("wanted", [None, False, "", "false"])
def test_a_run_starts_anew_unless_it_is_asked_to_resume(tmp_path: Path, wanted: Any) -> None:
    checkpoint(tmp_path, 5)
    assert last_checkpoint(tmp_path, wanted) is None


@pytest.mark.parametrize("wanted", [True, "true", "True", "last"])
def test_the_checkpoint_of_the_highest_step_is_the_last(tmp_path: Path, wanted: Any) -> None:
    paths = [checkpoint(tmp_path, step) for step in (100, 20, 9)]
    assert last_checkpoint(tmp_path, wanted) == paths[0]


@pytest.mark.parametrize("state", [None, "", '{"global_step": 3'], ids=["none", "empty", "cut"])
def test_a_folder_that_a_kill_left_incomplete_is_skipped(tmp_path: Path, state: Any) -> None:
    complete = checkpoint(tmp_path, 20)
    checkpoint(tmp_path, 30, state)
    assert last_checkpoint(tmp_path, True) == complete


def test_without_any_complete_checkpoint_the_message_says_what_to_do(tmp_path: Path) -> None:
    checkpoint(tmp_path, 30, None)
    with pytest.raises(SystemExit, match="leave out --resume_from_checkpoint"):
        last_checkpoint(tmp_path, "true")
    with pytest.raises(SystemExit, match="no complete checkpoint in"):
        last_checkpoint(tmp_path / "none", True)


def test_a_named_checkpoint_is_used_if_it_is_complete(tmp_path: Path) -> None:
    first = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 20)
    assert last_checkpoint(tmp_path, first) == first
    broken = checkpoint(tmp_path, 30, None)
    for wanted in (broken, str(tmp_path / "typo")):
        with pytest.raises(SystemExit, match=f"{wanted} is not a complete checkpoint"):
            last_checkpoint(tmp_path, wanted)
