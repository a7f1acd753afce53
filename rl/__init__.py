"""Reinforcement learning over episodes, and what it came to."""

import agents  # noqa: F401  # before trl and peft: it quiets what they say at import
