"""Certificates that change while the gateway runs, and the CA that the bus is believed by."""

from __future__ import annotations

import asyncio
import ssl
import threading
from types import SimpleNamespace

import pytest
from harness.background_tasks import beside, until

from gateway.app.followers.certificates import BusAuthority, CertificateFollower
from gateway.config import Settings
from gateway.net.bus_endpoint import Bus
from gateway.net.tls_contexts import bus_context, server_context
from gateway.pki.initial_certificates import ensure_server_certificate
from gateway.system import file_notices


@pytest.fixture
def certificates(tmp_path, monkeypatch):
    """A listener, its follower, and a folder with its certificates."""
    monkeypatch.setattr(CertificateFollower, "seconds", 0.01)
    server, key = tmp_path / "server.crt", tmp_path / "server.key"
    ensure_server_certificate(server, key, names=[])
    settings = Settings(tls_cert_path=server, tls_key_path=key, tls_client_ca_path=tmp_path / "ca.crt")
    listener = SimpleNamespace(tls=server_context(server, key, None))  # of a port, this is all that changes
    keeper = CertificateFollower(settings)
    keeper.serve(listener, SimpleNamespace(tls=None))
    return listener, keeper, tmp_path


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
    reported = []
    keeper.report = reported.append
    async with beside(keeper.run()):
        before = listener.tls
        certificate.replace(to)
        await until(lambda: not keeper.check()[0])
        assert listener.tls is before
        why = f"{key_to} is not the key of the first certificate in {to}; those before are in force"
        assert reported[0].reason == why
        assert keeper.check() == (False, why)
        # The key comes a moment later.
        key.replace(key_to)
        await until(lambda: keeper.check()[0])
        assert listener.tls is not before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("server.crt", "{} can't be read: No such file or directory"),
        ("server.key", "{} can't be read: No such file or directory"),
        ("ca.crt", "{}: can't be read: No such file or directory"),
    ],
)
async def test_a_file_that_is_gone_is_named(certificates, name, said):
    _, keeper, folder = certificates
    async with beside(keeper.run()):
        (folder / name).unlink()
        await until(lambda: not keeper.check()[0])
        assert keeper.check()[1] == f"{said.format(folder / name)}; those before are in force"


async def test_certificates_that_come_back_as_they_were_are_no_problem(certificates):
    _, keeper, folder = certificates
    async with beside(keeper.run()):
        (folder / "server.crt").rename(folder / "away")
        await until(lambda: not keeper.check()[0])
        (folder / "away").rename(folder / "server.crt")
        await until(lambda: keeper.check()[0])


async def test_what_changed_before_it_began_is_not_missed(certificates, tmp_path_factory):
    listener, keeper, folder = certificates
    before = listener.tls
    for new, old in renew(folder, tmp_path_factory.mktemp("new")):
        new.replace(old)
    async with beside(keeper.run()):
        await until(lambda: listener.tls is not before)


async def test_an_emptied_ca_is_not_taken_for_any_ca(certificates):
    listener, keeper, folder = certificates
    async with beside(keeper.run()):
        before = listener.tls
        (folder / "ca.crt").write_text("")
        await until(lambda: not keeper.check()[0])
        assert listener.tls is before


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """The CA of a bus, its follower, and the bus."""
    monkeypatch.setattr(BusAuthority, "seconds", 3_600)
    ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key", names=[])
    path = tmp_path / "ca.crt"
    keeper, bus = BusAuthority(path), Bus("127.0.0.1", 8883, bus_context(path))
    keeper.serve(bus)
    return path, keeper, bus


def believed(bus):
    return bus.tls.get_ca_certs(binary_form=True)


async def test_a_reload_reads_the_ca_of_the_bus(authority, tmp_path_factory):
    path, keeper, bus = authority
    before = believed(bus)
    other = tmp_path_factory.mktemp("other")
    ensure_server_certificate(other / "server.crt", other / "server.key", names=[])
    (other / "ca.crt").replace(path)
    async with beside(keeper.run()):
        assert await keeper.reload() == "as in the file"
    assert believed(bus) == [ssl.PEM_cert_to_DER_cert(path.read_text())] != before


async def test_a_changed_ca_of_the_bus_needs_no_signal(authority, monkeypatch):
    path, keeper, bus = authority
    monkeypatch.setattr(BusAuthority, "seconds", 0.01)
    before, content = bus.tls, path.read_text()
    async with beside(keeper.run()):
        path.write_text(content + "\n")
        await until(lambda: bus.tls is not before)


@pytest.mark.parametrize("content", ["", "junk", None], ids=["empty", "junk", "gone"])
async def test_a_ca_of_the_bus_that_is_none_leaves_the_old_one_in_force(authority, content):
    path, keeper, bus = authority
    before, good = bus.tls, path.read_text()
    path.unlink()
    if content is not None:
        path.write_text(content)
    async with beside(keeper.run()):
        said = await keeper.reload()
        assert said.startswith(f"{path}: ")
        assert said.endswith("; the one before is in force")
        assert bus.tls is before
        assert not keeper.check()[0]
        path.write_text(good)
        await keeper.reload()
    assert keeper.check()[0]


async def test_a_look_and_a_reload_are_one_after_the_other_and_do_not_hold_up_the_loop(
    certificates, monkeypatch
):
    """Of two readings the older must not win, and a disk that hangs is a thread's affair."""
    _, keeper, folder = certificates
    under_way, most, go_on = 0, 0, threading.Event()
    true = CertificateFollower.read

    def read(self):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        go_on.wait(20)
        under_way -= 1
        return true(self)

    monkeypatch.setattr(CertificateFollower, "read", read)
    (folder / "server.crt").touch()
    both = asyncio.gather(keeper.look(), keeper.reload())
    await until(lambda: under_way)
    await asyncio.sleep(0.1)  # the loop goes on, and the second has its chance
    go_on.set()
    await both
    assert most == 1


async def test_what_could_not_be_put_in_force_is_by_the_next_look(authority, monkeypatch):
    path, keeper, bus = authority
    before = bus.tls

    def fail(*_):
        raise RuntimeError("a fault")

    path.write_text(path.read_text() + "\n")
    with monkeypatch.context() as patched:
        patched.setattr(BusAuthority, "put_in_force", fail)
        with pytest.raises(RuntimeError):
            await keeper.reload()
    await keeper.look()
    assert bus.tls is not before


async def test_it_sleeps_until_a_notice_comes_and_looks_again_while_there_is_a_problem(
    certificates, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(file_notices, "_SECONDS_WITH_NOTICES", 3_600.0)
    listener, keeper, folder = certificates
    asleep = asyncio.Event()
    listen = keeper._notices._listen

    async def heard():
        asleep.set()
        await listen()

    monkeypatch.setattr(keeper._notices, "_listen", heard)
    (certificate, to), (key, key_to) = renew(folder, tmp_path_factory.mktemp("new"))
    async with beside(keeper.run()):
        await asyncio.wait_for(asleep.wait(), 20)
        before = listener.tls
        certificate.replace(to)
        await until(lambda: not keeper.check()[0])
        reads, read = [], keeper.read
        monkeypatch.setattr(keeper, "read", lambda: reads.append(1) or read())
        await until(lambda: len(reads) > 2 * file_notices._LOOKS_AFTER_A_NOTICE)
        key.replace(key_to)
        await until(lambda: listener.tls is not before)
        asleep.clear()
        await asyncio.wait_for(asleep.wait(), 20)
