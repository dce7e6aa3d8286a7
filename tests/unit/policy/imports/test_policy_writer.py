"""The folder that is written: read by the loader, true to its source, and never over anything."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from gateway.observe.terminal_escaping import printable
from gateway.policy.engine.limits import Limits
from gateway.policy.files.loader import load_policy
from gateway.policy.files.policy_tests import load_cases, run_cases
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports import policy_writer
from gateway.policy.imports.mosquitto_acl import AclFile
from gateway.policy.imports.policy_writer import SENSITIVE, ask, compiled, rehearse, write
from gateway.policy.imports.role_composition import compose

SHIPPED = Path(__file__).parents[4] / "acl"
TEXT = 'user anna\ntopic read a/+/#\ntopic deny a/b\nuser x y\ntopic "q"\\ü\x7f\x01/é\npattern write %u/%c'


def imported(text=TEXT, file="m.acl"):
    source = AclFile(text.encode(), file)
    composed = compose(source, reserved="gateway", sensitive=SENSITIVE)
    questions, faults = ask(source, composed, compiled(composed, reserved="gateway"))
    return source, composed, questions, faults


def put(folder, text=TEXT, file="m.acl"):
    source, composed, questions, faults = imported(text, file)
    assert faults == []
    write(folder, source, composed, questions, reserved="gateway")
    return load_policy(folder, reserved="gateway")


def test_the_folder_is_a_policy_with_the_same_rules(tmp_path):
    policy = put(tmp_path / "new")
    composed = imported()[1]
    assert policy.digest == compiled(composed, reserved="gateway").digest
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "cases.toml", "encryption.toml", "limits.toml", "roles",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["new"], "nothing is left beside it"


def test_sealing_and_limits_are_those_that_ship(tmp_path):
    policy, shipped = put(tmp_path / "new"), load_policy(SHIPPED, reserved="gateway")
    assert policy.sensitive_filters == shipped.sensitive_filters
    assert policy.limits == shipped.limits == Limits()
    assert len(tomllib.loads((tmp_path / "new" / "limits.toml").read_text())) == len(Limits.__slots__)


def test_behind_each_topic_stands_its_line(tmp_path):
    put(tmp_path / "new", file="/etc/mosquitto\n/m.acl")
    text = (tmp_path / "new" / "roles" / "anna.toml").read_text()
    assert '  "a/+/#",  # /etc/mosquitto\\u000a/m.acl:2' in text.splitlines()


def test_nothing_in_a_file_moves_a_cursor_or_reads_from_the_right(tmp_path):
    """For it is there to be read, and lines of an acl_file may come from whoever named a device."""
    wild = "\x1b[2J\x9b1m\u202e\u2066\u200f\ufeff\x7f\x85"
    policy = put(tmp_path / "new", f"user anna\ntopic a/{wild}\nuser {wild}\ntopic b", file=f"{wild}.acl")
    assert [rule.topic for rule in policy.roles["anna"].rules] == [f"a/{wild}"]
    for path in (tmp_path / "new").rglob("*.toml"):
        text = path.read_text("utf-8")
        assert printable(text.replace("\n", "")) == text.replace("\n", ""), path


def test_the_cases_hold_and_most_are_denials(tmp_path):
    policy = put(tmp_path / "new")
    cases = load_cases(tmp_path / "new", policy)
    assert all(result.passed for result in run_cases(policy, cases))
    assert {(case.identity.device_id, case.identity.client_id) for case in cases} == {
        ("anna", "anna"),
        ("x-y", "client"),
    }
    assert {case.topic for case in cases} >= {"a/y2", "a/y2/x1/y2", "a/b", "anna/anna", "x y/client"}
    assert sum(not case.expected for case in cases) > sum(case.expected for case in cases) > 4


def test_a_question_that_is_told_to_differ_is_no_case():
    questions = imported(
        "user u\ntopic a/+/c\npattern deny a/b/#\npattern read a/#\npattern write gateway/x"
    )[2]
    assert not {"a/b/c", "gateway/x"} & {one.topic for one in questions}
    assert "a/b/x1" in {one.topic for one in questions}


def test_an_answer_that_differs_for_no_reason_is_told():
    source, composed, _, _ = imported("user u\ntopic a")
    composed.drafts.clear()
    _, faults = ask(source, composed, compiled(composed, reserved="gateway"))
    assert [(one.location, one.user, one.topics) for one in faults] == [("m.acl:2", "u", "a")] * 2


SHARED = "user bob\ntopic read jobs/#\ntopic read $share/workers/jobs/new\ntopic deny $share/g/jobs/old"


def test_a_shared_subscription_is_asked_of_neither(tmp_path):
    """As a filter it would ask here for what follows it, and no message has such a topic."""
    source, _, questions, _ = imported(SHARED)
    assert not any("$share" in one.topic for one in questions)
    assert {(one.location, "follows $share/<group>/" in one.text) for one in source.findings[:2]} == {
        ("m.acl:3", True), ("m.acl:4", True),
    }  # fmt: skip
    put(tmp_path / "new", SHARED)


def test_a_question_is_asked_as_a_case_is(monkeypatch):
    """So that nothing holds when it is asked, and fails when it is tried."""
    monkeypatch.setattr(policy_writer, "_examples", lambda _: ["$share/workers/jobs/new"])
    with pytest.raises(PolicyError) as refused:
        imported(SHARED)
    (problem,) = refused.value.problems
    assert problem.startswith(
        "m.acl:3: bob subscribe $share/workers/jobs/new: denied in Mosquitto and allowed"
    )
    assert "by hand" in problem


def test_a_question_knows_the_line_that_decides_it():
    questions = imported("user u\ntopic a/#\ntopic deny a/b\npattern c")[2]
    assert {(one.topic, one.location) for one in questions} >= {("a/b", "m.acl:3"), ("a/x1", "m.acl:2")}


@pytest.mark.parametrize("try_it", [write, lambda _, *given, **named: rehearse(*given, **named)])
def test_what_fails_when_it_is_tried_is_told_by_the_line_it_comes_from(tmp_path, monkeypatch, try_it):
    source, composed, questions, _ = imported("user u\ntopic a\ntopic b")
    wrong = [dataclasses.replace(one, allowed=not one.allowed) for one in questions]
    with pytest.raises(PolicyError) as refused:
        try_it(tmp_path / "new", source, composed, wrong, reserved="gateway")
    assert refused.value.problems[0].startswith(
        "m.acl:2: u publish a: denied in Mosquitto and allowed in the gateway, "
    )
    monkeypatch.setattr(policy_writer, "_quoted", lambda text: '"a/#/b"' if text == "b" else f'"{text}"')
    with pytest.raises(PolicyError) as refused:
        try_it(tmp_path / "new", source, composed, [], reserved="gateway")
    (problem,) = refused.value.problems
    assert problem.startswith("m.acl:3: the roles/u.toml that would come of it can't be used: ")
    assert str(tmp_path) not in problem
    assert list(tmp_path.iterdir()) == []


def test_there_are_never_too_many_cases():
    users = "".join(f"user u{number}\ntopic a/{number}/#\ntopic read b/{number}\n" for number in range(600))
    assert len(imported(users)[2]) <= 2 * 2 * 600, "a topic or two of each"
    assert len(imported("user u\n" + "".join(f"topic a/{number}\n" for number in range(500)))[2]) == 80


@pytest.mark.parametrize(
    "make", [lambda path: (path / "x").mkdir(parents=True), lambda path: path.write_text("")]
)
def test_nothing_is_written_over(tmp_path, make):
    make(tmp_path / "new")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PolicyError, match="there is something already"):
        put(tmp_path / "new")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "deep" / "new").mkdir(parents=True)
    assert put(tmp_path / "deep" / "new").roles


def test_a_folder_that_does_not_hold_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_writer, "_encryption", lambda: "nonsense")
    with pytest.raises(PolicyError):
        put(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
