"""Where channels may connect to, judged on the address."""

from __future__ import annotations

import socket

import pytest
from harness.receivers import HttpReceiver

from gateway.alerts.channels.allowed_addresses import NotAllowed, connected, fault_of
from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.http_post import post

LOCAL = [
    "127.0.0.1", "127.9.9.9", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
    "2002:a00:1::1",
    "198.18.0.1", "192.0.2.1", "240.0.0.1", "2001:db8::1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "::", "169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", LOCAL)
def test_the_local_network_is_reached_only_if_the_file_allows_it(address):
    assert "allow_private_addresses" in fault_of(address, private=False)
    assert fault_of(address, private=True) == ""
    assert fault_of(address, private=True, plain=True) == ""


@pytest.mark.parametrize("address", NEVER)
def test_what_is_no_address_of_a_service_is_never_reached(address):
    """The metadata of a cloud among them."""
    assert fault_of(address, private=False)
    assert fault_of(address, private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_network_is_reached_with_tls_only(address):
    assert fault_of(address, private=False) == ""
    assert "https://" in fault_of(address, private=True, plain=True)


def names(monkeypatch: pytest.MonkeyPatch, **addresses: str) -> None:
    """What names mean here."""
    true = socket.getaddrinfo

    def getaddrinfo(host, *more, **words):
        name = host.decode() if isinstance(host, bytes) else host
        return true(addresses.get(name.partition(".")[0], name), *more, **words)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_a_name_that_means_a_local_address_gains_nothing(monkeypatch, plain_receiver: HttpReceiver):
    names(monkeypatch, hooks="127.0.0.1")
    url = f"http://hooks.example.org:{plain_receiver.port}/"
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1 is an address of the local network"):
        await post(url, b"{}", {}, private=False)
    with pytest.raises(NotAllowed):
        await connected("hooks.example.org", plain_receiver.port, private=False)
    assert plain_receiver.posted == []
    assert (await post(url, b"{}", {}, private=True)).ok


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "2130706433", "0x7f.1"])
async def test_a_local_address_in_any_spelling_is_not_reached(host, plain_receiver: HttpReceiver):
    with pytest.raises(NotDelivered):
        await post(f"http://{host}:{plain_receiver.port}/", b"{}", {}, private=False)
    assert plain_receiver.posted == []


async def test_a_redirect_is_not_followed(plain_receiver: HttpReceiver):
    aim = HttpReceiver()
    try:
        plain_receiver.answers, plain_receiver.location = [307], aim.url
        answer = await post(plain_receiver.url, b"{}", {}, private=True)
        assert (answer.status, answer.ok) == (307, False)
        assert aim.posted == []
    finally:
        aim.stop()


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch, plain_receiver: HttpReceiver):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await post(plain_receiver.url, b"{}", {}, private=True)).ok


async def test_who_is_there_has_to_show_a_certificate_that_is_believed(receiver: HttpReceiver, tls):
    with pytest.raises(NotDelivered, match="its certificate is not trusted"):
        await post(receiver.url, b"{}", {}, private=True)
    assert receiver.posted == []
    assert (await post(receiver.url, b"{}", {}, private=True, ca_file=tls[1])).ok


async def test_a_certificate_for_another_name_is_not_believed(monkeypatch, receiver: HttpReceiver, tls):
    names(monkeypatch, hooks="127.0.0.1")
    url = f"https://hooks.example.org:{receiver.port}/"
    with pytest.raises(NotDelivered, match="its certificate is not trusted"):
        await post(url, b"{}", {}, private=True, ca_file=tls[1])
    assert receiver.posted == []


async def test_nobody_there_is_told_in_words_that_do_not_show_the_url(plain_receiver: HttpReceiver):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with pytest.raises(NotDelivered) as caught:
        await post(f"http://127.0.0.1:{port}/PLANTED", b"{}", {}, private=True)
    assert str(caught.value) == "Connection refused"
    assert "PLANTED" not in str(caught.value)


async def test_one_that_hangs_ends_in_time(plain_receiver: HttpReceiver, monkeypatch):
    monkeypatch.setattr("gateway.alerts.channels.http_post.SECONDS_MAX", 0.2)
    plain_receiver.hang.set()
    with pytest.raises(NotDelivered, match="no answer in time") as caught:
        await post(f"{plain_receiver.url}PLANTED", b"{}", {}, private=True)
    assert "PLANTED" not in str(caught.value)
