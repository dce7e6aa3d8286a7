"""The way of a message: down through the rooms and back, and no call goes up."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from harness import raw
from harness.playbook import READER, context, established, seal

from gateway.connection.events import BusBytes, DeviceBytes

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "gateway"
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0][
    "layers"
]
DEPTH = {room.strip(): depth for depth, layer in enumerate(LAYERS) for room in layer.split("|")}


def room_of(frame: FrameType | None) -> str | None:
    """The room of the function that runs in this frame, or of who called it."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(GATEWAY):
            return path.relative_to(GATEWAY).parts[0]
        frame = frame.f_back
    return None


def calls(work: Callable[[], object]) -> list[tuple[str, str]]:
    """The calls from one room to another while this is done, in order."""
    found: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(GATEWAY):
            caller, called = room_of(frame.f_back), room_of(frame)
            if caller is not None and called is not None and caller != called:
                found.append((caller, called))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
@pytest.mark.parametrize("topic", ["ok/a", "ok/no/a", "private/a"], ids=["plain", "denied", "sensitive"])
def test_a_first_publish_and_a_first_delivery_go_down_through_few_rooms(topic, v5):
    connection = established(context(), device=READER, v5=v5).connection
    payload = seal(b"1", topic) if topic.startswith("private") else b"1"
    for event in (
        DeviceBytes(raw.publish(topic, b"1", qos=1, packet_id=7, v5=v5)),
        BusBytes(raw.publish(topic, payload, qos=1, packet_id=7, v5=v5)),
    ):
        made = calls(lambda event=event: connection.receive(event))
        assert {room for call in made for room in call} >= {"connection", "policy", "mqtt"}
        assert [call for call in made if DEPTH[call[0]] >= DEPTH[call[1]]] == []
        assert len({room for call in made for room in call}) <= 7
