"""When checks are done, what becomes of their answers, and who is told of a change."""

import asyncio

import pytest

from gateway.net.tasks import Tasks
from gateway.observe import health_check_scheduler as module
from gateway.observe.health_check_scheduler import Health, State


@pytest.fixture
async def tasks():
    held = Tasks()
    yield held
    await held.stop()


async def until(true):
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - whatever it is
            await asyncio.sleep(0.005)


def found(health, name="bus"):
    return health.report().checks[name]


async def test_states(tasks):
    health = Health()
    for name, answer, vital, needed in (
        ("healthy", (True, "fine"), False, True),
        ("warned", (True, "warning: soon"), False, True),
        ("needed", (False, "gone"), False, True),
        ("not needed", (False, "gone"), False, False),
    ):
        health.add(name, lambda answer=answer: answer, vital=vital, needed=needed)
    states = {name: one.state for name, one in health.report().checks.items()}
    assert states == {
        "healthy": State.HEALTHY,
        "warned": State.DEGRADED,
        "needed": State.UNHEALTHY,
        "not needed": State.DEGRADED,
    }


async def test_what_is_not_needed_is_ready_all_the_same_and_what_is_vital_is_not_alive():
    health, well = Health(), {"loop": True, "bus": True, "policy": True}
    health.add("loop", lambda: (well["loop"], ""), vital=True)
    health.add("bus", lambda: (well["bus"], ""), vital=False)
    health.add("policy", lambda: (well["policy"], ""), vital=False, needed=False)

    def answers(**other):
        well.update({"loop": True, "bus": True, "policy": True} | other)
        report = health.report()
        return report.live, report.ready

    assert answers() == (True, True)
    assert answers(policy=False) == (True, True)
    assert answers(bus=False) == (True, False)
    assert answers(loop=False) == (False, False)


async def test_since_when_a_state_holds():
    clock, answer = [1_000], [(True, "a")]
    health = Health(now=lambda: clock[0])
    health.add("bus", lambda: answer[0], vital=False)
    assert (found(health).since, found(health).checked_at) == (1_000, 1_000)
    clock[0], answer[0] = 2_000, (True, "b")
    assert (found(health).since, found(health).checked_at, found(health).message) == (1_000, 2_000, "b")
    clock[0], answer[0] = 3_000, (False, "c")
    assert (found(health).since, found(health).state) == (3_000, State.UNHEALTHY)


async def test_changes_are_told_once_each_and_a_first_that_is_not_well():
    told, answer = [], [(True, "a")]
    health = Health(changed=lambda name, one: told.append((name, one.state, one.message)))
    health.add("bus", lambda: answer[0], vital=False)
    health.add("disk", lambda: (True, "warning: soon full"), vital=False)
    for one in ((True, "a"), (True, "b"), (False, "c"), (False, "d"), (True, "e")):
        answer[0] = one
        health.report()
    assert told == [
        ("disk", State.DEGRADED, "warning: soon full"),
        ("bus", State.UNHEALTHY, "c"),
        ("bus", State.HEALTHY, "e"),
    ]


async def test_a_check_that_hangs_has_failed_and_others_are_done_meanwhile(tasks):
    health = Health(deadline=0.05)

    async def hangs():
        await asyncio.Event().wait()
        raise AssertionError

    async def quick():
        return True, "here"

    health.add("bus", hangs, vital=False)
    health.add("disk", quick, vital=False)
    tasks.start(health.run(tasks.start))
    await until(lambda: found(health, "disk").ok)
    await until(lambda: found(health).message == "no answer within 0.05 s")
    assert found(health).duration_ms >= 45


async def test_a_check_may_have_a_time_out_of_its_own(tasks):
    health = Health()

    async def hangs():
        await asyncio.Event().wait()
        raise AssertionError

    health.add("tcp", hangs, vital=False, needed=False, external=True, deadline=0.02)
    tasks.start(health.run(tasks.start))
    await until(lambda: found(health, "tcp").message == "no answer within 0.02 s")
    assert found(health, "tcp").state is State.UNHEALTHY


async def test_a_check_that_raises_has_failed_and_is_told_in_the_log_alone(tasks, stream):
    health = Health()

    async def broken():
        raise OSError("postgresql://gateway:hunter2@db")

    health.add("store", broken, vital=False)
    tasks.start(health.run(tasks.start))
    await until(lambda: found(health, "store").message == "the check failed; the log says why")
    assert "health check failed" in stream.getvalue()


async def test_checks_are_done_again_each_interval(tasks):
    health, times = Health(interval=0.05), []

    async def counted():
        times.append(1)
        return True, ""

    health.add("tcp", counted, vital=False, external=True)
    health.add("other", counted, vital=False, external=True, interval=600)
    tasks.start(health.run(tasks.start))
    await until(lambda: len(times) >= 3)


async def test_what_failed_is_done_again_soon_though_the_interval_is_long(tasks, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "_FRESH_SECONDS", 1e9)  # not because somebody asks
    health, answers = Health(interval=600), [(False, "gone"), (False, "gone"), (True, "back")]

    async def check():
        return answers.pop(0)

    health.add("bus", check, vital=False)
    tasks.start(health.run(tasks.start))
    await until(lambda: found(health).ok)


async def test_whoever_asks_has_it_checked_and_does_not_wait(tasks, monkeypatch):
    monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
    health, answers = Health(interval=600), [(True, "there"), (False, "gone")]
    foreign = []

    async def check():
        return answers.pop(0)

    async def other():
        foreign.append(1)
        return True, ""

    health.add("bus", check, vital=False)
    health.add("tcp", other, vital=False, external=True)
    tasks.start(health.run(tasks.start))
    await until(lambda: len(answers) == 1)
    assert health.report().checks["bus"].ok in {True, False}
    await until(lambda: not found(health).ok)
    assert foreign == [1], "another service is asked as often as it was said"


async def test_a_passive_check_is_believed_at_once_when_it_says_the_part_is_gone_and_never_that_it_is_back(
    tasks,
):
    health, seen = Health(interval=600), [False, "not asked yet"]
    answers, checked = [(True, "there"), (True, "there again")], asyncio.Event()

    async def check():
        await checked.wait()
        checked.clear()
        return answers.pop(0)

    health.add("bus", check, vital=False)
    health.add_passive("bus", lambda: (seen[0], seen[1]))
    tasks.start(health.run(tasks.start))
    await asyncio.sleep(0.01)
    assert found(health).message == "not checked yet", "before the first answer it is not asked"
    seen[:] = True, "there"
    checked.set()
    await until(lambda: found(health).ok)
    seen[:] = False, "gone"
    report = health.report()
    assert (report.ready, report.checks["bus"].message) == (False, "gone")
    seen[:] = True, "there again"
    assert not health.report().ready, "only the check says so"
    checked.set()
    await until(lambda: health.report().ready)
    assert answers == [], "it was checked at once, and not after ten minutes"


async def test_a_check_that_is_removed_is_done_no_more(tasks):
    health = Health()

    async def hangs():
        await asyncio.Event().wait()
        raise AssertionError

    health.add("tcp", hangs, vital=False, external=True)
    tasks.start(health.run(tasks.start))
    await asyncio.sleep(0.01)
    health.remove("tcp")
    health.remove("nobody's")
    assert health.report().checks == {}


async def test_a_change_of_a_state_is_counted_and_one_of_words_is_not():
    health, answer = Health(), [True, "fine"]
    health.add("bus", lambda: (answer[0], answer[1]), vital=False)
    health.report()
    before = health.changes
    answer[1] = "as fine"
    health.report()
    assert health.changes == before
    for state in (False, True):
        answer[0] = state
        health.findings()
        assert health.changes > before
        before = health.changes
    health.remove("bus")
    assert health.changes > before
