"""Tasks: the generated suite of the mock world, and files of your own (see `load_tasks`)."""

from envs.tasks.load import TaskSource, load_tasks

__all__ = ["TaskSource", "load_tasks"]
