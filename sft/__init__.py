"""Traces, the supervised warm start, and the pretraining of the embedded policy."""
