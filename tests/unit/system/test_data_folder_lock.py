"""The lock of a running gateway on its data folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gateway.system.data_folder_lock import Held, hold


def refused(data, database, why):
    with pytest.raises(Held, match=why), hold(data, database):
        pass


def test_a_second_holder_is_told_who_the_first_is(tmp_path):
    data = tmp_path / "data"
    with hold(data, data / "gateway.db"):
        refused(data, data / "gateway.db", f"{data} is in use by another gateway, process {os.getpid()}:")
    with hold(data, data / "gateway.db"):
        assert (data / ".gateway.running").stat().st_mode & 0o777 == 0o600


def test_the_same_folder_by_another_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with hold(tmp_path / "data", tmp_path / "data/gateway.db"):
        refused(tmp_path / "link", tmp_path / "link/gateway.db", "is in use")


def test_two_data_folders_with_one_database(tmp_path):
    database = tmp_path / "shared" / "gateway.db"
    with hold(tmp_path / "a", database):
        refused(tmp_path / "b", database, f"{database} is in use")
    with hold(tmp_path / "a", database), hold(tmp_path / "b", database.with_name("other.db")):
        pass


@pytest.mark.parametrize("first", ["in its folder", "elsewhere"])
def test_a_database_in_the_data_folder_of_one_and_named_by_another(tmp_path, first):
    database = tmp_path / "a" / "gateway.db"
    folders = (tmp_path / "a", tmp_path / "b")
    holder, second = folders if first == "in its folder" else reversed(folders)
    with hold(holder, database):
        refused(second, database, f"{database} is in use")


def test_the_same_database_by_another_name(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "a" / "gateway.db")
    with hold(tmp_path / "a", tmp_path / "a" / "gateway.db"):
        refused(tmp_path / "b", tmp_path / "link.db", "is in use")


def test_a_holder_elsewhere_is_told_with_its_host(tmp_path):
    with hold(tmp_path, tmp_path / "gateway.db"):
        (tmp_path / ".gateway.running").write_text("1 other-container\n")
        with (
            pytest.raises(Held, match="process 1 on other-container"),
            hold(tmp_path, tmp_path / "gateway.db"),
        ):
            pass


def test_a_holder_that_was_killed_holds_nothing(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from gateway.system.data_folder_lock import hold\n"
        "with hold(Path(sys.argv[1]), Path(sys.argv[1]) / 'gateway.db'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Held, match=f"process {holder.pid}"), hold(tmp_path, tmp_path / "gateway.db"):
            pass
        holder.kill()
        holder.wait()
    with hold(tmp_path, tmp_path / "gateway.db"):
        pass


def test_the_lock_is_no_file_of_the_database_nor_the_folders_own(tmp_path):
    from gateway.system.atomic_files import locked

    with hold(tmp_path, tmp_path / "gateway.db"), locked(tmp_path, seconds=1):
        pass
