"""The file of the dynamic security plugin as lists of lines, accounts, and what is told of it."""

import json

import pytest

from gateway.policy.engine.rules import Action
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.dynsec import DynSec
from gateway.policy.imports.role_composition import compose

SEND, RECEIVE = "publishClientSend", "publishClientReceive"
LITERAL, PATTERN = "subscribeLiteral", "subscribePattern"


def acl(kind, topic, priority=0, *, allow=True):
    return {"acltype": kind, "topic": topic, "priority": priority, "allow": allow}


def read(**parts):
    # A line each for what stands in a list, so that places can be told apart.
    lines = ["{"]
    for number, (key, value) in enumerate(parts.items()):
        comma = "," if number else ""
        if isinstance(value, list):
            lines += [f'{comma}"{key}": [', *(",\n".join(map(json.dumps, value)).split("\n")), "]"]
        else:
            lines.append(f'{comma}"{key}": {json.dumps(value)}')
    return DynSec("\n".join([*lines, "}"]).encode(), "d.json")


def asked(source, user, action):
    source_user = next(one for one in source.users if one.user == user)
    return [
        [f"{'' if one.allow else '-'}{one.topic}" for one in lines]
        for lines in source_user.access_lists[action]
    ]


def one_role(*acls, **more):
    return read(
        roles=[{"rolename": "r", "acls": list(acls)}],
        clients=[{"username": "u", "roles": [{"rolename": "r"}]}],
        **more,
    )


def told(source, kind="differs"):
    return [one.text for one in source.findings if one.kind == kind]


def test_roles_groups_and_rules_go_by_priority_then_by_name_or_place():
    def role(name, *acls):
        return {"rolename": name, "acls": [acl(SEND, topic, priority) for topic, priority in acls]}

    source = read(
        roles=[
            role("z", ("z", 0)),
            role("b", ("b1", 1), ("b2", 5), ("b3", 5)),
            role("a", ("a", 0)),
            role("g", ("g", 0)),
        ],
        groups=[
            {
                "groupname": "later",
                "roles": [{"rolename": "g"}],
                "clients": [{"username": "u", "priority": -5}],
            },
            {"groupname": "ya", "roles": [{"rolename": "a"}], "clients": [{"username": "u"}]},
            {"groupname": "xb", "roles": [{"rolename": "z"}], "clients": [{"username": "u"}]},
        ],
        clients=[
            {
                "username": "u",
                "roles": [{"rolename": "b"}, {"rolename": "a", "priority": 3}, {"rolename": "a"}],
            }
        ],
    )
    assert asked(source, "u", Action.PUBLISH) == [["a", "b2", "b3", "b1", "z", "a", "g"]]


def test_to_be_delivered_both_the_receipt_and_the_subscription_count():
    source = one_role(
        acl(RECEIVE, "a/#"), acl(PATTERN, "p/#", 9), acl(LITERAL, "l/#"), acl(RECEIVE, "a/x", 1, allow=False),
    )  # fmt: skip
    assert asked(source, "u", Action.SUBSCRIBE) == [["-a/x", "a/#"], ["l/#", "p/#"]]
    assert asked(source, "u", Action.PUBLISH) == [[]]


def test_defaults_come_last():
    everything = {SEND: True, RECEIVE: True, "subscribe": True, "unsubscribe": True}
    source = one_role(acl(SEND, "a", allow=False), defaultACLAccess=everything)
    assert asked(source, "u", Action.PUBLISH) == [["-a", "#"]]
    assert asked(source, "u", Action.SUBSCRIBE) == [["#", "$SYS/#"], ["#", "$SYS/#"]]
    assert sum("begin with $" in text for text in told(source)) == 2
    (lines,) = source.users[0].access_lists[Action.PUBLISH]
    assert [one.location for one in lines] == ["d.json:3", "d.json:8 (default access)"]
    locations = [one.location for one in source.findings if "begin with $" in one.text]
    assert locations == ["d.json:8 (default access)"] * 2


def test_denied_subscriptions():
    source = one_role(
        acl(PATTERN, "a/b/#", 5, allow=False), acl(PATTERN, "a/#"), acl(LITERAL, "c", 1, allow=False),
        acl(LITERAL, "d/#", 2, allow=False), acl(LITERAL, "d/#", 1),
        acl(PATTERN, "$share/g/e", 1, allow=False), acl(PATTERN, "$share/g/f"),
    )  # fmt: skip
    assert asked(source, "u", Action.SUBSCRIBE)[1] == ["-c", "-a/b/#", "a/#", "f"]
    topics = {one.topics for one in source.findings if one.kind == "differs" and one.topics}
    assert topics == {"a/b/#", "c"}, "what Mosquitto delivers to wider subscriptions"
    assert any("SUBSCRIBE to d/# itself" in text for text in told(source))
    assert any("shared subscriptions to e" in text for text in told(source))


def test_accounts():
    hashed = {"password": "hash", "salt": "salt", "iterations": 101}
    source = read(
        clients=[
            {"username": "old", **hashed},
            {"username": "new", "encoded_password": "$7$1000$salt$hash"},
            {"username": "off", "disabled": True, **hashed},
            {"username": "none"},
            {"username": "bound", "clientid": "c1", **hashed},
            {"username": "no device", **hashed},
        ]
    )
    assert [(one.user, one.hashed, one.location) for one in source.accounts] == [
        ("old", "$7$101$salt$hash", "d.json:3"),
        ("new", "$7$1000$salt$hash", "d.json:4"),
        ("bound", "$7$101$salt$hash", "d.json:7"),
        ("no device", "$7$101$salt$hash", "d.json:8"),
    ]
    assert "hash" not in repr(source.accounts)
    about = {(one.kind, one.user) for one in source.findings if one.user}
    assert about == {("note", "off"), ("note", "none"), ("differs", "bound")}


def test_who_has_no_name_has_the_anonymous_group():
    source = read(
        roles=[{"rolename": "r", "acls": [acl(SEND, "a")]}],
        groups=[{"groupname": "g", "roles": [{"rolename": "r"}]}],
        anonymousGroup="g",
    )
    assert asked(source, None, Action.PUBLISH) == [["a"]]
    assert any("without a user name" in text for text in told(source))


def test_what_leads_nowhere_is_told():
    source = read(
        roles=[
            {
                "rolename": "r",
                "acls": [acl(SEND, "a/#/b"), acl(SEND, "%u"), acl("unsubscribeLiteral", "x", allow=False)],
            }
        ],
        groups=[{"groupname": "g", "roles": [{"rolename": "gone"}], "clients": [{"username": "nobody"}]}],
        clients=[
            {
                "username": "u",
                "roles": [{"rolename": "r"}, {"rolename": "lost"}],
                "groups": [{"groupname": "g"}],
            }
        ],
        version=2,
    )
    notes = " / ".join(told(source, "note"))
    for word in (
        "'gone'",
        "'lost'",
        "'nobody'",
        "'g'",
        "no message can match",
        "as by Mosquitto 2.1",
    ):
        assert word in notes
    assert any('"version"' in text for text in told(source)), "who knows what it takes away"
    assert sum("UNSUBSCRIBE" in text for text in told(source)) == 2, "the default, and the line"
    assert asked(source, "u", Action.PUBLISH) == [["None", "u"]]


def test_roles_are_parts_and_keep_their_names():
    (part,) = read(roles=[{"rolename": "r", "textname": "Readers", "acls": [acl(SEND, "a")]}]).common_roles
    assert (part.name, part.description) == ("r", "Readers: role r of d.json.")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"roles": [{"rolename": "r"}, {"rolename": "r"}]}, "d.json:4: 'r' is there twice"),
        ({"clients": [{"username": "u"}, {"username": "u"}]}, "d.json:4: 'u' is there twice"),
        ({"roles": [{"rolename": 1}]}, 'd.json:3: "rolename" has to be a string'),
        (
            {"roles": [{"rolename": "r", "acls": [{"acltype": "subscribe", "topic": "a"}]}]},
            "d.json:3: the acltype is",
        ),
        ({"roles": [{"rolename": "r", "acls": [{"acltype": SEND}]}]}, 'd.json:3: "topic" has to be a string'),
        ({"defaultACLAccess": {SEND: "yes"}}, f'd.json:2: "{SEND}" has to be true or false'),
        ({"clients": {}}, 'd.json:1: "clients" has to be a list of objects'),
    ],
)
def test_what_is_not_of_its_form_is_refused(parts, problem):
    with pytest.raises(PolicyError) as refused:
        read(**parts)
    assert any(one.startswith(problem) for one in refused.value.problems), refused.value.problems


@pytest.mark.parametrize(
    ("where", "location"),
    [
        ({"roles": [{"rolename": "r", "allowpublish": False}]}, "d.json:3"),
        ({"roles": [{"rolename": "r", "acls": [{**acl(SEND, "a"), "maxqos": 0}]}]}, "d.json:3"),
        ({"clients": [{"username": "u", "expires": 1}]}, "d.json:3"),
        ({"groups": [{"groupname": "g", "disabled": True}]}, "d.json:3"),
        ({"defaultACLAccess": {"connect": False}}, "d.json:2"),
        ({"denylist": ["u"]}, "d.json:1"),
    ],
)
def test_a_key_that_nobody_knows_is_a_difference_wherever_it_stands(where, location):
    """It may take a right away there; a mere note would be overlooked."""
    (finding,) = [one for one in read(**where).findings if "is not known" in one.text]
    assert (finding.kind, finding.location) == ("differs", location)


def test_keys_that_take_nothing_away_are_not_told():
    client = {"username": "u", "textname": "t", "textdescription": "d", "encoded_password": "$7$1$a$b"}
    role = {"rolename": "r", "textname": "t", "allowwildcardsubs": True, "acls": []}
    group = {"groupname": "g", "textname": "t", "textdescription": "d"}
    source = read(changeIndex=34, clients=[client], roles=[role], groups=[group])
    texts = told(source) + told(source, "note")
    assert not any("known" in text or "allowwildcardsubs" in text for text in texts)


def test_a_role_without_wildcard_subscriptions_is_a_difference():
    narrow = {"rolename": "reader", "allowwildcardsubs": False}
    rules = acl(RECEIVE, "plant/#"), acl(PATTERN, "plant/#"), acl(LITERAL, "gone/#"), acl(LITERAL, "x")
    clients = [{"username": "u", "roles": [{"rolename": "reader"}]}]
    source = read(roles=[{**narrow, "acls": rules}], clients=clients)
    (finding,) = [one for one in source.findings if "'reader'" in one.text]
    assert (finding.kind, finding.location, finding.action) == ("differs", "d.json:3", Action.SUBSCRIBE)
    assert asked(source, "u", Action.SUBSCRIBE)[1] == ["x", "plant/#"], "gone/# grants nothing there"


@pytest.mark.parametrize(
    ("kind", "topic", "user", "theirs"),
    [
        (SEND, "devices/%u/up", "lamp-1", "devices/lamp-1/up"),
        (RECEIVE, "%u/%c", "lamp-1", "lamp-1/{client}"),
        (SEND, "a/%u-x", "lamp-1", "a/%u-x"),
        (SEND, "a/%u", "two words", "a/two words"),
        (SEND, "a/%u", "deep/name", "None"),
        (SEND, "a/%u", "+", "None"),
    ],
)
def test_names_are_put_in_where_a_level_is_one(kind, topic, user, theirs):
    rules = [{"rolename": "r", "acls": [acl(kind, topic)]}]
    source = read(roles=rules, clients=[{"username": user, "roles": [{"rolename": "r"}]}])
    action = Action.PUBLISH if kind == SEND else Action.SUBSCRIBE
    assert asked(source, user, action)[0] == [theirs]


def test_a_deny_with_a_name_that_is_no_level_takes_the_whole_level():
    rules = [{"rolename": "r", "acls": [acl(SEND, "a/%u", 1, allow=False), acl(SEND, "#")]}]
    source = read(roles=rules, clients=[{"username": "x/y", "roles": [{"rolename": "r"}]}])
    assert asked(source, "x/y", Action.PUBLISH) == [["-a/+", "#"]]


def test_roles_of_names_say_them_as_placeholders():
    rules = [{"rolename": "r", "acls": [acl(SEND, "a/%u/%c"), acl(LITERAL, "b/%u")]}]
    (part,) = read(roles=rules).common_roles
    assert [one.topic for one in part.access_lists[Action.PUBLISH][0]] == ["a/{device}/{client}"]
    assert [one.topic for one in part.access_lists[Action.SUBSCRIBE][1]] == ["b/%u"], (
        "looked up as it is written"
    )


DEFAULTS = {SEND: False, RECEIVE: True, "subscribe": False, "unsubscribe": True}
"""As Mosquitto writes them at the first start."""


@pytest.mark.parametrize(
    ("defaults", "line"),
    [
        (DEFAULTS, acl(PATTERN, "devices/+/private/#")),
        (DEFAULTS, acl(LITERAL, "devices/+/private/#")),
        (DEFAULTS, acl(PATTERN, "#")),
        (DEFAULTS | {"subscribe": True, RECEIVE: False}, acl(RECEIVE, "devices/+/private/#")),
        (DEFAULTS | {"subscribe": True, RECEIVE: False}, acl(RECEIVE, "#")),
    ],
    ids=range(5),
)
def test_a_right_is_told_at_the_line_of_the_role_that_gives_it_and_not_at_the_default(defaults, line):
    """Of the two lists that have to allow it, one is most often the default."""
    found = compose(
        one_role(line, defaultACLAccess=defaults), reserved="gateway", sensitive=["devices/+/private/#"]
    )
    assert [one.location for one in found.findings if "payloads are sealed" in one.text] == ["d.json:3"]
    (draft,) = found.drafts
    allowed = {rule.topic: locations for rule, locations in draft.locations.items() if rule.topic != "$SYS/#"}
    assert allowed == {line["topic"]: ("d.json:3",)}


def test_a_question_names_the_line_of_the_role_that_answers_it():
    (source_user,) = one_role(acl(PATTERN, "a/#"), defaultACLAccess=DEFAULTS).users
    assert source_user.allowed_in_mosquitto(Action.SUBSCRIBE, "a/b")
    assert source_user.deciding_location(Action.SUBSCRIBE, "a/b") == "d.json:3"
    assert source_user.deciding_location(Action.SUBSCRIBE, "b") == "d.json:8 (default access)"


def test_what_nobody_wrote_is_told_at_the_default():
    everything = DEFAULTS | {"subscribe": True}
    found = compose(one_role(defaultACLAccess=everything), reserved="gateway", sensitive=["a/#"])
    locations = {one.location for one in found.findings if "payloads are sealed" in one.text}
    assert locations == {"d.json:8 (default access)"}
