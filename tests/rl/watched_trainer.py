"""A trainer whose losses can be looked at, and what its tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tiny_models import eager_to_call, tiny_qwen3, with_adapter
from tiny_tasks import sum_task

from rewards.episode import Episode
from rl.ppo_objective import Clipping
from rl.ppo_trainer import PPOSettings
from rl.trainer import ToolUseGRPOTrainer

PPO = PPOSettings(
    epochs=2,
    minibatches=2,
    discount=1.0,
    gae_lambda=0.9,
    clip=Clipping(0.2, 0.2, 0.2),
    value_weight=0.5,
    value_trains_policy=True,
    stop_kl=0.0,
    reward_scale=0.1,
    group_baseline=False,
    whiten=False,
    per_episode=False,
)
TASKS = [sum_task(number) for number in range(4)]
Build = Callable[..., "Watched"]


class Watched(ToolUseGRPOTrainer):
    """The trainer, keeping what went into and came out of each loss."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[dict[str, Any]] = []
        self.log_probs: list[torch.Tensor] = []
        super().__init__(**options)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self.batches.append(inputs)
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if result[0].requires_grad:
            result[0].retain_grad()
            self.log_probs.append(result[0])
        return result

    def scored(self) -> dict[str, Any]:
        """One generation batch, played and scored."""
        self.model.train()
        rows = next(iter(self.get_train_dataloader()))
        return self._generate_and_score_completions(rows)


def by_length(prompts: Any, completions: Any, episodes: Sequence[Episode], **_: Any) -> list[float]:
    """A reward that differs between the episodes of a random policy."""
    return [(sum(len(turn.raw) for turn in episode.turns) % 11) / 10 for episode in episodes]


def policy(tokenizer: Any, **lora: Any) -> Any:
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    return with_adapter(eager_to_call(tiny_qwen3(), call), **lora)


def adapter(model: Any, name: str = "default") -> dict[str, torch.Tensor]:
    return {
        key.replace(f".{name}.", "."): value.detach().clone()
        for key, value in model.named_parameters()
        if f".{name}." in key
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def direct_log_probs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Log-probs (rows, completion) by one plain forward per row."""
    rows = []
    parts = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    for prompt, real, completion, there in zip(*(batch[part] for part in parts), strict=True):
        ids = torch.cat([prompt[real.bool()], completion[there.bool()]])[None]
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].float().log_softmax(-1)
        chosen = logits.gather(-1, ids[0, 1:, None])[-int(there.sum()) :, 0]
        rows.append(torch.nn.functional.pad(chosen, (0, len(completion) - len(chosen))))
    return torch.stack(rows)
