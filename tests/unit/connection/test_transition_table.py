"""The table of a connection's life: whole, with one end, and drawn as it is."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import get_args

import pytest
from harness.playbook import context

from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Answer,
    Authenticated,
    AuthenticationFailed,
    BusBytes,
    BusLost,
    BusUnavailable,
    DeviceFull,
    DeviceLost,
    DeviceReady,
    Event,
    Kicked,
    PolicyChanged,
    Reauthenticated,
    ReauthenticationFailed,
    ShuttingDown,
    Tick,
    Turn,
)
from gateway.connection.handler_outcomes import Accepted, Ended, Outcome, SaidGoodbye
from gateway.connection.transition_table import TABLE, Row, State

ROOT = Path(__file__).parents[3]
EVENTS = set(get_args(Event))
OUTCOMES = set(get_args(Outcome))

NOT_ESTABLISHED = {Answer, Reauthenticated, ReauthenticationFailed, Turn, DeviceFull, DeviceReady}
"""What only who is established asks for, or is sent enough for."""
NO_BUS = {BusBytes, BusLost, BusUnavailable}
NOBODY_KNOWN = {PolicyChanged, AccessWithdrawn, Kicked}
"""Changes reach whom the registry has admitted."""
UNCOUNTED = {Tick}
"""The device side counts the seconds of those that are not established."""
LOGIN = {Authenticated, AuthenticationFailed}
CANT_HAPPEN = {
    State.AWAIT_CONNECT: NOT_ESTABLISHED | NO_BUS | NOBODY_KNOWN | LOGIN | UNCOUNTED,
    State.AUTHENTICATING: NOT_ESTABLISHED | NO_BUS | NOBODY_KNOWN | UNCOUNTED,
    State.OPENING_BUS: NOT_ESTABLISHED | LOGIN | UNCOUNTED,
    State.ESTABLISHED: LOGIN | {BusUnavailable},
    State.GOODBYE: LOGIN | {BusUnavailable},
    State.DRAINING: LOGIN | {BusUnavailable},
    State.CLOSED: set(),
}


def after(state: State) -> set[State]:
    return {following for row in TABLE[state].values() for following in row.after.values()}


@pytest.mark.parametrize("state", State)
def test_every_state_has_an_entry_for_every_event_that_can_happen(state):
    assert set(TABLE[state]) == EVENTS - CANT_HAPPEN[state]


def test_nothing_leaves_closed():
    assert after(State.CLOSED) == set()


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_closed_is_reached_from_every_state_and_at_once_when_a_side_is_gone_or_the_gateway_stops(state):
    assert State.CLOSED in after(state)
    for event in {DeviceLost, BusLost, ShuttingDown} - CANT_HAPPEN[state]:
        assert set(TABLE[state][event].after.values()) == {State.CLOSED}


def test_every_state_can_be_reached():
    reached, new = set(), {State.AWAIT_CONNECT}
    while new:
        reached |= new
        new = {following for state in new for following in after(state)} - reached
    assert reached == set(State)


def test_over_means_closed_and_nothing_else_does():
    for rows in TABLE.values():
        for row in rows.values():
            assert set(row.after) <= OUTCOMES
            assert {outcome for outcome, state in row.after.items() if state is State.CLOSED} <= {Ended}
            assert row.after.get(Ended, State.CLOSED) is State.CLOSED


def test_only_the_one_that_enters_closed_makes_a_close():
    # Nobody looks for it among commands either, to learn that a connection ends.
    room = ROOT / "gateway" / "connection"
    named = {
        path.name
        for path in room.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and node.id == "Close"
    }
    assert named == {"commands.py", "device_connection.py"}


def test_what_the_table_does_not_know_is_a_fault_of_ours(monkeypatch):
    connection = DeviceConnection(context())
    with pytest.raises(RuntimeError, match="Turn can't happen while await connect"):
        connection.receive(Turn())
    row = Row(lambda *_: SaidGoodbye([]), {Accepted: State.ESTABLISHED})
    monkeypatch.setitem(TABLE[State.AWAIT_CONNECT], Turn, row)
    with pytest.raises(RuntimeError, match="no state follows SaidGoodbye while await connect"):
        connection.receive(Turn())
    assert connection.state is State.AWAIT_CONNECT


def test_the_picture_shows_the_table():
    made = runpy.run_path(str(ROOT / "docs" / "state_picture.py"))
    assert made["picture"]() in (ROOT / "ARCHITECTURE.md").read_text("utf-8")
