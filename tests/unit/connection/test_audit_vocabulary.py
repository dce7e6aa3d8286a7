"""The audit language is spoken in one place, and as it always was."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.connection import audit_vocabulary
from gateway.connection.audit_vocabulary import Kind, Outcome, Source, report_of_admin

ROOT = Path(__file__).parents[3]
HERE = Path(audit_vocabulary.__file__)
SOURCES = [path for path in sorted((ROOT / "gateway").rglob("*.py")) if path != HERE]
READS = {
    "gateway/alerts/device_readings.py": {"Kind.LOGIN", "Outcome.DONE"},
    "gateway/observe/audit_dispatch.py": {"Outcome.BEGUN", "Outcome.DONE"},
    "gateway/observe/recent_refusals.py": {"Outcome.REFUSED"},
    "gateway/observe/audit_event.py": {"Kind.LIMIT", "Kind.LOGIN", "Outcome.DONE", "Outcome.REFUSED"},
}
"""Who looks at what was told, and at what of it."""


def test_kinds_and_outcomes_are_public_and_stay():
    assert {*Kind} == {
        "login",
        "session",
        "will",
        "publish",
        "subscribe",
        "delivery",
        "open",
        "token",
        "key",
        "service",
        "device",
        "observe",
        "health",
        "policy",
        "certificate",
        "alert",
        "gateway",
        "audit",
        "limit",
    }
    assert {*Outcome} == {"begun", "done", "refused", "failed"}
    assert {*Source} == {"device", "stranger", "house"}


def spoken(path: Path) -> Iterator[str]:
    """Where a report or an event is made, or a kind or an outcome named, as far as a module has them."""
    tree = ast.parse(path.read_text("utf-8"))
    words = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "gateway.connection.audit_vocabulary"
        for alias in node.names
        if alias.name in {"Kind", "Outcome", "Report"}
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in words:
            yield f"{node.value.id}.{node.attr}"
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in words | {"AuditEvent"}:
            yield f"{called.id}()"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_else_makes_a_report_or_names_a_kind(path):
    # A string in the place of a kind is found by mypy: `Report` and `AuditEvent` take none.
    assert set(spoken(path)) <= READS.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize(("kind", "outcome"), [("divice", "done"), ("device", "Done"), ("None", "done")])
def test_a_stored_event_that_says_nothing_is_refused(kind, outcome):
    with pytest.raises(ValueError, match="is not a valid"):
        report_of_admin(kind, outcome, "why")
