"""A connection that rests does what one does that is given every tick: at the same second, to the letter."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness import raw
from harness.playbook import NOW, context, established, policy, react, suback
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.connection.commands import Command, PauseDevice, SendToBus
from gateway.connection.device_budgets import SILENT
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import BusBytes, BusLost, DeviceBytes, Event, Tick
from gateway.connection.process_context import Context
from gateway.connection.tick_rests import seconds_of_rest
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS
from gateway.policy.engine.identity import Grant

ALL = {"publish": ("#",), "subscribe": ("#",)}
OK, DENIED = raw.publish("ok", b"1"), raw.publish("other", b"1")
FROM_DEVICE = st.sampled_from(
    [OK, OK * 3, OK * 8, DENIED, raw.PINGREQ, OK[:3], OK[3:], raw.publish("private/a", b"1")]
).map(DeviceBytes)
FROM_BUS = st.sampled_from([raw.publish("ok", b"2"), raw.PINGRESP]).map(BusBytes)
WAITS = st.integers(1, 90)


@dataclass
class Driven:
    """A connection with its own clock, given its ticks as `gateway.net.device_side` does."""

    connection: DeviceConnection
    on: Context
    rests: bool
    second: int = 1
    ticks: int = 0
    rests_until: int = 0
    is_paused: bool = False
    happened: list[tuple[int, list[Command]]] = field(default_factory=list)

    def give(self, event: Event) -> None:
        self.rests_until = 0
        live = self.connection.established
        if isinstance(event, DeviceBytes) and live is not None and live.passes(event.data):
            self._note([SendToBus(event.data)])
        elif isinstance(event, BusBytes) and live is not None and live.passes_to_device(event.data):
            self._note([])
        elif self.connection.state.value != "closed":
            self._note(react(self.connection, event))

    def pass_second(self) -> None:
        self.second += 1
        self.on.budgets.work.second = self.second
        live = self.connection.established
        if self.second < self.rests_until or live is None:
            return
        self.ticks += 1
        was_paused, self.is_paused = self.is_paused, False
        self._note(react(self.connection, Tick(reading=not was_paused, second=self.second)))
        if self.rests and self.connection.established is not None and not self.is_paused:
            self.rests_until = self.second + seconds_of_rest(live)

    def _note(self, commands: list[Command]) -> None:
        self.is_paused |= PauseDevice() in commands
        if commands:
            self.happened.append((self.second, commands))


def driven(*, rests: bool, keep_alive: int, lifetime: int | None) -> Driven:
    on = context(policy(messages_per_second=6, packet_seconds=3))
    grant = lifetime and Grant("t", "t", 0, NOW // 1_000, NOW // 1_000 + lifetime, ALL)
    one = Driven(established(on, keep_alive=keep_alive, grant=grant or None).connection, on, rests)
    on.now = lambda: NOW + one.second * 1_000
    return one


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(FROM_DEVICE, FROM_BUS, WAITS), max_size=12),
    st.sampled_from([0, 1, 4, 7, 60]),
    st.sampled_from([None, 5, 130]),
    WAITS,
)
def test_a_rest_changes_nothing_that_anybody_sees(steps, keep_alive, lifetime, last_wait):
    both = [driven(rests=rests, keep_alive=keep_alive, lifetime=lifetime) for rests in (False, True)]
    for one in both:
        for step in [*steps, last_wait]:
            if isinstance(step, int):
                for _ in range(step):
                    one.pass_second()
            else:
                one.give(step)
        one.give(BusLost(taken_over=False))
    awake, rested = both
    assert rested.happened == awake.happened
    assert rested.on.counters == awake.on.counters
    assert rested.ticks <= awake.ticks


def test_who_says_nothing_gets_a_tick_a_minute_and_one_who_sends_each_second():
    quiet = driven(rests=True, keep_alive=0, lifetime=None)
    for _ in range(600):
        quiet.pass_second()
    assert quiet.ticks <= 12
    busy = driven(rests=True, keep_alive=0, lifetime=None)
    for _ in range(60):
        busy.give(DeviceBytes(OK))
        busy.pass_second()
    assert busy.ticks == 60


def test_what_goes_on_for_long_is_recorded_again_after_a_rest():
    one = driven(rests=True, keep_alive=0, lifetime=None)
    one.give(DeviceBytes(OK))
    assert one.on.recorder.take(10, 0)
    for _ in range(RECORD_AGAIN_SECONDS):
        one.pass_second()
    one.give(DeviceBytes(OK))
    assert one.on.recorder.take(10, 0)


def test_seconds_since_the_last_message_go_on_in_a_rest():
    one = driven(rests=True, keep_alive=0, lifetime=None)
    meter = one.connection.tls_meter
    assert meter is not None
    assert meter.budget.seconds_since_message == SILENT
    one.give(DeviceBytes(OK))
    for passed in range(100):
        assert meter.budget.seconds_since_message in {passed, passed + 1}
        one.pass_second()
    assert one.ticks < 10


def test_no_rest_while_filters_are_recorded_again():
    one = driven(rests=True, keep_alive=0, lifetime=None)
    one.give(DeviceBytes(raw.subscribe(1, *((f"ok/{number}", 0) for number in range(3)))))
    one.give(BusBytes(suback(1, 0, 0, 0)))
    one.on.recorder.take(10, 0)
    for _ in range(RECORD_AGAIN_SECONDS + 10):
        one.pass_second()
    assert sum(record.count for record in one.on.recorder.take(10, 0)) == 3
