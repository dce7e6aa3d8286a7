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
from gateway.admin import bus_holdings_count_reset, certificates_made_event, devices, keys, tokens
from gateway.admin.audit_events import demand_kept
from gateway.auth.passwords import hash_secret
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.connection.bus_holdings import Kind, SavedHoldings
from gateway.keys.key_files import ensure_sealing_file, ensure_signing_file, read_sealing_file
from gateway.keys.key_kinds import KeyKind
from gateway.keys.key_ring import KeyState
from gateway.policy.files.loader import load_policy
from gateway.store import EventNotKept, IssuedToken, NewDevice, StoreError, open_store
from gateway.store.admin_events import AdminEvents
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
    await keys.rotate(nullcontext(None), at.settings, KeyKind.SEALING, actor=ME)
    return await keys.destroy(store, at.settings, "k1", actor=ME)


async def imported(at, store):
    saved = []
    await keys.export(nullcontext(None), at.settings, PASSPHRASE, saved.append, actor=ME)
    at.settings.signing_key_path.unlink()
    return await keys.import_(store, at.settings, saved[0], PASSPHRASE, actor=ME)


ON_FILES = {
    "keys.rotate": (
        lambda at, store: keys.rotate(store, at.settings, KeyKind.SEALING, actor=ME),
        "sealing key k2 made, k1 retired",
        lambda at: [key.key_id for key in at.sealing_keys()] == ["k1", "k2"],
    ),
    "keys.destroy": (
        destroyed,
        "sealing key k1 destroyed",
        lambda at: at.sealing_keys()[0].state is KeyState.DESTROYED,
    ),
    "keys.export": (
        lambda at, store: keys.export(store, at.settings, PASSPHRASE, at.backup.write_bytes, actor=ME),
        "all keys exported",
        lambda at: at.backup.exists(),
    ),
    "keys.import_": (imported, "keys imported: s1", lambda at: at.settings.signing_key_path.exists()),
}

ONLY_RECORDED = {
    "keys.record_resealed": (
        lambda at: keys.record_resealed(opening(at), 3, actor=ME),
        "3 retained messages sealed again",
    ),
    "certificates_made_event.record_made": (
        lambda at: certificates_made_event.record_made(at.store, "certs/ca.crt", actor=ME),
        "certs/ca.crt made",
    ),
    "keys.record_first_made": (
        lambda at: keys.record_first_made(at.store, KeyKind.SEALING, actor=ME),
        "the first sealing key made",
    ),
}

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
        {name.partition(" ")[0] for name in (*IN_ONE_TRANSACTION, *ON_FILES, *ONLY_RECORDED, *ELSEWHERE)}
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


@pytest.mark.parametrize("name", ONLY_RECORDED)
async def test_what_was_done_elsewhere_is_told(at, name):
    call, reason = ONLY_RECORDED[name]
    await call(at)
    kind = name.split(".")[0].partition("_")[0].removesuffix("s")
    assert [(one["kind"], one["reason"]) for one in await taken(at.store)] == [(kind, reason)]


@pytest.mark.parametrize("name", [*IN_ONE_TRANSACTION, *ON_FILES])
async def test_no_event_no_change(at, name):
    """While a running gateway can't write its audit trail nothing is changed, keys included."""
    await at.store.audit_trails.set_fault("node-1", "the disk is full")
    before = at.dump()
    call = (
        IN_ONE_TRANSACTION[name][0](at) if name in IN_ONE_TRANSACTION else ON_FILES[name][0](at, opening(at))
    )
    if name == "keys.export":
        assert (await call)[1].endswith("the audit event of it can't be kept: the disk is full")
        assert at.backup.exists(), "keys are saved on the day when everything fails"
        return
    with pytest.raises(EventNotKept, match=r"nothing was changed.*the disk is full"):
        await call
    assert at.dump() == before
    if name == "keys.rotate":
        assert len(at.sealing_keys()) == 1
    if name == "keys.destroy":
        assert KeyState.DESTROYED not in {key.state for key in at.sealing_keys()}
    if name == "keys.import_":
        assert not at.settings.signing_key_path.exists()
    await at.store.audit_trails.set_fault("node-1", "")
    await demand_kept(at.store)


async def test_a_fault_that_nobody_says_again_does_not_count_for_long(at, monkeypatch):
    await at.store.audit_trails.set_fault("node-1", "the disk is full")
    monkeypatch.setattr("gateway.store.audit_trails.FAULT_SECONDS", 0)
    await demand_kept(at.store)


@pytest.mark.parametrize("name", ON_FILES)
async def test_what_changes_files_is_done_and_then_told(at, name):
    call, reason, done = ON_FILES[name]
    _, unrecorded = await call(at, opening(at))
    assert unrecorded == ""
    assert done(at)
    assert [(one["kind"], one["reason"]) for one in await taken(at.store)] == [("key", reason)]


@pytest.mark.parametrize("name", ON_FILES)
async def test_what_was_not_done_is_not_recorded(at, monkeypatch, name):
    def fail(*_):
        raise OSError("no space")

    for function in ("rotate_sealing", "destroy"):
        monkeypatch.setattr(f"gateway.keys.key_files.{function}", fail)
    for function in ("export_keys", "import_keys"):
        monkeypatch.setattr(f"gateway.admin.keys.{function}", fail)
    with pytest.raises(OSError, match="no space"):
        await ON_FILES[name][0](at, opening(at))
    assert await taken(at.store) == []


@asynccontextmanager
async def closed():
    raise StoreError("it is locked")
    yield


@pytest.mark.parametrize("when", ["opened", "written"])
@pytest.mark.parametrize("name", ON_FILES)
async def test_done_to_files_it_stays_done_and_says_that_nobody_will_tell(at, monkeypatch, name, when):
    async def fail(self, event):
        raise StoreError("it is locked")

    monkeypatch.setattr(AdminEvents, "add", fail)
    call, _, done = ON_FILES[name]
    _, unrecorded = await call(at, closed() if when == "opened" else opening(at))
    assert unrecorded == "it is locked"
    assert done(at)


async def test_nothing_brought_in_is_nothing_told(at):
    saved = []
    await keys.export(nullcontext(None), at.settings, PASSPHRASE, saved.append, actor=ME)
    found, unrecorded = await keys.import_(closed(), at.settings, saved[0], PASSPHRASE, actor=ME)
    assert (found.added, unrecorded) == ((), "")


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
