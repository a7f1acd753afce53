"""Traces, the supervised warm start, and the pretraining of the embedded policy."""

import agents  # noqa: F401  # before trl and peft: it quiets what they say at import
