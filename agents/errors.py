"""Errors of `agents`.

AgentError
├── ModelNotFoundError      no model, adapter or tokenizer at the given place
├── ModelFileError          a file of a model is missing or damaged
├── UnsupportedModelError   the engine cannot compute the model's kind of attention
├── NonFiniteLogitsError    the model's output is NaN or infinite
└── EndpointError           an endpoint cannot be used as it was asked for (`chat_errors.py`)
    └── UnansweredError     one request got no answer; its episode is lost
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of every error raised by `agents`."""


class ModelNotFoundError(AgentError):
    """No model, adapter or tokenizer at the given place."""


class ModelFileError(AgentError):
    """A file of a model is missing or damaged."""


class UnsupportedModelError(AgentError):
    """The engine cannot compute the model's kind of attention."""


class NonFiniteLogitsError(AgentError):
    """The model's output is NaN or infinite; nothing can be sampled from it."""
