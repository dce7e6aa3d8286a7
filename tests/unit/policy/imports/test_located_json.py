"""JSON whose objects know their lines."""

import pytest

from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.located_json import parse

TEXT = b"""{
  "Name": "a } { \\" b",
  "inner": {"list": [
    {"number": 1},

    {"number": 2, "deep": {
       "flag": true}}
  ]},
  "after": {}
}"""


def test_objects_know_their_lines():
    whole = parse(TEXT, "f.json", [])
    inner = whole.object("inner")
    first, second = inner.objects("list")
    locations = [
        one.location for one in (whole, inner, first, second, second.object("deep"), whole.object("after"))
    ]
    assert locations == ["f.json:1", "f.json:3", "f.json:4", "f.json:6", "f.json:6", "f.json:9"]
    assert (whole.text("name"), second.number("Number", 0)) == ('a } { " b', 2)
    assert second.object("deep").flag("flag", default=False)


def test_what_is_not_there_is_the_default():
    problems = []
    whole = parse(b"{}", "f", problems)
    assert (whole.text("a", "x"), whole.number("b", 7), whole.flag("c", default=True)) == ("x", 7, True)
    assert (whole.object("d"), whole.objects("e"), whole.has("a")) == (None, [], False)
    assert problems == []
    assert whole.text("a") == ""
    assert problems == ['f:1: "a" has to be a string']


def test_another_type_is_a_problem_at_its_line():
    problems = []
    whole = parse(
        b'\n{"a": 1, "b": "x", "c": 1, "d": [], "e": {}, "f": [1], "g": true, "h": ""}', "f", problems
    )
    whole.text("a")
    whole.number("b", 0)
    whole.flag("c", default=False)
    whole.object("d")
    whole.objects("e")
    whole.objects("f")
    whole.number("g", 0)
    whole.text("h")
    assert len(problems) == 8
    assert all(one.startswith("f:2: ") for one in problems)


def test_a_key_that_is_there_twice_is_a_problem():
    problems = []
    parse(b'{"x":\n{"a": 1, "A": 2}}', "f", problems)
    assert problems == ["f:2: a key is there twice; which one counts is not certain: remove one"]


def test_keys_that_nobody_knows():
    assert parse(b'{"aB": 1, "c": 2}', "f", []).unknown("Ab") == ["c"]


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"1", b"{", b'{"a": 1,}', b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_object(raw):
    with pytest.raises(PolicyError, match=r"^f"):
        parse(raw, "f", [])
