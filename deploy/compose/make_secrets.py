"""Make the passwords that the containers of one host share: random, each file its reader's.

    make_secrets.py FOLDER

Below the folder it fills those folders that are there (compose.yaml mounts a volume at each):

    bus/      for Mosquitto: its password file, and what the mosquitto_sub of its health check logs in with
    gateway/  the password with which the gateway connects to the bus
    grafana/  the password of Grafana's first administrator

Run again it changes nothing. The passwords of the bus belong together, so they are made together.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import sys
from pathlib import Path

MOSQUITTO, GATEWAY, GRAFANA = 1883, 10001, 472
"""The users of the images."""
_ITERATIONS = 10_000
"""The password has 256 random bits, which nobody guesses whatever a guess costs."""


def mosquitto_hash(password: str) -> str:
    """As mosquitto_passwd writes it: PBKDF2 with SHA-512."""
    salt = os.urandom(12)  # 2.0 takes no other length
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def write(path: Path, text: str, owner: int) -> None:
    """All of it or nothing, and nobody else can read it at any moment."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        os.chown(draft, owner, owner)
    draft.rename(path)


def main(folder: Path) -> None:
    """Make what is missing."""
    bus, gateway, grafana = folder / "bus", folder / "gateway", folder / "grafana"
    if bus.is_dir() and gateway.is_dir():
        wanted = [bus / "password_file", bus / "mosquitto_sub", gateway / "password"]
        if not all(path.exists() for path in wanted):
            password, look = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
            users = {"gateway": password, "health": look}
            lines = [f"{user}:{mosquitto_hash(known)}\n" for user, known in users.items()]
            write(wanted[0], "".join(lines), MOSQUITTO)
            write(wanted[1], f"-u health\n-P {look}\n", MOSQUITTO)
            write(wanted[2], password, GATEWAY)
            print("made the passwords of the bus")
    if grafana.is_dir() and not (grafana / "password").exists():
        write(grafana / "password", secrets.token_urlsafe(24), GRAFANA)
        print("made the password of Grafana's user admin")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
