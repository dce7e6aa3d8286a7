"""What becomes of alerts, second by second."""

from __future__ import annotations

import pytest
from harness.readings import NOW, Measured, labels

from gateway.alerts import alert_states
from gateway.alerts.alert_states import Alert, AlertStates, Phase
from gateway.alerts.condition_parser import condition_of
from gateway.alerts.reading_catalogue import catalogue
from gateway.alerts.rules import Rule, Severity


def rule(name="busy", condition="cpu_percent > 80", duration=300, severity=Severity.WARNING):
    return Rule(name, condition_of(condition, catalogue()), duration, severity, "Busy.")


class Watch:
    """Looks once a second at a value that the test sets."""

    def __init__(self, *rules: Rule) -> None:
        self.now = NOW
        self.states = AlertStates(rules or (rule(),))
        self.measured = Measured(cpu_percent=0.0)

    def set(self, name="cpu_percent", **values: float) -> None:
        self.measured.numbers[name] = {(("service", key),): value for key, value in values.items()}

    def cpu(self, value: float) -> None:
        self.measured.numbers["cpu_percent"] = {(): value}

    def run(self, seconds: int) -> list[tuple[int, str, str]]:
        """What happened: after how many seconds, which way, which rule."""
        happened = []
        for second in range(1, seconds + 1):
            self.now += 1_000
            changes = self.states.look(self.measured, self.now, 1_000, began=NOW)
            happened += [(second, "fires", one.rule) for one in changes.fired]
            happened += [(second, "over", one.rule) for one in changes.resolved]
        return happened


def test_it_fires_when_the_condition_has_held_for_its_duration_and_once():
    watch = Watch()
    watch.run(10)
    watch.cpu(90.0)
    assert watch.run(1_000) == [(301, "fires", "busy")]
    (alert,) = watch.states
    assert (alert.phase, alert.value) == (Phase.FIRING, 90.0)
    assert alert.since == NOW + 11_000  # the first look that showed it


def test_a_duration_of_nothing_fires_at_the_first_look():
    watch = Watch(rule(duration=0))
    watch.cpu(90.0)
    assert watch.run(5) == [(1, "fires", "busy")]


def test_one_look_without_the_condition_begins_the_duration_anew():
    watch = Watch()
    watch.cpu(90.0)
    assert watch.run(250) == []
    watch.cpu(10.0)
    assert watch.run(1) == []
    assert list(watch.states) == []
    watch.cpu(90.0)
    assert watch.run(400) == [(301, "fires", "busy")]


def test_it_is_over_once_when_the_condition_has_not_held_for_a_minute():
    watch = Watch(rule(duration=0))
    watch.cpu(90.0)
    watch.run(10)
    watch.cpu(10.0)
    assert watch.run(3_000) == [(60, "over", "busy")]


def test_a_value_that_goes_to_and_fro_is_told_a_few_times_and_then_stays_one_alert():
    """Six minutes high, three minutes low, for twelve hours: 80 mails in the simplest way of doing it."""
    watch = Watch()
    happened = []
    for _ in range(80):
        watch.cpu(90.0)
        happened += watch.run(360)
        watch.cpu(10.0)
        happened += watch.run(180)
    assert [kind for _, kind, _ in happened] == ["fires", "over", "fires"]
    assert watch.run(7_200) == [(120, "over", "busy")]


def test_one_that_flaps_faster_than_its_duration_never_fires():
    watch = Watch()
    for _ in range(100):
        watch.cpu(90.0)
        assert watch.run(200) == []
        watch.cpu(10.0)
        assert watch.run(20) == []


def test_what_was_quiet_for_an_hour_begins_from_the_start():
    watch = Watch(rule(duration=0))
    for _ in range(4):
        watch.cpu(90.0)
        assert watch.run(60) == [(1, "fires", "busy")]
        watch.cpu(10.0)
        assert watch.run(60 + 3_601) == [(60, "over", "busy")]
        assert list(watch.states) == []


def test_each_set_of_labels_is_an_alert_of_its_own():
    watch = Watch(rule("down", 'service_status == "down"', 60))
    watch.set("service_status", bus=0.0, store=1.0)
    assert watch.run(30) == []
    watch.set("service_status", bus=0.0, store=0.0)
    assert watch.run(60) == [(31, "fires", "down")]
    assert [(one.labels, one.phase) for one in watch.states] == [
        (labels(service="bus"), Phase.FIRING),
        (labels(service="store"), Phase.PENDING),
    ]
    watch.set("service_status", bus=1.0, store=0.0)
    assert watch.run(100) == [(1, "fires", "down"), (60, "over", "down")]


def test_a_rule_that_is_removed_while_it_fires_ends_its_alerts_and_says_so():
    watch = Watch(rule(duration=0))
    watch.cpu(90.0)
    watch.run(2)
    watch.states.use([])
    changes = watch.states.look(watch.measured, watch.now, 1_000, began=NOW)
    assert [one.rule for one in changes.resolved] == ["busy"]
    assert not watch.states.has_rule("busy")
    assert list(watch.states) == []
    assert changes.changed == {("busy", ())}


def test_a_rule_that_is_changed_while_it_fires_is_judged_by_its_new_condition():
    watch = Watch(rule(duration=0))
    watch.cpu(90.0)
    watch.run(2)
    watch.states.use([rule(condition="cpu_percent > 95", duration=0, severity=Severity.ERROR)])
    assert watch.run(60) == [(60, "over", "busy")]


def test_a_series_that_is_measured_no_more_is_over():
    watch = Watch(rule("down", 'service_status == "down"', 0))
    watch.set("service_status", ai=0.0)
    watch.run(2)
    watch.measured.numbers["service_status"] = {}
    assert watch.run(60) == [(60, "over", "down")]


def test_a_clock_that_jumps_neither_makes_an_alert_nor_ends_one():
    watch = Watch()
    watch.cpu(90.0)
    watch.run(10)
    watch.now += 86_400_000
    assert watch.run(1) == []
    watch.now -= 2 * 86_400_000
    assert watch.run(289) == []
    assert watch.run(1) == [(1, "fires", "busy")]
    watch.now += 86_400_000
    watch.cpu(10.0)
    assert watch.run(59) == []


def kept(watch: Watch) -> list[Alert]:
    return [
        Alert(
            one.rule,
            one.labels,
            one.severity,
            one.summary,
            one.phase,
            one.since,
            one.changed_at,
            one.value,
            one.times,
            one.notified,
        )
        for one in watch.states
    ]


def again(watch: Watch, *rules: Rule, down_for: int) -> Watch:
    """The gateway that comes after."""
    after = Watch(*rules)
    after.measured = watch.measured
    after.now = watch.now + down_for * 1_000
    after.states.load(kept(watch), after.now, watch.now)
    return after


def test_after_a_restart_what_fires_goes_on_without_firing_again():
    watch = Watch()
    watch.cpu(90.0)
    watch.run(310)
    after = again(watch, down_for=5)
    assert after.run(600) == []
    after.cpu(10.0)
    assert after.run(61) == [(60, "over", "busy")]


def test_after_a_short_restart_what_is_pending_fires_in_its_time():
    watch = Watch()
    watch.cpu(90.0)
    watch.run(201)
    after = again(watch, down_for=10)
    assert after.run(200) == [(90, "fires", "busy")]


def test_after_a_long_one_it_begins_anew():
    """What was in between nobody knows."""
    watch = Watch()
    watch.cpu(90.0)
    watch.run(201)
    after = again(watch, down_for=3_600)
    assert after.run(299) == []
    assert [kind for _, kind, _ in after.run(10)] == ["fires"]


def test_what_has_flapped_is_remembered_over_a_restart():
    watch = Watch(rule(duration=0))
    watch.cpu(90.0)
    watch.run(5)
    watch.cpu(10.0)
    watch.run(70)
    after = again(watch, rule(duration=0), down_for=5)
    after.cpu(90.0)
    assert after.run(5) == [(1, "fires", "busy")]
    after.cpu(10.0)
    assert after.run(600) == [(300, "over", "busy")]


@pytest.mark.parametrize("off", [90, 1_000])
def test_restarts_tell_nobody_again_of_what_flaps(off):
    """The calm that an alert needs to be over begins anew with each process: it ends later, and not twice."""

    def told(restart_each: int) -> tuple[int, int]:
        watch, kinds = Watch(rule(duration=0)), []
        for second in range(3_600 * 2):
            watch.cpu(90.0 if second % (30 + off) < 30 else 10.0)
            if restart_each and second and second % restart_each == 0:
                watch = again(watch, rule(duration=0), down_for=0)
            kinds += [kind for _, kind, _ in watch.run(1)]
        return kinds.count("fires"), kinds.count("over")

    undisturbed = told(0)
    for seconds in (60, 600):
        disturbed = told(seconds)
        assert disturbed <= undisturbed, seconds
        assert disturbed[0] >= disturbed[1], seconds


def test_there_are_never_more_than_so_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alert_states, "ALERTS_MAX", 10)
    watch = Watch(rule("down", 'service_status == "down"', 0))
    watch.set("service_status", **{f"s{n}": 0.0 for n in range(25)})
    assert len(watch.run(1)) == 10
    assert watch.states.left_out == {"down": 15}
    watch.set("service_status", **{f"s{n}": 0.0 for n in range(5)})
    watch.run(1)
    assert watch.states.left_out == {}


def loud(devices: int, *rules: Rule) -> Watch:
    """A rule of single devices that holds for so many, and others."""
    watch = Watch(rule("loud", "device_message_bytes > 9", 0), *rules)
    watch.measured.numbers["device_message_bytes"] = {
        labels(device=str(number)): 10.0 for number in range(devices)
    }
    return watch


def test_a_rule_that_holds_for_all_devices_leaves_room_for_the_alerts_of_others(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(alert_states, "ALERTS_MAX", 24)
    watch = loud(100, rule("down", 'service_status == "down"', 0), rule(duration=0))
    watch.run(3)
    assert (len(list(watch.states)), watch.states.left_out) == (24 - 2 * 4, {"loud": 84})
    watch.cpu(90.0)
    watch.set("service_status", **{f"s{n}": 0.0 for n in range(9)})
    assert watch.run(1) == [(1, "fires", "down")] * 4 + [(1, "fires", "busy")]
    assert watch.states.left_out == {"loud": 84, "down": 5}
    assert len(list(watch.states)) <= 24
    watch.measured.numbers["device_message_bytes"] = {}
    watch.run(70)
    assert watch.states.left_out == {"down": 5}, "what was loud is remembered for a while"
    watch.run(3_600)
    assert watch.states.left_out == {}


def test_what_a_rule_that_is_no_more_had_is_room_for_others_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alert_states, "ALERTS_MAX", 24)
    watch = loud(100, rule("down", 'service_status == "down"', 0))
    watch.run(3)
    watch.set("service_status", **{f"s{n}": 0.0 for n in range(24)})
    watch.states.use([rule("down", 'service_status == "down"', 0)])
    watch.run(1)
    assert ({one.rule for one in watch.states}, watch.states.left_out) == ({"down"}, {})


def test_a_rule_that_is_not_judged_in_each_look_has_left_out_what_it_had_in_between(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(alert_states, "ALERTS_MAX", 10)
    watch = loud(100)
    found = []
    for _ in range(7):
        watch.run(1)
        found.append(watch.states.left_out.copy())
    assert found == [{}, {}] + [{"loud": 90}] * 5


class Counted(Measured):
    """Readings that say how often they were asked."""

    asked = 0

    def latest(self, name):
        self.asked += 1
        return super().latest(name)


def test_without_news_alerts_grow_older_and_no_reading_is_asked():
    now, states, measured = NOW, AlertStates([rule(duration=30)]), Counted(cpu_percent=90.0)
    fired, resolved = [], []

    def run(seconds, *, news):
        nonlocal now
        for second in range(seconds):
            now += 1_000
            changes = states.look(measured, now, 1_000, began=NOW, news=news and second == 0)
            fired.extend(changes.fired)
            resolved.extend(changes.resolved)

    run(30, news=True)
    assert (measured.asked, len(fired)) == (1, 0)
    run(1, news=False)
    assert (measured.asked, len(fired)) == (1, 1)
    measured.numbers["cpu_percent"] = {(): 1.0}
    run(100, news=False)
    assert not resolved, "what nobody says has changed holds as before"
    run(60, news=True)
    assert (measured.asked, len(resolved)) == (2, 1)


def test_a_rule_that_is_not_judged_in_each_look_is_judged_by_news_within_three():
    states = AlertStates([rule(condition="device_message_bytes > 9", duration=0)])
    measured = Measured()
    states.look(measured, NOW, 1_000, began=NOW)
    for _ in range(5):
        states.look(measured, NOW, 1_000, began=NOW, news=False)
    measured.numbers["device_message_bytes"] = {labels(device="lamp"): 10.0}
    looks = [states.look(measured, NOW, 1_000, began=NOW, news=number == 0) for number in range(3)]
    assert sum(len(one.fired) for one in looks) == 1


def test_rules_that_are_new_are_judged_without_news():
    states = AlertStates([rule(duration=0)])
    measured = Measured(cpu_percent=90.0, memory_percent=95.0)
    assert len(states.look(measured, NOW, 1_000, began=NOW).fired) == 1
    states.use([rule("full", "memory_percent > 90", duration=0)])
    assert [one.rule for one in states.look(measured, NOW, 1_000, began=NOW, news=False).fired] == ["full"]


def test_a_rule_that_could_not_be_judged_once_is_judged_at_the_next_look():
    states = AlertStates([rule(duration=0)])

    class Broken(Measured):
        def latest(self, name):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        states.look(Broken(), NOW, 1_000, began=NOW)
    assert len(states.look(Measured(cpu_percent=90.0), NOW, 1_000, began=NOW, news=False).fired) == 1


def test_what_came_back_and_went_is_remembered_from_then_on():
    watch = Watch(rule(duration=60))
    watch.cpu(90.0)
    watch.run(65)
    watch.cpu(10.0)
    watch.run(70)
    watch.cpu(90.0)
    watch.run(10)
    watch.cpu(10.0)
    watch.run(1)
    (alert,) = watch.states
    assert (alert.phase, alert.changed_at) == (Phase.OVER, watch.now)
    after = again(watch, rule(duration=60), down_for=3_595)
    assert [one.times for one in after.states] == [1]
    after.run(1)
    assert len(list(after.states)) == 1


def test_what_fires_and_can_not_be_measured_goes_on_and_says_so():
    """Kind: a disk that hangs, and the alert that it is full ends."""
    watch = Watch(rule("disk_low", "disk_free_percent < 10", 0))
    watch.measured.numbers["disk_free_percent"] = {(): 5.0}
    watch.run(2)
    watch.measured.numbers["disk_free_percent"] = {}
    changes = watch.states.look(watch.measured, watch.now, 1_000, began=NOW)
    assert changes.changed == {("disk_low", ())}
    assert watch.run(7_200) == []
    (alert,) = watch.states
    assert (alert.phase, alert.value) == (Phase.FIRING, 5.0)
    assert alert.summary == "Busy. (It can't be measured now; the value is the last one.)"
    watch.measured.numbers["disk_free_percent"] = {(): 50.0}
    assert watch.run(1) == []
    assert alert.summary == "Busy."
    assert watch.run(60) == [(59, "over", "disk_low")]


def test_what_is_pending_and_can_not_be_measured_does_not_fire():
    watch = Watch(rule("disk_low", "disk_free_percent < 10", 120))
    watch.measured.numbers["disk_free_percent"] = {(): 5.0}
    watch.run(60)
    watch.measured.numbers["disk_free_percent"] = {}
    assert watch.run(600) == []
    assert list(watch.states) == []


def test_an_alert_of_a_condition_that_was_changed_is_over_though_the_new_one_is_not_measured():
    watch = Watch(rule("x", 'service_status == "down"', 0))
    watch.set("service_status", ai=0.0)
    watch.run(2)
    watch.states.use([rule("x", "disk_free_percent < 10", 0)])
    assert watch.run(60) == [(60, "over", "x")]
