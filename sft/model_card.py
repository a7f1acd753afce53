"""The card of an export: README.md with the metadata that the hub reads, made from the run.

What is not on disk is not claimed: a run without a summary has no evaluation table, one without
traces says nothing of its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from agents.models import EMBEDDED
from agents.tables import PART_TITLES, STAGE_TITLES, markdown, notes, percent, with_interval
from rewards.episode import Outcome
from sft.run_record import Run

TAGS = ("tool-calling", "function-calling", "mcp")
PLAYED = ("grpo", "ppo")
# Where things lie and how much is printed is no recipe.
NO_RECIPE = frozenset(
    {
        "output_dir",
        "run_dir",
        "report_to",
        "disable_tqdm",
        "debug",
        "logging_steps",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "dataloader_pin_memory",
        "threads",
        "use_cpu",
    }
)


@dataclass(frozen=True)
class Shipped:
    """What is exported.

    Attributes:
        name: What it is called.
        base: Name of its base.
        form: "adapter" or "merged".
        weights: One sentence on the weights.
        licence: Its licence by its id on the hub, or "".
        serving: The commands that serve it.
        checked: What the comparison of the merged weights with the adapter came to, or "".
    """

    name: str
    base: str
    form: str
    weights: str
    licence: str
    serving: Sequence[str]
    checked: str = ""


def write_card(shipped: Shipped, run: Run) -> str:
    """Return the text of the card: markdown behind YAML metadata."""
    data = ModelCardData(
        base_model=shipped.base if is_hub_id(shipped.base) else None,
        library_name="peft" if shipped.form == "adapter" else "transformers",
        license=shipped.licence or None,
        pipeline_tag="text-generation",
        tags=[*TAGS, *([run.stage] if run.stage else [])],
        model_name=shipped.name,
        eval_results=_results(run) or None,
    )
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(shipped, run)}")
    return str(card.content)


def is_hub_id(name: str) -> bool:
    """Return True for `OWNER/MODEL`, which is no folder here."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).is_dir()


def _results(run: Run) -> list[EvalResult]:
    if not run.stage:
        return []
    figures = run.summary["policies"][run.stage]
    tasks = str(run.recipe.flags.get("tasks", "starter"))
    return [
        EvalResult(
            task_type="text-generation",
            task_name="tool calling",
            dataset_type="mcp-gym",
            dataset_name=f"mcp-gym {Path(tasks).stem}",
            dataset_split=str(run.recipe.flags.get("eval_split", "test")),
            metric_type=f"{part}_rate",
            metric_name=f"{PART_TITLES[part]}, n={figures[part]['n']}",
            metric_value=round(figures[part]["rate"] or 0.0, 4),
        )
        for part in PART_TITLES
        if figures[part]["n"]
    ]


def _body(shipped: Shipped, run: Run) -> str:
    how = STAGE_TITLES.get(run.stage, "")
    made = f", trained with {how}" if how else ""
    parts = [
        f"# {shipped.name}",
        f"A policy that calls tools{made} in mcp-gym: its calls are JSON in `<tool_call>` tags "
        "(Hermes), executed by MCP servers.",
        f"## Base\n\n{_base(shipped.base)} {shipped.weights}"
        + (f"\n\n{shipped.checked}" if shipped.checked else ""),
        f"## Licence\n\n{_licence(shipped.licence)}",
        f"## Training data\n\n{_data(run)}",
        f"## Recipe\n\n{_recipe(run)}",
        f"## Evaluation\n\n{_evaluation(run)}",
        "## Serve it\n\n" + "\n\n".join(f"```bash\n{line}\n```" for line in shipped.serving),
        _asking(shipped, run),
        f"## Limits\n\n{_limits(run)}",
    ]
    return "\n\n".join(parts) + "\n"


_TRAINED = {
    False: "It was trained without thinking, on conversations with an empty `<think>` block "
    "before every turn",
    True: "It was trained to think before it speaks, on conversations that keep the `<think>` "
    "block of every turn",
}
_RENDERING = (
    ", rendered with `rollout_template.jinja`. The tokenizer's own template leaves out the blocks "
    "of earlier turns, and shows it other tokens from the second turn on."
)
_CALLS = (
    " `transformers serve` hands over calls as text, in `<tool_call>` tags, as the tokenizer's "
    "`response_template` tells it; the other servers parse them."
)


def _asking(shipped: Shipped, run: Run) -> str:
    tokens = run.recipe.flags.get("max_turn_tokens")
    limit = f" and `max_tokens` {tokens}" if tokens else ""
    thinking = str(run.thinking).lower()
    calls = _CALLS if shipped.form == "merged" else ""
    return (
        f"Ask with `enable_thinking` {thinking}, `temperature` 0{limit}, as it was evaluated. "
        f"{_TRAINED[run.thinking]}{_RENDERING}{calls}"
    )


def _base(name: str) -> str:
    if name == EMBEDDED:
        return "The embedded policy of mcp-gym, a toy of 1 million parameters (Apache-2.0)."
    return f"`{name if is_hub_id(name) else Path(name).name}`."


def _licence(licence: str) -> str:
    if licence:
        return f"`{licence}`"
    return "Not stated. The licences of the base and of the training data hold."


def _data(run: Run) -> str:
    if not run.sources:
        return "Not known: no `traces.jsonl` was found beside the adapter or in the run."
    rows = [
        [_cell(source), _cell(licence), f"{count:,}"]
        for (source, licence), count in sorted(run.sources.items(), key=lambda item: -item[1])
    ]
    lead = "Rows of the supervised warm start"
    then = "; after it, episodes that the policy played itself" if run.stage in PLAYED else ""
    return f"{lead}{then}.\n\n{markdown([['source', 'licence', 'rows'], *rows])}"


def _recipe(run: Run) -> str:
    lora = run.lora
    targets = lora.get("target_modules") or []
    names = [targets] if isinstance(targets, str) else {one.rpartition(".")[2] for one in targets}
    modules = ", ".join(sorted(names))
    lines = [f"- LoRA, rank {lora.get('r')}, alpha {lora.get('lora_alpha')}, on {modules}"]
    lines += [f"- {run.steps} optimizer steps"] if run.steps else []
    if run.recipe.program:
        lines.append(f"- `python -m {run.recipe.program}` with these flags, others at default:")
    flags = [
        [_cell(key), _cell(str(value))]
        for key, value in run.recipe.flags.items()
        if key not in NO_RECIPE and not _is_path(value)
    ]
    table = "\n\n" + markdown([["flag", "value"], *flags]) if flags else ""
    return "\n".join(lines) + table


def _evaluation(run: Run) -> str:
    policies = run.summary["policies"]
    if not policies:
        return "None: the run has no `summary.json`."
    header = ["policy", *PART_TITLES.values(), "turns with broken calls"]
    rows = [
        [
            STAGE_TITLES[name] + (" (this one)" if name == run.stage else ""),
            *(with_interval(one[part]) for part in PART_TITLES),
            percent(one["outcomes"][Outcome.INVALID_JSON.value]),
        ]
        for name, one in policies.items()
    ]
    told = "" if run.stage else " Which of these stages this one is, the run does not say."
    return (
        "Success by execution in %, with Wilson 95 % intervals, on held-back tasks, greedily. "
        "success: tasks that need tools, as in training; abstention: tasks that must not use any; "
        f"held-out: phrasings, tool sets and depths that training never showed.{told}"
        f"\n\n{markdown([header, *rows])}"
    )


def _limits(run: Run) -> str:
    tasks = Path(str(run.recipe.flags.get("tasks", ""))).stem
    where = f"the tasks `{tasks}`" if tasks else "the tasks of its run"
    lines = [
        f"It was measured on {where} only; measure it on your servers before you rely on it.",
        "A tool's result is text that others wrote. "
        + (
            "How often planted instructions were followed is in the evaluation of the run."
            if any("obedience" in one for one in run.summary["policies"].values())
            else "Whether it follows instructions planted there was not measured."
        ),
        *(f"{note[0].upper()}{note[1:]}." for note in notes(run.summary)),
        *(f"{count:,} training rows: {flag}." for flag, count in sorted(run.flags.items())),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
