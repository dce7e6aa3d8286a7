"""What a transcript can't show: what stands in the files, and what happens on a terminal."""

import asyncio
import base64
import json
import stat

import pytest

from gateway.keys.key_files import read_sealing_file, read_signing_file
from gateway.store import open_store

PASSPHRASE = "planted horse battery staple"


@pytest.fixture
def place(place):
    place.shell("gateway-admin init")
    assert [event["reason"] for event in place.noted() if event["outcome"] == "done"] == [
        "certs/ca.crt made",
        "certs/server.crt made",
        "the first sealing key made",
        "the first signing key made",
        "the first audit key made",
    ]
    return place


def keys(place):
    folder = place.folder / "data" / "keys"
    return [
        *read_sealing_file(folder / "encryption.key", None),
        *read_signing_file(folder / "signing.key", None),
    ]


def states(place):
    return {key.key_id: key.state for key in keys(place)}


def test_init_makes_no_signing_keys_that_a_secret_makes_needless(bare):
    bare.environment["JWT_SECRET"] = "0123456789012345678901234567890123456789"
    code, out, _ = bare.shell("gateway-admin init --json")
    assert code == 0
    assert "signing.key" not in out
    assert not (bare.folder / "data/keys/signing.key").exists()


def test_on_a_terminal_destroy_says_what_is_lost_and_asks(place):
    async def use():
        store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
        await store.key_uses.add("k1", 12_345)
        await store.close()

    asyncio.run(use())
    place.shell("gateway-admin keys rotate && gateway-admin keys rotate signing")
    shown, code = place.on_a_terminal("gateway-admin keys destroy k1", ("[y/N]", "n\n"))
    assert "The 12,345 messages that it sealed never open again." in shown.replace("\r\n", " ")
    assert "k1 was not destroyed" in shown
    assert code == 1
    assert states(place)["k1"] == "decrypt-only"
    _, code = place.on_a_terminal("gateway-admin keys destroy k1", ("[y/N]", "y\n"))
    assert code == 0
    assert states(place)["k1"] == "destroyed"
    shown, code = place.on_a_terminal("gateway-admin keys destroy s1", ("[y/N]", "y\n"))
    assert "tokens that it signed" in shown
    assert (code, states(place)["s1"]) == (0, "destroyed")


def test_destroyed_is_gone_from_the_file(place):
    material = keys(place)[0].material
    place.shell("gateway-admin keys rotate && gateway-admin keys destroy k1 --yes")
    text = (place.folder / "data/keys/encryption.key").read_bytes()
    assert base64.b64encode(material) not in text
    assert not [file for file in (place.folder / "data/keys").iterdir() if file.name.startswith(".")]


def test_on_a_terminal_the_passphrase_is_typed_twice_and_not_shown(place):
    # The prompt opens the terminal itself; it must be the controlling one.
    command = "setsid -c -w gateway-admin keys export backup.json"
    shown, code = place.on_a_terminal(
        command, ("Passphrase: ", f"{PASSPHRASE}\n"), ("Once more: ", "something else entirely\n")
    )
    assert code == 1
    assert "differ" in shown
    assert not (place.folder / "backup.json").exists()
    shown, code = place.on_a_terminal(
        command, ("Passphrase: ", f"{PASSPHRASE}\n"), ("Once more: ", f"{PASSPHRASE}\n")
    )
    assert code == 0, shown
    assert "planted" not in shown
    before = keys(place)
    for name in ("encryption.key", "signing.key"):
        (place.folder / "data/keys" / name).unlink()
    shown, code = place.on_a_terminal(
        "setsid -c -w gateway-admin keys import backup.json", ("Passphrase: ", f"{PASSPHRASE}\n")
    )
    assert code == 0, shown
    assert keys(place) == before


def test_the_backup_is_for_its_owner_alone_and_shows_no_key(place):
    code, _, _ = place.shell(
        "umask 000; gateway-admin keys export backup.json --passphrase-stdin", stdin=PASSPHRASE.encode()
    )
    assert code == 0
    backup = place.folder / "backup.json"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not [file for file in place.folder.iterdir() if file.name.startswith(".")]
    text = backup.read_bytes()
    for key in keys(place):
        assert base64.b64encode(key.material) not in text
        assert key.material not in text
    json.loads(text)


def test_a_backup_brings_nothing_back_that_was_destroyed(place):
    place.shell("gateway-admin keys rotate")
    place.shell("gateway-admin keys export backup.json --passphrase-stdin", stdin=PASSPHRASE.encode())
    place.shell("gateway-admin keys destroy k1 --yes")
    code, _, _ = place.shell(
        "gateway-admin keys import backup.json --passphrase-stdin", stdin=PASSPHRASE.encode()
    )
    assert (code, states(place)["k1"]) == (0, "destroyed")


def test_the_backup_of_another_gateway_changes_nothing(place):
    place.shell("gateway-admin keys export backup.json --passphrase-stdin", stdin=PASSPHRASE.encode())
    (place.folder / "data/keys/encryption.key").unlink()
    place.shell("gateway-admin init")
    before = keys(place)
    code, _, err = place.shell(
        "gateway-admin keys import backup.json --passphrase-stdin", stdin=PASSPHRASE.encode()
    )
    assert code == 1
    assert "a different key" in err
    assert keys(place) == before


def test_what_was_done_is_noted_without_the_passphrase(place):
    place.shell("gateway-admin keys rotate")
    place.shell("gateway-admin keys rotate signing")
    place.shell("gateway-admin keys destroy k1 --yes")
    place.shell("gateway-admin keys destroy k1 --yes")
    place.shell("gateway-admin keys export backup.json --passphrase-stdin", stdin=PASSPHRASE.encode())
    place.shell("rm data/keys/*")
    place.shell("gateway-admin keys import backup.json --passphrase-stdin", stdin=PASSPHRASE.encode())
    place.shell("gateway-admin keys list")
    events = place.noted()
    assert [(event["outcome"], event["reason"]) for event in events] == [
        ("begun", "a new sealing key to be made, k1 to be retired"),
        ("done", "sealing key k2 made, k1 retired"),
        ("begun", "a new signing key to be made, s1 to be retired"),
        ("done", "signing key s2 made, s1 retired"),
        ("begun", "sealing key k1 to be destroyed"),
        ("done", "sealing key k1 destroyed"),
        ("begun", "all keys to be exported"),
        ("done", "all keys exported"),
        ("begun", "keys of a backup to be imported"),
        ("done", "keys imported: k1, k2, s1, s2, a1"),
    ]
    assert {event["kind"] for event in events} == {"key"}
    assert "planted" not in json.dumps(events)


def exported(place):
    return place.shell("gateway-admin keys export backup.json --passphrase-stdin", stdin=PASSPHRASE.encode())


@pytest.mark.parametrize("command", ["rotate", "rotate signing", "destroy k1 --yes", "export new.json"])
@pytest.mark.parametrize("store", ["damaged", "gone"])
def test_without_a_store_that_keeps_the_event_nothing_is_changed_and_no_key_leaves(place, store, command):
    place.shell("gateway-admin keys rotate")
    before, database = keys(place), place.folder / "data/gateway.db"
    if store == "damaged":
        database.write_bytes(b"rubbish")
    else:
        database.unlink()
    words = f"gateway-admin keys {command}" + (" --passphrase-stdin" if "export" in command else "")
    code, _, err = place.shell(words, stdin=PASSPHRASE.encode())
    assert code == 1
    assert str(database.relative_to(place.folder)) in err
    assert keys(place) == before
    assert not (place.folder / "new.json").exists()
    assert database.exists() is (store == "damaged"), "a store is not made here"


def test_keys_come_back_before_there_is_a_store_and_the_first_start_tells(place):
    assert exported(place)[0] == 0
    (place.folder / "data/gateway.db").unlink()
    place.shell("rm data/keys/*")
    code, _, err = place.shell(
        "gateway-admin keys import backup.json --passphrase-stdin", stdin=PASSPHRASE.encode()
    )
    assert code == 0
    assert err.startswith("note: there is no store yet that keeps an audit event")
    assert states(place) == {"k1": "active", "s1": "active"}
    assert not (place.folder / "data/gateway.db").exists(), "a store is not made here"
    assert place.shell("gateway-admin init")[0] == 0
    assert place.noted()[0]["reason"] == "a new store was made beside keys: sealing, signing, audit"


def test_keys_that_are_wrapped_stay_wrapped(place):
    place.environment["ENCRYPTION_KEY"] = "a passphrase of today's settings"
    code, _, err = place.shell("gateway-admin keys rotate")
    assert code == 1
    assert "not wrapped" in err
    del place.environment["ENCRYPTION_KEY"]
    place.shell("gateway-admin keys export backup.json --passphrase-stdin", stdin=PASSPHRASE.encode())
    place.shell("rm data/keys/*")
    place.environment["ENCRYPTION_KEY"] = "a passphrase of today's settings"
    for command in (
        f"echo {PASSPHRASE} | gateway-admin keys import backup.json --passphrase-stdin",
        "gateway-admin keys rotate",
        "gateway-admin keys list",
    ):
        assert place.shell(command)[0] == 0
    assert '"wrapped": true' in (place.folder / "data/keys/encryption.key").read_text()


def test_on_a_terminal_the_list_is_a_coloured_table(place):
    place.shell("gateway-admin keys rotate")
    shown, code = place.on_a_terminal("gateway-admin keys list")
    assert code == 0
    assert "\x1b[32mactive" in shown
    assert "\x1b[33mdecrypt-only" in shown
