"""An acl_file as lists of lines in the order in which Mosquitto asks them."""

import pytest

from gateway.policy.engine.rules import Action
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.mosquitto_acl import AclFile

FILE = """# comment
topic read open
topic deny shut

user anna
topic readwrite a/#
pattern write machines/%c/+
topic write w
topic deny a/secret
user ben
pattern deny people/%u/pay
pattern read people/%u/#
user anna
topic r/#
"""


def read(text, *others):
    return AclFile(text.encode("utf-8", "surrogateescape"), "acl", others)


def asked(source, user, action):
    """The lines of a user: `-` denies, and each with its number."""
    source_user = next(one for one in source.users if one.user == user)
    (lines,) = source_user.access_lists[action]
    return [f"{'' if one.allow else '-'}{one.topic} {one.location.partition(':')[2]}" for one in lines]


def told(source, kind="differs"):
    return {
        (one.location, one.topics) for one in source.findings if one.kind == kind and one.location != "acl"
    }


def test_lines_are_asked_in_mosquittos_order():
    source = read(FILE)
    assert [(one.user, one.location) for one in source.users] == [
        (None, "acl:2"),
        ("anna", "acl:5"),
        ("ben", "acl:10"),
    ]
    assert asked(source, "anna", Action.PUBLISH) == [
        "-a/secret 9", "a/# 6", "w 8", "r/# 14", "-people/anna/pay 11", "machines/{client}/+ 7",
    ]  # fmt: skip
    assert asked(source, "anna", Action.SUBSCRIBE) == [
        "-a/secret 9", "a/# 6", "r/# 14", "-people/anna/pay 11", "people/anna/# 12",
    ]  # fmt: skip
    assert asked(source, "ben", Action.PUBLISH) == ["-people/ben/pay 11", "machines/{client}/+ 7"]


def test_a_tab_is_a_part_of_the_topic_where_it_is_one_there():
    source = read("user anna\ntopic  \ta/b\ntopic read \tc/d\t\n")
    assert asked(source, "anna", Action.PUBLISH) == ["\ta/b 2"]
    assert asked(source, "anna", Action.SUBSCRIBE) == ["\ta/b 2", "c/d 3"]
    with pytest.raises(PolicyError, match="acl:1: "):
        read("topic \tread a/b\n")


def test_a_nul_refuses_the_file():
    """Mosquitto leaves out the lines behind it, which may be denies."""
    with pytest.raises(PolicyError, match="acl:2: it has a NUL"):
        read("topic a\ntopic deny a/b\0\n")


def test_who_comes_without_a_name_has_no_pattern_with_a_name():
    source = read(FILE)
    assert asked(source, None, Action.SUBSCRIBE) == ["-shut 3", "open 2"]
    assert asked(source, None, Action.PUBLISH) == ["-shut 3", "machines/{client}/+ 7"]
    assert {("acl:2", None), ("acl:3", None)} <= told(source), "and is told of, line by line"


def test_patterns_are_a_part_for_whoever_it_may_be():
    (part,) = read(FILE).common_roles
    (lines,) = part.access_lists[Action.SUBSCRIBE]
    assert [one.topic for one in lines] == ["people/{device}/pay", "people/{device}/#"]
    assert read("topic a").common_roles == ()


def test_users_of_a_password_file_have_the_patterns():
    source = read(FILE, ("carla", "passwd:1"), ("anna", "passwd:2"))
    assert [(one.user, one.location) for one in source.users][3:] == [("carla", "passwd:1")]
    assert asked(source, "carla", Action.SUBSCRIBE) == ["-people/carla/pay 11", "people/carla/# 12"]


@pytest.mark.parametrize("user", ["a b", "ä", "-x", "x" * 65, "a/b", "$SYS", "\udcff"])
def test_a_user_that_can_be_no_device_is_written_out(user):
    source = read(f"user {user}\ntopic own\npattern x/%u/%c")
    assert asked(source, user, Action.PUBLISH)[0] == "own 2"
    assert source.users[0].topics_with_name == (f"x/{user}/%c",), "told with what becomes of it"
    if user.isprintable():
        assert asked(source, user, Action.PUBLISH)[1:] == [f"x/{user}/{{client}} 3"]


@pytest.mark.parametrize("user", ["+", "a#"])
def test_a_dangerous_name_has_no_pattern(user):
    """CVE-2017-7650: Mosquitto refuses by all of them."""
    assert asked(read(f"user {user}\ntopic own\npattern x/%u\npattern y"), user, Action.PUBLISH) == ["own 2"]


def test_a_part_of_a_level_is_written_out_for_who_is_known():
    source = read("user anna\npattern log-%u/x\npattern deny %u-%u/#")
    assert asked(source, "anna", Action.PUBLISH) == ["-anna-anna/# 3", "log-anna/x 2"]
    assert {("acl:2", None), ("acl:3", None)} <= told(source)
    (lines,) = source.common_roles[0].access_lists[Action.PUBLISH]
    assert [(one.allow, one.topic) for one in lines] == [(False, "+/#"), (True, None)], "others get no more"


def test_what_mosquitto_2_1_reads_otherwise_is_told_with_what_to_do():
    source = read("user anna\ntopic a\npattern log-%u/x\npattern deny %u-/#\npattern b/%u")
    texts = {one.location: one.text for one in source.findings if "Mosquitto 2.1" in one.text}
    assert {*texts} == {"acl:3", "acl:4"}, "and not the line whose %u is a whole level"
    assert all(text.endswith("if yours is 2.1, remove it before the import") for text in texts.values())


def test_a_name_of_several_levels_is_told_of_once_a_line_that_puts_it_in():
    source = read("user lock/front\ntopic own\npattern x/%u\npattern y/%c\nuser anna\ntopic own")
    found = [one for one in source.findings if "more than one level" in one.text]
    assert [(one.kind, one.location, one.user) for one in found] == [("differs", "acl:3", "lock/front")]


def test_what_no_rule_can_say_allows_nothing_and_denies_more():
    source = read("user anna\ntopic a/{device}\ntopic deny b/{x}/c\npattern c-%c/%u\npattern deny d-%c/%u")
    assert asked(source, "anna", Action.PUBLISH) == ["-b/+/c 3", "None 2", "-+/anna 5", "None 4"]
    assert {("acl:2", "a/+"), ("acl:3", "b/+/c"), ("acl:4", "+/{device}"), ("acl:5", "+/{device}")} <= told(
        source
    )
    why = {one.location: one.text.partition(":")[0] for one in source.findings if one.topics}
    assert why == {
        "acl:2": "a level has braces, which in a rule only placeholders have",
        "acl:3": "a level has braces, which in a rule only placeholders have",
        "acl:4": "%c is only a part of a level, and a rule's {client} is a whole one",
        "acl:5": "%c is only a part of a level, and a rule's {client} is a whole one",
    }


def test_client_ids_with_wildcards_are_told_of_with_what_to_do():
    (text,) = (one.text for one in read("pattern a/%u\npattern b").findings if "has + or #" in one.text)
    assert text.startswith("a client whose id has + or # gets nothing from patterns in Mosquitto")
    assert text.endswith("Nothing has to be done")


def test_what_mosquitto_itself_refuses_is_left_out_with_a_note():
    source = read("user anna\ntopic $SYS/#\ntopic write $SYS/x\ntopic $share/g/a\ntopic $home/#")
    assert asked(source, "anna", Action.PUBLISH) == [
        "$SYS/broker/connection/+/state 2", "None 3", "None 4", "$home/# 5",
    ]  # fmt: skip
    assert asked(source, "anna", Action.SUBSCRIBE) == ["$SYS/# 2", "None 4", "$home/# 5"]
    assert told(source, "note") == {("acl:2", None), ("acl:3", None), ("acl:4", None)}
    anna = source.users[0]
    assert anna.allowed_in_mosquitto(Action.SUBSCRIBE, "$SYS/x")
    assert not anna.allowed_in_mosquitto(Action.PUBLISH, "$SYS/x")
    assert not anna.allowed_in_mosquitto(Action.SUBSCRIBE, "$share/g/a")


def test_names_outside_of_patterns_are_literal_and_told():
    """Most likely meant as patterns."""
    source = read("topic read x/%c\nuser anna\ntopic devices/%u/#\ntopic a%\npattern b/%u")
    assert asked(source, "anna", Action.PUBLISH) == ["devices/%u/# 3", "a% 4", "b/anna 5"]
    assert told(source, "note") == {("acl:1", None), ("acl:3", None)}
    assert all("did you mean pattern?" in one.text for one in source.findings if one.kind == "note")


def test_bytes_that_are_no_utf8_match_nothing():
    source = read("user anna\ntopic \udcff/a\ntopic deny \udcff/b\ntopic c")
    assert asked(source, "anna", Action.PUBLISH) == ["-None 3", "None 2", "c 4"]
    assert told(source, "note") == {("acl:2", None), ("acl:3", None)}


def test_a_password_file_is_told_as_one_and_never_shown():
    for text in ("# users\nanna:$7$101$c2FsdA==$aGFzaA==\nben:$6$x$y", "ben : $6$salt$aGFzaA=="):
        with pytest.raises(PolicyError) as refused:
            read(text)
        (problem,) = refused.value.problems
        assert "looks like a password_file" in problem
        assert "--passwords" in problem
        assert not any(word in problem for word in ("$", "aGFzaA", "anna", "ben"))


@pytest.mark.parametrize("text", ["ben:secret", '\t\t"password":\t"secret",', "secret", "psk-id:secret a"])
def test_a_line_of_another_file_is_never_shown(text):
    with pytest.raises(PolicyError, match="acl:1: begins with none of topic, pattern and user") as refused:
        read(text)
    assert "secret" not in str(refused.value)


def test_all_lines_that_mosquitto_does_not_start_with_are_told_at_once():
    with pytest.raises(PolicyError) as refused:
        read("topic\n # x\nuser\ntopic reed a\npattern a/#/b\nfoo\ntopic ok")
    problems = refused.value.problems
    assert [one.partition(": ")[0] for one in problems] == [f"acl:{number}" for number in range(1, 7)]
    assert all(one.endswith("Mosquitto does not start with this line: correct it") for one in problems)
    assert '"reed" is none of read, write, readwrite, deny' in problems[3]
