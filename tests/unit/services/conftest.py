from __future__ import annotations

import pytest
from harness.request_handler import Counter


@pytest.fixture
def counter() -> Counter:
    return Counter()
