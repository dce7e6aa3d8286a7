"""The file of the sealing keys: made once, never remade, and refused when anything about it is wrong."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.keyring import KeyState
from gateway.security.keyfile import KeyFileError, ensure_key_file, read_key_file
from gateway.security.secrets import Secret
from gateway.security.wrapping import Wrapping

WRAPPING = Wrapping(Secret(bytes(range(32))), is_passphrase=False)
OTHER = Wrapping(Secret(bytes(32)), is_passphrase=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "encryption.key"


@pytest.fixture
def made(path: Path) -> Path:
    assert ensure_key_file(path)
    return path


def rewrite(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(path, wrapping=None):
    """Why the file is refused; the text never holds a key and always says which file it is."""
    with pytest.raises(KeyFileError) as caught:
        read_key_file(path, wrapping)
    text = str(caught.value)
    assert str(path) in text
    # Nor does an error behind it, which would quote what was read.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


@pytest.mark.parametrize("wrapping", [None, WRAPPING], ids=["open", "wrapped"])
def test_a_new_file_holds_one_active_key(path, wrapping):
    assert ensure_key_file(path, wrapping)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (key,) = read_key_file(path, wrapping)
    assert (key.key_id, key.state, len(key.material)) == ("k1", KeyState.ACTIVE, 32)
    stored = base64.b64decode(json.loads(path.read_text())["keys"][0]["key"])
    assert (key.material in stored) == (wrapping is None)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_there_is_left_as_it_is(made):
    before = made.read_bytes()
    assert not ensure_key_file(made)
    assert not ensure_key_file(made, WRAPPING)
    assert made.read_bytes() == before
    made.write_text("damaged")
    assert not ensure_key_file(made)
    assert made.read_text() == "damaged"


def test_no_two_files_hold_the_same_key(tmp_path):
    keys = set()
    for name in "ab":
        ensure_key_file(tmp_path / name)
        keys.add(read_key_file(tmp_path / name)[0].material)
    assert len(keys) == 2


def test_the_umask_does_not_matter(path):
    before = os.umask(0)
    try:
        ensure_key_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_process_left_is_not_taken_for_the_file(path):
    path.parent.mkdir()
    (path.parent / f".{path.name}.new").write_text("half")
    assert ensure_key_file(path)
    assert read_key_file(path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_processes_that_start_together_make_one_file(path):
    program = (
        "import sys; from pathlib import Path; from gateway.security.keyfile import *;"
        "sys.stdin.readline(); path = Path(sys.argv[1]);"
        "print(ensure_key_file(path), read_key_file(path)[0].material.hex())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for one in running:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate()[0].split() for one in running]
    assert sorted(line[0] for line in said) == ["False", "False", "False", "True"]
    assert len({line[1] for line in said}) == 1


def test_where_no_file_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="can't be written"):
        ensure_key_file(tmp_path / "file" / "encryption.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o666])
def test_others_may_not_read_or_write_it(made, mode):
    made.chmod(mode)
    assert f"chmod 600 {made}" in refused(made)


def test_a_mode_that_is_stricter_is_fine(made):
    made.chmod(0o400)
    assert read_key_file(made)


def test_a_file_that_is_not_there(path):
    assert "restore the file from a backup" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"4711",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b'{"v": 1}',
        b'{"v": 1, "wrapped": false}',
        b'{"v": 1, "wrapped": false, "keys": null}',
        b'{"v": 1, "wrapped": false, "keys": [null]}',
        b'{"v": 1, "wrapped": false, "keys": [{}]}',
    ],
)
def test_a_damaged_file(made, content):
    made.write_bytes(content)
    assert "backup" in refused(made)


def test_a_file_cut_off_anywhere(made):
    whole = made.read_bytes()
    for size in range(0, len(whole), 7):
        made.write_bytes(whole[:size])
        assert "backup" in refused(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.update(state="retired"),
        lambda key: key.update(key_id=5),
        lambda key: key.update(key_id="k/1"),
        lambda key: key.update(key_id=""),
        lambda key: key.update(created_at="now"),
        lambda key: key.update(key="****"),
        lambda key: key.update(key=""),
        lambda key: key.update(key=base64.b64encode(b"x" * 31).decode()),
        lambda key: key.update(key=base64.b64encode(b"x" * 33).decode()),
        lambda key: key.update(state="destroyed"),
        lambda key: key.pop("key"),
    ],
    ids=range(11),
)
def test_an_entry_that_is_no_key(made, change):
    rewrite(made, lambda document: change(document["keys"][0]))
    assert "damaged" in refused(made)


def with_keys(*states, same=False):
    def change(document):
        first = document["keys"][0]
        document["keys"] = [
            first
            | {
                "key_id": "k1" if same else f"k{number}",
                "state": state,
                "key": "" if state == "destroyed" else first["key"],
            }
            for number, state in enumerate(states)
        ]

    return change


@pytest.mark.parametrize(
    "change",
    [
        with_keys(),
        with_keys("decrypt-only"),
        with_keys("active", "active"),
        with_keys("active", "decrypt-only", same=True),
    ],
)
def test_there_is_exactly_one_active_key_and_no_name_twice(made, change):
    rewrite(made, change)
    assert "not exactly one is active" in refused(made)


def test_old_and_destroyed_keys(made):
    rewrite(made, with_keys("destroyed", "decrypt-only", "active"))
    keys = read_key_file(made)
    assert [(key.key_id, key.state, len(key.material)) for key in keys] == [
        ("k0", "destroyed", 0),
        ("k1", "decrypt-only", 32),
        ("k2", "active", 32),
    ]


def test_a_newer_format_is_not_guessed_at(made):
    rewrite(made, lambda document: document.update(v=2))
    assert "newer gateway" in refused(made)


def test_a_wrapped_file_needs_its_wrapping_key(path):
    ensure_key_file(path, WRAPPING)
    assert "set ENCRYPTION_KEY" in refused(path)
    assert "another ENCRYPTION_KEY" in refused(path, OTHER)


def test_an_open_file_takes_no_wrapping_key(made):
    # Silently reading it would let everybody believe it was wrapped.
    text = refused(made, WRAPPING)
    assert "take it away" in text
    assert "keys export" in text
    assert "keys import" in text


def test_wrapped_keys_can_not_change_names(path):
    ensure_key_file(path, WRAPPING)
    rewrite(path, lambda document: document["keys"][0].update(key_id="k2"))
    assert "another ENCRYPTION_KEY" in refused(path, WRAPPING)


def test_a_wrapped_key_that_is_cut_off(path):
    ensure_key_file(path, WRAPPING)
    for content in ("", "AAAA", base64.b64encode(bytes(20)).decode()):
        rewrite(path, lambda document, content=content: document["keys"][0].update(key=content))
        refused(path, WRAPPING)


def test_a_refusal_holds_no_key(made):
    key = json.loads(made.read_text())["keys"][0]["key"]
    made.write_text(made.read_text()[:-3])
    assert key not in refused(made)
