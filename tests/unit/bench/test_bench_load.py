"""The loads on a real Mosquitto: what they claim to have sent has arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from harness.mosquitto import Mosquitto

from bench import load
from bench.packets import payload_of, publish

PAYLOAD = b"p" * 256
TOPICS = [f"devices/{number}/telemetry" for number in range(3)]


@pytest.fixture
def target(mosquitto: Mosquitto) -> load.Target:
    return load.Target(mosquitto.port, None)


@pytest.fixture
async def links(target: load.Target) -> AsyncIterator[list[load.Link]]:
    opened = await load.open_many(target, [(f"c{n}", "u", "p") for n in range(3)], together=2, seconds=10)
    yield opened
    for link in opened:
        link.close()


@pytest.fixture
async def listener(target: load.Target) -> AsyncIterator[load.Link]:
    link = await load.open_link(target, "listener", "", "")
    await link.subscribe("devices/#")
    yield link
    link.close()


async def _heard(listener: load.Link, messages: int) -> asyncio.Future[None]:
    return listener.expect(messages * len(publish(TOPICS[0], PAYLOAD)))


async def test_pipelined_sends_the_count_and_a_marker_for_each_connection(
    links: list[load.Link], listener: load.Link
) -> None:
    everything = await _heard(listener, 1_500 + 3)
    await load.pipelined(links, TOPICS, PAYLOAD, 1_500)
    await everything
    assert listener.surplus == 0


async def test_windowed_sends_the_count_and_times_each_message(
    links: list[load.Link], listener: load.Link
) -> None:
    everything = await _heard(listener, 300)
    took = await load.windowed(links, TOPICS, PAYLOAD, 300, depth=20)
    await everything
    assert listener.surplus == 0
    assert len(took) == 300
    assert min(took) > 0


@pytest.mark.parametrize("qos", [0, 1])
async def test_paced_sends_what_is_due(links: list[load.Link], listener: load.Link, qos: int) -> None:
    everything = await _heard(listener, 100 + (0 if qos else 3))
    took = await load.paced(links, TOPICS, PAYLOAD, rate=1_000, seconds=0.1, qos=qos)
    await everything
    assert listener.surplus == 0
    assert len(took) == (100 if qos else 0)


@pytest.fixture
async def answering(target: load.Target, links: list[load.Link]) -> AsyncIterator[list[bytes]]:
    """A service on the bus that answers what is asked on `ask/N` on `answer/N`; what it was asked."""
    asked: list[bytes] = []
    service = await load.open_link(target, "service", "", "")
    for number, link in enumerate(links):
        await service.subscribe(f"ask/{number}")
        await link.subscribe(f"answer/{number}")
    size = len(publish("ask/0", b"question"))
    rest = bytearray()

    def answer(data: bytes) -> None:
        rest.extend(data)
        while len(rest) >= size:
            asked.append(payload_of(bytes(rest[:size]), f"ask/{chr(rest[8])}"))
            service.write(publish(f"answer/{chr(rest[8])}", ANSWER))
            del rest[:size]

    service.inbox = answer
    yield asked
    service.close()


REQUESTS = [publish(f"ask/{number}", b"question") for number in range(3)]
ANSWER = b"an answer"
ANSWER_BYTES = len(publish("answer/0", ANSWER))


async def test_called_ends_with_the_last_answer_and_times_each(
    links: list[load.Link], answering: list[bytes]
) -> None:
    took = await load.called(links, REQUESTS, ANSWER_BYTES, 300, depth=20)
    assert answering == [b"question"] * 300
    assert len(took) == 300
    assert min(took) > 0


async def test_paced_calls_ask_what_is_due(links: list[load.Link], answering: list[bytes]) -> None:
    took = await load.paced_calls(links, REQUESTS, ANSWER_BYTES, rate=1_000, seconds=0.1)
    assert answering == [b"question"] * 100
    assert len(took) == 100


async def test_an_answer_of_another_length_fails_the_load(
    links: list[load.Link], answering: list[bytes]
) -> None:
    with pytest.raises(load.Refused, match="something else"):
        await load.called(links, REQUESTS, ANSWER_BYTES - 1, 30, depth=10)


def test_a_payload_is_told_from_its_head() -> None:
    for payload in (b"", b"x", b"y" * 200, b"z" * 20_000):
        assert payload_of(publish("a/b", payload), "a/b") == payload
        for other in (publish("a/c", payload), publish("a/b", payload)[:-1], publish("a/b", payload, 7)):
            with pytest.raises(ValueError, match="no whole message"):
                payload_of(other, "a/b")


async def test_fan_out_ends_when_every_subscriber_has_every_message(
    links: list[load.Link], target: load.Target
) -> None:
    received = [0] * len(links)

    def count(number: int, link: load.Link) -> None:
        def counted(data: bytes, handle: Callable[[bytes], None] = link.data_received) -> None:
            received[number] += len(data)
            handle(data)

        link.data_received = counted

    for number, link in enumerate(links):
        await link.subscribe("devices/news")
        count(number, link)
    publisher = await load.open_link(target, "publisher", "", "")
    await load.fan_out(publisher, links, "devices/news", PAYLOAD, 40, ahead=4)
    publisher.close()
    assert received == [40 * len(publish("devices/news", PAYLOAD))] * len(links)


async def test_connections_come_in_the_order_of_their_accounts(
    links: list[load.Link], target: load.Target
) -> None:
    # Who takes over a client id ends the connection that had it.
    successor = await load.open_link(target, "c2", "u", "p")
    with pytest.raises(ConnectionError):
        await links[2].expect(1)
    assert [link.lost is None for link in links] == [True, True, False]
    successor.close()


async def test_a_lost_connection_ends_the_load(
    links: list[load.Link], listener: load.Link, mosquitto: Mosquitto
) -> None:
    waiting = listener.expect(1_000_000)
    mosquitto.kill()
    with pytest.raises(ConnectionError):
        await load.windowed(links, TOPICS, PAYLOAD, 1_000, depth=20)
    with pytest.raises(ConnectionError):
        await waiting


async def test_a_refusal_is_shown(target: load.Target) -> None:
    link = await load.open_link(target, "c", "u", "p")
    with pytest.raises(load.Refused, match="90 03 00 01"):
        await link.ask(b"\x82\x06\x00\x01\x00\x01a\x01", b"\x90\x03\x00\x01\x00")
    link.close()
