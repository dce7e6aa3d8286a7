"""What users of other brokers complain of: each test is named after what must not happen here."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from harness import raw
from harness.device import SESSION_FOREVER, Device, join, spy, topic_alias
from harness.enrol import change_row, enrol, in_store
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.one_minute import in_one_minute

PARTLY = """description = "Hears all but one place, and speaks in one."
[[allow]]
actions = ["publish"]
topics = ["open/#"]
[[allow]]
actions = ["subscribe"]
topics = ["open/#", "closed/#"]
[[deny]]
actions = ["subscribe"]
topics = ["closed/#"]
"""
both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("house")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/partly.toml", PARTLY)
    try:
        gateway.start()
        enrol(gateway, full="full", partly="partly", other="full")
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


# mosquitto #2999, #1677: a disabled user gets in by certificate


class Certified(Device):
    """A device that shows a client certificate."""

    def __init__(self, gateway: Gateway, certificate: trustme.LeafCert) -> None:
        context = gateway.tls()
        certificate.configure_cert(context)
        raw.Raw.__init__(self, gateway.port, context, timeout=10)
        self.v5, self.inbox, self._next_id = True, [], 0

    def answer_to_connect(self, **words: object) -> int:
        """The CONNACK's code; 0x100 when TLS refused the certificate."""
        try:
            connack = self.connect(**words)
        except OSError:
            return 0x100
        return connack[3] if connack else 0x100


def test_a_disabled_device_gets_in_by_certificate(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """One gate for every method; and a CA that is taken away lets nobody in, without a restart."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.crt")
    gateway = start_gateway(mosquitto.port, TLS_CLIENT_CA_PATH=str(tmp_path / "clients.crt"))
    enrol(gateway, lamp="full", other="full")
    lamp = authority.issue_cert(common_name="lamp")

    def code(certificate: trustme.LeafCert, **words: object) -> int:
        with Certified(gateway, certificate) as one:
            return one.answer_to_connect(**words)

    assert code(lamp) == code(lamp, username="lamp") == 0
    assert code(lamp, username="other") == 0x87
    assert code(lamp, username="other", password=gateway.secrets["other"]) == 0x87
    assert code(lamp, username="lamp", password="wrong") == 0x87
    assert code(authority.issue_cert(common_name="nobody")) == 0x87
    assert code(authority.issue_cert(common_name="#")) == 0x87
    assert code(stranger.issue_cert(common_name="lamp")) == 0x100
    with Certified(gateway, lamp) as inside:
        assert inside.answer_to_connect() == 0
        in_store(gateway, lambda store: store.devices.set_enabled("lamp", enabled=False))
        assert inside.ended()[2] == 0x87
    assert code(lamp) == code(lamp, username="lamp", password=gateway.secrets["lamp"]) == 0x87
    in_store(gateway, lambda store: store.devices.set_enabled("lamp", enabled=True))
    stranger.cert_pem.write_to_path(tmp_path / "clients.crt")
    deadline = time.monotonic() + 20
    while code(lamp) != 0x100:
        assert time.monotonic() < deadline, "the CA that was taken away still counts"
        time.sleep(0.1)


def test_a_new_certificate_needs_a_restart(mosquitto: Mosquitto, gateway: Gateway, tmp_path: Path) -> None:
    """mosquitto #2038, #3568; vernemq #1414. Live connections stay, new ones see the new certificate."""
    enrol(gateway, full="full")
    certs = Path(gateway.env["TLS_CERT_PATH"]).parent
    with join(gateway, "full", "before") as before:
        authority = trustme.CA()
        new = authority.issue_cert("localhost", "127.0.0.1")
        new.private_key_pem.write_to_path(certs / "server.key")
        new.cert_chain_pems[0].write_to_path(certs / "server.crt")
        authority.cert_pem.write_to_path(tmp_path / "new-ca.crt")
        gateway.ca = tmp_path / "new-ca.crt"
        deadline = time.monotonic() + 20
        while True:
            try:
                join(gateway, "full", "after").close()
                break
            except OSError:
                assert time.monotonic() < deadline, "new connections see the old certificate"
                time.sleep(0.1)
        assert before.publish("a", b"still here") == 0


def test_a_ban_is_dodged_with_a_new_client_id(mosquitto: Mosquitto, gateway: Gateway) -> None:
    """mosquitto #2076; emqx #13184, #18218: counted by device and address, before anything is hashed."""
    enrol(gateway, full="full", other="full")

    def code(client_id: str, password: str, source: str, username: str = "full") -> int:
        with Device(gateway, v5=True, source=source) as one:
            return one.connect(client_id=client_id, username=username, password=password)[3]

    def guess(attempt: int) -> tuple[str, list[int], int]:
        source = f"127.0.0.{attempt + 7}"
        codes = [code(f"try-{number}", f"guess-{number}", source) for number in range(35)]
        return source, codes, code("new", gateway.secrets["full"], source)

    source, guesses, right = in_one_minute(guess)
    assert guesses == [0x87] * 30 + [0x9F] * 5
    assert right == 0x9F
    # Whoever guesses locks nobody else out.
    assert code("mine", gateway.secrets["full"], "127.0.0.99") == 0
    assert code("mine", gateway.secrets["other"], source, "other") == 0


def test_the_acl_is_silently_off(house: tuple[Mosquitto, Gateway], tmp_path: Path) -> None:
    """home-assistant addons #4571, #4721: the shipped policy proves its denials."""
    _, gateway = house
    told = json.loads(gateway.admin("acl", "test", "--json").stdout)
    assert told["cases"] > 10
    assert told["failed"] == []
    wide = tmp_path / "acl"
    shutil.copytree(gateway.acl, wide)
    (wide / "roles" / "sensor.toml").write_text('[[allow]]\nactions = ["publish"]\ntopics = ["#"]\n')
    gateway.env["ACL_PATH"] = str(wide)
    try:
        done = gateway.admin("acl", "test", "--json", check=False)
    finally:
        gateway.env["ACL_PATH"] = str(gateway.acl)
    assert done.returncode == 1
    assert "allow" in {case["got"] for case in json.loads(done.stdout)["failed"]}


@both_versions
@pytest.mark.parametrize("way", ["will", "retained", "queued", "live", "shared"])
def test_a_message_slips_past_the_acl(house: tuple[Mosquitto, Gateway], v5: bool, way: str) -> None:
    """emqx #8978, #10192; mochi #503: by a will, retained, queued, or by a wildcard that hides a deny."""
    bus, gateway = house
    with Device(bus.port) as talker, Device(gateway, v5=v5) as ear:
        talker.connect(client_id="talker")
        me = {
            "client_id": f"ear-{way}",
            "username": "partly",
            "password": gateway.secrets["partly"],
            "clean": False,
            "props": SESSION_FOREVER if v5 else b"",
        }
        if way == "will":
            for topic in ("closed/a", "elsewhere", "$SYS/a", "gateway/auth"):
                with Device(gateway, v5=v5) as dying:
                    connack = dying.connect(**me, will=(topic, b"x", 1, True))
                    assert connack[3] == (0x87 if v5 else 5)
            return
        change_row(gateway, "partly", "roles", '["full"]')
        wait_until(gateway, "partly", "closed/#", allowed=True)
        ear.connect(**me)
        share = "$share/g/" if way == "shared" else ""
        assert ear.subscribe(share + "closed/#", share + "open/#", qos=2) == [2, 2]
        if way == "queued":
            ear.close()
            talker.publish("closed/a", b"closed", qos=2)
            talker.publish("open/a", b"open", qos=2)
        change_row(gateway, "partly", "roles", '["partly"]')
        wait_until(gateway, "partly", "closed/#", allowed=False)
        if way == "retained":
            talker.publish("closed/a", b"closed", retain=True)
            ear.close()
            # Subscribed a second time the bus sends what is retained, though the filter is refused now.
            with Device(gateway, v5=v5) as ear_again:
                ear_again.connect(**me)
                assert ear_again.subscribe("closed/#", qos=1) == [0x87 if v5 else 0x80]
                assert ear_again.messages(0.3) == []
            talker.publish("closed/a", b"", retain=True)
            return
        if way == "queued":
            with Device(gateway, v5=v5) as ear_again:
                assert ear_again.connect(**me)[2] == 1
                assert [message.payload for message in ear_again.messages(0.4)] == [b"open"]
            return
        ear.messages(0.2)
        for qos in (0, 1, 2):
            talker.publish("closed/a", b"closed", qos=qos)
            talker.publish("open/a", b"open", qos=qos)
        assert [message.payload for message in ear.messages(0.4)] == [b"open"] * 3


def wait_until(gateway: Gateway, device: str, topic_filter: str, *, allowed: bool) -> None:
    """Until the right to subscribe has come or gone."""
    deadline = time.monotonic() + 5
    with join(gateway, device, "probe") as probe:
        while (probe.subscribe(topic_filter) != [0x80]) != allowed:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_topic_is_changed_after_it_was_checked(house: tuple[Mosquitto, Gateway]) -> None:
    """mosquitto #3670 to #3672: an alias of an allowed topic that comes to stand for a denied one."""
    bus, gateway = house
    with spy(bus.port) as listener, join(gateway, "partly", v5=True) as one:
        assert one.publish("open/a", b"1", props=topic_alias(1)) == 0
        assert one.publish("", b"2", props=topic_alias(1)) == 0
        assert one.publish("denied/a", b"no", props=topic_alias(1)) == 0x87
        assert one.publish("", b"no", props=topic_alias(1)) == 0x87
        assert one.publish("denied/b", b"no", props=topic_alias(2), qos=2) == 0x87
        assert one.publish("", b"no", props=topic_alias(2), qos=0) is None
        assert one.publish("open/b", b"3", props=topic_alias(2)) == 0
        assert one.publish("", b"4", props=topic_alias(2)) == 0
        assert one.publish("open/c", b"5", props=topic_alias(1)) == 0
        assert one.publish("", b"6", props=topic_alias(1)) == 0
        heard = [(message.topic, message.payload) for message in listener.messages()]
    assert heard == [
        ("open/a", b"1"),
        ("open/a", b"2"),
        ("open/b", b"3"),
        ("open/b", b"4"),
        ("open/c", b"5"),
        ("open/c", b"6"),
    ]


def test_admin_changes_are_lost_on_restart(mosquitto: Mosquitto, gateway: Gateway) -> None:
    """mosquitto #3058, #2938: what a command acknowledged is there, however the gateway ends."""
    secret = gateway.add_device("kept", "full")
    enrol(gateway, off="full")
    gateway.admin("device", "disable", "off")
    gateway.kill()
    gateway.start()
    join(gateway, "kept").close()
    assert json.loads(gateway.admin("device", "show", "off", "--json").stdout)["enabled"] is False
    assert secret not in gateway.admin("device", "show", "kept", "--json").stdout
    with Device(gateway) as one:
        assert one.connect(username="off", password=gateway.secrets["off"])[3] == 5
    # And a save that fails fails loudly.
    gateway.stop()
    database = Path(gateway.env["GATEWAY_DATA_DIR"]) / "gateway.db"
    database.write_bytes(b"damaged" * 1000)
    done = gateway.admin("device", "add", "lost", "--role", "full", check=False)
    assert done.returncode == 1
    assert "gateway.db" in done.stderr
    assert "secret" not in done.stdout.lower()


def test_authentication_slows_everybody(house: tuple[Mosquitto, Gateway]) -> None:
    """mosca #565, go-auth panics: while secrets are hashed, messages go on."""
    _, gateway = house
    links = [raw.Raw(gateway.port, gateway.tls(), timeout=30, source="127.0.0.11") for _ in range(60)]
    with join(gateway, "full", v5=True) as one:
        one.subscribe("goes-on")
        for number, link in enumerate(links):
            link.send(raw.connect(username=f"unknown-{number}", password="x"))
        answered: list[float] = []

        def wait_for_answers() -> None:
            for link in links:
                link.read(30)
                answered.append(time.monotonic())

        waiting = threading.Thread(target=wait_for_answers)
        waiting.start()
        for number in range(20):
            assert one.publish("goes-on", b"%d" % number) == 0
            assert one.message().payload == b"%d" % number
        finished = time.monotonic()
        waiting.join(60)
    for link in links:
        link.close()
    # Twenty round trips were through before sixty hashes: each hash takes as long as many of them.
    assert finished < answered[-1]
