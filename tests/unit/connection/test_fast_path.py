"""The example of the module's docstring, byte by byte."""

from __future__ import annotations

import pytest

from gateway.connection.device_budgets import Budgets
from gateway.connection.fast_path import FastPath
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.decode import decode_publish
from gateway.mqtt.packets import Version
from gateway.policy.engine.limits import Limits

FIRST = bytes.fromhex("320b 0003742f31 0007 32312e35")


@pytest.fixture
def path():
    made = FastPath(Ledger(), Ledger(), Budgets().join("one", Limits()).from_device)
    packet = decode_publish(FIRST, 0, 2, len(FIRST), Version.V311)
    made.remember_header(packet, FIRST, 0, 2, len(FIRST))
    return made


def test_what_is_remembered(path):
    assert (path._head, path._id_at, path._tail, path._size) == (FIRST[:7], 7, b"", 13)


@pytest.mark.parametrize(
    ("chunk", "messages"),
    [
        ("320b 0003742f31 0008 32312e36", 1),
        ("320b 0003742f31 0008 32312e36 320b 0003742f31 0009 32312e37", 2),
        ("320b 0003742f31 0000 32312e36", 0),
        ("320c 0003742f31 0008 32312e3636", 0),
        ("3a0b 0003742f31 0008 32312e36", 0),
        ("320b 0003742f32 0008 32312e36", 0),
        ("320b 0003742f31 0008 32312e", 0),
        ("320b 0003742f31 0008 32312e36 320b", 0),
    ],
    ids=[
        "the next",
        "two",
        "identifier 0",
        "a longer payload",
        "DUP",
        "another topic",
        "cut",
        "and a bit",
    ],
)
def test_what_passes(path, chunk, messages):
    assert path.takes_fast_path(bytes.fromhex(chunk)) is bool(messages)
    assert (path.meter.messages, path.ledger.passed1) == (messages, messages)


def test_a_puback_passes_unless_an_answer_of_ours_waits(path):
    ack = bytes.fromhex("4002 0007")
    path.other_ledger.passed(1)
    path.other_ledger.passed(1)
    assert path.takes_fast_path(ack)
    assert path.other_ledger.acked1 == 1
    assert path.other_ledger.answer(1, ack, 10) == b""
    assert not path.takes_fast_path(ack)


def test_nothing_passes_once_it_is_forgotten(path):
    path.forget_header()
    assert not path.takes_fast_path(FIRST)


def remembering(first: bytes, version: Version) -> FastPath:
    made = FastPath(Ledger(), Ledger(), Budgets().join("one", Limits()).from_device)
    packet = decode_publish(first, 0, 2, len(first), version)
    made.remember_header(packet, first, 0, 2, len(first))
    return made


IN_VERSION_5 = bytes.fromhex("320e 0003742f31 0007 020101 32312e35")
AT_QOS_0 = bytes.fromhex("3009 0003742f31 32312e35")
KINDS = [(FIRST, Version.V311), (IN_VERSION_5, Version.V5), (AT_QOS_0, Version.V311)]


@pytest.mark.parametrize(("first", "version"), KINDS, ids=["QoS 1", "with a property", "QoS 0"])
@pytest.mark.parametrize("count", [16, 17, 33, 70])
def test_a_long_run_ends_where_the_first_message_differs(first, version, count):
    path = remembering(first, version)
    run = first * count
    assert path._end_of_run(run + first[:5], 0, len(run) + 5) == len(run)
    assert path._end_of_run(run, 0, len(run) - len(first)) == len(run) - len(first)
    payload_at = decode_publish(first, 0, 2, len(first), version).payload_at
    for number in range(count):
        at = number * len(first)
        for byte in range(payload_at):
            broken = bytearray(run)
            broken[at + byte] ^= 0xFF
            if path._id_at <= byte < path._id_at + 2 and path._id_at:
                broken[at + path._id_at : at + path._id_at + 2] = bytes(2)
            assert path._end_of_run(bytes(broken), 0, len(run)) == at
        other = bytearray(run)
        other[at + payload_at] ^= 0xFF
        assert path._end_of_run(bytes(other), 0, len(run)) == len(run)
