"""Promise 5, invisible otherwise: what a client sees through the gateway is what Mosquitto itself answers.

Every scenario of the tables runs on a Mosquitto and through a gateway before another one, with the same
bytes but for the credentials; the packets that come back, their order, and how the connection ends must
be equal. Where they are not, `parity.differences` says exactly how and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto, version
from parity import connects, delivery, differences, malformed, sessions, subscribing, timed
from parity.exchange import NOTHING, ConnectionRegistry, Scenario, Side

Trace = list[tuple[str, str]]

_AT_ONCE = 16
"""Scenarios that run at the same time: most of them wait."""

_ONE_DEVICE = """sessions = 10_000
connections_per_device = 1_000
connects_per_minute = 100_000
login_failures_per_minute = 1_000
"""
"""It has the sessions of all scenarios."""

_AS_2_1 = "max_packet_size 2000000\n"
"""The default of Mosquitto 2.1, which its CONNACKs say."""
# Below what "#" does not take in: what sealing adds changes the CONNACKs of those who may publish there.
_SENSITIVE = """[[sensitive]]
topics = ["$sealed/#"]
"""
_SEALED_ROLE = """description = "One whose messages may have to be sealed."
[[allow]]
actions = ["publish"]
topics = ["$sealed/#"]
"""

_ALL: dict[str, tuple[bool, Scenario]] = {
    f"{name} [{'5' if v5 else '3.1.1'}]": (v5, scenario)
    for part in (timed, sessions, delivery, subscribing, connects, malformed)
    for name, versions, scenario in part.table()
    for v5 in versions
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Trace, Trace]]]:
    """What every scenario gave, directly and through the gateway."""
    folder = tmp_path_factory.mktemp("parity")
    alone, bus = (Mosquitto(folder / name, settings=_AS_2_1).start() for name in ("alone", "bus"))
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("limits.toml", _ONE_DEVICE)
    gateway.write_policy("encryption.toml", _SENSITIVE)
    gateway.write_policy("roles/sealed.toml", _SEALED_ROLE)
    try:
        secret = gateway.start().add_device("parity")
        direct = ConnectionRegistry(alone.port)
        sealed = gateway.add_device("sealed", "full", "sealed")
        through = ConnectionRegistry(
            gateway.port, gateway.tls(), b"parity", secret.encode(), (b"sealed", sealed.encode())
        )
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            running: dict[str, list[Future[Trace]]] = {
                name: [
                    pool.submit(_run, registry, f"p{number}", v5, scenario) for registry in (direct, through)
                ]
                for number, (name, (v5, scenario)) in enumerate(_ALL.items())
            }
        yield {name: (one.result(), other.result()) for name, (one, other) in running.items()}
    finally:
        gateway.kill()
        bus.kill()
        alone.kill()


def _run(registry: ConnectionRegistry, topic: str, v5: bool, scenario: Scenario) -> Trace:
    side = Side(registry, v5, topic)
    try:
        scenario(side)
    finally:
        side.shut()
    return side.trace


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[str, ...]]:
    """How the gateway differs from the Mosquitto at hand, which may be older than its models."""
    at_hand = version()
    later = differences.LATER if at_hand < (2, 0, 20) else {}
    newest = differences.NEWEST if at_hand < (2, 1) else {}
    without = {} if at_hand < (2, 1) else differences.WITHOUT
    return later | newest | without | differences.OWN


@pytest.mark.parametrize("name", _ALL)
def test_the_same_as_on_mosquitto(
    name: str, traces: dict[str, tuple[Trace, Trace]], expected: dict[str, tuple[str, ...]]
) -> None:
    direct, through = traces[name]
    assert NOTHING not in [text for _, text in direct]
    other = expected.get(name)
    if other is None:
        assert through == direct
    else:
        assert tuple(text for _, text in through)[-len(other) :] == other
        assert through != direct, "there is no difference any more"


@pytest.mark.parametrize("named", differences.SETTINGS)
def test_a_setting_of_the_bus_that_means_something_else_to_devices(
    named: str, tmp_path: Path, start_gateway: Callable[..., Gateway]
) -> None:
    setting, _, of = named.rpartition(" ")
    bus = Mosquitto(tmp_path / "bus", settings=setting).start()
    try:
        gateway = start_gateway(bus.port)
        secret = gateway.add_device("parity")
        doors = (
            ConnectionRegistry(bus.port),
            ConnectionRegistry(gateway.port, gateway.tls(), b"parity", secret.encode()),
        )
        client_id, other = differences.SETTINGS[named]
        direct, through = (_run(registry, client_id, of == "[5]", _by_its_id) for registry in doors)
        assert tuple(text for _, text in through)[-len(other) :] == other
        assert through != direct, "there is no difference any more"
    finally:
        bus.kill()


def _by_its_id(side: Side) -> None:
    side.open("a").ask(side.connect_packet())


def test_the_access_list_of_the_bus_sees_the_gateway_alone(
    tmp_path: Path, start_gateway: Callable[..., Gateway]
) -> None:
    access = tmp_path / "access"
    access.write_text("user parity\ntopic readwrite #\nuser gateway\ntopic readwrite gateway/#\n")
    access.chmod(0o600)
    bus = Mosquitto(tmp_path / "bus", settings=f"acl_file {access}").start()
    try:
        gateway = start_gateway(bus.port, MQTT_USERNAME="gateway")
        secret = gateway.add_device("parity")
        direct = ConnectionRegistry(bus.port, username=b"parity")
        through = ConnectionRegistry(gateway.port, gateway.tls(), b"parity", secret.encode())
        answers = [
            tuple(text for _, text in _run(registry, "p", True, _that_publishes))[1:]
            for registry in (direct, through)
        ]
        assert answers[0] != answers[1] == differences.ACCESS_LIST
    finally:
        bus.kill()


def _that_publishes(side: Side) -> None:
    side.connect("a").ask(side.publish(side.topic, b"x", qos=1, packet_id=1))


@pytest.mark.parametrize("v5", [False, True])
def test_a_mount_point_of_the_bus_is_as_without_the_gateway(
    tmp_path: Path, start_gateway: Callable[..., Gateway], v5: bool
) -> None:
    """For devices; who listens elsewhere on that bus hears what the gateway says to itself below it, too."""
    bus = Mosquitto(tmp_path / "bus", settings="mount_point mount/").start()
    try:
        gateway = start_gateway(bus.port)
        secret = gateway.add_device("parity")
        doors = (
            ConnectionRegistry(bus.port),
            ConnectionRegistry(gateway.port, gateway.tls(), b"parity", secret.encode()),
        )
        direct, through = (_run(registry, "p", v5, _that_hears_itself) for registry in doors)
        assert through[1:] == direct[1:], "but for the CONNACK, which leaves room for sealing"
    finally:
        bus.kill()


def _that_hears_itself(side: Side) -> None:
    side.reader(("#", 0)).ask(side.publish(side.topic, b"x"), side.publish(f"mount/{side.topic}", b"y"))


def test_no_difference_is_listed_that_no_scenario_shows() -> None:
    for listed in (differences.OWN, differences.LATER, differences.NEWEST, differences.WITHOUT):
        assert set(listed) <= set(_ALL)


def test_what_public_suites_show_otherwise_is_a_difference_listed_here() -> None:
    """`ACCESS_LIST` has no scenario's name."""
    listed = differences.OWN | differences.LATER | differences.NEWEST | differences.WITHOUT
    compared = {*listed, *differences.SETTINGS, "ACCESS_LIST"}
    for names in differences.PUBLIC_SUITES.values():
        assert set(names) <= compared
