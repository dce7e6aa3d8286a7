"""Messages arrive though channels fail, hang, change and go; and one channel stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from gateway.alerts import delivery
from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.settings import SlackSettings
from gateway.alerts.delivery import Deliveries
from gateway.alerts.notification_grouping import Listed, Message, State, message_of
from gateway.alerts.rules import Severity
from gateway.keys.secret_values import Secret
from gateway.net.tasks import Tasks

NOW = 1_790_000_000_000


def settings(name: str, least: Severity = Severity.INFO, url: str = "x") -> SlackSettings:
    return SlackSettings(name, least, Secret(url.encode()))


def message(rule: str = "down", severity: Severity = Severity.ERROR, **labels: str) -> Message:
    return message_of(State.FIRING, [Listed(rule, severity, "x", 1.0, labels, 1)], node="n", at=NOW)


class Channels:
    """Stand-ins for services that can be made to fail: what arrived through which."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, str]] = []
        self.tried: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []
        self.behave: dict[str, Callable[[Message], Awaitable[None]]] = {}
        self.tasks = Tasks()
        self.now, self.steady = NOW, 5_000.0
        self.deliveries = Deliveries(
            self._make,
            self.tasks.start,
            lambda: self.now,
            lambda message_id, channel: self.done.append((channel, message_id)),
            steady=lambda: self.steady,
            pauses=(0.01,),
        )

    def _make(self, made: SlackSettings) -> Channels._Channel:
        return self._Channel(self, made.name)

    class _Channel:
        def __init__(self, all_of: Channels, name: str) -> None:
            self.all_of, self.name = all_of, name

        async def send(self, message: Message) -> None:
            self.all_of.tried.append((self.name, message.message_id))
            if self.name in self.all_of.behave:
                await self.all_of.behave[self.name](message)
            self.all_of.arrived.append((self.name, message.message_id))

    def put(self, one: Message) -> None:
        for name, addressed in self.deliveries.addressed(one).items():
            self.deliveries.put(name, addressed)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not what():  # noqa: ASYNC110 - it is the channels that are waited for
                await asyncio.sleep(0.005)


@pytest.fixture
async def channels():
    one = Channels()
    yield one
    await one.tasks.stop()


async def refuse(_: Message) -> None:
    raise NotDelivered("it answers 503")


async def test_each_channel_gets_what_is_grave_enough_for_it(channels):
    channels.deliveries.use([settings("all"), settings("grave", Severity.CRITICAL)])
    small, large = message(severity=Severity.WARNING), message(severity=Severity.CRITICAL)
    channels.put(small)
    channels.put(large)
    await channels.until(lambda: len(channels.arrived) == 3)
    assert sorted(channels.arrived) == sorted(
        [("all", small.message_id), ("all", large.message_id), ("grave", large.message_id)]
    )
    assert sorted(channels.done) == sorted(channels.arrived)


async def test_of_a_message_a_channel_gets_the_part_that_is_for_it():
    one = Channels()
    one.deliveries.use([settings("grave", Severity.CRITICAL)])
    told = [Listed("a", Severity.WARNING, "x", 1.0, {}, 1), Listed("b", Severity.CRITICAL, "x", 1.0, {}, 1)]
    addressed = one.deliveries.addressed(message_of(State.FIRING, told, node="n", at=NOW))
    assert [one.alert for one in addressed["grave"].alerts] == ["b"]
    assert addressed["grave"].counts == {"b": 1}
    await one.tasks.stop()


async def test_what_fails_is_tried_again_under_the_same_id_and_told_once_in_the_log(channels):
    failures = 5

    async def fail(_: Message) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise NotDelivered("it answers 503")

    channels.behave["ops"] = fail
    channels.deliveries.use([settings("ops")])
    one = message()
    with capture_logs() as lines:
        channels.put(one)
        await channels.until(lambda: bool(channels.arrived))
    assert channels.tried == [("ops", one.message_id)] * 6
    assert [line["event"] for line in lines] == ["alert not delivered", "alerts delivered again"]


async def test_a_channel_that_hangs_stops_no_other(channels):
    async def hang(_: Message) -> None:
        await asyncio.sleep(3_600)

    channels.behave["slow"] = hang
    channels.deliveries.use([settings("slow"), settings("ops")])
    for _ in range(20):
        channels.put(message())
    await channels.until(lambda: len(channels.arrived) == 20)
    assert {name for name, _ in channels.arrived} == {"ops"}


async def test_one_that_never_answers_counts_as_failed(channels, monkeypatch):
    monkeypatch.setattr(delivery, "SECONDS_MAX", 0.02)
    hanging = True

    async def hang(_: Message) -> None:
        if hanging:
            await asyncio.sleep(3_600)

    channels.behave["ops"] = hang
    channels.deliveries.use([settings("ops")])
    channels.put(message())
    await channels.until(lambda: channels.deliveries.status() == {(("channel", "ops"),): 0.0})
    hanging = False
    await channels.until(lambda: bool(channels.arrived))
    assert channels.deliveries.status() == {(("channel", "ops"),): 1.0}


async def test_a_fault_of_a_channel_ends_neither_it_nor_the_others(channels):
    broken = True

    async def break_(_: Message) -> None:
        if broken:
            raise RuntimeError("PLANTED")

    channels.behave["ops"] = break_
    channels.deliveries.use([settings("ops"), settings("mail")])
    with capture_logs() as lines:
        channels.put(message())
        await channels.until(lambda: len(channels.arrived) == 1)
        broken = False
        await channels.until(lambda: len(channels.arrived) == 2)
    assert "PLANTED" not in str(lines)


async def test_a_message_that_a_service_never_takes_stops_no_other(channels):
    poison = message("poison")

    async def choke(one: Message) -> None:
        if one.message_id == poison.message_id:
            raise NotDelivered("it answers 400")

    channels.behave["ops"] = choke
    channels.deliveries.use([settings("ops")])
    channels.put(poison)
    channels.put(message())
    await channels.until(lambda: len(channels.arrived) == 1)


async def test_what_waits_is_bounded_and_the_oldest_goes(channels, monkeypatch):
    monkeypatch.setattr(delivery, "WAITING_MAX", 3)
    channels.behave["ops"] = refuse
    channels.deliveries.use([settings("ops")])
    sent = [message() for _ in range(5)]
    with capture_logs() as lines:
        for one in sent:
            channels.put(one)
    assert channels.deliveries.waiting("ops") == 3
    assert channels.done == [("ops", one.message_id) for one in sent[:2]]
    assert [line["event"] for line in lines] == ["alert given up"] * 2


async def test_what_was_saved_a_day_ago_is_given_up(channels):
    channels.now = NOW + 86_400_001
    channels.deliveries.use([settings("ops")])
    channels.put(message())
    await channels.until(lambda: bool(channels.done))
    assert channels.tried == []


async def test_what_has_waited_for_a_day_is_given_up(channels):
    channels.behave["ops"] = refuse
    channels.deliveries.use([settings("ops")])
    channels.put(message())
    await channels.until(lambda: bool(channels.tried))
    channels.steady += 86_401
    await channels.until(lambda: bool(channels.done))
    assert channels.arrived == []


@pytest.mark.parametrize("days", [3, -3])
async def test_a_clock_that_is_set_gives_up_nothing_that_waits(channels, days):
    channels.behave["ops"] = refuse
    channels.deliveries.use([settings("ops")])
    channels.put(message())
    await channels.until(lambda: bool(channels.tried))
    channels.now += days * 86_400_000
    tried = len(channels.tried)
    await channels.until(lambda: len(channels.tried) > tried + 1 or bool(channels.done))
    assert channels.done == []


async def test_the_alert_about_a_channel_goes_through_the_others(channels):
    channels.deliveries.use([settings("ops"), settings("mail")])
    channels.put(message("channel_down", channel="ops"))
    await channels.until(lambda: bool(channels.arrived))
    assert [name for name, _ in channels.arrived] == ["mail"]


async def test_a_channel_that_is_changed_goes_on_with_what_waits(channels):
    channels.behave["ops"] = refuse
    channels.deliveries.use([settings("ops")])
    channels.put(message())
    await channels.until(lambda: len(channels.tried) > 1)
    del channels.behave["ops"]
    channels.deliveries.use([settings("ops", url="elsewhere")])
    await channels.until(lambda: bool(channels.arrived))
    assert len(channels.arrived) == 1


async def test_what_waits_for_a_channel_that_is_no_more_is_given_up(channels):
    channels.behave["ops"] = refuse
    channels.deliveries.use([settings("ops")])
    one = message()
    channels.put(one)
    channels.deliveries.use([])
    assert channels.done == [("ops", one.message_id)]
    channels.deliveries.put("ops", one)  # as the store has it still
    assert channels.done == [("ops", one.message_id)] * 2
