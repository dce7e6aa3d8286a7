"""How long topics have been silent, as a real Mosquitto lets the gateway hear it."""

from __future__ import annotations

import asyncio

import pytest
from harness.background_tasks import beside, until
from harness.playbook import context

from gateway.bus_client import reconnecting_client, topic_freshness
from gateway.bus_client.connect import connect
from gateway.bus_client.connection import Account
from gateway.bus_client.topic_freshness import TopicListener
from gateway.net.bus_endpoint import Bus

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@pytest.fixture
def short_rests(monkeypatch):
    monkeypatch.setattr(topic_freshness, "_REST_MIN", 0.2)
    monkeypatch.setattr(topic_freshness, "_LOOK_SECONDS", 0.02)


def listener(mosquitto, v5=True, filters=None):
    bus = Bus("127.0.0.1", mosquitto.port)
    return TopicListener(bus, context(bus_speaks_v5=v5), filters or {"a": 2})


async def speaker(mosquitto):
    return await connect(
        Bus("127.0.0.1", mosquitto.port),
        Account("/test/1", None, None),
        lambda *_: None,
        max_size=1_000,
        v5=True,
    )


def logged(mosquitto, what):
    """How often Mosquitto says this of a client of ours that listens."""
    return sum(what in line and "/checks/" in line for line in mosquitto.log.read_text().splitlines())


async def subscribed(mosquitto, times=1):
    await until(lambda: logged(mosquitto, "Sending SUBACK") >= times)


@both
async def test_of_a_topic_that_is_spoken_on_all_the_time_one_message_is_heard(mosquitto, v5):
    ours = listener(mosquitto, v5)
    async with beside(ours.run()):
        await subscribed(mosquitto)
        device = await speaker(mosquitto)
        await device.publish("a", b"", retain=False)
        await until(lambda: logged(mosquitto, "Received UNSUBSCRIBE") == 1)
        before = logged(mosquitto, "Sending PUBLISH")
        for _ in range(100):
            await device.publish("a", b"", retain=False)
        assert logged(mosquitto, "Sending PUBLISH") == before
        assert ours.heard("a") is not None
        device.close()


@both
async def test_after_a_rest_it_is_heard_again_and_was_never_silent(mosquitto, v5, short_rests):
    ours = listener(mosquitto, v5)
    loop, moments, most = asyncio.get_running_loop(), set(), 0.0
    async with beside(ours.run()):
        await subscribed(mosquitto)
        device = await speaker(mosquitto)
        while len(moments) < 4:
            await device.publish("a", b"", retain=False)
            most = max(most, ours.silent("a"))
            if (heard := ours.heard("a")) is not None:
                moments.add(round(loop.time() - heard, 2))
        assert most < 2
        assert logged(mosquitto, "Received SUBSCRIBE") >= 3
        # Nobody speaks any more: silence is counted from the end of the last rest.
        await until(lambda: ours.silent("a") > 0.3 and ours.heard("a") > ours.silent("a") + 0.1)
        times = logged(mosquitto, "Sending SUBACK")
        await until(lambda: ours.silent("a") > 1)
        assert logged(mosquitto, "Sending SUBACK") == times
        device.close()


@both
async def test_what_is_retained_is_no_news(mosquitto, v5, short_rests):
    device = await speaker(mosquitto)
    await device.publish("a/1", b"", retain=False)
    await device.publish("a/1", b"said long ago", retain=True)
    ours = listener(mosquitto, v5, filters={"a/+": 2})
    async with beside(ours.run()):
        await subscribed(mosquitto)
        assert ours.heard("a/+") is None
        await device.publish("a/2", b"", retain=False)
        await until(lambda: ours.heard("a/+") is not None)
        await subscribed(mosquitto, 2)
        await until(lambda: ours.silent("a/+") > 0.5)
        assert ours.heard("a/+") > 0.5
        # To a bus that speaks MQTT 5 is said that nobody wants it.
        assert logged(mosquitto, "Sending PUBLISH") == (1 if v5 else 3)
        # What is said now and retained by its sender is news.
        await device.publish("a/1", b"said now", retain=True)
        await until(lambda: ours.heard("a/+") < 0.5)
    device.close()


async def test_filters_that_overlap_rest_each_for_itself(mosquitto):
    ours = listener(mosquitto, filters={"a/#": 2, "a/b": 2, "a/c": 2})
    async with beside(ours.run()):
        await subscribed(mosquitto)
        device = await speaker(mosquitto)
        await device.publish("a/b", b"", retain=False)
        await until(lambda: logged(mosquitto, "Received UNSUBSCRIBE") == 1)
        assert ours.heard("a/#") is not None
        assert ours.heard("a/b") is not None
        assert ours.heard("a/c") is None
        await device.publish("a/c", b"", retain=False)
        await until(lambda: ours.heard("a/c") is not None)
        device.close()


async def test_a_bus_that_was_away_during_a_rest_is_listened_to_again(mosquitto, short_rests, monkeypatch):
    monkeypatch.setattr(reconnecting_client, "_PAUSE_MIN", 0.05)
    ours = listener(mosquitto)
    async with beside(ours.run()):
        await subscribed(mosquitto)
        device = await speaker(mosquitto)
        await device.publish("a", b"", retain=False)
        await until(lambda: ours.heard("a") is not None)
        mosquitto.stop()
        # The rest ends where nobody can be asked; nothing is heard, which is what is said.
        await until(lambda: ours.silent("a") > 0.5 and ours.heard("a") > 0.5)
        mosquitto.start()
        await subscribed(mosquitto, 2)
        again = await speaker(mosquitto)
        for _ in range(2):
            await again.publish("a", b"", retain=False)
            await until(lambda: ours.heard("a") < 0.3)
            await until(lambda: ours.silent("a") > 0.3 and ours.heard("a") > 0.5)
        again.close()


async def test_what_a_newer_connection_hears_while_an_older_rest_ends_rests_anew(mosquitto, monkeypatch):
    monkeypatch.setattr(topic_freshness, "_LOOK_SECONDS", 0.001)
    listens = listener(mosquitto, filters={"x": 60, "y": 60})
    older, newer = object(), object()
    listens._rests = {"y": (0.0, newer), "x": (0.0, older)}
    subscribed = []

    async def subscribe(connection, filters):
        subscribed.append((connection, filters))
        listens._rests["x"] = (float("inf"), newer)

    monkeypatch.setattr(listens, "_subscribe", subscribe)
    async with beside(listens._wake()):
        await until(lambda: subscribed)
        for _ in range(5):
            await asyncio.sleep(0)
    assert subscribed == [(newer, ["y"])]
    assert listens._rests == {"x": (float("inf"), newer)}
