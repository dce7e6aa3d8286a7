"""Whether a gateway that was just started does what it is for, seen as a device sees it.

Adds a device of its own, lets it publish what it may and what it may not, removes it, and tries once more.
Run it with the gateway's Python and where the gateway's settings are (deploy.sh and install.sh do):

    python self_check.py

Exit code 0: all as it has to be; 1: not, and the last line says what.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from gateway.config import Settings, load_settings
from gateway.mqtt.encode import encode_connect, encode_publish
from gateway.mqtt.packets import Connect, Version
from gateway.system.ip_address_blocks import is_within

_TIMEOUT = 10.0
_FOLLOWS = 5.0
"""Seconds that a change of the store may take to be in force; promised is one."""
_NOT_AUTHORIZED, _NO_VERSION_5 = 0x87, 0x84
_NOBODY_IN_PARTICULAR = b"PROXY UNKNOWN\r\n"


class Failed(Exception):
    """Something is not as it has to be."""


class Client:
    """Just enough of an MQTT 5 client."""

    def __init__(self, settings: Settings, device: str, secret: str) -> None:
        bind = settings.gateway_mqtt_bind[0]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host)
        plain = socket.create_connection((host, bind.port), timeout=_TIMEOUT)
        if is_within(plain.getsockname()[0], settings.gateway_proxy_from):
            plain.sendall(_NOBODY_IN_PARTICULAR)
        # The certificate is for this machine's names, or for yours, and of our CA or of another: here it
        # counts that it is the one that was set up.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(settings.tls_cert_path)
        self._socket = context.wrap_socket(plain) if settings.tls_enabled else plain
        hello = Connect(
            version=Version.V5,
            clean_start=True,
            keep_alive=30,
            client_id=b"check",
            username=device.encode(),
            password=secret.encode(),
            will=None,
            properties=[],
        )
        self._socket.sendall(encode_connect(hello))
        self.connack = self._packet()[3]

    def publish(self, topic: str) -> int:
        """The reason code of the PUBACK; 0x10 and less is success."""
        self._socket.sendall(encode_publish(0x32, topic.encode(), 1, b"\0", b"deploy"))
        packet = self._packet()
        return packet[4] if len(packet) > 4 else 0

    def has_ended(self) -> bool:
        """Whether the gateway ends this connection soon."""
        try:
            while self._socket.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def _packet(self) -> bytes:
        """All of it, with one byte in the place of its length."""
        first, length, shift = self._exactly(1), 0, 0
        while True:
            (digit,) = self._exactly(1)
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first + b"\0" + self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise Failed("the gateway closed the connection; its log says why")
            data += more
        return data


def admin(*words: str, stdin: str | None = None) -> None:
    command = Path(sys.executable).with_name("gateway-admin")
    done = subprocess.run([command, *words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"gateway-admin {' '.join(words[:2])}: {done.stderr.strip() or done.stdout.strip()}")


def demand(*, good: bool, what: str, otherwise: str) -> None:
    if not good:
        raise Failed(otherwise)
    print(f"  ok  {what}", flush=True)


def role_of(settings: Settings) -> str:
    """A role that may publish its own telemetry, and not others'."""
    return "sensor" if (settings.acl_path / "roles" / "sensor.toml").exists() else ""


def check(settings: Settings, device: str, secret: str, role: str) -> None:
    admin("device", "add", device, "--role", role, "--secret-stdin", stdin=secret)
    client = login(settings, device, secret)
    print(f"  ok  the device {device} is added and let in", flush=True)
    code = client.publish(f"devices/{device}/telemetry")
    demand(
        good=code in {0, 0x10},
        what="what it may publish, the bus has acknowledged",
        otherwise=f"its telemetry was refused with {code:#04x}: is {settings.acl_path}/roles/{role}.toml "
        "changed, or the bus not reachable?",
    )
    code = client.publish("devices/somebody-else/telemetry")
    demand(
        good=code == _NOT_AUTHORIZED,
        what="what it may not publish is refused",
        otherwise=f"a message on another device's topic was answered with {code:#04x}, not 0x87: the policy "
        f"is too wide. See gateway-admin acl why {device} publish devices/somebody-else/telemetry",
    )
    began = time.monotonic()
    admin("device", "remove", device, "--yes")
    demand(
        good=client.has_ended(),
        what=f"removed, its connection ended after {time.monotonic() - began:.1f} s",
        otherwise="it was removed and its connection goes on",
    )
    demand(
        good=Client(settings, device, secret).connack != 0,
        what="and it is not let in again",
        otherwise="it was removed and is let in",
    )


def login(settings: Settings, device: str, secret: str) -> Client:
    """Logged in, as soon as the gateway knows the device."""
    deadline = time.monotonic() + _FOLLOWS
    while True:
        client = Client(settings, device, secret)
        if client.connack == 0:
            return client
        if client.connack == _NO_VERSION_5:
            raise Failed("the bus speaks no MQTT 5: an old Mosquitto, or the embedded one?")
        if time.monotonic() > deadline:
            raise Failed(f"a device that was just added is refused with {client.connack:#04x}: see the log")
        time.sleep(0.3)


def main() -> int:
    device, secret = f"deploy-check-{os.urandom(3).hex()}", secrets.token_urlsafe(24)
    settings = load_settings()
    role = role_of(settings)
    if not role:
        print("  --  there is no role sensor in the policy, so nothing was tried with a device")
        return 0
    try:
        check(settings, device, secret, role)
    except (Failed, OSError) as error:
        subprocess.run(
            [Path(sys.executable).with_name("gateway-admin"), "device", "remove", device, "--yes"],
            capture_output=True,
            check=False,
        )
        print(f"  FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
