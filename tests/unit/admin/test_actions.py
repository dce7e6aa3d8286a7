"""Each action of an administrator: its change and its event are both there, or neither.

On a real SQLite file. The tables below name every action; one that has no case fails the first test.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import shutil
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.failing_store import taken

from gateway import admin
from gateway.admin import bus_holdings_count_reset, devices, keys, tokens
from gateway.admin.audit_events import demand_kept
from gateway.auth.passwords import hash_secret
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.connection.bus_holdings import Kind, SavedHoldings
from gateway.keys.key_backup import export_keys
from gateway.keys.key_files import (
    ensure_sealing_file,
    ensure_signing_file,
    read_sealing_file,
    rotate_sealing,
)
from gateway.keys.key_kinds import KeyKind
from gateway.keys.key_ring import KeyState
from gateway.policy.files.loader import load_policy
from gateway.store import EventNotKept, IssuedToken, NewDevice, StoreError, open_store
from gateway.store.admin_events import AdminEvents
from gateway.store.audit_trails import AuditTrails
from gateway.store.device_directory import Directory

ACL = Path(__file__).parents[2] / "cli" / "acl"
NOW = 4_000_000_000
ME = "gateway-admin:me"
PASSPHRASE = b"planted horse battery staple"


class Fault(Exception):
    """What happens between a change and its event."""


HASHED = hash_secret(b"a secret")


class World:
    """A store with a device of each state, keys, and what issues tokens."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gateway.db"
        self.backup = folder / "backup.json"
        self.sealed_again = False
        self.settings = SimpleNamespace(
            database_path=self.path,
            encryption_key_path=folder / "keys" / "encryption.key",
            signing_key_path=folder / "keys" / "signing.key",
            encryption_key=None,
            jwt_secret=None,
            jwt_ttl=900,
        )
        self.record = IssuedToken("t1", "lamp-1", "t1", 1, NOW, NOW + 900, "auth")

    async def make(self) -> None:
        self.store = await open_store(f"sqlite:///{self.path}")
        for device_id in ("lamp-1", "lamp-2"):
            await self.store.devices.add(device_id, credential="c", roles=["sensor"], labels={})
        await self.store.devices.set_enabled("lamp-2", enabled=False)
        for device_id in ("argon", "two-secrets"):
            await self.store.devices.add(device_id, credential=HASHED, roles=["sensor"], labels={})
        await self.store.devices.set_next_credential("two-secrets", "next", 60)
        await self.store.tokens.add([self.record])
        await self.store.holdings.save([SavedHoldings("lamp-1", Kind.RETAINED, 0, 0, 0, b"12345678")])
        ensure_sealing_file(self.settings.encryption_key_path, None)
        ensure_signing_file(self.settings.signing_key_path, None)
        await self.store.close()

    async def open(self) -> World:
        self.store = await open_store(f"sqlite:///{self.path}")
        self.policy = load_policy(ACL, reserved="gateway")
        directory = Directory(self.store)
        await directory.load()
        signing = SigningKeys.of_secret(b"0123456789012345678901234567890123456789")
        self.issuer = Tokens(signing, directory, now=lambda: NOW * 1000, ttl=900, chain_max=86_400)
        return self

    async def end_overlap(self, device_id: str):
        device = await self.store.devices.get(device_id)
        return await devices.end_overlap(self.store, device, "why", actor=ME)

    async def issue(self, device_id: str, **more):
        device = await self.store.devices.get(device_id)
        wanted = {"ttl": None, "ttl_most": 900, "asked": None, "actor": ME} | more
        return await tokens.issue(self.store, self.issuer, self.policy, device, **wanted)

    def dump(self, *, events: bool = True) -> list[str]:
        """All that the file holds."""
        with closing(sqlite3.connect(self.path)) as file:
            return [line for line in file.iterdump() if events or "admin_events" not in line]

    async def seal_again(self):
        self.sealed_again = True
        return SimpleNamespace(resealed=3)

    def sealing_keys(self):
        return read_sealing_file(self.settings.encryption_key_path, None)


IN_ONE_TRANSACTION = {
    "devices.add": (
        lambda at: devices.add(at.store, "new", credential="c", roles=["a", "b"], labels={}, actor=ME),
        "added with the roles a, b",
    ),
    "devices.add of an import": (
        lambda at: devices.add(
            at.store, "new", credential="c", roles=[], labels={}, actor=ME, how="imported"
        ),
        "imported without roles",
    ),
    "devices.add_all": (
        lambda at: devices.add_all(at.store, [NewDevice("new", "c", ["a"], {})], actor=ME),
        "added with the roles a",
    ),
    "devices.add_all of one that is kept out": (
        lambda at: devices.add_all(at.store, [NewDevice("new", "c", ["a"], {}, enabled=False)], actor=ME),
        "added with the roles a, disabled",
    ),
    "devices.change": (
        lambda at: devices.change(
            at.store, "lamp-1", roles=["b"], labels={"room": ("hall", "attic")}, methods=["token"], actor=ME
        ),
        "roles sensor, now b; labels none, now room=hall, room=attic; methods secret, token, certificate",
    ),
    "devices.set_next_secret": (
        lambda at: devices.set_next_secret(at.store, "argon", b"another secret", 60, actor=ME),
        "given a new secret; the old one is good until it was used, or 2",
    ),
    "devices.end_overlap": (
        lambda at: at.end_overlap("two-secrets"),
        "the old secret ended: why",
    ),
    "devices.enable": (lambda at: devices.enable(at.store, "lamp-2", actor=ME), "enabled"),
    "devices.disable": (lambda at: devices.disable(at.store, "lamp-1", actor=ME), "disabled"),
    "devices.set_credential": (
        lambda at: devices.set_credential(at.store, "lamp-1", "other", actor=ME),
        "given a new secret",
    ),
    "devices.observe": (lambda at: devices.observe(at.store, "lamp-1", 60, actor=ME), "observed until 2"),
    "devices.remove": (lambda at: devices.remove(at.store, "lamp-1", actor=ME), "removed"),
    "bus_holdings_count_reset.forget": (
        lambda at: bus_holdings_count_reset.forget(at.store, "lamp-1", actor=ME),
        "what it holds on the bus is counted anew",
    ),
    "tokens.issue": (lambda at: at.issue("lamp-1"), "issued: "),
    "tokens.revoke": (
        lambda at: tokens.revoke(at.store, at.record, ttl_most=900, actor=ME),
        "revoked: t1",
    ),
    "tokens.revoke_all": (
        lambda at: tokens.revoke_all(at.store, "lamp-1", actor=ME),
        "all revoked, 1 recorded ones among them",
    ),
}


def opening(at):
    return nullcontext(at.store)


async def destroyed(at, store):
    rotate_sealing(at.settings.encryption_key_path, None)
    return await keys.destroy(store, at.settings, "k1", actor=ME)


async def imported(at, store):
    saved = export_keys(at.settings.encryption_key_path, at.settings.signing_key_path, None, PASSPHRASE)
    at.settings.signing_key_path.unlink()
    return await keys.import_(store, at.settings, saved, PASSPHRASE, actor=ME)


async def resealed(at, opening):
    async with opening as store:
        return await keys.reseal(store, at.seal_again, actor=ME)


ON_FILES = {
    "keys.rotate": (
        lambda at, store: keys.rotate(store, at.settings, KeyKind.SEALING, actor=ME),
        "a new sealing key to be made, k1 to be retired",
        "sealing key k2 made, k1 retired",
        lambda at: [key.key_id for key in at.sealing_keys()] == ["k1", "k2"],
    ),
    "keys.destroy": (
        destroyed,
        "sealing key k1 to be destroyed",
        "sealing key k1 destroyed",
        lambda at: at.sealing_keys()[0].state is KeyState.DESTROYED,
    ),
    "keys.export": (
        lambda at, store: keys.export(store, at.settings, PASSPHRASE, at.backup.write_bytes, actor=ME),
        "all keys to be exported",
        "all keys exported",
        lambda at: at.backup.exists(),
    ),
    "keys.import_": (
        imported,
        "keys of a backup to be imported",
        "keys imported: s1",
        lambda at: at.settings.signing_key_path.exists(),
    ),
    "keys.reseal": (
        resealed,
        "retained messages to be sealed again",
        "3 retained messages sealed again",
        lambda at: at.sealed_again,
    ),
}
"""What no transaction covers: the call, its event before and after it, and whether it was done."""

ELSEWHERE = {
    "alert_silences.silence": "cli/test_alerts_command.py",
    "alert_silences.unsilence": "cli/test_alerts_command.py",
    "backup.back_up": "cli/test_backup_command.py",
    "restore.restore": "cli/test_backup_command.py",
    "kick_trace_events.record_kick": "integration/test_who_is_here.py",
    "kick_trace_events.record_trace": "integration/test_device_trace.py",
}
"""Those that need more than a store and keys, and the file that has their cases."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    asyncio.run(World(folder).make())
    return folder


@pytest.fixture
async def at(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    world = await World(tmp_path).open()
    yield world
    await world.store.close()


def actions():
    """Every public coroutine function of the room, but for what writes the event."""
    for found in pkgutil.iter_modules(admin.__path__):
        module = importlib.import_module(f"{admin.__name__}.{found.name}")
        for name, value in vars(module).items():
            own = inspect.iscoroutinefunction(value) and value.__module__ == module.__name__
            if own and not name.startswith("_") and found.name != "audit_events":
                yield f"{found.name}.{name}"


def test_every_action_has_a_case():
    assert sorted(actions()) == sorted(
        {name.partition(" ")[0] for name in (*IN_ONE_TRANSACTION, *ON_FILES, *ELSEWHERE)}
    )
    for path in ELSEWHERE.values():
        assert (Path(__file__).parents[2] / path).is_file()


@pytest.mark.parametrize("name", IN_ONE_TRANSACTION)
async def test_an_action_makes_its_change_and_one_event(at, name):
    call, reason = IN_ONE_TRANSACTION[name]
    before = at.dump(events=False)
    await call(at)
    assert at.dump(events=False) != before
    (event,) = await taken(at.store)
    assert event["reason"].startswith(reason)
    assert (event["outcome"], event["actor"]) == ("done", ME)
    assert event["kind"] == ("token" if name.startswith("tokens.") else "device")
    assert event["device"] in {"lamp-1", "lamp-2", "new", "argon", "two-secrets"}


@pytest.mark.parametrize("written", [False, True], ids=["before the event", "after it"])
@pytest.mark.parametrize("name", IN_ONE_TRANSACTION)
async def test_a_fault_before_both_are_done_leaves_neither(at, monkeypatch, name, written):
    reached = []

    async def fail(self, event):
        reached.append(event)
        if written:
            await add(self, event)
        raise Fault

    add = AdminEvents.add
    monkeypatch.setattr(AdminEvents, "add", fail)
    before = at.dump()
    with pytest.raises(Fault):
        await IN_ONE_TRANSACTION[name][0](at)
    assert len(reached) == 1
    assert at.dump() == before


def test_a_process_that_is_killed_between_them_leaves_neither(tmp_path):
    script = (
        "import asyncio, os, signal, sys\n"
        "from gateway.admin import devices\n"
        "from gateway.store import open_store\n"
        "from gateway.store.admin_events import AdminEvents\n"
        "async def killed(self, event):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1])\n"
        "    await store.devices.add('lamp-1', credential='c', roles=[], labels={})\n"
        "    AdminEvents.add = killed\n"
        "    await devices.disable(store, 'lamp-1', actor='me')\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "gateway.db"
    done = subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"], check=False)
    assert done.returncode == -9
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT device_id, enabled FROM devices").fetchall() == [("lamp-1", 1)]
        assert file.execute("SELECT count(*) FROM changes").fetchone() == (1,)
        assert file.execute("SELECT * FROM admin_events").fetchall() == []


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", ["keys.rotate", "keys.destroy"])
async def test_a_process_that_is_killed_at_the_change_of_a_file_leaves_the_event_that_it_began(
    at, tmp_path, name, moment
):
    """Kind: a key that was rotated or destroyed without a trace."""
    if name == "keys.destroy":
        rotate_sealing(at.settings.encryption_key_path, None)
    call = {
        "keys.rotate": "keys.rotate(nullcontext(store), settings, KeyKind.SEALING, actor='me')",
        "keys.destroy": "keys.destroy(nullcontext(store), settings, 'k1', actor='me')",
    }[name]
    script = (
        "import asyncio, os, signal, sys\n"
        "from contextlib import nullcontext\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from gateway.admin import keys\n"
        "from gateway.keys import key_files\n"
        "from gateway.keys.key_kinds import KeyKind\n"
        "from gateway.store import open_store\n"
        "write, moment, folder = key_files.write, sys.argv[1], Path(sys.argv[2])\n"
        "def killed(*given):\n"
        "    if moment == 'after':\n"
        "        write(*given)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "key_files.write = killed\n"
        "settings = SimpleNamespace(encryption_key_path=folder / 'keys' / 'encryption.key',\n"
        "                           encryption_key=None)\n"
        "async def main():\n"
        "    store = await open_store(f'sqlite:///{folder}/gateway.db')\n"
        f"    await {call}\n"
        "asyncio.run(main())\n"
    )
    _, begun, _, done = ON_FILES[name]
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, moment, tmp_path)
    assert await child.wait() == -9
    assert done(at) is (moment == "after")
    assert [(one["kind"], one["outcome"], one["reason"]) for one in await taken(at.store)] == [
        ("key", "begun", begun)
    ]


@pytest.mark.parametrize("name", [*IN_ONE_TRANSACTION, *ON_FILES])
async def test_no_event_no_change(at, name):
    """While a running gateway can't write its audit trail nothing is changed, and no key leaves it."""
    await at.store.audit_trails.set_fault("node-1", "the disk is full")
    before = at.dump()
    call = (
        IN_ONE_TRANSACTION[name][0](at) if name in IN_ONE_TRANSACTION else ON_FILES[name][0](at, opening(at))
    )
    with pytest.raises(EventNotKept, match=r"nothing was changed.*the disk is full"):
        await call
    assert at.dump() == before
    if name in ON_FILES:
        assert not ON_FILES[name][3](at)
    await at.store.audit_trails.set_fault("node-1", "")
    await demand_kept(at.store)


async def test_a_fault_that_nobody_says_again_does_not_count_for_long(at, monkeypatch):
    await at.store.audit_trails.set_fault("node-1", "the disk is full")
    monkeypatch.setattr("gateway.store.audit_trails.FAULT_SECONDS", 0)
    await demand_kept(at.store)


@pytest.mark.parametrize("name", ON_FILES)
async def test_what_no_transaction_covers_is_told_before_and_after(at, name):
    call, begun, reason, done = ON_FILES[name]
    await call(at, opening(at))
    assert done(at)
    events = await taken(at.store)
    assert [(one["kind"], one["outcome"], one["reason"]) for one in events] == [
        ("key", "begun", begun),
        ("key", "done", reason),
    ]
    assert {one["actor"] for one in events} == {ME}


@pytest.mark.parametrize("name", ON_FILES)
async def test_what_fails_is_told_as_that(at, monkeypatch, name):
    def fail(*_):
        raise OSError("no space")

    for function in ("rotate_sealing", "destroy"):
        monkeypatch.setattr(f"gateway.keys.key_files.{function}", fail)
    for function in ("export_keys", "import_keys"):
        monkeypatch.setattr(f"gateway.admin.keys.{function}", fail)
    monkeypatch.setattr(World, "seal_again", fail)
    call, begun, _, done = ON_FILES[name]
    with pytest.raises(OSError, match="no space"):
        await call(at, opening(at))
    assert not done(at)
    assert [(one["outcome"], one["reason"]) for one in await taken(at.store)] == [
        ("begun", begun),
        ("failed", f"{begun}: no space"),
    ]


@asynccontextmanager
async def closed():
    raise StoreError("it is locked")
    yield


@pytest.mark.parametrize("when", ["opened", "written"])
@pytest.mark.parametrize("name", ON_FILES)
async def test_a_store_that_can_not_keep_the_event_lets_nothing_be_changed(at, monkeypatch, name, when):
    async def fail(self, event):
        raise StoreError("it is locked")

    monkeypatch.setattr(AdminEvents, "add", fail)
    call, *_, done = ON_FILES[name]
    said = "it is locked" if when == "opened" else "nothing was changed, .*: it is locked"
    with pytest.raises(StoreError, match=said):
        await call(at, closed() if when == "opened" else opening(at))
    assert not done(at)


@pytest.mark.parametrize("name", ON_FILES)
async def test_a_store_that_fails_after_the_change_has_the_event_that_it_began(at, monkeypatch, name):
    async def add_one(self, event):
        await add(self, event)
        monkeypatch.setattr(AdminEvents, "add", fail)

    async def fail(self, event):
        raise StoreError("it is locked")

    add = AdminEvents.add
    monkeypatch.setattr(AdminEvents, "add", add_one)
    call, begun, _, done = ON_FILES[name]
    with pytest.raises(StoreError, match=r"its audit event .* was begun: it is locked"):
        await call(at, opening(at))
    assert done(at)
    assert [(one["outcome"], one["reason"]) for one in await taken(at.store)] == [("begun", begun)]


@pytest.mark.parametrize("name", ON_FILES)
async def test_a_trail_that_fails_meanwhile_is_told_later_what_came_of_it(at, monkeypatch, name):
    async def add_and_fail(self, event):
        await add(self, event)
        monkeypatch.setattr(AdminEvents, "add", add)
        await AuditTrails(self._transactions).set_fault("node-1", "the disk is full")

    add = AdminEvents.add
    monkeypatch.setattr(AdminEvents, "add", add_and_fail)
    await ON_FILES[name][0](at, opening(at))
    assert [one["outcome"] for one in await taken(at.store)] == ["begun", "done"]


async def test_nothing_brought_in_is_told_too(at):
    saved = export_keys(at.settings.encryption_key_path, at.settings.signing_key_path, None, PASSPHRASE)
    found = await keys.import_(opening(at), at.settings, saved, PASSPHRASE, actor=ME)
    assert found.added == ()
    assert [one["reason"] for one in await taken(at.store)] == [
        "keys of a backup to be imported",
        "keys imported: none was missing",
    ]


async def test_a_token_that_is_refused_is_an_event_too(at):
    with pytest.raises(admin.errors.Refused, match="is disabled"):
        await at.issue("lamp-2")
    with pytest.raises(admin.errors.Refused, match="longer than JWT_TTL"):
        await at.issue("lamp-1", ttl=901)
    with pytest.raises(admin.errors.Refused, match="as much as") as refused:
        await at.issue("lamp-1", asked={"publish": ("#",)})
    events = await taken(at.store)
    assert [(event["kind"], event["outcome"], event["device"]) for event in events] == [
        ("token", "refused", "lamp-2"),
        ("token", "refused", "lamp-1"),
        ("token", "refused", "lamp-1"),
    ]
    assert events[2]["reason"] == f"not issued: {refused.value}; {refused.value.problems[0]}"
    assert len(await at.store.tokens.read()) == 1
