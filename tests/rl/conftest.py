from __future__ import annotations

from typing import Any

import pytest
from tiny_models import shipped_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return shipped_tokenizer()
