"""Pretrain the embedded policy from scratch on the synthetic corpus: `python -m sft.pretrain`.

A Qwen3-architecture model of about one million parameters learns ChatML, JSON, copying and the
calling of OTHER tools (see `sft/corpus.py`). With two threads a run of 4,000 steps takes about 28
minutes on 2 cores; given the shipped tokenizer it is deterministic on one machine with one number
of threads. The weights in `agents/embedded` are what its defaults make.

Recipe: documents go from short exercises to dialogues with tools; Muon on the matrices, AdamW on
the rest; the loss counts what the assistant says fully and everything else a little. Beside it
stands an auxiliary loss (`LookBack`) that makes the first layer remember the tokens before each
token. Without it the verb that stands before the noun of a tool's name is found much more slowly
(LOG.md).
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from agents.cli import parse_flags
from agents.template import ChatTemplate
from sft.corpus import EXERCISES, Row, draw, session, training_row
from sft.dialogues import DIALOGUES, Dialogue
from sft.gadgets import Dice

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
IGNORED_WEIGHT = 0.0
# A turn's first token decides between a call and an answer; it is one token among dozens.
DECISION_WEIGHT = 3.0
# Share of the tokens nobody says that are looked at: their logits are a fifth of a step's time.
CONTEXT_SHARE = 0.25
LOOK_BACK_WEIGHT = 0.6
LOOK_BACK_SHARE = 0.25
DRAWN_AT_ONCE = 512
DESCRIPTION = "Pretrain the embedded policy from scratch on a synthetic corpus of OTHER tools."


@dataclass(frozen=True)
class PretrainArguments:
    """Flags of `python -m sft.pretrain`."""

    output_dir: str = field(default="runs/pretrain", metadata={"help": "Where the model goes."})
    tokenizer: str = field(
        default="agents/embedded", metadata={"help": "Folder of the tokenizer (kept as it is)."}
    )
    steps: int = field(default=4000, metadata={"help": "Number of optimizer steps."})
    tokens_per_step: int = field(default=5120, metadata={"help": "Padded tokens in a batch."})
    hidden_size: int = field(default=128, metadata={"help": "Width of the model."})
    layers: int = field(default=4, metadata={"help": "Number of layers."})
    muon_lr: float = field(default=0.02, metadata={"help": "Learning rate of the matrices."})
    adamw_lr: float = field(default=3e-3, metadata={"help": "Learning rate of everything else."})
    context_weight: float = field(
        default=0.2,
        metadata={"help": "Loss weight of tokens the assistant does not say (one in four)."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of the corpus and the weights."})
    threads: int = field(default=2, metadata={"help": "CPU threads."})
    log_every: int = field(default=50, metadata={"help": "Steps between progress lines."})


class CorpusBatches(IterableDataset[Batch]):
    """Batches of similar length under a token budget, from short documents to long ones.

    A batch is three tensors of shape (rows, tokens): what the model reads, what it is asked to
    say in each place, and the loss weights.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, arguments: PretrainArguments) -> None:
        self.tokenizer = tokenizer
        self.arguments = arguments

    def __iter__(self) -> Iterator[Batch]:
        template = ChatTemplate(self.tokenizer)
        vocabulary = printable_tokens(self.tokenizer)
        rng = Dice(self.arguments.seed)
        step = 0
        while step < self.arguments.steps:
            share = session_share(step / self.arguments.steps)
            rows = []
            for _ in range(DRAWN_AT_ONCE):
                document = draw(rng, share, vocabulary)
                rows.append(training_row(template, document))
            batches = list(self._batches(rows, rng))
            rng.shuffle(batches)
            yield from batches
            step += len(batches)

    def _batches(self, rows: list[Row], rng: random.Random) -> Iterator[Batch]:
        rows = sorted(rows, key=lambda row: len(row.ids))
        batch: list[Row] = []
        for row in rows:
            if batch and len(row.ids) * (len(batch) + 1) > self.arguments.tokens_per_step:
                yield self._padded(batch, rng)
                batch = []
            batch.append(row)
        yield self._padded(batch, rng)

    def _padded(self, rows: list[Row], rng: random.Random) -> Batch:
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), int(self.tokenizer.pad_token_id or 0))
        targets = ids.clone()
        weights = torch.full((len(rows), width), IGNORED_WEIGHT)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            targets[i, : len(row.ids)] = torch.tensor(row.targets)
            weights[i, : len(row.ids)] = torch.tensor(
                [self._weight(before, said, rng) for before, said in pairwise([0, *row.mask])]
            )
        return ids, targets, weights

    def _weight(self, before: int, said: int, rng: random.Random) -> float:
        """Return the loss weight of a token, from its mask and that of the token before it."""
        if said:
            return 1.0 if before else DECISION_WEIGHT
        return self.arguments.context_weight if rng.random() < CONTEXT_SHARE else IGNORED_WEIGHT


def session_share(progress: float) -> float:
    """Return the share of sessions with tools at a point of the run (0 to 1): short to long."""
    return min(0.85, max(0.0, 2.2 * (progress - 0.1)))


def printable_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the text of every token that is valid text by itself and no control token."""
    special = set(tokenizer.all_special_ids)
    texts = [tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special]
    return [text for text in texts if "\ufffd" not in text and "<|im_" not in text]


def build_model(tokenizer: PreTrainedTokenizerBase, arguments: PretrainArguments) -> Any:
    """Return the freshly initialised model."""
    torch.manual_seed(arguments.seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden_size,
        intermediate_size=3 * arguments.hidden_size,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden_size // 32,
        num_key_value_heads=arguments.hidden_size // 64,
        head_dim=32,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def optimizers(model: torch.nn.Module, arguments: PretrainArguments) -> list[Any]:
    """Return Muon for the matrices of the layers and AdamW for the rest."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=arguments.muon_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=arguments.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def learning_rate_factor(step: int, steps: int) -> float:
    """Warm up over 40 steps, stay, then fall linearly to zero over the last half."""
    return min(1.0, (step + 1) / 40, 2 * (steps - step) / steps)


class LookBack(torch.nn.Module):
    """Auxiliary loss: tell from a token's state after the first layer which tokens stood before it.

    Copying what follows a word, and finding what stands before it, both begin with a head that
    looks a fixed number of tokens back. Asked for directly, such heads form within a few hundred
    steps. The maps of this module are thrown away after training.

    Args:
        model: The model; its embeddings serve as the classes.
        offsets: How many tokens back is looked.
    """

    def __init__(self, model: Any, offsets: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        width = model.config.hidden_size
        self.maps = torch.nn.ModuleDict(
            {str(offset): torch.nn.Linear(width, width, bias=False) for offset in offsets}
        )
        self._embeddings = [model.model.embed_tokens.weight]  # in a list: not its own parameter
        self._state = torch.empty(0)
        model.model.layers[0].register_forward_hook(self._note)

    def _note(self, module: Any, inputs: Any, output: Any) -> None:
        self._state = output[0] if isinstance(output, tuple) else output

    def forward(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy over a quarter of the tokens that have a weight.

        The model must have read the tokens just before.

        Args:
            ids: What the model was given, shape (rows, tokens).
            weights: Loss weights of the same shape; where they are zero nothing is asked.
        """
        total = torch.zeros(())
        state = torch.nn.functional.rms_norm(self._state, self._state.shape[-1:])
        for offset, linear in self.maps.items():
            back = int(offset)
            asked = (weights > 0) & (torch.rand(weights.shape) < LOOK_BACK_SHARE)
            rows, places = asked[:, back:].nonzero(as_tuple=True)
            logits = linear(state[rows, places + back]) @ self._embeddings[0].T
            total = total + torch.nn.functional.cross_entropy(logits, ids[rows, places])
        return total / len(self.maps)


def look_back_weight(progress: float) -> float:
    """Return the weight of the auxiliary loss at a point of the run (0 to 1).

    It falls to zero between two and three fifths of the run: the heads stay, and the room that
    remembering every token takes is free for what the task needs.
    """
    return LOOK_BACK_WEIGHT * min(1.0, max(0.0, 3 - 5 * progress))


def weighted_loss(
    model: Any, ids: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted mean cross-entropy of what is asked for after each token.

    Args:
        model: The model.
        ids: What it reads, shape (rows, tokens).
        targets: What it is asked to say in each place, same shape.
        weights: Loss weights, same shape.
    """
    hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
    wanted = weights[:, 1:].reshape(-1)
    chosen = wanted > 0
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[chosen])
    losses = torch.nn.functional.cross_entropy(
        logits, targets[:, 1:].reshape(-1)[chosen], reduction="none"
    )
    return (losses * wanted[chosen]).sum() / wanted[chosen].sum()


@torch.no_grad()
def exact_rates(model: Any, template: ChatTemplate, seed: int, n: int = 24) -> dict[str, float]:
    """Return, for each exercise, the share of turns whose every token is the most likely one."""
    rng = Dice(f"exact/{seed}")
    rates = {}
    for make, _ in (*EXERCISES, *DIALOGUES):
        right = total = 0
        for _ in range(n):
            rng.new_document()
            made: Any = make(rng)
            document = session(rng, [made]) if isinstance(made, Dialogue) else made
            row = training_row(template, document)
            best = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].argmax(-1).tolist()
            asked = zip(best, row.targets[1:], row.mask[1:], strict=True)
            right += all(found == wanted for found, wanted, said in asked if said)
            total += 1
        rates[make.__name__] = right / total
    return rates


def main(arguments: PretrainArguments) -> None:
    """Train, report and save."""
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    model = build_model(tokenizer, arguments)
    size = sum(p.numel() for p in model.parameters())
    sys.stdout.write(f"{size / 1e6:.2f} M parameters, {len(tokenizer)} tokens\n")
    look_back = LookBack(model)
    steppers = optimizers(model, arguments)
    steppers[-1].add_param_group({"params": list(look_back.parameters())})
    base_rates = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    loader = DataLoader(CorpusBatches(tokenizer, arguments), batch_size=None, num_workers=1)
    started, losses = time.monotonic(), []
    progress = tqdm(total=arguments.steps, desc="pretrain", mininterval=5)
    for step, (ids, targets, weights) in enumerate(loader):
        if step >= arguments.steps:
            break
        factor = learning_rate_factor(step, arguments.steps)
        groups = [group for stepper in steppers for group in stepper.param_groups]
        for group, rate in zip(groups, base_rates, strict=True):
            group["lr"] = rate * factor
        loss = weighted_loss(model, ids, targets, weights)
        beside = look_back_weight(step / arguments.steps)
        extra = beside * look_back(ids[:, :-1], weights[:, :-1]) if beside else 0.0
        (loss + extra).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        losses.append(loss.item())
        progress.update()
        if (step + 1) % arguments.log_every == 0:
            recent = losses[-arguments.log_every :]
            seconds = time.monotonic() - started
            tqdm.write(f"step {step + 1}: loss {sum(recent) / len(recent):.3f}, {seconds:.0f} s")
    progress.close()
    save(model, tokenizer, arguments, losses)


def save(model: Any, tokenizer: Any, arguments: PretrainArguments, losses: list[float]) -> None:
    """Write the model (bfloat16), the untouched tokenizer files and a report."""
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rates = exact_rates(model.eval(), ChatTemplate(tokenizer), arguments.seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        source = Path(arguments.tokenizer) / name
        if source.resolve() != (folder / name).resolve():
            shutil.copyfile(source, folder / name)
    report = {"loss": sum(losses[-50:]) / len(losses[-50:]), "exact_rates": rates}
    (folder / "pretrain.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, rate in rates.items():
        sys.stdout.write(f"{name:28s} exact {rate:.2f}\n")
    sys.stdout.write(
        f"wrote {folder} (model, tokenizer, pretrain.json)\n"
        f"next: python -m sft.train --model_name_or_path {folder}\n"
    )


if __name__ == "__main__":
    main(parse_flags(PretrainArguments, "python -m sft.pretrain", DESCRIPTION))
