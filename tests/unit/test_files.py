"""Files that are never half there, and a lock that leaves nothing behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from gateway.files import draft_of, locked, make_folder, replace_file, write_new


def test_a_folder_we_make_is_ours_alone_and_one_that_is_there_stays(tmp_path):
    made = tmp_path / "a" / "b"
    make_folder(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o755)
    make_folder(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_new_file_has_its_mode_whatever_the_umask(tmp_path, mode):
    before = os.umask(0o177)
    try:
        write_new(tmp_path / "key", b"content", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "key").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == mode
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_file_that_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "key").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "key", b"new", mode=0o600)
    assert (tmp_path / "key").read_bytes() == b"old"


def test_a_draft_of_a_killed_process_is_no_obstacle_and_no_trap(tmp_path):
    secret = tmp_path / "elsewhere"
    secret.write_bytes(b"untouched")
    draft_of(tmp_path / "key").symlink_to(secret)
    write_new(tmp_path / "key", b"content", mode=0o600)
    assert secret.read_bytes() == b"untouched"
    assert (tmp_path / "key").read_bytes() == b"content"


def test_a_file_is_replaced_whole_and_stays_where_links_point(tmp_path):
    real, link = tmp_path / "real" / "key", tmp_path / "key"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link.symlink_to(real)
    before = os.umask(0o177)
    try:
        replace_file(link, b"new", mode=0o640)
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [entry.name for entry in real.parent.iterdir()] == ["key"]


def test_what_is_not_there_is_not_replaced(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "key", b"new", mode=0o600)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_user_stays_theirs(tmp_path, monkeypatch):
    """Else a command of root's would leave the gateway with keys that it can't read."""
    (tmp_path / "key").write_bytes(b"old")
    owner = (tmp_path / "key").stat().st_uid
    given = []
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))
    replace_file(tmp_path / "key", b"new", mode=0o600)
    assert given == []
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    replace_file(tmp_path / "key", b"newer", mode=0o600)
    assert given == [(owner, -1)]


def test_a_file_that_can_not_be_handed_back_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(b"old")

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: -2)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "key", b"new", mode=0o600)
    assert (tmp_path / "key").read_bytes() == b"old"


def test_a_lock_holds_against_another_process_and_ends_with_its_holder(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gateway.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"

        def ask() -> None:
            with locked(tmp_path, seconds=0):
                pass

        with pytest.raises(TimeoutError, match="another process"):
            ask()
        holder.kill()
        holder.wait()
        ask()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_given_back_after_an_error(tmp_path):
    def fail() -> None:
        with locked(tmp_path):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with locked(tmp_path, seconds=0):
        pass
