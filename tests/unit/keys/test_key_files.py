"""The files of the keys: made once, never remade, changed whole, and refused when anything is wrong."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.keys import key_files
from gateway.keys.key_files import (
    SEALING,
    SIGNING,
    KeyFileError,
    destroy,
    ensure_sealing_file,
    ensure_signing_file,
    read_sealing_file,
    read_signing_file,
    rotate_sealing,
    rotate_signing,
)
from gateway.keys.key_ring import KeyState
from gateway.keys.secret_values import Secret
from gateway.keys.wrapping import Wrapping

WRAPPING = Wrapping(Secret(bytes(range(32))), is_passphrase=False)
PASSPHRASE = Wrapping(Secret(b"correct horse battery"), is_passphrase=True)
OTHER = Wrapping(Secret(bytes(32)), is_passphrase=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "encryption.key"


@pytest.fixture
def made(path: Path) -> Path:
    assert ensure_sealing_file(path, None)
    return path


def rewrite(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(path, wrapping=None):
    """Why the file is refused; the text never holds a key and always says which file it is."""
    with pytest.raises(KeyFileError) as caught:
        read_sealing_file(path, wrapping)
    text = str(caught.value)
    assert str(path) in text
    # Nor does an error behind it, which would quote what was read.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


@pytest.mark.parametrize("wrapping", [None, WRAPPING], ids=["open", "wrapped"])
def test_a_new_file_holds_one_active_key(path, wrapping):
    assert ensure_sealing_file(path, wrapping)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (key,) = read_sealing_file(path, wrapping)
    assert (key.key_id, key.state, len(key.material)) == ("k1", KeyState.ACTIVE, 32)
    stored = base64.b64decode(json.loads(path.read_text())["keys"][0]["key"])
    assert (key.material in stored) == (wrapping is None)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_there_is_left_as_it_is(made):
    before = made.read_bytes()
    assert not ensure_sealing_file(made, None)
    assert not ensure_sealing_file(made, WRAPPING)
    assert made.read_bytes() == before
    made.write_text("damaged")
    assert not ensure_sealing_file(made, None)
    assert made.read_text() == "damaged"


def test_no_two_files_hold_the_same_key(tmp_path):
    keys = set()
    for name in "ab":
        ensure_sealing_file(tmp_path / name, None)
        keys.add(read_sealing_file(tmp_path / name, None)[0].material)
    assert len(keys) == 2


def test_the_umask_does_not_matter(path):
    before = os.umask(0)
    try:
        ensure_sealing_file(path, None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_process_left_is_not_taken_for_the_file(path):
    path.parent.mkdir()
    (path.parent / f".{path.name}.new").write_text("half")
    assert ensure_sealing_file(path, None)
    assert read_sealing_file(path, None)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_processes_that_start_together_make_one_file(path):
    program = (
        "import sys; from pathlib import Path; from gateway.keys.key_files import *;"
        "sys.stdin.readline(); path = Path(sys.argv[1]);"
        "print(ensure_sealing_file(path, None), read_sealing_file(path, None)[0].material.hex())"
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
        ensure_sealing_file(tmp_path / "file" / "encryption.key", None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o666])
def test_others_may_not_read_or_write_it(made, mode):
    made.chmod(mode)
    assert f"chmod 600 {made}" in refused(made)


def test_a_mode_that_is_stricter_is_fine(made):
    made.chmod(0o400)
    assert read_sealing_file(made, None)


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


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_what_is_no_file_is_not_waited_for(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a pipe":
        os.mkfifo(path, 0o600)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir(0o700)
    refused(path)  # at once


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
    ("change", "text"),
    [
        (with_keys(), "not exactly one is active"),
        (with_keys("decrypt-only"), "not exactly one is active"),
        (with_keys("active", "active"), "not exactly one is active"),
        (with_keys("active", "decrypt-only", same=True), "two have the same id"),
    ],
)
def test_there_is_exactly_one_active_key_and_no_name_twice(made, change, text):
    rewrite(made, change)
    assert text in refused(made)


def test_old_and_destroyed_keys(made):
    rewrite(made, with_keys("destroyed", "decrypt-only", "active"))
    keys = read_sealing_file(made, None)
    assert [(key.key_id, key.state, len(key.material)) for key in keys] == [
        ("k0", "destroyed", 0),
        ("k1", "decrypt-only", 32),
        ("k2", "active", 32),
    ]


def test_a_newer_format_is_not_guessed_at(made):
    rewrite(made, lambda document: document.update(v=2))
    assert "newer gateway" in refused(made)


def test_a_wrapped_file_needs_its_wrapping_key(path):
    ensure_sealing_file(path, WRAPPING)
    assert "set ENCRYPTION_KEY" in refused(path)
    assert "a different ENCRYPTION_KEY" in refused(path, OTHER)


def test_an_open_file_takes_no_wrapping_key(made):
    # Silently reading it would let everybody believe it was wrapped.
    text = refused(made, WRAPPING)
    assert "unset it" in text
    assert "keys export" in text
    assert "keys import" in text


def test_wrapped_keys_can_not_change_names(path):
    ensure_sealing_file(path, WRAPPING)
    rewrite(path, lambda document: document["keys"][0].update(key_id="k2"))
    assert "a different ENCRYPTION_KEY" in refused(path, WRAPPING)


def test_a_wrapped_key_that_is_cut_off(path):
    ensure_sealing_file(path, WRAPPING)
    for content in ("", "AAAA", base64.b64encode(bytes(20)).decode()):
        rewrite(path, lambda document, content=content: document["keys"][0].update(key=content))
        refused(path, WRAPPING)


def test_a_refusal_holds_no_key(made):
    key = json.loads(made.read_text())["keys"][0]["key"]
    made.write_text(made.read_text()[:-3])
    assert key not in refused(made)


@pytest.fixture
def clock(monkeypatch):
    now = [1_800_000_000]
    monkeypatch.setattr(key_files, "now", lambda: now[0])
    return now


@pytest.fixture
def signing(path: Path) -> Path:
    signing = path.with_name("signing.key")
    assert ensure_signing_file(signing, None)
    return signing


def shown(keys):
    return [(key.key_id, key.state, key.retired_at, key.until) for key in keys]


@pytest.mark.parametrize("wrapping", [None, WRAPPING, PASSPHRASE], ids=["open", "key", "passphrase"])
def test_another_key_takes_the_place_of_the_active_one(path, wrapping, clock):
    ensure_sealing_file(path, wrapping)
    (first,) = read_sealing_file(path, wrapping)
    clock[0] += 10
    new = rotate_sealing(path, wrapping)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old, active = read_sealing_file(path, wrapping)
    assert active == new
    assert shown([old, active]) == [("k1", "decrypt-only", clock[0], None), ("k2", "active", None, None)]
    assert (old.material, old.created_at, active.created_at) == (first.material, clock[0] - 10, clock[0])
    assert active.material != old.material
    assert [rotate_sealing(path, wrapping).key_id for _ in range(2)] == ["k3", "k4"]
    assert [key.state for key in read_sealing_file(path, wrapping)] == [*["decrypt-only"] * 3, "active"]


def test_a_signing_key_that_was_replaced_verifies_for_a_while(signing, clock):
    new = rotate_signing(signing, None, overlap_s=100)
    old, active = read_signing_file(signing, None)
    assert active == new
    assert shown([old, active]) == [
        ("s1", "verify-only", clock[0], clock[0] + 100),
        ("s2", "active", None, None),
    ]
    clock[0] += 99
    rotate_signing(signing, None, overlap_s=100)
    assert [key.key_id for key in read_signing_file(signing, None)] == ["s1", "s2", "s3"]
    clock[0] += 1
    rotate_signing(signing, None, overlap_s=100)
    assert [key.key_id for key in read_signing_file(signing, None)] == ["s2", "s3", "s4"]
    clock[0] += 100
    assert rotate_signing(signing, None, overlap_s=100).key_id == "s5", "no id is given twice"
    assert [key.key_id for key in read_signing_file(signing, None)] == ["s4", "s5"]


def test_to_rotate_signing_keys_makes_them_where_there_are_none(path):
    made = rotate_signing(path, WRAPPING, overlap_s=1)
    assert (made.key_id, made.state) == ("s1", "active")
    assert read_signing_file(path, WRAPPING) == [made]


def test_sealing_keys_are_not_made_by_rotating_them(path):
    with pytest.raises(KeyFileError, match="restore the file from a backup"):
        rotate_sealing(path, None)
    assert not path.exists()


@pytest.mark.parametrize("wrapping", [None, WRAPPING], ids=["open", "wrapped"])
def test_a_destroyed_key_leaves_nothing_but_its_name(path, wrapping):
    ensure_sealing_file(path, wrapping)
    old = json.loads(path.read_text())["keys"][0]["key"]
    rotate_sealing(path, wrapping)
    gone = destroy(path, SEALING, wrapping, "k1")
    assert (gone.state, gone.material) == ("destroyed", b"")
    assert old not in path.read_text()
    assert [(key.state, len(key.material)) for key in read_sealing_file(path, wrapping)] == [
        ("destroyed", 0),
        ("active", 32),
    ]
    assert destroy(path, SEALING, wrapping, "k1") == gone, "once more does no harm"
    assert rotate_sealing(path, wrapping).key_id == "k3"
    destroy(path, SEALING, wrapping, "k2")
    assert rotate_sealing(path, wrapping).key_id == "k4", "no id is given twice"


def test_a_destroyed_signing_key(signing, clock):
    rotate_signing(signing, None, overlap_s=100)
    assert destroy(signing, SIGNING, None, "s1").until is None
    assert shown(read_signing_file(signing, None)) == [
        ("s1", "destroyed", clock[0], None),
        ("s2", "active", None, None),
    ]


@pytest.mark.parametrize("name", ["k2", "k0", "", "K1", "k1 ", "k01", "s1", "a1", "../k1", "x"])
def test_only_a_key_that_is_there_is_destroyed(made, name):
    rotate_sealing(made, None)
    rotate_sealing(made, None)
    destroy(made, SEALING, None, "k2")
    before = made.read_bytes()
    if name != "k2":
        with pytest.raises(KeyFileError, match="there is no key with that id"):
            destroy(made, SEALING, None, name)
    assert made.read_bytes() == before


@pytest.mark.parametrize("letter", ["k", "s"])
def test_the_active_key_is_not_destroyed(made, signing, letter):
    file = made if letter == "k" else signing
    before = file.read_bytes()
    with pytest.raises(KeyFileError, match="rotate them first"):
        destroy(file, SEALING if letter == "k" else SIGNING, None, f"{letter}1")
    assert file.read_bytes() == before


def test_the_files_are_not_taken_for_each_other(made, signing):
    for read, file in ((read_sealing_file, signing), (read_signing_file, made)):
        with pytest.raises(KeyFileError, match="damaged"):
            read(file, None)
    for change in (lambda: rotate_sealing(signing, None), lambda: rotate_signing(made, None, 1)):
        with pytest.raises(KeyFileError, match="damaged"):
            change()


@pytest.mark.parametrize(
    "change",
    [
        {"state": "decrypt-only", "until": None},
        {"until": None},
        {"until": "never"},
        {"until": True},
        {"until": 1.5},
        {"retired_at": "now"},
        {"created_at": True},
        {"key_id": "k1"},
        {"key_id": "s01"},
        {"state": "active"},
        {"key": ["x"]},
    ],
    ids=str,
)
def test_an_entry_that_is_no_signing_key(signing, change):
    rotate_signing(signing, None, overlap_s=100)
    assert read_signing_file(signing, None)
    rewrite(signing, lambda document: document["keys"][0].update(change))
    with pytest.raises(KeyFileError, match="damaged"):
        read_signing_file(signing, None)


def test_an_active_key_has_no_end(signing):
    rewrite(signing, lambda document: document["keys"][0].update(until=2_000_000_000))
    with pytest.raises(KeyFileError, match="damaged"):
        read_signing_file(signing, None)


def test_a_passphrase_wraps_as_a_key_does(path):
    ensure_sealing_file(path, PASSPHRASE)
    document = json.loads(path.read_text())
    assert len(base64.b64decode(document["salt"])) == 16
    (key,) = read_sealing_file(path, PASSPHRASE)
    assert key.material not in base64.b64decode(document["keys"][0]["key"])
    assert "set ENCRYPTION_KEY" in refused(path)
    for other in (WRAPPING, Wrapping(Secret(b"correct horse batterz"), is_passphrase=True)):
        assert "a different ENCRYPTION_KEY" in refused(path, other)
    rotate_sealing(path, PASSPHRASE)
    assert json.loads(path.read_text())["salt"] == document["salt"], "derived once, and kept"
    assert read_sealing_file(path, PASSPHRASE)[0].material == key.material


def test_a_passphrase_does_not_open_what_a_key_has_wrapped(path):
    ensure_sealing_file(path, WRAPPING)
    assert "a different ENCRYPTION_KEY" in refused(path, PASSPHRASE)


@pytest.mark.parametrize("salt", ["****", 5, "AAAA", [], None], ids=str)
def test_a_damaged_salt(path, salt):
    ensure_sealing_file(path, PASSPHRASE)
    rewrite(path, lambda document: document.update(salt=salt))
    text = refused(path, PASSPHRASE)
    assert "damaged" in text or "a different ENCRYPTION_KEY" in text


def test_no_two_files_have_the_same_salt(tmp_path):
    salts = set()
    for name in "ab":
        ensure_sealing_file(tmp_path / name, PASSPHRASE)
        salts.add(json.loads((tmp_path / name).read_text())["salt"])
    assert len(salts) == 2


def test_a_command_killed_at_any_moment_leaves_whole_files(made):
    """Every key that ever was in the file has sealed something: none may be lost, nor two be active."""
    program = (
        "import sys; from pathlib import Path; from gateway.keys.key_files import rotate_sealing\n"
        "path = Path(sys.argv[1])\n"
        "for _ in range(100_000): print(rotate_sealing(path, None).key_id, flush=True)"
    )
    last = "k1"
    for lines in (1, 2, 5, 9):
        with subprocess.Popen([sys.executable, "-c", program, made], stdout=subprocess.PIPE) as running:
            for _ in range(lines):
                last = running.stdout.readline().decode().strip()
            running.send_signal(signal.SIGKILL)
            last = ([last, *running.stdout.read().decode().split("\n")[:-1]])[-1]
        keys = read_sealing_file(made, None)
        assert [key.key_id for key in keys] == [f"k{number}" for number in range(1, len(keys) + 1)]
        assert int(last[1:]) <= len(keys) <= int(last[1:]) + 1


def test_commands_at_the_same_time_undo_nothing(made):
    program = (
        "import sys; from pathlib import Path; from gateway.keys.key_files import rotate_sealing\n"
        "sys.stdin.readline()\n"
        "for _ in range(5): rotate_sealing(Path(sys.argv[1]), None)"
    )
    command = [sys.executable, "-c", program, made]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    for one in running:
        one.communicate(b"go\n")
    assert [one.returncode for one in running] == [0, 0, 0]
    keys = read_sealing_file(made, None)
    assert [key.key_id for key in keys] == [f"k{number}" for number in range(1, 17)]
    assert len({key.material for key in keys}) == 16


def test_where_a_change_can_not_be_written(made, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = made.read_bytes()
    monkeypatch.setattr(key_files, "put_file", full)
    with pytest.raises(KeyFileError, match="No space left"):
        rotate_sealing(made, None)
    assert made.read_bytes() == before


def test_a_file_that_is_gone_is_told_without_an_errno(tmp_path):
    assert "can't be read (No such file or directory): restore" in refused(tmp_path / "gone.key")


def test_a_file_that_is_no_text_is_damaged(tmp_path):
    path = tmp_path / "some.key"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    assert "damaged: restore the file from a backup" in refused(path)
