"""What Mosquitto's dynamic security plugin answers, the gateway answers after the import of its file."""

import base64
import hashlib
import json
import random
from pathlib import Path

import pytest
from acl_questions import EVERYTHING, PROBE, Broker
from test_import_mosquitto import RESERVED, Import, differences, topics_of

from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.rules import Action
from gateway.policy.imports.dynsec import DynSec

PLUGIN = next(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))
SEND, RECEIVE = "publishClientSend", "publishClientReceive"
LITERAL, PATTERN = "subscribeLiteral", "subscribePattern"
PASSWORD = b"the same for all"
CREDENTIAL = {
    "password": base64.b64encode(hashlib.pbkdf2_hmac("sha512", PASSWORD, b"twelve bytes", 1)).decode(),
    "salt": base64.b64encode(b"twelve bytes").decode(),
    "iterations": 1,
}


def acl(kind, topic, priority=0, *, allow=True):
    return {"acltype": kind, "topic": topic, "priority": priority, "allow": allow}


def role(name, *acls):
    return {"rolename": name, "acls": list(acls)}


def client(user, *roles, **more):
    named = [{"rolename": name, "priority": priority} for name, priority in roles]
    return {"username": user, **CREDENTIAL, "roles": named, **more}


def defaults(*, send=False, receive=True, subscribe=False):
    return {SEND: send, RECEIVE: receive, "subscribe": subscribe, "unsubscribe": True}


HOME = {
    "defaultACLAccess": defaults(),
    "roles": [
        role("announced", acl(PATTERN, "announcements/#"), acl(LITERAL, "time")),
        role("lights", acl(SEND, "home/+/light/+/set"), acl(PATTERN, "home/+/light/#"),
             acl(RECEIVE, "home/+/light/emergency", 10, allow=False)),
        role("no-nursery", *(acl(kind, "home/nursery/#", allow=False) for kind in (SEND, RECEIVE))),
        role("nursery", acl(SEND, "home/nursery/light/lamp/set")),
        role("everything", acl(SEND, "#"), acl(PATTERN, "#"), acl(SEND, "safe/#", 5, allow=False)),
        role("broken", acl(SEND, "a/#/b"), acl(PATTERN, "a+")),
    ],
    "groups": [
        {"groupname": "people", "roles": [{"rolename": "announced"}], "clients": [
            {"username": "anna"}, {"username": "ben", "priority": 3}, {"username": "nobody"}]},
        {"groupname": "children", "clients": [{"username": "ben", "priority": 9}], "roles": [
            {"rolename": "no-nursery", "priority": 5}, {"rolename": "lights"}]},
    ],
    "clients": [
        client("anna", ("lights", -1)),
        client("ben"),
        client("nurse", ("nursery", 9), ("no-nursery", 5), ("lights", 1)),
        client("tied", ("lights", 1), ("no-nursery", 1)),
        client("root", ("everything", 1), ("broken", 0)),
        client("empty"),
    ],
}  # fmt: skip


def ask_both(tmp_path, config, seed):
    source = DynSec(json.dumps(config).encode(), "dynsec.json")
    imported = Import(source, tmp_path / "acl")
    users = [source_user.user for source_user in source.users if source_user.user is not None]
    identities = [(user, user if is_device_id(user) else "client") for user in users]
    topics = topics_of(source, seed, 80)
    # Whoever may subscribe to something shall have tried: wide filters, those of the file, and each topic.
    filters = {one["topic"] for each in config["roles"] for one in each["acls"]}
    wanted = [*EVERYTHING, *sorted(one for one in filters if valid(one)), *topics]
    with plugged(tmp_path / "bus", config, identities) as broker:
        published, delivered = broker.published(topics), broker.delivered(topics, *wanted)
    told, untold = differences(imported, published, Action.PUBLISH, topics)
    more_told, more_untold = differences(imported, delivered, Action.SUBSCRIBE, topics)
    # That only $SYS/# of a default is carried over is told in words.
    assert [one for one in untold + more_untold if not one[3].startswith("$")] == []
    return told + more_told, imported


def valid(topic_filter):
    levels = topic_filter.split("/")
    return "#" not in levels[:-1] and not any(
        len(level) > 1 and ("+" in level or "#" in level) for level in levels
    )


def plugged(folder, config, identities):
    """A broker with the plugin, whose file has a role and a client for the probe as well."""
    kinds = (SEND, RECEIVE, PATTERN)
    every = role("the probe", *(acl(kind, one, 100) for kind in kinds for one in EVERYTHING))
    whole = {
        **config,
        "roles": [*config["roles"], every],
        "clients": [*config["clients"], client(PROBE, ("the probe", 100))],
    }
    folder.mkdir(parents=True)
    (folder / "dynsec.json").write_text(json.dumps(whole))
    settings = f"plugin {PLUGIN}\nplugin_opt_config_file {folder / 'dynsec.json'}"
    return Broker(folder, settings, identities, PASSWORD)


def test_a_home_means_the_same_here(tmp_path):
    told, imported = ask_both(tmp_path, HOME, "home")
    # Her own role is asked first there; here the deny that the others need is stronger.
    assert {one[:4] for one in told} <= {("nurse", "nurse", "publish", "home/nursery/light/lamp/set")}
    roles = imported.composed.roles_of
    assert roles["anna"] == ("lights", "announced"), "roles stay roles"
    assert roles["empty"] == ()


@pytest.mark.parametrize("seed", range(8))
def test_any_file_means_the_same_here(tmp_path, seed):
    """Of few words and priorities, so that rules reach into each other everywhere."""
    dice = random.Random(f"dynsec {seed}")
    users = ["u1", "u2", "u3", "sp ace"]
    roles = [role(f"r{number}", *(an_acl(dice) for _ in range(dice.randint(0, 7)))) for number in range(5)]
    config = {
        "defaultACLAccess": defaults(
            send=dice.random() < 0.1, receive=dice.random() < 0.6, subscribe=dice.random() < 0.15
        ),
        "roles": roles,
        "groups": [
            {
                "groupname": f"g{number}",
                "roles": [{"rolename": f"r{dice.randint(0, 4)}", "priority": dice.randint(-1, 2)}],
                "clients": [
                    {"username": user, "priority": dice.randint(-1, 1)}
                    for user in users
                    if dice.random() < 0.4
                ],
            }
            for number in range(3)
        ],
        "clients": [
            client(
                user, *((f"r{dice.randint(0, 4)}", dice.randint(-1, 2)) for _ in range(dice.randint(0, 3)))
            )
            for user in users
        ],
    }
    ask_both(tmp_path, config, seed)


def an_acl(dice):
    levels = dice.choices(["a", "b", "u1", "", "+", "+", "{device}"], k=dice.randint(1, 4))
    if dice.random() < 0.15:
        levels[0] = dice.choice(["$home", "$SYS", RESERVED])
    if dice.random() < 0.3 or not any(levels):
        levels.append("#")
    topic = "#" if dice.random() < 0.1 else "/".join(levels)
    kind = dice.choice([SEND, RECEIVE, RECEIVE, LITERAL, PATTERN, PATTERN])
    return acl(kind, topic, dice.randint(0, 3), allow=dice.random() < 0.7)
