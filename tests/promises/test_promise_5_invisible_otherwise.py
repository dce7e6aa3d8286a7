"""Promise 5: for allowed traffic a client sees what Mosquitto itself would answer.

A handful of conversations, each held with the bus and with the gateway before it; `tests/parity` holds
many more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from harness import raw
from harness.device import SESSION_FOREVER, Device
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
Dial = Callable[..., Device]


# A device that may publish what is sealed hears of a lower Maximum Packet Size: compared in `tests/parity`.
_OUT_OF_REACH = """[[sensitive]]
topics = ["$sealed/#"]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    """A Mosquitto alone, and a gateway before another: what one side leaves is nothing to the other."""
    folder = tmp_path_factory.mktemp("promise_5")
    alone, bus = (Mosquitto(folder / name).start() for name in ("alone", "bus"))
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("encryption.toml", _OUT_OF_REACH)
    try:
        enrol(gateway.start(), lamp="full")
        yield alone, gateway
    finally:
        gateway.kill()
        bus.kill()
        alone.kill()


def both_sides(
    house: tuple[Mosquitto, Gateway], v5: bool, conversation: Callable[[Dial], list[object]]
) -> None:
    """Hold a conversation with the gateway and with the bus: every packet must be the same."""
    bus, gateway = house
    heard = []
    for side, port in enumerate((gateway, bus.port)):
        links: list[Device] = []

        def dial(client_id: str = "", **words: object) -> Device:
            link = Device(port, v5=v5)  # noqa: B023 - used within this turn of the loop
            links.append(link)  # noqa: B023
            # On the bus both sides would share a session otherwise.
            name = f"{client_id}{side}" if client_id else ""  # noqa: B023
            link.send(
                raw.connect(name, v5=v5, username="lamp", password=gateway.secrets["lamp"], **words)  # type: ignore[arg-type]
            )
            return link

        try:
            heard.append(conversation(dial))
        finally:
            for link in links:
                link.close()
    assert heard[0] == heard[1]


@both_versions
def test_a_session_from_connect_to_disconnect(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    def conversation(dial: Dial) -> list[object]:
        link = dial("c", keep_alive=30)
        answers: list[object] = [link.read()]
        steps = [
            [raw.subscribe(1, ("p5/#", 2), ("p5/+/x", 0), v5=v5)],
            [raw.PINGREQ],
            [raw.publish("p5/a", b"zero", v5=v5)],
            [raw.publish("p5/a", b"one", qos=1, packet_id=2, v5=v5)],
            [raw.publish("p5/a", b"two", qos=2, packet_id=3, v5=v5), raw.ack(0x62, 3)],
            [raw.unsubscribe(4, "p5/#", "p5/none", v5=v5)],
            [raw.publish("nobody/hears", b"x", qos=1, packet_id=5, v5=v5)],
            [raw.DISCONNECT],
        ]
        for step in steps:
            link.send(*step)
            answers += link.read_all(0.15)
        return answers

    both_sides(house, v5, conversation)


@both_versions
def test_a_stored_session_keeps_its_messages(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    def conversation(dial: Dial) -> list[object]:
        lasting = {"clean": False, "props": SESSION_FOREVER if v5 else b""}
        first = dial("kept", **lasting)
        first.send(raw.subscribe(1, ("p5/kept", 2), v5=v5))
        answers: list[object] = first.read_all(0.15)
        first.send(raw.DISCONNECT)
        answers += first.read_all(0.15)
        talker = dial("talker")
        for number in (1, 2):
            talker.send(raw.publish("p5/kept", b"%d" % number, qos=number, packet_id=number, v5=v5))
        talker.send(raw.ack(0x62, 2))
        answers += talker.read_all(0.15)
        answers += dial("kept", **lasting).read_all(0.15)
        answers += dial("kept", clean=True).read_all(0.15)
        return answers

    both_sides(house, v5, conversation)


@both_versions
def test_retained_messages_and_wills(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    def conversation(dial: Dial) -> list[object]:
        dying = dial("dying", will=("p5/will", b"gone", 1, True))
        answers: list[object] = [dying.read()]
        dying.close()
        link = dial("late")
        link.send(raw.publish("p5/r", b"kept", qos=1, packet_id=9, retain=True, v5=v5))
        link.send(raw.subscribe(1, ("p5/r", 1), ("p5/will", 0), v5=v5))
        answers += sorted(link.read_all(0.3))
        link.send(raw.publish("p5/r", b"", retain=True, v5=v5), raw.publish("p5/will", retain=True, v5=v5))
        answers += link.read_all(0.15)
        return answers

    both_sides(house, v5, conversation)


@both_versions
@pytest.mark.parametrize(
    "packets",
    [
        pytest.param([b"\x36\x05\x00\x01a\x00\x01"], id="QoS 3"),
        pytest.param([b"\x80\x05\x00\x01\x00\x01a\x00"], id="flags of SUBSCRIBE"),
        pytest.param([b"\x82\x02\x00\x01"], id="SUBSCRIBE without a filter"),
        pytest.param([raw.connect("again")], id="a second CONNECT"),
        pytest.param([b"\x30\xff\xff\xff\xff\xff"], id="a remaining length of five bytes"),
        pytest.param([raw.subscribe(1, ("a/#/b", 0))], id="a broken filter"),
        pytest.param([b"\x30\x05\x00\x03a/#x"], id="a wildcard in a topic name"),
        pytest.param([b"\x32\x05\x00\x01a\x00\x00"], id="packet id 0"),
    ],
)
def test_who_breaks_the_protocol_is_told_so_alike(
    house: tuple[Mosquitto, Gateway], v5: bool, packets: list[bytes]
) -> None:
    def conversation(dial: Dial) -> list[object]:
        link = dial("breaker")
        answers: list[object] = [link.read()]
        link.send(*packets)
        return answers + link.read_all(0.3)

    both_sides(house, v5, conversation)


def test_properties_pass_untouched(house: tuple[Mosquitto, Gateway]) -> None:
    """User properties in order and doubled, Response Topic, Correlation Data of any bytes, the rest."""
    many = b"".join(
        (
            b"\x01\x00",
            b"\x02\x00\x00\x00\x3c",
            b"\x03" + raw.text("text/x"),
            b"\x08" + raw.text("answer/here"),
            b"\x09" + raw.text(b"\x00\xff\xfe"),
            *(b"\x26" + raw.text(key) + raw.text(value) for key, value in ("ba", "ab", "ba", "bb")),
        )
    )

    def conversation(dial: Dial) -> list[object]:
        link = dial("props", props=b"\x21\x00\x05")
        link.send(raw.subscribe(1, ("p5/props", 1), v5=True, props=b"\x0b\x07"))
        link.send(raw.publish("p5/props", b"x", qos=1, packet_id=1, v5=True, props=many))
        return list(link.read_all(0.2))

    both_sides(house, True, conversation)
