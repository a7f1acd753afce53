"""The critic of PPO: one number read off the policy's hidden state.

Actor and critic share the base weights and the adapter; the head is all that the critic adds. It is
a module of the policy's model, so that the optimizer and checkpoints of a trainer see it, but no
part of the adapter's file: it is saved beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from agents.errors import ModelFileError

FILE = "value_head.safetensors"


class ValueHead(nn.Module):
    """Says which return is still to be expected.

    One hidden layer: what the states of a language model say of the return, they do not say
    linearly. Starts at 0 everywhere, so that the first advantages are the returns themselves.

    Args:
        size: Width of the hidden states.
        trains_policy: Let the gradients of the values reach the policy below.
    """

    def __init__(self, size: int, *, trains_policy: bool = False) -> None:
        super().__init__()
        self.trains_policy = trains_policy
        self.inner = nn.Linear(size, size)
        self.outer = nn.Linear(size, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the value of each state.

        Args:
            hidden: Hidden states (..., size), in any compute type.

        Returns:
            Float32 tensor (...).
        """
        hidden = hidden if self.trains_policy else hidden.detach()
        inner = nn.functional.silu(self.inner(hidden.to(self.inner.weight.dtype)))
        return cast(torch.Tensor, self.outer(inner))[..., 0].float()


def add_value_head(model: Any, seed: int, *, trains_policy: bool = False) -> None:
    """Give a policy a value head; see `ValueHead`.

    Args:
        model: The policy.
        seed: Seed of its first values.
        trains_policy: Let the gradients of the values reach the policy.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = ValueHead(model.config.hidden_size, trains_policy=trains_policy)
    model.value_head = head.to(next(model.parameters()).device)


def save_value_head(model: Any, folder: str | Path) -> None:
    """Write the value head of a policy into a folder, beside its adapter."""
    save_file(dict(model.value_head.state_dict()), Path(folder) / FILE)


def load_value_head(model: Any, folder: str | Path) -> None:
    """Read the value head of a policy from a folder.

    Raises:
        ModelFileError: If the file is missing or does not fit the model.
    """
    path = Path(folder) / FILE
    try:
        model.value_head.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        raise ModelFileError(
            f"cannot load the value head {path}: {error}; was this a run of rl.ppo?"
        ) from error
