"""Lines of values, which tomllib doesn't tell."""

from __future__ import annotations

from gateway.policy.files.toml_document import read

TEXT = '''\
# [[allow]] in a comment
description = """
[[allow]]
topics = "not here"
"""
other = 'x # no comment [[allow]]'  # [[allow]]

[[allow]] # first
actions = ["publish"]
topics = [
  "a",  # "no topic"
  # "none here either"
  "b\\"]", 'c',

  """d""",
]

[[ deny ]]
"actions" = [ "publish" ]
labels = { room = "x", list = ["y"] }
[[allow]]
max_qos = 1
topics = ["z"]'''


def block(tmp_path, text, *, end="\n"):
    file = tmp_path / "x.toml"
    file.write_bytes(text.replace("\n", end).encode())
    problems = []
    return read(file, problems, missing="write it"), problems


def test_lines_of_blocks_keys_and_items(tmp_path):
    for end in ("\n", "\r\n"):
        top, problems = block(tmp_path, TEXT, end=end)
        assert problems == []
        assert top.lines.keys == {"description": 2, "other": 6}
        first, second = top.blocks("allow")
        assert (first.line, second.line) == (8, 21)
        assert list(first.strings("topics")) == [("a", 11), ('b"]', 13), ("c", 13), ("d", 15)]
        assert list(first.strings("actions")) == [("publish", 9)]
        assert second.lines.keys == {"max_qos": 22, "topics": 23}
        (deny,) = top.blocks("deny")
        assert deny.line == 18
        assert deny.lines.keys == {"actions": 19, "labels": 20}
        assert problems == []


def test_inline_blocks_have_the_line_of_their_key(tmp_path):
    top, problems = block(tmp_path, 'x = 1\nallow = [{ actions = ["a"] }, { actions = ["b"] }]\n')
    assert [one.line for one in top.blocks("allow")] == [2, 2]
    assert [list(one.strings("actions")) for one in top.blocks("allow")] == [[("a", 2)], [("b", 2)]]
    assert problems == []


def test_a_table_is_no_list_of_tables(tmp_path):
    top, problems = block(tmp_path, "\n[allow]\nx = 1\n")
    assert top.blocks("allow") == []
    assert "[[allow]]" in problems[0]


def test_types(tmp_path):
    top, problems = block(tmp_path, 'a = 1\nb = true\nc = "x"\nd = []\ne = ["x", 1]\nf = 3\n')
    assert top.number("a", 0, least=1) == 1
    assert top.number("z", 5, least=1) == 5
    assert top.flag("b", default=False) is True
    assert top.text("c") == "x"
    assert top.text("z", "y") == "y"
    assert problems == []
    top.number("b", 0, least=0)  # True is 1 to Python
    top.number("f", 0, least=0, most=2)
    top.number("c", 0, least=0)
    top.flag("a", default=True)
    top.text("a")
    top.text("z")
    for key in "cdez":
        assert list(top.strings(key)) == []
    lines = [one.removeprefix(top.file).split(":")[1] for one in problems]
    assert lines == ["2", "6", "3", "1", "1", "1", "3", "4", "5", "1"]


def test_what_cannot_be_read_is_reported(tmp_path):
    assert block(tmp_path, "a = 1\nb = = 2\n")[1][0].startswith(f"{tmp_path}/x.toml:2: it is not valid TOML")
    assert block(tmp_path, 'a = 1\n\nb = ["x"')[1][0].startswith(f"{tmp_path}/x.toml:3: it is not valid TOML")
    assert block(tmp_path, "a = 1\na = 2\n")[1][0].startswith(f"{tmp_path}/x.toml:2: ")
    assert "nests too deeply" in block(tmp_path, "a = " + "[" * 5_000)[1][0]
    problems = []
    file = tmp_path / "y.toml"
    assert read(file, problems, missing="write it") is None
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    assert read(file, problems, missing="write it") is None
    assert read(tmp_path, problems, missing="write it") is None
    assert "write it" in problems[0]
    assert f"{file}:2: it is not UTF-8" in problems[1]
    assert "can't be read" in problems[2]


def test_a_byte_order_mark_is_no_problem(tmp_path):
    assert block(tmp_path, "\ufeffa = 1\n")[0].values == {"a": 1}
