"""The rules, the sample configuration and the board that we ship: sound, and of metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from harness.gateway import ROOT
from harness.promtool import promtool

from gateway.observe.metric_catalogue import PREFIX, PROCESS, MetricType, catalogue

PROMETHEUS = ROOT / "deploy" / "prometheus"
BOARD = ROOT / "deploy" / "grafana" / "board.json"
NAME = re.compile(r"\b(?:gateway|process)_[a-z0-9_]+\b")


def exported():
    """Every name that a query may have."""
    names = {*PROCESS}
    for metric in catalogue().values():
        name = f"{PREFIX}{metric.name}"
        if not metric.scraped:
            continue
        if metric.type is MetricType.COUNTER:
            names.add(f"{name}_total")
        elif metric.type is MetricType.HISTOGRAM:
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        else:
            names.add(name)
    return names


def labels_of(name):
    metric = catalogue().get(re.sub(r"_(total|bucket|sum|count)$", "", name.removeprefix(PREFIX)))
    return set(metric.labels) if metric else set()


@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
)
def test_promtool_has_nothing_against_them(words):
    done = subprocess.run(
        [promtool(), *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_has_a_test():
    rules = set(re.findall(r"- alert: (\w+)", (PROMETHEUS / "rules.yml").read_text()))
    tested = set(re.findall(r'alertname="(\w+)"', (PROMETHEUS / "rules_test.yml").read_text()))
    assert rules == tested
    assert len(rules) > 20


def test_rules_and_their_tests_name_metrics_that_there_are():
    for name in ("rules.yml", "rules_test.yml"):
        used = set(NAME.findall((PROMETHEUS / name).read_text()))
        assert used - exported() == set(), name


def queries():
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]


def test_every_panel_of_the_board_shows_metrics_that_there_are():
    found = list(queries())
    assert len(found) > 30
    for expression, _ in found:
        used = NAME.findall(expression)
        assert used, expression
        assert set(used) <= exported(), expression


def test_the_board_groups_by_labels_that_there_are():
    for expression, legend in queries():
        known = {"le", "instance", *(label for name in NAME.findall(expression) for label in labels_of(name))}
        grouped = {
            label.strip() for inner in re.findall(r"by \(([^)]*)\)", expression) for label in inner.split(",")
        }
        assert grouped <= known, expression
        assert set(re.findall(r"{{(\w+)}}", legend)) <= known, legend


def test_the_board_can_be_imported():
    board = json.loads(BOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
