"""Pretrain the embedded policy from scratch on the synthetic corpus: `python -m sft.pretrain`.

A Qwen3-architecture model of about one million parameters learns ChatML, JSON, copying and the
calling of OTHER tools (see `sft/corpus.py`). The weights shipped in `agents/embedded` were made by
`python -m sft.pretrain --threads 1` while the other core was in use (38 minutes); with the default
of two threads a run takes about 25 minutes on 2 cores. Given the shipped tokenizer a run is
deterministic on one machine with one number of threads.

Recipe: documents go from short exercises to dialogues with tools; Muon on the matrices, AdamW on
the rest; the loss counts what the assistant says fully and everything else a little.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from agents.cli import parse_flags
from agents.template import ChatTemplate
from sft.corpus import EXERCISES, draw, session
from sft.dialogues import DIALOGUES, Dialogue

Batch = tuple[torch.Tensor, torch.Tensor]
IGNORED_WEIGHT = 0.0
DRAWN_AT_ONCE = 512
DESCRIPTION = "Pretrain the embedded policy from scratch on a synthetic corpus of OTHER tools."


@dataclass(frozen=True)
class PretrainArguments:
    """Flags of `python -m sft.pretrain`."""

    output_dir: str = field(default="runs/pretrain", metadata={"help": "Where the model goes."})
    tokenizer: str = field(
        default="agents/embedded", metadata={"help": "Folder of the tokenizer (kept as it is)."}
    )
    steps: int = field(default=3300, metadata={"help": "Number of optimizer steps."})
    tokens_per_step: int = field(default=5120, metadata={"help": "Padded tokens in a batch."})
    hidden_size: int = field(default=128, metadata={"help": "Width of the model."})
    layers: int = field(default=4, metadata={"help": "Number of layers."})
    muon_lr: float = field(default=0.02, metadata={"help": "Learning rate of the matrices."})
    adamw_lr: float = field(default=3e-3, metadata={"help": "Learning rate of everything else."})
    context_weight: float = field(
        default=0.05, metadata={"help": "Loss weight of tokens the assistant does not say."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the corpus and the weights."})
    threads: int = field(default=2, metadata={"help": "CPU threads."})
    log_every: int = field(default=50, metadata={"help": "Steps between progress lines."})


class CorpusBatches(IterableDataset[Batch]):
    """Batches of similar length under a token budget, from short documents to long ones."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, arguments: PretrainArguments) -> None:
        self.tokenizer = tokenizer
        self.arguments = arguments

    def __iter__(self) -> Iterator[Batch]:
        template = ChatTemplate(self.tokenizer)
        vocabulary = printable_tokens(self.tokenizer)
        rng = random.Random(self.arguments.seed)
        step = 0
        while step < self.arguments.steps:
            share = session_share(step / self.arguments.steps)
            rows = []
            for _ in range(DRAWN_AT_ONCE):
                document = draw(rng, share, vocabulary)
                rows.append(template.training_row(document.messages, document.tools))
            batches = list(self._batches(rows))
            rng.shuffle(batches)
            yield from batches
            step += len(batches)

    def _batches(self, rows: list[tuple[list[int], list[int]]]) -> Iterator[Batch]:
        rows = sorted(rows, key=lambda row: len(row[0]))
        batch: list[tuple[list[int], list[int]]] = []
        for row in rows:
            if batch and len(row[0]) * (len(batch) + 1) > self.arguments.tokens_per_step:
                yield self._padded(batch)
                batch = []
            batch.append(row)
        yield self._padded(batch)

    def _padded(self, rows: list[tuple[list[int], list[int]]]) -> Batch:
        width = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), width), int(self.tokenizer.pad_token_id or 0))
        weights = torch.full((len(rows), width), IGNORED_WEIGHT)
        for i, (tokens, mask) in enumerate(rows):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            said = torch.tensor(mask, dtype=torch.float32)
            weights[i, : len(tokens)] = said + (1 - said) * self.arguments.context_weight
        return ids, weights


def session_share(progress: float) -> float:
    """Return the share of sessions with tools at a point of the run (0 to 1): short to long."""
    return min(0.85, 0.1 + 1.5 * progress)


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


def weighted_loss(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean cross-entropy of the next token."""
    hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
    wanted = weights[:, 1:].reshape(-1)
    chosen = wanted > 0
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[chosen])
    losses = torch.nn.functional.cross_entropy(
        logits, ids[:, 1:].reshape(-1)[chosen], reduction="none"
    )
    return (losses * wanted[chosen]).sum() / wanted[chosen].sum()


@torch.no_grad()
def exact_rates(model: Any, template: ChatTemplate, seed: int, n: int = 24) -> dict[str, float]:
    """Return, for each exercise, the share of turns whose every token is the most likely one."""
    rng = random.Random(f"exact/{seed}")
    rates = {}
    for make, _ in (*EXERCISES, *DIALOGUES):
        right = total = 0
        for _ in range(n):
            made: Any = make(rng)
            document = session(rng, [made]) if isinstance(made, Dialogue) else made
            ids, mask = template.training_row(document.messages, document.tools)
            best = model(input_ids=torch.tensor([ids])).logits[0, :-1].argmax(-1).tolist()
            hits = [b == i for b, i, said in zip(best, ids[1:], mask[1:], strict=True) if said]
            right += all(hits)
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
    steppers = optimizers(model, arguments)
    base_rates = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    loader = DataLoader(CorpusBatches(tokenizer, arguments), batch_size=None, num_workers=1)
    started, losses = time.monotonic(), []
    progress = tqdm(total=arguments.steps, desc="pretrain", mininterval=5)
    for step, (ids, weights) in enumerate(loader):
        if step >= arguments.steps:
            break
        factor = learning_rate_factor(step, arguments.steps)
        groups = [group for stepper in steppers for group in stepper.param_groups]
        for group, rate in zip(groups, base_rates, strict=True):
            group["lr"] = rate * factor
        loss = weighted_loss(model, ids, weights)
        loss.backward()
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
