from __future__ import annotations

from typing import Any

import pytest
from tiny_models import shipped_tokenizer, tiny_llama, tiny_qwen3


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return shipped_tokenizer()


@pytest.fixture
def tiny_model() -> Any:
    return tiny_qwen3()


@pytest.fixture(params=["qwen3", "llama"])
def any_tiny_model(request: pytest.FixtureRequest) -> Any:
    return {"qwen3": tiny_qwen3, "llama": tiny_llama}[request.param]()
