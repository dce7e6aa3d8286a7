"""EMQX fix-17491, STYLE rule 9: no planted secret in logs, answers, metrics, process lists or on disk.

One life of a gateway with every secret it can have, through everything that can go wrong with them.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.device import Device, join
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto


def word() -> str:
    return "planted-" + secrets.token_hex(10)


class Planted:
    """Every secret of this life, and everything that was said during it."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.said: dict[str, bytes] = {}

    def new(self, what: str, length: int = 28) -> str:
        self.words[what] = word()[:length]
        return self.words[what]

    def heard(self, where: str, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.said[where] = self.said.get(where, b"") + data

    def found(self) -> list[tuple[str, str]]:
        """Which word stands where, as it is, in hex, or in base64."""
        return [
            (what, where)
            for what, secret in self.words.items()
            for where, content in self.said.items()
            if any(form in content for form in forms(secret.encode()))
        ]


def forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    for shift in range(3):  # however it lies in what was encoded
        yield base64.b64encode(bytes(shift) + secret)[4:-4]


def test_no_secret_is_told(tmp_path: Path, start_gateway: Callable[..., Gateway]) -> None:
    planted = Planted()
    bus_secret = planted.new("the bus's password")
    wrapping = secrets.token_bytes(32)
    planted.words["ENCRYPTION_KEY"] = base64.b64encode(wrapping).decode()
    passwords = tmp_path / "passwords"
    passwords.write_text(f"gateway:{bus_secret}\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
    bus = Mosquitto(tmp_path / "bus", settings=f"password_file {passwords}\nallow_anonymous false").start()
    try:
        gateway = start_gateway(
            bus.port,
            cold=True,
            MQTT_USERNAME="gateway",
            MQTT_PASSWORD=bus_secret,
            ENCRYPTION_KEY=planted.words["ENCRYPTION_KEY"],
        )
        live(gateway, planted)
        planted.heard("process list", subprocess.run(["ps", "axww"], capture_output=True, check=True).stdout)
        planted.heard("command line", Path(f"/proc/{gateway.pid}/cmdline").read_bytes())
        for path in ("/metrics", "/health", "/ready"):
            planted.heard(path, gateway.health(path)[1])
        refuse_to_start(gateway, planted)
        planted.heard("gateway's log", gateway.log_text())
        for path in gateway.folder.rglob("*"):
            if path.is_file():
                planted.heard(str(path.relative_to(gateway.folder)), path.read_bytes())
    finally:
        bus.kill()
    assert planted.found() == []
    assert len(planted.words) > 8
    assert b"lamp" in planted.said["gateway's log"]


def live(gateway: Gateway, planted: Planted) -> None:
    """Log in rightly and wrongly, rotate, publish, be refused, break the protocol."""
    given = planted.new("a secret given on stdin")
    done = gateway.admin("device", "add", "lamp", "--role", "full", "--secret-stdin", stdin=given)
    planted.heard("device add --secret-stdin", done.stdout + done.stderr)
    shown = gateway.admin("device", "add", "bulb", "--role", "sensor", "--json")
    made = json.loads(shown.stdout)["secret"]
    planted.words["a secret that was made"] = made
    planted.heard("device add", shown.stderr)
    rotated = json.loads(gateway.admin("device", "rotate", "bulb", "--json").stdout)["secret"]
    planted.words["a secret that was rotated"] = rotated
    for words in (["list"], ["show", "lamp", "--json"]):
        planted.heard("device " + " ".join(words), gateway.admin("device", *words).stdout)
    planted.heard("status", gateway.admin("status", check=False).stdout)
    gateway.secrets |= {"lamp": given, "bulb": rotated}
    gateway.wait_for_devices()
    for v5 in (False, True):
        with join(gateway, "lamp", v5=v5) as one, join(gateway, "lamp", "ear", v5=v5) as ear:
            ear.subscribe("devices/lamp/private/#")
            one.publish("devices/lamp/private/x", planted.new(f"a payload {v5}").encode())
            ear.message()
        with Device(gateway, v5=v5) as one:
            one.connect(username="lamp", password=planted.new(f"a wrong secret {v5}"))
        with Device(gateway, v5=v5) as one:
            one.connect(username="nobody", password=planted.new(f"a stranger's secret {v5}"))
        with Device(gateway, v5=v5) as one:
            refused = planted.new(f"a refused will {v5}")
            one.connect(username="bulb", password=rotated, will=("no", refused.encode(), 0, False))
        with join(gateway, "bulb", v5=v5) as one:
            one.publish("no", planted.new(f"a refused payload {v5}").encode())
            one.send(b"\x36" + raw.text("x") + planted.new(f"in a broken packet {v5}").encode())
            one.read_all(0.1)
    with Device(gateway) as one:
        # A CONNECT that breaks off in the middle of its password.
        packet = raw.connect("c", username="lamp", password=planted.new("in a broken CONNECT"))
        one.send(packet[:2] + packet[2:-1] + b"\xff" * 3)
        one.read_all(0.1)
    use_tokens(gateway, planted)
    broken = gateway.admin(
        "device", "add", "x" * 99, "--role", "full", "--secret-stdin", stdin=given, check=False
    )
    planted.heard("a refused command", broken.stdout + broken.stderr)


def use_tokens(gateway: Gateway, planted: Planted) -> None:
    """Tokens rightly and wrongly, the services with planted payloads, the keys under a planted passphrase."""
    issued = gateway.admin("token", "issue", "lamp", "--json")
    token = json.loads(issued.stdout)["token"]
    planted.heard("token issue", issued.stderr)
    # A token is told by its signature: what stands before it is no secret, and looks alike in all of them.
    planted.words["a token"] = token.rpartition(".")[2]
    verified = gateway.admin("token", "verify", stdin=token)
    planted.heard("token verify", verified.stdout + verified.stderr)
    wrong = token[:-20] + planted.new("in a wrong token", 20).replace("-", "_")
    planted.words["in a wrong token"] = wrong[-20:]
    with Device(gateway) as one:
        one.connect(username="lamp", password=wrong)
    refused = gateway.admin("token", "verify", stdin=wrong, check=False)
    planted.heard("token verify", refused.stdout + refused.stderr)
    with Device(gateway) as one:
        one.connect(username="", password=token)
        for service, request in (
            ("encrypt", {"topic": "a", "message": planted.new("a message to encrypt")}),
            ("encrypt", {"topic": "a/#", "message": planted.new("a message for no topic")}),
            ("encrypt", planted.new("no request at all")),
            (
                "decrypt",
                {"message": {"encrypted": True, "data": planted.new("a sealed message that is none")}},
            ),
            ("validate", {"token": wrong}),
            ("auth", {}),
        ):
            one.publish(f"gateway/{service}", json.dumps(request).encode(), qos=0)
            answer = json.loads(one.message().payload)
            if service == "auth":
                planted.words["a token from auth"] = answer["token"].rpartition(".")[2]
            elif service == "encrypt" and "data" in answer:
                one.publish("gateway/decrypt", json.dumps({"message": answer}).encode(), qos=0)
                one.message()
    passphrase = planted.new("the passphrase of the backup")
    backup = str(gateway.folder / "keys.backup")
    done = gateway.admin("keys", "export", backup, "--passphrase-stdin", stdin=passphrase)
    planted.heard("keys export", done.stdout + done.stderr)
    bad = gateway.admin(
        "keys", "import", backup, "--passphrase-stdin", stdin=planted.new("a wrong one"), check=False
    )
    assert bad.returncode == 1
    planted.heard("keys import", bad.stdout + bad.stderr)
    rotated = gateway.admin("keys", "rotate")
    planted.heard("keys rotate", rotated.stdout + rotated.stderr)


def refuse_to_start(gateway: Gateway, planted: Planted) -> None:
    """The settings' own errors, with the secrets in them."""
    gateway.stop()
    changed = {
        "ENCRYPTION_KEY": planted.new("a passphrase too short", 15),
        "MQTT_PASSWORD_FILE": str(gateway.folder / "nowhere"),
        "DATABASE_URL": f"sqlite://user:{planted.new('in a URL')}@host/x",
        "JWT_SECRET": planted.new("a short JWT_SECRET", 20),
    }
    for command in ("run", "check"):
        done = subprocess.run(
            [BIN / "gateway", command],
            cwd=gateway.folder,
            env=gateway.env | changed,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1, done
        for name in changed:
            assert name.removesuffix("_FILE").encode() in done.stderr, done
        planted.heard(f"gateway {command}", done.stdout + done.stderr)


@pytest.mark.parametrize("name", ["MQTT_PASSWORD", "ENCRYPTION_KEY"])
def test_the_search_would_find_them(name: str) -> None:
    """Else the test above would prove nothing."""
    planted = Planted()
    secret = planted.new(name).encode()
    assert planted.found() == []
    for text in (secret, secret.hex().encode(), base64.b64encode(b"x" + secret + b"yz")):
        planted.said = {"somewhere": b"..." + text + b"..."}
        assert planted.found() == [(name, "somewhere")]
