"""`acl why` by the id of a refusal: what was logged, and what the policy says of it now."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from gateway.store import StoredRefusal, open_store

NOW = int(datetime.now(UTC).timestamp())
FIRST = StoredRefusal(
    "1f0c9a77e2", NOW, "lamp-1", "publish", "devices/lamp-2/state", "No rule allows it.", ""
)


@pytest.fixture
def logged(place):
    """Refusals that a gateway has saved."""
    place.shell("gateway-admin device add lamp-1 --role sensor --label room=kitchen")

    def save(*refusals):
        async def work():
            store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
            await store.refusals.add(refusals)
            await store.close()

        asyncio.run(work())

    return save


def test_a_refusal_is_explained_by_the_policy_as_it_is_now(place, logged):
    logged(FIRST)
    code, out, err = place.shell("gateway-admin acl why 1f0c9a77e2")
    assert (code, err) == (1, "")
    first, second, *rest = out.splitlines()
    assert first.startswith("refused at 20")
    assert first.endswith("Z: No rule allows it.")
    assert second == "by the policy as it is now:"
    assert rest == place.shell("gateway-admin acl why lamp-1 publish devices/lamp-2/state")[1].splitlines()
    found = json.loads(place.shell("gateway-admin acl why 1f0c9a77e2 --json")[1])
    assert found["refusal"]["reason"] == "No rule allows it."
    assert found["refusal"]["at"] == FIRST.at * 1_000, "as every time in JSON, in Unix milliseconds"
    assert (found["refusal"]["rule"], found["allowed"], found["topic"]) == (
        None,
        False,
        "devices/lamp-2/state",
    )


def test_what_would_pass_now_says_so(place, logged):
    rule = "acl/roles/sensor.toml:9"
    logged(
        StoredRefusal(
            "aa", NOW, "lamp-1", "publish", "devices/lamp-1/state", "QoS 2 is above the 1 allowed.", rule
        )
    )
    code, out, _ = place.shell("gateway-admin acl why aa")
    assert code == 0
    assert f"QoS 2 is above the 1 allowed. ({rule})" in out
    assert out.splitlines()[-1].startswith("It would pass now: ")
    assert place.shell("gateway-admin acl why aa --qos 2")[0] == 1


def test_a_filter_is_explained_as_one(place, logged):
    logged(StoredRefusal("bb", NOW, "lamp-1", "subscribe", "$share/g/rooms/+/x", "No rule allows it.", ""))
    code, out, err = place.shell("gateway-admin acl why bb")
    assert (code, err) == (1, "")
    assert "denied: lamp-1 subscribe $share/g/rooms/+/x" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nothing", 1, "no refusal 'nothing' is kept"),
        ("lamp-1 publish", 2, "give DEVICE, ACTION and TOPIC, or alone the id"),
        ("gone", 1, "no refusal 'gone' is kept"),
    ],
)
def test_what_can_not_be_explained(place, logged, words, code, says):
    logged(StoredRefusal("gone", NOW, "lamp-9", "publish", "a", "r", ""))
    ended, _, err = place.shell(f"gateway-admin acl why {words}")
    assert ended == code
    assert says in err
