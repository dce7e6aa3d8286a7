"""Opens a sealed message without the gateway: Python and `cryptography` alone.

    mosquitto_sub -C 1 -t devices/lamp-1/private/pin | python open_envelope.py KEY_IN_HEX

The keys stand in data/keys/encryption.key, if that is not wrapped: JSON, in which the one with the message's
`key_id` has its "key" in base64. `echo KEY | base64 -d | xxd -p -c 32` makes hex of it.

A copy for other languages: tests/vectors/envelope.json says what has to come out, and what must not.
"""

from __future__ import annotations

import base64
import json
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# In this order, joined by U+0000, they are the associated data: none of them can be changed.
BOUND = ("v", "algorithm", "key_id", "timestamp", "topic", "sender")
ALL = {"encrypted", "data", *BOUND}
# These may be there too: whose answer it was, and that it was sealed again under another key.
MORE = {"request_id", "rewrapped"}


def open_envelope(message: bytes, keys: dict[str, bytes], topic: str) -> bytes:
    """The payload of a message that arrived on `topic`. Raises ValueError or InvalidTag: it is not sound."""
    envelope = json.loads(message)
    if not isinstance(envelope, dict) or envelope.keys() - MORE != ALL:
        raise ValueError("not a sealed message")
    if envelope["encrypted"] is not True or (envelope["v"], envelope["algorithm"]) != (1, "AES-256-GCM"):
        raise ValueError("another version or algorithm")
    if type(envelope["timestamp"]) is not int:
        raise ValueError("a time that is no whole number")
    # Without this, a message moved to another topic would open there.
    if envelope["topic"] != topic:
        raise ValueError("sealed for another topic")
    if envelope["key_id"] not in keys:
        raise ValueError("sealed under another key")
    data = base64.b64decode(envelope["data"], validate=True)
    if len(data) < 12 + 16:
        raise ValueError("cut off")
    associated = "\0".join(str(envelope[name]) for name in BOUND).encode()
    return AESGCM(keys[envelope["key_id"]]).decrypt(data[:12], data[12:], associated)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(
            "usage: python open_envelope.py KEY_IN_HEX < MESSAGE\nIt prints the payload of a sealed message."
        )
    received = sys.stdin.buffer.read()
    claims = json.loads(received)
    payload = open_envelope(received, {claims["key_id"]: bytes.fromhex(sys.argv[1])}, claims["topic"])
    sys.stdout.buffer.write(payload)
