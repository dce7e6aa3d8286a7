"""`gateway-admin backup` and `restore`: what comes back, and what a backup may not bring back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest

from gateway.admin import restore
from gateway.config import Settings
from gateway.keys.key_files import read_sealing_file
from gateway.store import open_store
from gateway.system.data_folder_lock import hold

ACL = Path(__file__).parent / "acl"
PASSPHRASE = "correct horse battery staple"
WORDS = "--passphrase-stdin --json"


def run(place, command, *, expected=0):
    code, out, err = place.shell(command, stdin=PASSPHRASE.encode())
    assert code == expected, out + err
    return json.loads(out) if "--json" in command else out + err


def devices(place):
    async def read():
        store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
        try:
            return {device.device_id: device for device in await store.devices.read()}
        finally:
            await store.close()

    return asyncio.run(read())


def key_states(place):
    return {
        key.key_id: str(key.state)
        for key in read_sealing_file(place.folder / "data/keys/encryption.key", None)
    }


@pytest.fixture
def there(saved, place_in, tmp_path):
    """A different machine, with the backup and nothing else."""
    folder = tmp_path / "there"
    (folder / "acl").mkdir(parents=True)
    shutil.copy(saved.folder / "backup", folder / "backup")
    return place_in(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory, place_in):
    """The folder of a gateway with devices, and a backup of it."""
    made = place_in(tmp_path_factory.mktemp("model"))
    shutil.copytree(ACL, made.folder / "acl")
    run(made, "gateway-admin init --json")
    for name in ("goes", "is-disabled", "is-rotated", "stays", "was-disabled"):
        run(made, f"gateway-admin device add {name} --role sensor --label room=hall --json")
    run(made, "gateway-admin device disable was-disabled --json")
    run(made, "gateway-admin token issue stays --json")
    (made.folder / "data/audit").mkdir(exist_ok=True)
    (made.folder / "data/audit/checkpoint").write_text("gateway-0123/vm\n7\ncm9vdA==\n\nits signature\n")
    answer = run(made, f"GATEWAY_NODE=attic gateway-admin backup backup {WORDS}")
    assert answer["devices"] == 5
    assert stat.S_IMODE((made.folder / "backup").stat().st_mode) == 0o600
    return made.folder


@pytest.fixture
def saved(model, place_in, tmp_path):
    """The same in a folder of the test's own."""
    shutil.copytree(model, tmp_path / "here")
    return place_in(tmp_path / "here")


def test_on_the_machine_that_went_on_later_decisions_win(saved):
    before = devices(saved)
    run(saved, "gateway-admin keys rotate --json")
    run(saved, "gateway-admin keys destroy k1 --yes --json")
    run(saved, "gateway-admin device remove goes --yes --json")
    run(saved, "gateway-admin device disable is-disabled --json")
    run(saved, "gateway-admin device rotate is-rotated --json")
    run(saved, "gateway-admin token revoke --device stays --json")
    run(saved, "gateway-admin device enable was-disabled --json")
    run(saved, "gateway-admin device add is-new --role sensor --json")
    role = saved.folder / "acl" / "roles" / "sensor.toml"
    policy = role.read_text()
    role.write_text(policy + "\n# changed since\n")
    between = devices(saved)
    saved.noted()

    answer = run(saved, f"gateway-admin restore backup --yes {WORDS}")

    assert not answer["elsewhere"]
    assert answer["node"] == "attic"
    assert answer["stay_removed"] == ["goes"]
    assert answer["stay_disabled"] == ["is-disabled"]
    assert answer["keep_secret"] == ["is-rotated"]
    assert answer["taken_away"] == ["is-new"]
    after = devices(saved)
    assert sorted(after) == ["is-disabled", "is-rotated", "stays", "was-disabled"]
    assert not after["is-disabled"].enabled
    assert not after["was-disabled"].enabled, "it was not let in then"
    assert after["stays"].enabled
    assert after["is-rotated"].credential == between["is-rotated"].credential
    assert after["is-rotated"].credential != before["is-rotated"].credential
    for name, device in after.items():
        assert device.token_epoch > max(before[name].token_epoch, between[name].token_epoch)
        assert device.version > between[name].version
    assert key_states(saved) == {"k1": "destroyed", "k2": "active"}
    assert role.read_text() == policy
    begun, event = saved.noted()
    assert begun["outcome"] == "begun"
    assert begun["reason"].startswith("to be restored from a backup: of ")
    assert event["reason"].startswith("restored from a backup: of ")
    assert event["reason"].endswith("; the audit trail was at gateway-0123/vm 7 cm9vdA==")
    aside = saved.folder / answer["before"]
    assert (aside / "acl" / "roles" / "sensor.toml").read_text().endswith("# changed since\n")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    with sqlite3.connect(aside / "gateway.db") as copy:
        assert ("is-new",) in copy.execute("SELECT device_id FROM devices").fetchall()
    assert "No problem" in run(saved, "gateway check")


def test_roles_and_labels_are_those_of_then(saved):
    with sqlite3.connect(saved.folder / "data" / "gateway.db") as store:
        store.execute("UPDATE devices SET roles = '[\"reader\"]', labels = '{}' WHERE device_id = 'stays'")
    run(saved, f"gateway-admin restore backup --yes {WORDS}")
    assert devices(saved)["stays"].roles == ("sensor",)
    assert devices(saved)["stays"].labels == {"room": ("hall",)}


@pytest.mark.parametrize("how", ["nothing there", "a first start there", "a set-up that was tried there"])
def test_elsewhere_all_comes_back_and_nobody_is_let_in(saved, there, how):
    """`deploy.sh` and `install.sh` try what they set up with a device, which they remove."""
    if how != "nothing there":
        shutil.copytree(ACL, there.folder / "acl", dirs_exist_ok=True)
        run(there, "gateway-admin init --json")
    if how == "a set-up that was tried there":
        run(there, "gateway-admin device add deploy-check-0 --role sensor --json")
        run(there, "gateway-admin device remove deploy-check-0 --yes --json")
    before = devices(saved)
    answer = run(there, f"gateway-admin restore backup --yes {WORDS}")
    assert answer["elsewhere"]
    assert answer["disabled"]
    after = devices(there)
    assert after.keys() == before.keys()
    assert not any(device.enabled for device in after.values())
    for name, device in after.items():
        assert device.credential == before[name].credential
        assert device.token_epoch > before[name].token_epoch
    for name in ("certs/ca.key", "certs/server.crt", "data/keys/encryption.key", "data/keys/signing.key"):
        assert (there.folder / name).read_bytes() == (saved.folder / name).read_bytes(), name
    assert stat.S_IMODE((there.folder / "certs/ca.key").stat().st_mode) == 0o600
    assert (there.folder / "acl/roles/sensor.toml").read_text() == (ACL / "roles/sensor.toml").read_text()
    assert "No problem" in run(there, "gateway check")
    assert run(there, "gateway-admin token list --json")["tokens"] == []


def test_elsewhere_those_of_then_are_let_in_if_it_is_said(saved, there):
    text = run(there, "gateway-admin restore backup --yes --passphrase-stdin --enable-devices")
    assert "is let in again" in text
    states = {name: device.enabled for name, device in devices(there).items()}
    assert states.pop("was-disabled") is False
    assert all(states.values())


def test_it_says_that_all_are_disabled(saved, there):
    text = run(there, "gateway-admin restore backup --yes --passphrase-stdin")
    assert "ALL DISABLED" in text
    assert "can't be known here" in text


def test_where_all_devices_were_removed_none_comes_back(saved):
    """It is the store that they are from: that nobody is in it is not that it is new."""
    for name in devices(saved):
        run(saved, f"gateway-admin device remove {name} --yes --json")
    answer = run(saved, f"gateway-admin restore backup --yes {WORDS}")
    assert not answer["elsewhere"]
    assert len(answer["stay_removed"]) == 5
    assert devices(saved) == {}


@pytest.mark.parametrize("loss", ["damaged", "lost"])
def test_where_the_store_is_lost_destroyed_keys_stay_so_and_nobody_is_let_in(saved, loss):
    run(saved, "gateway-admin keys rotate --json")
    run(saved, "gateway-admin keys destroy k1 --yes --json")
    store = saved.folder / "data" / "gateway.db"
    if loss == "lost":
        store.unlink()
    else:
        store.write_bytes(b"not a database" * 1_000)
    answer = run(saved, f"gateway-admin restore backup --yes {WORDS}")
    assert answer["elsewhere"]
    assert key_states(saved) == {"k1": "destroyed", "k2": "active"}
    assert not any(device.enabled for device in devices(saved).values())
    if loss == "damaged":
        assert (saved.folder / answer["before"] / "gateway.db").read_bytes().startswith(b"not a database")


def test_keys_of_a_different_gateway_are_an_error_and_change_nothing(saved, there):
    shutil.copytree(ACL, there.folder / "acl", dirs_exist_ok=True)
    run(there, "gateway-admin init --json")
    run(there, "gateway-admin device add mine --role sensor --json")
    before = (there.folder / "data/keys/encryption.key").read_bytes()
    answer = run(there, f"gateway-admin restore backup --yes {WORDS}", expected=1)
    assert "another gateway" in answer["error"]
    assert (there.folder / "data/keys/encryption.key").read_bytes() == before
    assert list(devices(there)) == ["mine"]


def test_a_policy_that_is_mounted_read_only_is_put_beside(saved, there):
    there.environment["ACL_PATH"] = "/proc/acl"  # where root can't write either
    answer = run(there, f"gateway-admin restore backup --yes {WORDS}")
    assert answer["policy"].endswith("data/restored-acl")
    assert (there.folder / "data/restored-acl/roles/sensor.toml").exists()


def test_a_policy_of_another_user_stays_as_a_whole(tmp_path, monkeypatch):
    """Kind: some files replaced, and then one that can't be."""
    acl, mine = tmp_path / "acl", os.geteuid()
    acl.mkdir()
    for name in ("limits.toml", "encryption.toml"):
        (acl / name).write_bytes(b"# theirs\n")
    monkeypatch.setattr(restore.os, "geteuid", lambda: mine + 1)
    settings = Settings(acl_path=acl, gateway_data_dir=tmp_path)
    new = {"new.toml": b"", "limits.toml": b"# new\n", "encryption.toml": b"# new\n"}
    assert restore._restore_policy(settings, new) == tmp_path / "restored-acl"
    assert {path.name: path.read_bytes() for path in acl.iterdir()} == dict.fromkeys(
        list(new)[1:], b"# theirs\n"
    )
    assert (tmp_path / "restored-acl" / "limits.toml").read_bytes() == b"# new\n"


def test_not_while_the_gateway_runs(saved):
    data = saved.folder / "data"
    with hold(data, data / "gateway.db"):
        answer = run(saved, f"gateway-admin restore backup --yes {WORDS}", expected=1)
    assert "is in use by" in answer["problems"][0]


def test_what_is_no_good_changes_nothing(saved):
    data = (saved.folder / "backup").read_bytes()
    before = devices(saved)
    (saved.folder / "cut").write_bytes(data[:-1])
    (saved.folder / "other").write_bytes(b"PK\3\4" + bytes(300))
    for name, said in (
        ("cut", "damaged"),
        ("other", "no backup"),
        ("absent", "no file"),
        ("data", "data is a folder"),
    ):
        answer = run(saved, f"gateway-admin restore {name} --yes {WORDS}", expected=1)
        assert said in answer["error"], name
    code, out, _ = saved.shell(f"gateway-admin restore backup --yes {WORDS}", stdin=b"another passphrase")
    assert code == 1
    assert "not this file's" in json.loads(out)["error"]
    assert devices(saved) == before
    assert not list((saved.folder / "data").glob("*restore*")), "nothing is left behind"
    assert not list((saved.folder / "data").glob(".restore*"))


def test_without_an_event_no_backup_and_no_restore(saved):
    """Kind: all keys leave, or change, and the audit trail can't say so."""

    async def fail():
        store = await open_store(f"sqlite:///{saved.folder}/data/gateway.db")
        await store.audit_trails.set_fault("attic", "the disk is full")
        await store.close()

    run(saved, "gateway-admin keys rotate --json")
    role = saved.folder / "acl" / "roles" / "sensor.toml"
    role.write_text(role.read_text() + "\n# changed since\n")
    (saved.folder / "data/keys/signing.key").unlink()
    saved.noted()
    asyncio.run(fail())
    for command in ("backup new", "restore backup --yes"):
        answer = run(saved, f"gateway-admin {command} {WORDS}", expected=1)
        assert answer["error"].startswith("nothing was changed, "), command
        assert answer["error"].endswith("the disk is full"), command
    assert not list(saved.folder.glob("*new*"))
    assert key_states(saved) == {"k1": "decrypt-only", "k2": "active"}
    assert not (saved.folder / "data/keys/signing.key").exists()
    assert role.read_text().endswith("# changed since\n")
    assert saved.noted() == []


def test_a_backup_is_told_before_and_after(saved):
    saved.noted()
    run(saved, f"gateway-admin backup new {WORDS}")
    assert [(event["outcome"], event["reason"]) for event in saved.noted()] == [
        ("begun", "all keys, devices and the policy to be exported to a backup"),
        ("done", "all keys, devices and the policy exported to a backup"),
    ]


def test_a_backup_does_not_hold_that_it_was_begun(saved, there):
    """Where it is restored nothing came of that, which reads as a command that was killed."""
    run(saved, f"gateway-admin backup backup-of-now {WORDS}")
    shutil.copyfile(saved.folder / "backup-of-now", there.folder / "backup")
    run(there, f"gateway-admin restore backup --yes {WORDS}")
    # The backup before it was made while no gateway ran, so that both its events wait in the store, too.
    outcomes = [event["outcome"] for event in there.noted() if "exported to a backup" in event["reason"]]
    assert outcomes == ["begun", "done"]


def test_a_script_has_to_say_yes_and_a_file_is_not_written_over(saved):
    answer = run(saved, f"gateway-admin restore backup {WORDS}", expected=2)
    assert "--yes" in answer["error"]
    answer = run(saved, f"gateway-admin backup backup {WORDS}", expected=1)
    assert "exists already" in answer["error"]
    code, out, _ = saved.shell(f"gateway-admin backup new {WORDS}", stdin=b"short")
    assert code == 2
    assert "16 characters" in json.loads(out)["error"]
    assert not list(saved.folder.glob("*new*"))


def test_it_holds_no_secret_in_plain(saved):
    data = (saved.folder / "backup").read_bytes()
    for part in (b"$argon2", b"PRIVATE KEY", b"stays", PASSPHRASE.encode(), b"sensor"):
        assert part not in data, part


def test_it_is_of_one_moment_while_devices_come(saved, place_in):
    """Each change is two rows in one transaction: a copy of the middle of one would show it."""
    path, ended = saved.folder / "data" / "gateway.db", threading.Event()

    def change():
        with sqlite3.connect(path, timeout=30, isolation_level=None) as store:
            number = 0
            while not ended.is_set():
                number += 1
                store.execute("BEGIN IMMEDIATE")
                store.execute("UPDATE devices SET created_at = ? WHERE device_id = 'stays'", (number,))
                store.execute("UPDATE devices SET created_at = ? WHERE device_id = 'goes'", (number,))
                store.execute("COMMIT")
                time.sleep(0.002)  # others are to have their turn

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for number in range(3):
            run(saved, f"gateway-admin backup during-{number} {WORDS}")
    finally:
        ended.set()
        thread.join()
    for number in range(3):
        there = place_in(saved.folder / f"there-{number}")
        (there.folder / "acl").mkdir(parents=True)
        run(there, f"gateway-admin restore ../during-{number} --yes {WORDS}")
        found = devices(there)
        assert found["stays"].created_at == found["goes"].created_at > 1
