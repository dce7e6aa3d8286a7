"""What the kernel notices of files that are followed, by files that change."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.system import file_notices as module
from gateway.system.file_notices import FileNotices

OFTEN = 0.01


@pytest.fixture(autouse=True)
def nothing_but_a_notice_wakes(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_WITH_NOTICES", 3_600.0)


@pytest.fixture
def house(tmp_path):
    """Followed: `way/acl/`, which leads over a link that can be swapped, its files, and `data/store`."""
    for version in ("v1", "v2"):
        (tmp_path / version / "acl").mkdir(parents=True)
        (tmp_path / version / "acl" / "role.toml").write_text(version)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").write_text("first")
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "way").symlink_to(tmp_path / "current")
    return tmp_path


class Followed:
    """Whoever follows, asleep until the test changes something."""

    def __init__(self, house: Path) -> None:
        self.house = house
        self.notices = FileNotices(self.paths)
        self.looks = 0
        self.asleep = asyncio.Event()
        self._listen, self.notices._listen = self.notices._listen, self._sleep

    def paths(self) -> list[Path]:
        acl = self.house / "way" / "acl"
        return [acl, *acl.glob("*.toml"), self.house / "data" / "store"]

    async def run(self) -> None:
        while True:
            await self.notices.wait(OFTEN)
            self.looks += 1

    async def _sleep(self) -> None:
        self.asleep.set()
        await self._listen()
        self.asleep.clear()

    async def calm(self) -> None:
        """Until it sleeps, and no notice that waits wakes it."""
        before = -1
        while before != self.looks:
            before = self.looks
            await asyncio.wait_for(self.asleep.wait(), 20)
            await asyncio.sleep(0.05)

    async def sees(self, change, *, within: float = 5.0) -> bool:
        """Whether `change` wakes it."""
        await self.calm()
        before = self.looks
        change()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.looks == before:  # noqa: ASYNC110 - nothing says so
                    await asyncio.sleep(0.005)
        return self.looks > before


@pytest.fixture
async def followed(house):
    one = Followed(house)
    running = asyncio.ensure_future(one.run())
    yield one
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    one.notices.close()


def replaced(path: Path, text: str = "new") -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def appended(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def swapped(house: Path, to: str) -> None:
    (house / "next").symlink_to(to)
    (house / "next").rename(house / "current")


def new_folder(house: Path) -> None:
    folder = house / "v1" / "acl"
    folder.rename(house / "v1" / "was")
    folder.mkdir()
    (folder / "role.toml").write_text("in a new folder")


CHANGES = {
    "written in place": lambda house: (house / "v1/acl/role.toml").write_text("more than before"),
    "appended": lambda house: appended(house / "data/store"),
    "as another file": lambda house: replaced(house / "data/store"),
    "another file of the folder": lambda house: replaced(house / "v1/acl/role.toml"),
    "a new file": lambda house: (house / "v1/acl/another.toml").write_text("new"),
    "taken away": lambda house: (house / "data/store").unlink(),
    "closed to us": lambda house: (house / "data/store").chmod(0),
    "a link on the way is swapped": lambda house: swapped(house, "v2"),
    "the folder is a different one": new_folder,
    "a folder on the way is moved": lambda house: (house / "data").rename(house / "elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changes_wakes(followed, house, change):
    await followed.calm()
    assert followed.notices.are_complete
    assert await followed.sees(lambda: CHANGES[change](house))


@pytest.mark.parametrize("change", ["as another file", "a link on the way is swapped", "taken away"])
async def test_what_is_there_afterwards_is_watched_as_well(followed, house, change):
    assert await followed.sees(lambda: CHANGES[change](house))
    (role,) = (house / "way/acl").glob("*.toml")
    assert await followed.sees(lambda: role.write_text("after that"))
    assert await followed.sees(lambda: (house / "data/store").write_text("after that"))
    assert await followed.sees(lambda: (house / "data/store").write_text("and again"))


async def test_what_others_do_beside_it_wakes_nobody(followed, house):
    def beside() -> None:
        (house / "data" / "another").write_text("of somebody")
        (house / "somebody").mkdir()
        (house / "v2/acl/role.toml").write_text("not in force")

    assert not await followed.sees(beside, within=0.3)


async def test_after_a_notice_it_looks_a_few_times_more(followed, house):
    """What was written is not always to be seen at once: a commit is, once it was synced."""
    await followed.calm()
    before = followed.looks
    assert await followed.sees(lambda: (house / "data/store").write_text("new"))
    await followed.calm()
    assert followed.looks >= before + 1 + module._LOOKS_AFTER_A_NOTICE


async def test_what_is_written_without_end_makes_no_more_looks_than_there_would_be_without_notices(house):
    followed = Followed(house)
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(followed.run())
    await followed.calm()
    followed.looks, began = 0, loop.time()
    with (house / "data/store").open("a") as file:
        while loop.time() - began < 0.5:
            file.write("more")
            file.flush()
            await asyncio.sleep(0)
    most = (loop.time() - began) / OFTEN
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    followed.notices.close()
    assert 3 <= followed.looks <= most * (1 + 1 / module._LOOKS_AFTER_A_NOTICE) + 3


@pytest.mark.parametrize("without", ["a file system that is known", "inotify", "a watch that is left"])
async def test_where_no_notice_would_come_it_looks_often(house, monkeypatch, without):
    class Libc:
        """Of a system that has less to give."""

        statfs = module._libc.statfs
        if without != "inotify":
            inotify_init1 = module._libc.inotify_init1

        @staticmethod
        def inotify_add_watch(*_):
            return -1

    if without == "a file system that is known":
        monkeypatch.setattr(module, "_LOCAL", set())
    else:
        monkeypatch.setattr(module, "_libc", Libc)
        monkeypatch.setattr(module.ctypes, "get_errno", lambda: 28)
    followed = Followed(house)
    running = asyncio.ensure_future(followed.run())
    async with asyncio.timeout(5):
        while followed.looks < 10:  # noqa: ASYNC110
            await asyncio.sleep(OFTEN)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not followed.notices.are_complete


async def test_it_is_tried_again_where_no_notice_came(house, monkeypatch):
    monkeypatch.setattr(module, "_WAITS_UNTIL_RETRY", 5)
    followed = Followed(house)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_LOCAL", set())
        await followed.notices.wait(OFTEN)
        assert not followed.notices.are_complete
    for _ in range(5):
        if not followed.notices.are_complete:
            await followed.notices.wait(OFTEN)
    assert followed.notices.are_complete
    followed.notices.close()


async def test_though_no_notice_comes_it_looks_now_and_then(house, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_WITH_NOTICES", 0.05)
    followed = Followed(house)
    running = asyncio.ensure_future(followed.run())
    async with asyncio.timeout(5):
        while followed.looks < 5:  # noqa: ASYNC110
            await asyncio.sleep(OFTEN)
    assert followed.notices.are_complete
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    followed.notices.close()
