"""The round of the alerts on a real store: restarts, SIGKILL, silences, a store that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.readings import NOW, Measured

from gateway.admin import alert_silences as admin
from gateway.alerts.alert_persistence import AlertKeeper
from gateway.alerts.alert_round import Alerting, Clocks
from gateway.alerts.channels.settings import SlackSettings
from gateway.alerts.condition_parser import condition_of
from gateway.alerts.current_silences import Silences
from gateway.alerts.delivery import Deliveries
from gateway.alerts.notification_grouping import Message
from gateway.alerts.reading_catalogue import catalogue
from gateway.alerts.readings_protocol import Readings
from gateway.alerts.rules import Rule, Severity
from gateway.connection.process_counters import Counters
from gateway.keys.secret_values import Secret
from gateway.net.tasks import Tasks
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.history import History
from gateway.observe.save_failures import Saves
from gateway.store import Store, StoreError, open_store

SILENT = Rule(
    "silent", condition_of("device_silent_seconds > 60", catalogue()), 3, Severity.WARNING, "Silent."
)


class House:
    """A gateway's alerts, and what arrives. Seconds go by when the test says so."""

    def __init__(
        self, store: Store, now: int = NOW, *, delivers: bool = True, rules: tuple[Rule, ...] = (SILENT,)
    ) -> None:
        self.store, self.now, self.delivers = store, now, delivers
        self.arrived: list[Message] = []
        self.events: list[AuditEvent] = []
        self.tasks, self.saves = Tasks(), Saves()
        self.measured = Measured()
        self.is_measured = True
        self.news: object = None
        self.ahead = 0
        """Milliseconds by which the wall clock was set."""
        self.keeper = AlertKeeper(store, self.saves, self.tasks.start)
        self.deliveries = Deliveries(
            lambda _: self,
            self.tasks.start,
            self.clock,
            self.keeper.arrived,
            steady=lambda: self.now / 1_000,
            pauses=(60,),
        )
        self.deliveries.use([SlackSettings("ops", Severity.INFO, Secret(b"x"))])
        self.alerting = self.made_alerting(rules, self.measured)

    def made_alerting(self, rules: tuple[Rule, ...], readings: Readings) -> Alerting:
        return Alerting(
            rules,
            readings,
            Clocks(
                now=self.clock,
                steady=lambda: self.now / 1_000,
                is_measured=lambda: self.is_measured,
                news=lambda: self.news,
            ),
            silences=Silences(self.store, lambda: self.now),
            deliveries=self.deliveries,
            keeper=self.keeper,
            audit=Audit(Counters(), self.events.append),
            node="gw-1",
        )

    def clock(self) -> int:
        return self.now + self.ahead

    async def send(self, message: Message) -> None:
        if not self.delivers:
            raise TimeoutError
        self.arrived.append(message)

    def silent(self, *devices: str, seconds: float = 100.0) -> None:
        values = {(("device", one),): seconds for one in devices}
        self.measured.numbers["device_silent_seconds"] = values

    async def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1_000
            await self.alerting.round()
            for _ in range(3):
                await asyncio.sleep(0)

    async def again(
        self, *, delivers: bool = True, kept: bool = False, rules: tuple[Rule, ...] = (SILENT,)
    ) -> House:
        """The gateway that comes after one that was killed; `kept`: it was stopped."""
        if kept:
            await self.keeper.save()
        await self.tasks.stop()
        after = House(self.store, self.now + 2_000, delivers=delivers, rules=rules)
        after.measured = self.measured
        after.alerting._readings = self.measured
        await after.alerting.load(self.now)
        return after


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield one
    await one.close()


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    one = House(store)
    yield one
    await one.tasks.stop()


def told(house: House) -> list[tuple[str, int]]:
    return [(one.state.value, one.count) for one in house.arrived]


async def test_five_hundred_devices_at_once_are_one_message_and_one_when_it_is_over(house):
    house.silent(*(f"d{number}" for number in range(500)))
    await house.run(10)
    assert told(house) == [("firing", 500)]
    house.silent()
    await house.run(120)
    assert told(house) == [("firing", 500), ("resolved", 500)]
    rows = [row for row in await house.store.alerts.states() if row.phase == "firing"]
    assert rows == []


async def test_it_arrives_within_its_duration_and_five_seconds(house):
    house.silent("lamp")
    await house.run(3 + 5)
    assert told(house) == [("firing", 1)]
    assert house.arrived[0].at - house.arrived[0].alerts[0].since <= 8_000


async def test_what_is_news_arrives_as_soon_and_what_is_silenced_meanwhile_does_not(house):
    house.news = 1
    await house.run(40)
    house.silent("lamp", "pump")
    await house.run(5)
    assert told(house) == [], "nothing says that there is something to see"
    house.news = 2
    await admin.silence(
        house.store, rule="silent", labels={"device": "pump"}, seconds=10**9, comment="", actor="me"
    )
    await house.run(3 + 5)
    assert told(house) == [("firing", 1)]


async def test_each_has_an_audit_event_and_of_very_many_the_rest_is_a_number(house):
    house.silent(*(f"d{number}" for number in range(500)))
    await house.run(10)
    assert [(one.kind, one.outcome, one.count) for one in house.events] == [("alert", "failed", 1)] * 20 + [
        ("alert", "failed", 480)
    ]
    assert house.events[0].reason == "silent (warning): Silent. Value 100, device d0."
    house.events.clear()
    house.silent()
    await house.run(90)
    assert sum(one.count for one in house.events) == 500
    assert {(one.kind, one.outcome) for one in house.events} == {("alert", "done")}


async def test_nothing_is_judged_while_nothing_is_measured(house):
    house.silent("lamp")
    house.is_measured = False
    await house.run(20)
    assert told(house) == []


@pytest.mark.parametrize("killed_after", range(1, 9))
async def test_killed_at_any_second_it_is_told_and_under_one_id(house, killed_after):
    house.silent("lamp")
    await house.run(killed_after)
    after = await house.again()
    await after.run(20)
    messages = house.arrived + after.arrived
    assert messages
    assert len({one.message_id for one in messages}) == 1
    after.silent()
    await after.run(70)
    assert [state for state, _ in told(after)][-1] == "resolved"
    await after.tasks.stop()


@pytest.mark.parametrize("removed", [False, True], ids=["calm", "rule removed"])
@pytest.mark.parametrize("killed_after", range(1, 5))
async def test_killed_at_any_second_after_it_is_over_its_end_is_told_once(house, killed_after, removed):
    house.silent("lamp")
    await house.run(10)
    house.silent()
    rules = () if removed else (SILENT,)
    house.alerting.use(rules)
    await house.run(killed_after if removed else 59 + killed_after)
    after = await house.again(rules=rules)
    await after.run(10)
    last = await after.again(rules=rules)
    await last.run(10)
    messages = house.arrived + after.arrived + last.arrived
    ends = {one.message_id: one.alerts[0].summary for one in messages if one.state.value == "resolved"}
    assert list(ends.values()) == ["Silent. (The rule is no longer in force.)" if removed else "Silent."]
    assert (await house.store.alerts.states() == []) is removed
    await after.tasks.stop()
    await last.tasks.stop()


async def test_what_begins_again_before_its_end_was_told_is_told_in_neither_way(house):
    """Else people hear that it is over last, and it is not."""
    busy = condition_of("cpu_percent > 80", catalogue())
    house.alerting.use([Rule("busy", busy, 0, Severity.WARNING, "Busy.")])
    house.measured.numbers["cpu_percent"] = {(): 90.0}
    await house.run(10)
    house.measured.numbers["cpu_percent"] = {(): 10.0}
    await house.run(60)
    assert [one.outcome for one in house.events] == ["failed", "done"]
    house.measured.numbers["cpu_percent"] = {(): 90.0}
    await house.run(10)
    assert told(house) == [("firing", 1)]
    house.measured.numbers["cpu_percent"] = {(): 10.0}
    await house.run(400)
    assert told(house) == [("firing", 1), ("resolved", 1)]


async def test_what_did_not_arrive_before_the_kill_arrives_after_it(store):
    house = House(store, delivers=False)
    house.silent("lamp")
    await house.run(10)
    (row,) = await store.alerts.messages()
    after = await house.again()
    await after.run(2)
    assert [one.message_id for one in after.arrived] == [row.message_id]
    await after.run(2)
    assert await store.alerts.messages() == []
    await after.tasks.stop()


async def test_what_has_arrived_is_forgotten_at_once_and_not_in_the_next_round(house):
    """People would get it again from a gateway that is killed before that."""
    house.silent("lamp")
    async with asyncio.timeout(20):
        while not house.arrived:
            await house.run(1)
        while await house.store.alerts.messages():  # noqa: ASYNC110 - it is the store that is waited for
            await asyncio.sleep(0.01)


async def test_what_arrives_while_the_store_is_busy_is_forgotten_as_soon_as_it_is_free(house):
    """Several channels deliver within the time of one save."""

    async def one_after_the_other(message: Message) -> None:
        house.arrived.append(message)
        for _ in range(4 * len(house.arrived)):
            await asyncio.sleep(0)

    house.send = one_after_the_other
    house.deliveries.use(
        [SlackSettings(name, Severity.INFO, Secret(b"x")) for name in ("ops", "chat", "mail")]
    )
    house.silent("lamp")
    async with asyncio.timeout(20):
        while len(house.arrived) < 3:
            await house.run(1)
        while await house.store.alerts.messages():  # noqa: ASYNC110 - it is the store that is waited for
            await asyncio.sleep(0.01)


async def test_what_was_told_is_not_told_again_after_a_restart(house):
    house.silent("lamp")
    await house.run(10)
    after = await house.again(kept=True)
    await after.run(60)
    assert told(after) == []
    await after.tasks.stop()


async def test_a_silenced_alert_is_told_to_nobody_until_the_silence_is_over(house, monkeypatch):
    monkeypatch.setattr("gateway.store.wall_clock.now", lambda: house.now // 1_000)
    made = await admin.silence(
        house.store, rule="silent", labels={"device": "lamp"}, seconds=100_000, comment="", actor="me"
    )
    house.now = made.since * 1_000
    house.silent("lamp", "pump")
    await house.run(10)
    assert [one.alerts[0].labels["device"] for one in house.arrived] == ["pump"]
    assert house.arrived[0].count == 1
    await admin.unsilence(house.store, made.silence_id, actor="me")
    await house.run(4)
    assert [one.alerts[0].labels["device"] for one in house.arrived] == ["pump", "lamp"]


async def test_what_was_told_is_told_when_it_is_over_though_it_is_silenced(house, monkeypatch):
    monkeypatch.setattr("gateway.store.wall_clock.now", lambda: house.now // 1_000)
    house.silent("lamp")
    await house.run(10)
    await admin.silence(house.store, rule="", labels={}, seconds=10**9, comment="", actor="me")
    house.silent()
    await house.run(70)
    assert told(house) == [("firing", 1), ("resolved", 1)]


async def test_what_began_and_ended_in_silence_is_never_told(house, monkeypatch):
    monkeypatch.setattr("gateway.store.wall_clock.now", lambda: house.now // 1_000)
    await admin.silence(house.store, rule="silent", labels={}, seconds=10**9, comment="", actor="me")
    house.silent("lamp")
    await house.run(10)
    house.silent()
    await house.run(70)
    assert told(house) == []
    assert [one.outcome for one in house.events] == ["failed", "done"]


async def test_a_rule_that_is_removed_while_it_fires_ends_with_a_word(house):
    house.silent("lamp")
    await house.run(10)
    house.alerting.use([])
    await house.run(4)
    assert told(house) == [("firing", 1), ("resolved", 1)]
    assert house.arrived[1].alerts[0].summary == "Silent. (The rule is no longer in force.)"
    assert await house.store.alerts.states() == []


async def test_a_store_that_fails_keeps_no_alert_from_people(house, monkeypatch):
    async def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(house.store.alerts, "save", fail)
        house.silent("lamp")
        await house.run(10)
    assert told(house) == [("firing", 1)]
    assert house.saves.check() == (False, "alerts: the disk is full")
    await house.run(1)
    assert house.saves.check()[0]
    assert [row.phase for row in await house.store.alerts.states()] == ["firing"]
    assert await house.store.alerts.messages() == []


async def test_a_store_that_hangs_holds_a_message_up_for_two_seconds_once(house, monkeypatch):
    monkeypatch.setattr("gateway.alerts.alert_persistence._SECONDS_MAX", 0.05)
    never = asyncio.Event()

    async def hang(*_: object) -> None:
        await never.wait()

    monkeypatch.setattr(house.store.alerts, "save", hang)
    house.silent("lamp")
    await house.run(10)
    assert told(house) == [("firing", 1)]


async def test_what_was_being_kept_when_the_gateway_stopped_is_kept(house, monkeypatch):
    """Kind: what is taken out to be saved, and not put back when that is cancelled."""
    save, never = house.store.alerts.save, asyncio.Event()

    async def hang(*_: object) -> None:
        await never.wait()

    monkeypatch.setattr("gateway.alerts.alert_persistence._SECONDS_MAX", 0.05)
    monkeypatch.setattr(house.store.alerts, "save", hang)
    house.silent("lamp")
    await house.run(10)
    house.keeper._rows.clear()  # nothing has changed since
    await house.tasks.stop()
    monkeypatch.setattr(house.store.alerts, "save", save)
    await house.keeper.save()
    assert await house.store.alerts.states()


async def test_labels_of_any_kind_come_back_from_the_store(house):
    odd = 'a"b\\\n\u2028é'
    house.silent(odd)
    await house.run(10)
    (row,) = await house.store.alerts.states()
    assert json.loads(row.labels) == [["device", odd]]
    after = await house.again()
    await after.run(10)
    assert told(after) == []
    await after.tasks.stop()


async def test_what_finds_no_room_is_told_once_with_its_rule(house, log, monkeypatch):
    monkeypatch.setattr("gateway.alerts.alert_states.ALERTS_MAX", 10)
    house.silent(*(f"d{number}" for number in range(25)))
    await house.run(10)
    (line,) = [line for line in log() if line["event"] == "alerts left out"]
    assert (line["rule"], line["alerts"]) == ("silent", 15)
    house.silent("d0")
    await house.run(10)
    house.silent(*(f"d{number}" for number in range(25)))
    await house.run(10)
    assert len([line for line in log() if line["event"] == "alerts left out"]) == 2


async def test_a_clock_that_is_set_back_makes_no_growth_of_what_was_counted_before(house):
    """Kind: the time at which the counters began, by a clock that shows a different time since."""
    refused = condition_of("increase(logins_refused_total, 5m) > 50", catalogue())
    history = History()
    house.alerting = house.made_alerting(
        (Rule("refused", refused, 0, Severity.WARNING, "Refused."),), history
    )
    began = house.now
    for count in range(200):  # 30 in five minutes
        if house.now - began == 1_000_000:
            house.ahead = -990_000
        house.now += 10_000
        history.add(house.clock(), {"logins_refused_total": {(): float(count)}})
        await house.alerting.round()
        assert house.alerting.current() == [], count
