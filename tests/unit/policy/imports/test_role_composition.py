"""Who gets which role, and what stands in it."""

from gateway.policy.engine.rules import Effect
from gateway.policy.imports.mosquitto_acl import AclFile
from gateway.policy.imports.role_composition import compose


def composed(*lines, others=()):
    source = AclFile("\n".join(lines).encode(), "acl", others)
    return compose(source, reserved="gateway", sensitive=["devices/+/private/#"])


def rules(found, name):
    """Each topic of a role, `-` for a deny, with the first letters of its actions."""
    role = next(draft.role for draft in found.drafts if draft.role.name == name)
    return {
        ("-" if rule.effect is Effect.DENY else "") + rule.topic: "".join(
            sorted(one[0] for one in rule.actions)
        )
        for rule in role.rules
    }


def test_a_role_for_each_user_and_one_for_the_patterns():
    found = composed(
        "user anna", "topic a", "topic deny b", "user ben", "topic read c", "pattern write x/%u",
        others=[("eve", "pw:1")],
    )  # fmt: skip
    assert found.roles_of == {"anna": ("anna", "everyone"), "ben": ("ben", "everyone"), "eve": ("everyone",)}
    assert rules(found, "anna") == {"a": "ps", "-b": "ps"}
    assert rules(found, "ben") == {"c": "s"}
    assert rules(found, "everyone") == {"x/{device}": "p"}


def test_users_with_the_same_rights_share_a_role():
    found = composed(
        "user s1", "topic write dev/s1/#", "topic read all",
        "user s2", "topic read all", "topic write dev/s2/#",
        "user s3", "topic write dev/s1/#", "topic read all",
    )  # fmt: skip
    assert found.roles_of == {"s1": ("shared",), "s2": ("shared",), "s3": ("s3",)}
    assert rules(found, "shared") == {"dev/{device}/#": "p", "all": "s"}
    assert rules(found, "s3") == {"dev/s1/#": "p", "all": "s"}, "another's place is another's"


def test_what_one_user_has_alone_is_written_as_it_was():
    found = composed(
        "user state", "topic write devices/+/state", "pattern deny +/+/%u/x", "pattern write %u/#"
    )
    assert rules(found, "state")["devices/+/state"] == "p"


def test_who_is_stronger_than_a_pattern_gets_the_patterns_written_out():
    found = composed(
        "pattern deny safe/#", "pattern read +/+", "pattern write log/%u",
        "user boss", "topic safe/#",
        "user clerk", "topic a",
    )  # fmt: skip
    assert found.roles_of == {"boss": ("boss",), "clerk": ("clerk", "everyone")}
    assert rules(found, "boss") == {"safe/#": "ps", "log/{device}": "p", "+/+": "s"}
    assert rules(found, "everyone") == {"log/{device}": "p", "+/+": "s", "-safe/#": "ps"}


def test_clients_without_a_name_share_no_role():
    found = composed("topic a", "user anna", "topic a", "user ben", "topic a")
    assert found.roles_of == {None: ("anonymous",), "anna": ("shared",), "ben": ("shared",)}


def test_names_of_roles_are_free_and_valid():
    users = ["everyone", "anonymous", "ä b/c", "$x", "-", "y" * 90]
    own = [line for number, user in enumerate(users) for line in (f"user {user}", f"topic t{number}")]
    found = composed("topic a", *own, "pattern g")
    assert [draft.role.name for draft in found.drafts] == [
        "everyone", "anonymous", "everyone-2", "anonymous-2", "b-c", "x", "user", "y" * 60,
    ]  # fmt: skip


def test_nobody_without_rights_has_a_role():
    found = composed("user anna", "topic deny a", "user ben")
    assert found.roles_of == {"anna": (), "ben": ()}
    assert found.drafts == []


def test_topics_with_an_owner_are_told_of():
    found = composed(
        "user anna",
        "topic read #",
        "topic write devices/x/private/y",
        "topic deny gateway/#",
        "topic gateways/a",
    )
    assert {one.location for one in found.findings if one.topics == "gateway/#"} == {"acl:2", "acl:4"}
    assert {one.location for one in found.findings if one.kind == "note"} == {"acl:2", "acl:3"}


def test_a_deny_that_a_client_id_evades_is_told_of_once():
    found = composed(
        "pattern read a/#", "pattern deny a/%c", "pattern deny a/b/%c", "user anna", "topic write c"
    )
    notes = [one for one in found.findings if one.kind == "note"]
    assert [(one.location, "with a different one it is not denied" in one.text) for one in notes] == [
        ("acl:2", True)
    ]
    assert not any(
        "with another" in one.text for one in composed("pattern a/%c", "pattern deny a/%u").findings
    )


def test_who_may_publish_everything_is_told_of():
    found = composed("pattern readwrite #", "user anna", "topic read #", "topic write +/#", "topic deny #")
    assert [one.location for one in found.findings if "publish everything" in one.text] == ["acl:1"]


def test_a_user_that_can_be_no_device_is_told_what_to_do():
    found = composed(
        "pattern devices/%u/#", "pattern read log", "user lock/front", "topic a", "user plain",
        others=[("lamp kitchen", "pw:1"), ("+", "pw:2")],
    )  # fmt: skip
    told = {one.user: (one.location, one.text) for one in found.findings if "no device id" in one.text}
    assert told.keys() == {"lock/front", "lamp kitchen", "+"}
    location, text = told["lock/front"]
    assert location == "acl:3"
    assert "`gateway-admin device add NAME --role lock-front --secret-stdin`" in text
    assert "old name (devices/lock/front/#)" in text
    assert told["lamp kitchen"][0] == "pw:1"
    assert told["+"][1].endswith("and has no right: no device is made of it")


def test_rules_keep_the_places_of_their_lines():
    (draft,) = composed("user anna", "topic read a", "topic write a").drafts
    assert list(draft.locations.values()) == [("acl:3", "acl:2")]
