"""`acl learn`, `acl unused` and `acl diff --replay`, on a store that a gateway has filled."""

import asyncio
import json
import tomllib
from datetime import UTC, datetime

import pytest

from gateway.cli import acl_usage
from gateway.cli.settings_policy_store import settings_of
from gateway.policy.engine.rules import Action
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.store import open_store

HOUR = 3_600
ALLOWED, OBSERVED, REFUSED = Passage
WIDE = """description = "All."
[[allow]]
actions = ["publish", "subscribe"]
topics = ["#"]
"""


@pytest.fixture
def seen(place):
    """Two devices, and what was seen of them: `seen(device, template, hours=1, ...)`."""
    (place.folder / "acl/roles/wide.toml").write_text(WIDE)
    for name in ("lamp-1", "lamp-2"):
        code, _, err = place.shell(f"gateway-admin device add {name} --role wide --label room=r-{name}")
        assert code == 0, err

    def add(device_id, template, *, hours=1, action=Action.PUBLISH, passage=ALLOWED, count=1):
        at = int(datetime.now(UTC).timestamp()) - hours * HOUR
        one = UsageRecord(device_id, action, template, passage, count, at, at)

        async def work():
            store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
            await store.usage.add_records([one])
            await store.close()

        asyncio.run(work())

    add("lamp-1", "devices/{device}/state", count=3)
    add("lamp-2", "devices/{device}/state")
    add("lamp-1", "old", hours=30)
    add("lamp-1", "no", passage=REFUSED)
    return add


def answer(place, command, code=0):
    ended, out, err = place.shell(f"gateway-admin {command} --json")
    assert ended == code, err
    return json.loads(out)


def allowed(found):
    return {(one["action"], one["topic"]) for one in found["allow"]}


def test_a_role_is_proposed_of_a_device_for_a_time(place, seen):
    found = answer(place, "acl learn --device lamp-1")
    assert allowed(found) == {("publish", "devices/{device}/state")}
    assert [(one["topic"], one["count"]) for one in found["refused"]] == [("no", 1)]
    assert found["devices"] == ["lamp-1"]
    later = answer(place, "acl learn --device lamp-1 --for 2d")
    assert allowed(later) == {("publish", "devices/{device}/state"), ("publish", "old")}


def test_the_text_is_the_file(place, seen):
    code, out, err = place.shell("gateway-admin acl learn --role wide")
    assert (code, err) == (0, "")
    assert tomllib.loads(out)["allow"] == [{"actions": ["publish"], "topics": ["devices/{device}/state"]}]
    assert "# Role wide, learned from what lamp-1, lamp-2 did in the last 24h." in out
    assert out == answer(place, "acl learn --role wide")["role"]


def test_what_goes_on_for_long_is_counted_from_its_beginning(place, seen):
    """`--for` says what is looked at, not since when it is counted: the file says so, and its times do."""
    seen("lamp-1", "devices/{device}/state", hours=50, count=100)
    found = answer(place, "acl learn --device lamp-1 --for 2h")
    (one,) = found["allow"]
    assert one["count"] == 103
    assert one["last_at"] - one["first_at"] == pytest.approx(49 * HOUR, abs=60)
    head = found["role"].partition("description")[0].replace("\n# ", " ")
    assert "did in the last 2h" in head
    assert "they begin with the first time of their line, which may be before that" in head
    assert "Its counts may be older." in " ".join(
        place.shell("COLUMNS=400 gateway-admin acl learn --help")[1].split()
    )
    # What was not used for an hour is unused since then, not since it was first recorded.
    since = datetime.fromisoformat(answer(place, "acl unused --for 2h")["recorded_since"])
    assert 0 <= (datetime.now(UTC) - since).total_seconds() - 2 * HOUR < HOUR


def test_more_devices_than_a_query_takes(place, seen, monkeypatch):
    monkeypatch.setattr(acl_usage, "_AT_ONCE", 1)
    monkeypatch.chdir(place.folder)
    place.shell("gateway-admin device add other --role sensor")
    seen("other", "not/asked/for")
    devices, found = asyncio.run(acl_usage._recorded(settings_of(None), 2 * HOUR, roles={"wide"}))
    assert list(devices) == ["lamp-1", "lamp-2"]
    assert [(one.device_id, one.template) for one in found] == [
        ("lamp-1", "devices/{device}/state"),
        ("lamp-1", "no"),
        ("lamp-2", "devices/{device}/state"),
    ]


def test_roles_that_include_others_are_learned_both_ways(place, seen):
    """`--role` takes what comes by `include`, and devices that have it by a role that includes it."""
    roles = place.folder / "acl/roles"
    (roles / "base.toml").write_text(WIDE.replace('"#"', '"base/#"'))
    (roles / "middle.toml").write_text('description = "Includes base."\ninclude = ["base"]\n')
    (roles / "whole.toml").write_text(
        WIDE.replace('"#"', '"whole/#"').replace("[[allow]]", 'include = ["middle"]\n[[allow]]')
    )
    assert place.shell("gateway-admin device add d-1 --role whole")[0] == 0
    seen("d-1", "base/one")
    seen("d-1", "whole/one")
    both = {("publish", "base/one"), ("publish", "whole/one")}
    assert allowed(answer(place, "acl learn --role whole")) == both
    for name in ("base", "middle"):
        found = answer(place, f"acl learn --role {name}")
        assert allowed(found) == {("publish", "base/one")}
        assert found["devices"] == ["d-1"]


def test_a_file_is_written_once_and_is_a_role(place, seen):
    command = "gateway-admin acl learn --role wide --out acl/roles/learned.toml"
    assert place.shell(command) == (0, "acl/roles/learned.toml written. Read it before you use it.\n", "")
    assert "learned" in answer(place, "acl check")["roles"]
    elsewhere = place.shell("gateway-admin acl learn --role wide --out learned.toml")[1]
    assert elsewhere.endswith("It is not in the policy in force: move it to acl/roles/ for that.\n")
    code, _, err = place.shell(command)
    assert code == 1
    assert "exists already: name a new file" in err
    assert place.shell("ls -a acl/roles")[1].split() == [
        ".",
        "..",
        "learned.toml",
        "reader.toml",
        "sensor.toml",
        "wide.toml",
    ]


def test_what_was_only_refused_makes_no_file(place, seen):
    place.shell("gateway-admin device add lamp-3 --role wide")
    seen("lamp-3", "no", passage=REFUSED)
    code, _, err = place.shell("gateway-admin acl learn --device lamp-3 --out new.toml")
    assert code == 1
    assert "nothing was allowed and used" in err
    assert place.shell("ls new.toml")[0] != 0
    assert answer(place, "acl learn --device lamp-3")["allow"] == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("", 2, "say whom to learn from"),
        ("--device lamp-1 --role wide", 2, "say whom to learn from"),
        ("--device lamp-1 --for soon", 2, "'soon' is not a time"),
        ("--device ghost", 1, "there is no device 'ghost'"),
        ("--role ghost", 1, "there is no role 'ghost' in acl/roles; the roles are: reader, sensor, wide"),
        ("--role reader", 1, "nothing was recorded of devices with the role reader"),
        ("--device lamp-1 --for 1s", 1, "nothing was recorded of device lamp-1 in the last 1s"),
    ],
)
def test_what_can_not_be_learned(place, seen, words, code, says):
    ended, _, err = place.shell(f"gateway-admin acl learn {words}")
    assert ended == code
    assert says in err


def test_a_role_whose_file_is_gone_can_be_learned_anew(place, seen):
    (place.folder / "acl/roles/wide.toml").unlink()
    assert allowed(answer(place, "acl learn --role wide")) == {("publish", "devices/{device}/state")}


def test_rights_that_nobody_used(place, seen):
    found = answer(place, "acl unused --for 2d")
    rules = {(one["role"], one["topic"]): one for one in found["unused"]}
    assert rules["wide", "#"]["unused"] == ["subscribe"]
    assert rules["wide", "#"]["used"] == ["publish"]
    assert rules["wide", "#"]["rule"] == "acl/roles/wide.toml:4"
    assert rules["sensor", "devices/{device}/telemetry"]["role_has_devices"] is False
    _, out, _ = place.shell("gateway-admin acl unused --for 2d")
    assert 'acl/roles/wide.toml:4  subscribe on "#"\n' in out
    assert out.startswith(f"recorded since {found['recorded_since']}; ")
    assert found["not_recorded"] == 0
    assert "not judged" not in out
    seen("lamp-2", OVERFLOW, action=Action.SUBSCRIBE, count=3)
    seen("lamp-2", OVERFLOW, passage=REFUSED)
    found = answer(place, "acl unused --for 2d")
    assert "wide" not in {one["role"] for one in found["unused"]}
    assert found["not_recorded"] == 3
    _, out, _ = place.shell("gateway-admin acl unused --for 2d")
    assert "not judged: 3 that found no room; all rules that may have allowed them count as used\n" in out
    code, _, err = place.shell("gateway-admin acl unused --for 1s")
    assert (code, "nothing was recorded in the last 1s" in err) == (1, True)


def test_what_another_policy_would_change_of_what_was_done(place, seen):
    place.shell("cp -r acl new")
    (place.folder / "new/roles/wide.toml").write_text(
        WIDE.replace('"#"', '"devices/{device}/#", "no"') + "max_qos = 1\n"
    )
    seen("lamp-2", "devices/lamp-1/state", count=4)
    same = answer(place, "acl diff acl acl --replay")
    assert same["replay"] == {"judged": 5, "unknown": 0, "not_recorded": 0, "in_part": [], "changes": []}
    found = answer(place, "acl diff acl new --replay")["replay"]
    changes = {(one["device_id"], one["topic"]): one for one in found["changes"]}
    assert {name: one["now"] for name, one in changes.items()} == {
        ("lamp-1", "devices/{device}/state"): "conditions",
        ("lamp-2", "devices/{device}/state"): "conditions",
        ("lamp-2", "devices/lamp-1/state"): "refused",
        ("lamp-1", "no"): "conditions",
        ("lamp-1", "old"): "refused",
    }
    assert changes["lamp-2", "devices/lamp-1/state"]["count"] == 4
    assert changes["lamp-1", "no"]["recorded"] == "refused"
    assert changes["lamp-1", "no"]["rule"] == "new/roles/wide.toml:4"
    assert len(answer(place, "acl diff acl new --replay --for 1d")["replay"]["changes"]) == 4
    _, out, _ = place.shell("gateway-admin acl diff acl new --replay")
    assert "replay: 5 of 5 recorded decisions change\n" in out
    assert '  lamp-2 publish "devices/lamp-1/state" (4 times): is refused\n' in out
    assert '  lamp-1 publish "no" (once): has other conditions by new/roles/wide.toml:4\n' in out
    assert "not judged" not in out
    assert "replay" not in answer(place, "acl diff acl new")
    seen("lamp-1", "devices/+/state", count=2)
    found = answer(place, "acl diff acl new --replay")["replay"]
    many = {"device_id": "lamp-1", "action": "publish", "topic": "devices/+/state", "count": 2}
    assert (found["judged"], found["in_part"]) == (5, [many])
    _, out, _ = place.shell("gateway-admin acl diff acl new --replay")
    told = 'not judged: 1 of many topics each, that rules meet in part: lamp-1 publish "devices/+/state"'
    assert f"  {told}\n" in out


def test_a_replay_of_a_time_needs_to_be_asked_for(place):
    code, _, err = place.shell("gateway-admin acl diff acl acl --for 1d")
    assert (code, "--for says how far --replay looks back" in err) == (2, True)


def test_what_passed_while_observed_is_a_rule_that_is_marked(place, seen):
    assert place.shell("gateway-admin device add lamp-3 --role reader")[0] == 0
    seen("lamp-3", "new/{device}", passage=OBSERVED, count=2)
    seen("lamp-3", "no", passage=REFUSED)
    found = answer(place, "acl learn --device lamp-3")
    (one,) = found["allow"]
    assert (one["topic"], one["observed"], one["count"], one["max_qos"]) == ("new/{device}", True, 2, 2)
    assert [one["topic"] for one in found["refused"]] == ["no"]
    assert [one["observed"] for one in answer(place, "acl learn --device lamp-1")["allow"]] == [False]
    code, _, err = place.shell("gateway-admin acl learn --device lamp-3 --out acl/roles/new.toml")
    assert (code, err) == (0, "")
    place.shell("cp -r acl before && rm before/roles/new.toml && gateway-admin device set lamp-3 --role new")
    # Once the role is there it is what allows it; before, nothing did, and nothing is lost by its end.
    assert answer(place, "acl learn --device lamp-3")["allow"][0]["observed"] is False
    assert "new" not in {one["role"] for one in answer(place, "acl unused")["unused"]}
    changes = answer(place, "acl diff before acl --replay")["replay"]["changes"]
    assert [(one["topic"], one["recorded"], one["now"]) for one in changes] == [
        ("new/{device}", "observed", "allowed")
    ]
    _, out, _ = place.shell("gateway-admin acl diff before acl --replay")
    assert '  lamp-3 publish "new/{device}" (2 times, observed): is allowed by acl/roles/new.toml:' in out
