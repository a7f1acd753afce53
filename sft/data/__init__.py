"""Tool-calling data: convert, validate, filter and shape conversations into rows to train on."""
