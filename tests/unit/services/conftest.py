from __future__ import annotations

import pytest
from harness.desk import Counter


@pytest.fixture
def counter() -> Counter:
    return Counter()
