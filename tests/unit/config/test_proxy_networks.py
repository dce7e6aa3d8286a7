"""GATEWAY_PROXY_FROM: whose word is taken for who is there. A slip of it would let anybody be anybody."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.config import ConfigError, load_settings


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.2", ["10.0.0.2/32"]),
        ("10.0.0.0/24, fd00::/64", ["10.0.0.0/24", "fd00::/64"]),
        ("0.0.0.0/1", ["0.0.0.0/1"]),
        ("", []),
    ],
)
def test_what_it_may_be(monkeypatch, tmp_path, text, networks):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_PROXY_FROM", text)
    assert load_settings().gateway_proxy_from == tuple(ipaddress.ip_network(one) for one in networks)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
        ("10.0.0.2, ::/0", "everybody"),
        ("0.0.0.0/1,128.0.0.0/1", "everybody"),
        ("10.0.0.2/24", "an address in 10.0.0.0/24"),
        ("::ffff:10.0.0.2", "IPv4"),
        ("nginx", "not a network"),
        ("10.0.0.2,", "not a network"),
        ("*", "not a network"),
    ],
)
def test_what_it_may_not_be(monkeypatch, tmp_path, text, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_PROXY_FROM", text)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    (problem,) = refused.value.problems
    assert problem.startswith("GATEWAY_PROXY_FROM (environment): ")
    assert said in problem
    assert "Give the proxies alone" in problem
