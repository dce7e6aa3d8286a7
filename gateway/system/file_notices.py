"""Notices of the kernel that files may have changed (inotify(7)): whoever follows them sleeps until then.

A notice is a reason to look at the files, and never says what changed. None comes where files are changed by
a different machine or kernel (network file systems, shares of a host, layers of a container), so there, and
wherever the kernel gives none, the caller looks as often as without them. Where they come it looks all the
same, but seldom, in case a fault of ours missed one. Must not know what the files say.

What is watched is all that decides which file a path leads to: each folder on its way, links followed, for
the one name that is looked up there; and the file itself. For example, of `/etc/gw/acl -> ..data/acl`, as
Kubernetes mounts it, `..data` in `/etc/gw` is what is swapped.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gateway.system.aligned_timers import next_moment, until_next_multiple_of

_SECONDS_WITH_NOTICES = 10.0
"""Between two looks where notices come."""
_LOOKS_AFTER_A_NOTICE = 3
"""Looks after a notice that come as often as without notices: a commit of the database can be read only
once it was synced, and two changes within one tick of the file system's clock look like one. A file
that is written all the time causes no more looks than these."""
_WAITS_UNTIL_RETRY = 150
"""Waits after which it tries again to get notices where there were none: a file may have been missing."""
_LOCAL = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0xF2F52010, 0x2FC12FC1}
"""The file system types (statfs(2)) ext2 to ext4, XFS, Btrfs, tmpfs, F2FS and ZFS: notices there are
complete."""
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_MASK_ADD = 0x20000000
_WRITTEN = _MODIFY | _ATTRIB | _CLOSE_WRITE
_OF_A_FILE = _WRITTEN | _DELETE_SELF | _MOVE_SELF
_OF_A_NAME = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")
_LINKS_MAX = 40
"""Symbolic links that are followed on the way to a file, as many as Linux follows."""

_libc = ctypes.CDLL(None, use_errno=True)


class FileNotices:
    """Says when to look at some files again."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        """`paths` gives the files and folders as they are now; it is called in a thread."""
        self._paths = paths
        self._descriptor = -1
        self._names: dict[int, set[bytes]] = {}
        """By inotify's number of the watch: of a folder on the way to a file, the names in it that matter. In
        watches that are not here every name does."""
        self._noticed = asyncio.Event()
        self._looks_left = 0
        self._waits = 0
        self._is_new = True
        """Whether it has to be found out (again) what to watch."""
        self.are_complete = False
        """Whether every change of the files is noticed."""

    async def wait(self, often: float) -> None:
        """Wait until the files may have changed; `often` seconds where no notice comes."""
        self._waits += 1
        if self._is_new or (not self.are_complete and self._waits % _WAITS_UNTIL_RETRY == 0):
            self._is_new = False
            await self._watch()
            if self.are_complete:
                return  # to look at what changed before it was watched
        if not self.are_complete:
            await until_next_multiple_of(often)
        elif self._looks_left:
            self._looks_left -= 1
            await until_next_multiple_of(often)
        else:
            await self._listen()

    def paths_changed(self) -> None:
        """`paths` gives other files from now on."""
        self._is_new = True

    async def _listen(self) -> None:
        loop, descriptor = asyncio.get_running_loop(), self._descriptor
        self._noticed.clear()
        loop.add_reader(descriptor, self._read)
        try:
            async with asyncio.timeout_at(next_moment(_SECONDS_WITH_NOTICES, loop.time())):
                await self._noticed.wait()
            self._looks_left = _LOOKS_AFTER_A_NOTICE
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65_536)
        except BlockingIOError:
            return
        at = 0
        while at + _EVENT.size <= len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if name and watch in self._names and name not in self._names[watch]:
                continue
            # Any other kind, that of a queue that overflowed among them: which files to watch may have
            # changed.
            self._is_new = self._is_new or bool(mask & ~_WRITTEN)
            self._noticed.set()

    async def _watch(self) -> None:
        self.close()
        # In a thread: a disk that hangs must not hold up messages.
        made = await asyncio.to_thread(_watched, self._paths)
        if made is not None:
            self._descriptor, self._names = made
            self.are_complete = True

    def close(self) -> None:
        """No notice comes from now on."""
        descriptor, self._descriptor, self.are_complete = self._descriptor, -1, False
        if descriptor >= 0:
            os.close(descriptor)


def _watched(paths: Callable[[], Iterable[Path]]) -> tuple[int, dict[int, set[bytes]]] | None:
    """A descriptor to read notices from, and the names that matter; None where they don't come."""
    make = getattr(_libc, "inotify_init1", None)
    wanted = list(paths())
    if make is None or not all(_is_local(path) for path in wanted):
        return None
    descriptor = int(make(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        return None
    names: dict[int, set[bytes]] = {}
    followed = set()
    try:
        for path in wanted:
            for folder, name in _way(path):
                watch = _add(descriptor, folder, _OF_A_NAME)
                if watch is not None:
                    names.setdefault(watch, set()).add(os.fsencode(name))
            # Of a folder that is followed itself all files matter, those to come too.
            followed.add(_add(descriptor, path, _OF_A_FILE | (_OF_A_NAME if path.is_dir() else 0)))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor, {watch: of for watch, of in names.items() if watch not in followed}


def _add(descriptor: int, path: Path, mask: int) -> int | None:
    """The number of the watch; None for what is not there. Raises OSError: it can't be watched."""
    watch = int(_libc.inotify_add_watch(descriptor, os.fsencode(path), mask | _MASK_ADD))
    if watch >= 0:
        return watch
    error = ctypes.get_errno()
    if error in {2, 20}:  # ENOENT, ENOTDIR: when it comes, that is noticed where it is missing
        return None
    raise OSError(error, os.strerror(error), str(path))


def _is_local(path: Path) -> bool:
    """Whether all that changes this file, or makes it where it is missing, is noticed."""
    kind = ctypes.create_string_buffer(256)
    for path_or_parent in (path, path.parent):
        if _libc.statfs(os.fsencode(path_or_parent), kind) == 0:
            if int.from_bytes(kind.raw[: ctypes.sizeof(ctypes.c_long)], "little") not in _LOCAL:
                return False
        elif path_or_parent != path:
            return False
    return True


def _way(path: Path) -> Iterator[tuple[Path, str]]:
    """Each folder in which a name is looked up on the way to `path`, with that name."""
    rest, at, links = deque(path.absolute().parts[1:]), Path("/"), 0
    while rest:
        name = rest.popleft()
        if name == "..":
            at = at.parent
            continue
        yield at, name
        try:
            target = (at / name).readlink()
        except OSError:
            at /= name
            continue
        links += 1
        if links > _LINKS_MAX:
            return
        if target.is_absolute():
            at = Path("/")
        rest.extendleft(part for part in reversed(target.parts) if part != "/")
