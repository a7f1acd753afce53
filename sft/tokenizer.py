"""Train the embedded policy's tokenizer (done once; the result is shipped and hashed).

A byte-level BPE whose pieces never cross the border between a word, a digit and a run of other
characters, and in which a space never sticks to a word. An argument is therefore the same tokens
in the request, in the call and in the result, which is what a tiny model needs in order to copy.
The fixed phrases that the Qwen3 template and OpenAI schemas repeat in every prompt are tokens of
their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sft.corpus import all_words, draw
from sft.gadgets import Dice

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAG_TOKENS = (
    "<think>",
    "</think>",
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
PHRASE_TOKENS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>",
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
    '\n{"type": "function", "function": {"name": "',
    '", "description": "',
    '", "parameters": {"type": "object", "properties": {"',
    '": {"type": "string"',
    '": {"type": "integer"',
    '": {"type": "number"',
    '": {"type": "boolean"',
    '": {"type": "array"',
    '}, "required": ["',
    '"]}}}',
    "<think>\n\n</think>\n\n",
    "<|im_start|>system\n",
    "<|im_start|>user\n",
    "<|im_start|>assistant\n",
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    '<tool_call>\n{"name": "',
    '", "arguments": {"',
    '"}}\n</tool_call>',
)
WORD_BORDERS = r"\p{L}+|\p{N}|[^\p{L}\p{N}]+"


def training_texts(documents: int, seed: int) -> Iterator[str]:
    """Yield plain texts of corpus documents, and every word of the lexicon many times."""
    rng = Dice(seed)
    words = all_words()
    for _ in range(documents):
        document = draw(rng, session_share=0.6)
        for message in document.messages:
            yield message["content"]
        for tool in document.tools:
            yield tool["function"]["description"]
        yield " ".join(rng.sample(words, 40))


def train_tokenizer(vocabulary_size: int, documents: int, seed: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer on the corpus.

    Args:
        vocabulary_size: Number of tokens, added tokens included.
        documents: Corpus documents to read.
        seed: Seed of the corpus. (The training itself differs from process to process.)

    Returns:
        A tokenizer without chat template.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_BORDERS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(text, special=True, normalized=False) for text in CONTROL_TOKENS]
    added += [
        AddedToken(text, special=False, normalized=False) for text in (*TAG_TOKENS, *PHRASE_TOKENS)
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(added),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(documents, seed), trainer)
    tokenizer.add_tokens(added)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def save_tokenizer(folder: Path, template: str, vocabulary_size: int = 1536) -> None:
    """Train and save the shipped tokenizer with the Qwen3 chat template."""
    tokenizer = train_tokenizer(vocabulary_size, documents=20_000, seed=0)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
