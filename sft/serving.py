r"""How an export is served, and what a server changes against the policy in process.

A served model says what the policy says in process if it is asked in the same way:

- **The same template options.** The template gives an empty `<think>` block with
  `enable_thinking: false`, and leaves it to the policy otherwise; which of the two a policy was
  trained with stands in its recipe, and here in every command.
- **The template of the rollouts.** Qwen3's own template shows a model's earlier turns without their
  `<think>` blocks; the policy was trained and measured on conversations that keep them
  (`agents/template.py`). From the second turn on a server that uses the tokenizer's template shows
  other tokens. The tokenizer keeps its template; the other one lies beside it in
  `rollout_template.jinja`, and `chat_template_kwargs.json` holds both options, for
  `transformers serve --chat-template-kwargs` or the `chat_template_kwargs` of a request.
- **Answers as text.** `transformers serve` would parse calls, change strings in them to the types
  of the tool, and answer with status 500 where a call is not JSON. The tokenizer's
  `response_template` tells it to set the thought apart and to leave the rest as it was said, with
  calls in `<tool_call>` tags: the turn is then judged and shown again as it is. (`sft.collect` and
  MODEL@URL read such text. A client that wants `tool_calls` takes another server, or the tokenizer
  without `response_template`.)
- **Greedy decoding**, which is what evaluations do: the generation config says so. vLLM does not
  read `do_sample`: ask with `temperature` 0. `transformers serve` never turns sampling on where
  the generation config is greedy, whatever temperature is asked for; `--do_sample true` exports
  one that is not.
- **The same limit of a turn**: ask with `max_tokens`. `transformers serve` allows 1,024 otherwise.

What no option changes: white space at the ends of an answer is stripped, servers that parse calls
render them anew, and control tokens in a tool's result are not broken up (`ChatTemplate.escape`),
so that an untrusted result can forge a turn.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from trl.chat_template_utils import get_training_chat_template

from agents.template import ChatTemplate

TEMPLATE_FILE = "rollout_template.jinja"
OPTIONS_FILE = "chat_template_kwargs.json"

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Marks of what is trained; servers other than those built on transformers need not know them.
_GENERATION = re.compile(r"^[ \t]*\{%-?\s*(?:end)?generation\s*-?%\}\n", re.MULTILINE)


def rollout_template(tokenizer: Any) -> str:
    """Return the chat template with which rollouts are rendered: longer begins with shorter.

    Args:
        tokenizer: The tokenizer with its own template, which may do already.
    """
    template = get_training_chat_template(tokenizer) or tokenizer.chat_template
    return _GENERATION.sub("", template)


def response_template(tokenizer: Any) -> dict[str, Any]:
    """Return how transformers reads an answer: the thought apart, the rest as text.

    Args:
        tokenizer: The tokenizer with its own template.
    """
    template = ChatTemplate(tokenizer, thinking=True)
    end = rf"\s*{re.escape(template.end_of_turn)}"
    return {
        "defaults": {"role": "assistant"},
        "start_anchor": template.header,
        "fields": {
            "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
            "content": {"close_pattern": end, "content": "text"},
        },
    }


def write_template_options(folder: Path, tokenizer: Any, *, thinking: bool) -> None:
    """Write what a server needs to render conversations as rollouts do.

    Args:
        folder: Folder of the export.
        tokenizer: The tokenizer with its own template.
        thinking: The policy was trained to think.
    """
    template = rollout_template(tokenizer)
    (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    options = json.dumps({"chat_template": template, **_how(thinking)}, ensure_ascii=False)
    (folder / OPTIONS_FILE).write_text(options + "\n", encoding="utf-8")


def serve_merged(folder: str, name: str, *, thinking: bool) -> list[str]:
    """Return the commands that serve merged weights.

    Args:
        folder: Where they are.
        name: What a converted file is called.
        thinking: The policy was trained to think.
    """
    place = shlex.quote(folder)
    options = shlex.quote(f"{folder}/{OPTIONS_FILE}")
    gguf = shlex.quote(f"{name}.gguf")
    return [
        f'transformers serve {place} --chat-template-kwargs "$(cat {options})"',
        f"vllm serve {place} {_vllm(folder, thinking)}",
        f"python convert_hf_to_gguf.py {place} --outfile {gguf} && "
        f"llama-server -m {gguf} {_llama(folder, thinking)}",
    ]


def serve_adapter(folder: str, name: str, base: str, rank: int, *, thinking: bool) -> list[str]:
    """Return the commands that serve an adapter on its base; `transformers serve` takes none.

    Args:
        folder: Where the adapter is.
        name: What it is to be called.
        base: Its base: a folder or a hub id.
        rank: Its rank.
        thinking: The policy was trained to think.
    """
    place, model = shlex.quote(folder), shlex.quote(base)
    gguf = shlex.quote(f"{name}.gguf")
    most = next((known for known in _VLLM_RANKS if known >= rank), rank)
    return [
        f"vllm serve {model} --enable-lora --max-lora-rank {most} "
        f"--lora-modules {shlex.quote(f'{name}={folder}')} {_vllm(folder, thinking)}",
        f"python convert_lora_to_gguf.py {place} --base {model} --outfile {gguf} && "
        f"llama-server -m BASE.gguf --lora {gguf} {_llama(folder, thinking)}",
    ]


def _how(thinking: bool) -> dict[str, bool]:
    return {"enable_thinking": thinking}


def _vllm(folder: str, thinking: bool) -> str:
    return (
        "--enable-auto-tool-choice --tool-call-parser hermes "
        f"--chat-template {shlex.quote(f'{folder}/{TEMPLATE_FILE}')} "
        f"--default-chat-template-kwargs '{json.dumps(_how(thinking))}'"
    )


def _llama(folder: str, thinking: bool) -> str:
    return (
        f"--jinja --chat-template-file {shlex.quote(f'{folder}/{TEMPLATE_FILE}')} "
        f"--chat-template-kwargs '{json.dumps(_how(thinking))}'"
    )
