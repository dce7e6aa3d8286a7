"""Files that are never half there, and a lock that leaves nothing behind."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.full_disk import no_more_bytes

from gateway.keys.key_files import KeyFileError, ensure_sealing_file, ensure_signing_file
from gateway.pki.initial_certificates import PkiError, ensure_server_certificate
from gateway.system import atomic_files
from gateway.system.atomic_files import draft_of, locked, make_folder, replace_file, write_new
from gateway.system.file_errors import not_written


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
        "from gateway.system.atomic_files import locked\n"
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


@pytest.fixture
def held_by_a_stranger(tmp_path):
    """A process that locks the folder itself, as anybody may who may read it."""
    script = (
        "import fcntl, os, sys\n"
        "descriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(descriptor, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield tmp_path
        holder.kill()


def test_a_stranger_s_lock_on_the_folder_holds_nobody_up(held_by_a_stranger):
    with locked(held_by_a_stranger, seconds=0):
        pass


def test_nobody_else_can_open_what_the_lock_is_on(tmp_path):
    before = os.umask(0)
    try:
        with locked(tmp_path):
            (file,) = tmp_path.iterdir()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_one_left_open_to_others_is_closed_to_them(tmp_path):
    file = tmp_path / ".gateway.lock"
    file.write_bytes(b"")
    file.chmod(0o666)
    with locked(tmp_path):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_one_at_a_time_though_each_takes_the_file_away(tmp_path):
    count = tmp_path / "count"
    count.write_text("0")

    def add(_: int) -> None:
        with locked(tmp_path):
            before = int(count.read_text())
            os.sched_yield()
            count.write_text(str(before + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    assert count.read_text() == "40"


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_what_is_no_file_is_not_locked_nor_followed(tmp_path, kind):
    file, elsewhere = tmp_path / ".gateway.lock", tmp_path / "elsewhere"
    if kind == "a link":
        file.symlink_to(elsewhere)
    elif kind == "a pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(OSError, match="lock"), locked(tmp_path, seconds=0):
        pass
    assert not elsewhere.exists()


class OtherUsers:
    """`os` where we are `user`, and what is opened belongs to `owner`."""

    def __init__(self, user: int, owner: int) -> None:
        self.user, self.owner = user, owner
        self.given: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def geteuid(self) -> int:
        return self.user

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.stat_result((*os.fstat(descriptor)[:4], self.owner, *os.fstat(descriptor)[5:]))

    def fchown(self, _: int, user: int, group: int) -> None:
        self.given.append((user, group))


def test_another_user_s_file_is_refused_at_once(tmp_path, monkeypatch):
    """In /tmp say, where a backup may be written to: whoever put it there could hold us up."""
    monkeypatch.setattr(atomic_files, "os", OtherUsers(user=1_000, owner=54_321))
    with pytest.raises(PermissionError, match="remove it"), locked(tmp_path):
        pass


def test_what_an_administrator_leaves_behind_is_the_folder_s_owner_s(tmp_path, monkeypatch):
    """Root's command, killed in its work, must not keep the gateway's user out."""
    system = OtherUsers(user=0, owner=0)
    monkeypatch.setattr(atomic_files, "os", system)
    monkeypatch.setattr(atomic_files, "_owner_of", lambda _: 1_000)
    with locked(tmp_path):
        pass
    assert system.given == [(1_000, -1)]


def test_what_can_not_be_opened_says_what_to_do(tmp_path, monkeypatch):
    system = OtherUsers(user=1_000, owner=1_000)
    monkeypatch.setattr(atomic_files, "os", system)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(system, "open", refuse, raising=False)
    with pytest.raises(PermissionError, match="nothing can be written in"), locked(tmp_path):
        pass
    (tmp_path / ".gateway.lock").touch()
    with pytest.raises(PermissionError, match="as the owner of"), locked(tmp_path):
        pass


def test_a_lock_is_given_back_after_an_error(tmp_path):
    def fail() -> None:
        with locked(tmp_path):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with locked(tmp_path, seconds=0):
        pass


@pytest.mark.parametrize("ensure", [ensure_sealing_file, ensure_signing_file])
def test_keys_that_are_there_need_no_lock(tmp_path, ensure):
    """Their folder may be mounted read-only, and nothing is to be made."""
    ensure(tmp_path / "key", None)
    with locked(tmp_path):
        assert not ensure(tmp_path / "key", None)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device): make room on that disk"),
        (errno.EDQUOT, "Disk quota exceeded): make room on that disk, or raise the quota of this user"),
        (errno.EROFS, "Read-only file system): mount it to be written to"),
        (errno.ENOENT, "No such file or directory): put its folder back"),
        (errno.EIO, "Input/output error): see to the disk and the folder"),
    ],
)
def test_what_can_not_be_written_names_its_place_and_what_to_do(tmp_path, number, remedy):
    path = tmp_path / "x"
    assert not_written(path, OSError(number, os.strerror(number))) == f"{path} can't be written ({remedy}"


def test_what_can_not_be_written_names_who_may_and_what_was_said_here(tmp_path):
    path = tmp_path / "x"
    denied = not_written(path, PermissionError(errno.EACCES, "Permission denied"))
    assert denied.startswith(f"{path} can't be written (user ")
    late = not_written(path, TimeoutError("another process has held it"))
    assert late == f"{path} can't be written: another process has held it"


@pytest.mark.parametrize("write", [write_new, replace_file])
def test_the_place_is_named_where_the_system_names_none(tmp_path, write):
    path = tmp_path / "x"
    if write is replace_file:
        path.write_bytes(b"old")
    with no_more_bytes(8), pytest.raises(OSError, match=str(path)) as refused:
        write(path, bytes(100), mode=0o600)
    assert refused.value.filename == str(path)
    assert path.exists() is (write is replace_file)


def test_each_file_that_is_made_at_the_start_is_named_when_it_can_not_be(tmp_path):
    with no_more_bytes(8):
        with pytest.raises(KeyFileError, match=rf"{tmp_path}/encryption.key can't be written \(File too"):
            ensure_sealing_file(tmp_path / "encryption.key", None)
        with pytest.raises(KeyFileError, match=rf"{tmp_path}/signing.key can't be written \(File too"):
            ensure_signing_file(tmp_path / "signing.key", None)
        with pytest.raises(PkiError, match=rf"{tmp_path}/server.crt can't be written \(File too"):
            ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key")
