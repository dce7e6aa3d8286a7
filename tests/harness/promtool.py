"""Prometheus' own checker, as `make test` puts it into the virtual environment."""

from __future__ import annotations

import shutil

from harness.gateway import BIN


def promtool() -> str:
    found = shutil.which("promtool", path=str(BIN)) or shutil.which("promtool")
    assert found is not None, "promtool is missing: sh tests/promtool.sh .venv/bin"
    return found
