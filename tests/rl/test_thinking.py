"""The switch of thinking in training by rollouts: what is played, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_adapter, save_base, tiny_qwen3
from tiny_tasks import sum_task
from trl import GRPOConfig
from watched_trainer import Build, Watched

import rl.grpo
import rl.ppo
from agents.errors import ModelNotFoundError
from agents.players import LanguagePlayer
from agents.template import ChatTemplate
from rewards.serialise import write_tasks
from rl.flags import RolloutArguments, check_thinking
from rl.grpo import GroupArguments
from rl.ppo import PPOArguments
from sft.flags import PolicyArguments, TaskArguments
from sft.playing import measure
from sft.recipe import FILE, write_recipe

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

THINKING = PolicyArguments(enable_thinking=True)


@pytest.mark.parametrize("thinking", [False, True])
def test_a_policy_that_thinks_is_given_no_empty_thought(
    build: Build, tokenizer: Any, thinking: bool
) -> None:
    batch = build(make_trainer=partial(Watched, thinking=thinking)).scored()
    header = ChatTemplate(tokenizer, thinking=thinking).header
    assert ("<think>" in header) is not thinking
    for ids in batch["prompt_ids"]:
        assert tokenizer.decode(ids).endswith(f"<|im_end|>\n{header}")


def config(folder: Path) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(folder / "out"),
        scale_rewards="none",
        report_to="none",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
    )


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("program", "own", "trainer"),
    [
        (rl.grpo, GroupArguments(), "ToolUseGRPOTrainer"),
        (rl.ppo, PPOArguments(), "ToolUsePPOTrainer"),
    ],
    ids=["grpo", "ppo"],
)
@pytest.mark.parametrize("thinking", [False, True])
def test_every_trainer_is_told_whether_the_policy_thinks(
    program: Any,
    own: Any,
    trainer: str,
    thinking: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bool] = []

    def make(thinking: bool, **options: Any) -> None:
        told.append(thinking)
        raise Stop

    monkeypatch.setattr(program, trainer, make)
    base = save_base(tmp_path / "base")
    policy = PolicyArguments(base, threads=1, enable_thinking=thinking)
    rollouts = RolloutArguments(adapter="none")
    with pytest.raises(Stop):
        program.main(policy, TaskArguments(), rollouts, own, config(tmp_path))
    assert told == [thinking]


@pytest.mark.parametrize("thinking", [False, True])
def test_the_trained_policy_is_measured_as_it_was_trained(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thinking: bool
) -> None:
    prompts: list[str] = []
    begin = LanguagePlayer.begin

    def spy(player: LanguagePlayer, infos: Any) -> None:
        begin(player, infos)
        prompts.extend(tokenizer.decode(prompt) for prompt in player._prompts)

    monkeypatch.setattr(LanguagePlayer, "begin", spy)
    write_tasks(tmp_path / "tasks.jsonl", [sum_task(0, "test")])
    policy = PolicyArguments(max_turn_tokens=4, threads=1, enable_thinking=thinking)
    play = TaskArguments(str(tmp_path / "tasks.jsonl"), max_turns=1, run_dir=str(tmp_path))
    measure("grpo", tiny_qwen3(), tokenizer, policy, play, 4)
    assert [prompt.endswith("assistant\n") for prompt in prompts] == [thinking]


# --- what is refused ----------------------------------------------------------------------------


def trained(folder: Path, *, thinking: bool) -> RolloutArguments:
    write_recipe(folder, "sft.train", (PolicyArguments(enable_thinking=thinking),))
    return RolloutArguments(adapter=str(folder))


@pytest.mark.parametrize("thinking", [False, True])
def test_an_adapter_goes_on_as_it_was_trained(tmp_path: Path, thinking: bool) -> None:
    rollouts = trained(tmp_path, thinking=thinking)
    check_thinking(PolicyArguments(enable_thinking=thinking), rollouts)
    said = str(thinking).lower()
    message = f"was trained with enable_thinking {said}; use --enable_thinking {said}$"
    with pytest.raises(SystemExit, match=message):
        check_thinking(PolicyArguments(enable_thinking=not thinking), rollouts)


def test_where_no_recipe_says_how_it_was_trained_the_flag_decides(tmp_path: Path) -> None:
    for adapter in (str(tmp_path), "none"):
        check_thinking(THINKING, RolloutArguments(adapter=adapter))
    (tmp_path / FILE).write_text("lora_r: 4\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="use --enable_thinking false"):
        check_thinking(THINKING, RolloutArguments(adapter=str(tmp_path)))


def test_a_thought_is_not_held_to_a_call_and_that_is_said_before_anything_is_loaded(
    tmp_path: Path,
) -> None:
    save_adapter(tmp_path / "sft", save_base(tmp_path / "base"))
    policy = PolicyArguments("./no/model", enable_thinking=True)
    rollouts = RolloutArguments(adapter=str(tmp_path / "sft"), guided=1)
    flags = (TaskArguments(), rollouts, GroupArguments(), config(tmp_path))
    with pytest.raises(SystemExit, match="use --guided 0"):
        rl.grpo.main(policy, *flags)
    with pytest.raises(ModelNotFoundError):
        rl.grpo.main(PolicyArguments("./no/model"), *flags)


def test_a_refused_command_leaves_the_recipe_of_a_finished_adapter(tmp_path: Path) -> None:
    rollouts = trained(tmp_path / "out", thinking=False)
    recipe = (tmp_path / "out" / FILE).read_bytes()
    flags = (TaskArguments(), rollouts, GroupArguments(), config(tmp_path))
    with pytest.raises(SystemExit, match="use --enable_thinking false"):
        rl.grpo.main(THINKING, *flags)
    assert (tmp_path / "out" / FILE).read_bytes() == recipe
