"""What stands in the log line of each thing that is told: public, so it stays."""

from __future__ import annotations

import inspect
import json

import pytest

from gateway.connection import audit_vocabulary
from gateway.connection.audit_vocabulary import Kind, Origin, Outcome, Source, begun_key_change
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import AuditEvent, AuditLog
from gateway.observe.trail_entry import entry_line
from gateway.policy.engine.rules import Action
from gateway.policy.engine.service_names import Service

NOW = 1_764_000_000_000
DEVICE = Origin(
    source=Source.DEVICE, device="lamp-1", address="192.0.2.1:1", connection="c1", request_id="r1"
)
TOLD = [
    ("refused_login", ("why",), {"kind": "login", "outcome": "refused"}),
    ("refused_login", ("why", "api"), {"kind": "login", "outcome": "refused", "action": "api"}),
    ("refused_session", ("why",), {"kind": "session", "outcome": "refused"}),
    (
        "refused_will",
        ("why", "a/b", "sensor.toml:4"),
        {
            "kind": "will",
            "outcome": "refused",
            "action": "publish",
            "topic": "a/b",
            "rule": "sensor.toml:4",
        },
    ),
    (
        "refused_publish",
        ("why", "a/b", "sensor.toml:4"),
        {
            "kind": "publish",
            "outcome": "refused",
            "action": "publish",
            "topic": "a/b",
            "rule": "sensor.toml:4",
        },
    ),
    (
        "refused_publish",
        ("why", "a/b"),
        {"kind": "publish", "outcome": "refused", "action": "publish", "topic": "a/b"},
    ),
    (
        "refused_subscribe",
        ("why", "a/+", "sensor.toml:4"),
        {
            "kind": "subscribe",
            "outcome": "refused",
            "action": "subscribe",
            "topic": "a/+",
            "rule": "sensor.toml:4",
        },
    ),
    (
        "refused_delivery",
        ("why", "a/b", "sensor.toml:4"),
        {
            "kind": "delivery",
            "outcome": "refused",
            "action": "subscribe",
            "topic": "a/b",
            "rule": "sensor.toml:4",
        },
    ),
    ("failed_delivery", ("why",), {"kind": "delivery", "outcome": "failed"}),
    (
        "failed_open",
        ("why", "a/b"),
        {"kind": "open", "outcome": "failed", "action": "decrypt", "topic": "a/b"},
    ),
    (
        "observed",
        ("no rule", Action.PUBLISH, "a/b", ""),
        {
            "kind": "observe",
            "outcome": "done",
            "reason": "Would be refused: no rule",
            "action": "publish",
            "topic": "a/b",
        },
    ),
    (
        "reached_limit",
        ("why", "sensor.toml:4"),
        {"kind": "limit", "outcome": "refused", "rule": "sensor.toml:4"},
    ),
    (
        "refused_service",
        ("why", Service.DECRYPT, "a/b", "sensor.toml:4"),
        {
            "kind": "service",
            "outcome": "refused",
            "action": "decrypt",
            "topic": "a/b",
            "rule": "sensor.toml:4",
        },
    ),
    (
        "failed_service",
        ("why", Service.AUTH, "", ""),
        {"kind": "service", "outcome": "failed", "action": "auth"},
    ),
    (
        "issued_token",
        ("j1", Service.AUTH),
        {"kind": "token", "outcome": "done", "reason": "issued j1", "action": "auth"},
    ),
    ("refused_token", ("why", "api"), {"kind": "token", "outcome": "refused", "action": "api"}),
    ("refused_token", ("why",), {"kind": "token", "outcome": "refused"}),
    ("changed_device", ("why",), {"kind": "device", "outcome": "done"}),
    ("kicked_device", ("why",), {"kind": "session", "outcome": "done"}),
    ("traced_device", ("why",), {"kind": "device", "outcome": "done"}),
    ("changed_token", ("why",), {"kind": "token", "outcome": "done"}),
    ("changed_key", ("why",), {"kind": "key", "outcome": "done"}),
    ("begun_key_change", ("why",), {"kind": "key", "outcome": "begun"}),
    ("begun_certificate_change", ("why",), {"kind": "certificate", "outcome": "begun"}),
    (
        "failed_change",
        (begun_key_change("what"), "why"),
        {"kind": "key", "outcome": "failed", "reason": "what: why"},
    ),
    ("changed_silence", ("why",), {"kind": "alert", "outcome": "done"}),
    ("failed_health", ("why",), {"kind": "health", "outcome": "failed"}),
    ("restored_health", ("why",), {"kind": "health", "outcome": "done"}),
    (
        "saved_all",
        (),
        {
            "kind": "key",
            "outcome": "done",
            "reason": "all keys, devices and the policy exported to a backup",
        },
    ),
    (
        "restored_all",
        ("why",),
        {"kind": "key", "outcome": "done", "reason": "restored from a backup: why"},
    ),
    ("done_login", ("token",), {"kind": "login", "outcome": "done", "reason": "by token", "action": "token"}),
    (
        "put_policy_in_force",
        ("0123",),
        {"kind": "policy", "outcome": "done", "reason": "policy 0123 is in force"},
    ),
    ("refused_policy", ("why",), {"kind": "policy", "outcome": "refused"}),
    ("changed_certificate", ("why",), {"kind": "certificate", "outcome": "done"}),
    ("failed_certificate", ("why",), {"kind": "certificate", "outcome": "failed"}),
    (
        "fired_alert",
        ("bus_down", "critical", "The bus is away."),
        {
            "kind": "alert",
            "outcome": "failed",
            "reason": "bus_down (critical): The bus is away.",
            "action": "bus_down",
        },
    ),
    (
        "resolved_alert",
        ("bus_down", "critical", "The bus is away."),
        {
            "kind": "alert",
            "outcome": "done",
            "reason": "bus_down (critical) is over: The bus is away.",
            "action": "bus_down",
        },
    ),
    ("changed_gateway", ("why",), {"kind": "gateway", "outcome": "done"}),
    ("changed_trail", ("why", 7), {"kind": "audit", "outcome": "done", "kept_from": 7}),
    ("failed_trail", ("why",), {"kind": "audit", "outcome": "failed"}),
    ("report_of_admin", ("device", "done", "why"), {"kind": "device", "outcome": "done"}),
    (
        "left_out",
        (Kind.PUBLISH, Outcome.REFUSED, 1),
        {"kind": "publish", "outcome": "refused", "reason": "more of these than are reported one by one"},
    ),
]


@pytest.mark.parametrize(("name", "said", "fields"), TOLD, ids=lambda one: one if type(one) is str else "")
def test_the_line_of_each_report_and_its_entry_in_the_trail(stream, name, said, fields):
    kept = []
    log = AuditLog(Counters(), lambda: NOW, keep=lambda what, _: kept.append(json.loads(entry_line(3, what))))
    log(AuditEvent.of(getattr(audit_vocabulary, name)(*said), DEVICE, NOW))
    told = {
        "time": NOW,
        "reason": "why",
        "device": "lamp-1",
        "address": "192.0.2.1:1",
        "connection": "c1",
        "request_id": "r1",
        **fields,
    }
    assert kept == [{"seq": 3, **told}]
    if name == "done_login":
        assert stream.getvalue() == "", "its line is `connected`"
        return
    line = json.loads(stream.getvalue())
    line.pop("ts")
    level = "info" if fields["outcome"] in {"begun", "done"} else "warning"
    assert line == {"level": level, "event": "audit", **told}


def test_each_report_that_can_be_made_stands_above():
    made = {
        name
        for name, one in vars(audit_vocabulary).items()
        if inspect.isfunction(one) and one.__module__ == audit_vocabulary.__name__
    }
    assert made == {name for name, *_ in TOLD}
    assert {fields["kind"] for *_, fields in TOLD} == {*Kind}, "and each kind is told"
