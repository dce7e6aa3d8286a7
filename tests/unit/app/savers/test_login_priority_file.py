"""The file of the known devices: for us alone, whole or not at all, and never a reason to refuse anybody."""

from __future__ import annotations

import stat

import pytest
from harness.full_disk import no_more_bytes

from gateway.app.savers.login_priority_file import FILE, KnownDevicesSaver
from gateway.auth.recent_logins import KnownDevices
from gateway.observe.save_failures import Saves


def opened(folder, capsys=None):
    known = KnownDevices(lambda: 1_800_000_000_000)
    file = KnownDevicesSaver(folder, known, Saves())
    file.load()
    return known, file


async def test_a_restart_makes_strangers_of_none(tmp_path):
    known, file = opened(tmp_path)
    await file.save()
    assert not (tmp_path / FILE).exists(), "there is nothing to save"
    for place in ("10.0.0.1", "10.0.0.2"):
        known.add("lamp-1", place)
        await file.save()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    again, _ = opened(tmp_path)
    assert again.look_up("lamp-1", "10.0.0.1") == again.look_up("lamp-1", "10.0.0.2") == (True, True)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("data", [b"", b"\xff" * 1_000, b"gateway known devices 2\n" + bytes(48)])
async def test_a_file_that_is_damaged_is_told_and_replaced(tmp_path, logged, data):
    (tmp_path / FILE).write_bytes(data)
    known, file = opened(tmp_path)
    assert "all devices are new until their next login" in logged()
    known.add("lamp-1", "a")
    await file.save()
    again, _ = opened(tmp_path)
    assert again.look_up("lamp-1", "a") == (True, True)
    assert logged() == ""


async def test_what_cannot_be_saved_is_told_once_and_saved_later(tmp_path, logged):
    folder = tmp_path / "data"
    folder.write_text("not a folder")
    known, file = opened(folder)
    logged()
    known.add("lamp-1", "a")
    await file.save()
    told = logged()
    assert "not saved" in told
    assert "known devices" in told
    assert f"{folder / FILE} can't be written (Not a directory): put its folder back" in told
    await file.save()
    assert logged() == ""
    folder.unlink()
    folder.mkdir()
    await file.save()
    again, _ = opened(folder)
    assert again.look_up("lamp-1", "a") == (True, True)


async def test_what_cannot_be_saved_names_its_place_and_what_to_do(tmp_path, logged):
    """As with a full disk, the system names no file: here no file may have more than some bytes."""
    known, file = opened(tmp_path)
    known.add("lamp-1", "a")
    with no_more_bytes(8):
        await file.save()
    assert f"known devices: {tmp_path / FILE} can't be written (File too large): raise" in saved(file)
    assert f"{tmp_path / FILE} can't be written (File too large): raise the limit" in logged()


def saved(file):
    return file._saves.check()[1]


async def test_a_folder_that_was_moved_away_is_not_made_anew(tmp_path, logged):
    """Whoever puts it back would find another one in its place, and a new store in that after a restart."""
    folder = tmp_path / "data"
    folder.mkdir()
    known, file = opened(folder)
    folder.rename(tmp_path / "elsewhere")
    known.add("lamp-1", "a")
    await file.save()
    assert not folder.exists()
    assert f"{folder / FILE} can't be written (No such file or directory): put its folder back" in logged()
    (tmp_path / "elsewhere").rename(folder)
    await file.save()
    assert opened(folder)[0].look_up("lamp-1", "a") == (True, True)


@pytest.fixture
def logged(capsys):
    """What was logged since it was asked last."""

    def read() -> str:
        out, err = capsys.readouterr()
        return out + err

    return read
