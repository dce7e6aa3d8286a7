"""What goes on beside the data path, with real files and a real store; time is made short."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from harness.playbook import ring, shared

from gateway import upkeep
from gateway.config import Settings
from gateway.net.listener import Listener
from gateway.net.tls import server_context
from gateway.security.pki import ensure_server_certificate
from gateway.store import StoreError, open_store
from gateway.upkeep import CertificateUpkeep, KeyUses


@pytest.fixture
async def store(tmp_path):
    opened = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield opened
    await opened.close()


async def test_uses_of_the_key_are_added_up(store):
    world = shared()
    uses = KeyUses(store, world)
    await uses.save()
    assert await store.key_uses() == {}
    for total in (3, 6):
        for _ in range(3):
            world.ring.encrypt(b"", b"")
        await uses.save()
        assert await store.key_uses() == {"k1": total}
    await uses.save()
    assert await store.key_uses() == {"k1": 6}
    # As another process does.
    world.ring = ring()
    world.ring.encrypt(b"", b"")
    await KeyUses(store, world).save()
    assert await store.key_uses() == {"k1": 7}


class Failing:
    """A store that can't be written for a while: a full disk can't be had in a test."""

    def __init__(self, store):
        self.store, self.fails = store, True

    async def add_key_uses(self, key_id, count):
        if self.fails:
            raise StoreError("the disk is full")
        await self.store.add_key_uses(key_id, count)


async def test_uses_that_can_not_be_saved_are_kept(store):
    world, failing = shared(), Failing(store)
    uses = KeyUses(failing, world)
    world.ring.encrypt(b"", b"")
    await uses.save()
    world.ring.encrypt(b"", b"")
    failing.fails = False
    await uses.save()
    assert await store.key_uses() == {"k1": 2}


@contextlib.asynccontextmanager
async def beside(work):
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition):
    """Wait for what has no event to wait for."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_uses_are_saved_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(upkeep, "_USES_SAVE", 0.01)
    world = shared()
    world.ring.encrypt(b"", b"")
    async with beside(KeyUses(store, world).run()), asyncio.timeout(20):
        while await store.key_uses() != {"k1": 1}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def certificates(tmp_path, monkeypatch):
    """A listener, its upkeep, and a folder with its certificates."""
    monkeypatch.setattr(upkeep, "_CERTIFICATE_LOOK", 0.01)
    server, key = tmp_path / "server.crt", tmp_path / "server.key"
    ensure_server_certificate(server, key, names=[])
    settings = Settings(tls_cert_path=server, tls_key_path=key, tls_client_ca_path=tmp_path / "ca.crt")
    listener = Listener(None, server_context(server, key, None))  # nobody connects: it needs no door
    return listener, CertificateUpkeep(settings, listener), tmp_path


def renew(folder, other):
    """New files in the place of the old ones, one after the other."""
    ensure_server_certificate(other / "server.crt", other / "server.key", names=[])
    return [(other / name, folder / name) for name in ("server.crt", "server.key")]


async def test_new_certificates_are_for_new_connections(certificates, tmp_path_factory):
    listener, keeper, folder = certificates
    async with beside(keeper.run()):
        before = listener.tls
        for new, old in renew(folder, tmp_path_factory.mktemp("new")):
            new.replace(old)
        await until(lambda: listener.tls is not before)
        assert keeper.check() == (True, "as in the files")


async def test_certificates_that_do_not_fit_leave_the_old_ones_in_force(certificates, tmp_path_factory):
    listener, keeper, folder = certificates
    (certificate, to), (key, key_to) = renew(folder, tmp_path_factory.mktemp("new"))
    async with beside(keeper.run()):
        before = listener.tls
        certificate.replace(to)
        await until(lambda: not keeper.check()[0])
        assert listener.tls is before
        # The key comes a moment later.
        key.replace(key_to)
        await until(lambda: keeper.check()[0])
        assert listener.tls is not before


async def test_an_emptied_ca_is_not_taken_for_any_ca(certificates):
    listener, keeper, folder = certificates
    async with beside(keeper.run()):
        before = listener.tls
        (folder / "ca.crt").write_text("")
        await until(lambda: not keeper.check()[0])
        assert listener.tls is before
