"""What a module warns of, without a log."""

from __future__ import annotations

import pytest


@pytest.fixture
def warnings_of(monkeypatch):
    """Of a module: its warnings from now on, as (event, what is said)."""

    def collect(module):
        found = []

        class Log:
            def warning(self, event, **said):
                found.append((event, {name: value for name, value in said.items() if value is not None}))

        monkeypatch.setattr(module, "_log", Log())
        return found

    return collect
