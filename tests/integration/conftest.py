"""A bus that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    running = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    yield running
    running.kill()
