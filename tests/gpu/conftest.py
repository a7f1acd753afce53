"""Tests of what only a GPU does: CUDA graphs, weights in NF4 there, whole commands in float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_run import make_place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where there is no GPU."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU here"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, the adapter of a warm start, and tasks."""
    return make_place(tmp_path_factory.mktemp("place"))
