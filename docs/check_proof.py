"""Checks that an entry stands in an audit trail: Python and `cryptography` alone.

    gateway-admin audit prove 4711 --out removal.tlog-proof
    python check_proof.py KEY removal.tlog-proof removal.tlog-proof.entry

KEY is what you know the trail by, as `audit verify` prints it. Vectors: tests/vectors/audit_proofs.json.
"""

import base64
import sys
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def check_proof(key: str, proof: str, entry: bytes) -> str:
    """What was signed. Raises ValueError or InvalidSignature: the entry is not proven."""
    origin, key_id, public = key.split("+", 2)
    head, text, signatures = proof.split("\n\n")
    named = (f"— {origin} ", bytes.fromhex(key_id))
    signed = [(line, base64.b64decode(line.rpartition(" ")[2])) for line in signatures.splitlines()]
    mine = next((raw[4:] for line, raw in signed if (line[: len(named[0])], raw[:4]) == named), b"")
    Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:]).verify(mine, f"{text}\n".encode())
    (format_, at, *hashes), (trail, leaves, root) = head.split("\n"), text.split("\n")
    index, size, found = int(at.removeprefix("index ")), int(leaves), sha256(b"\0" + entry).digest()
    if format_ != "c2sp.org/tlog-proof@v1" or trail != origin or not 0 <= index < size:
        raise ValueError("not a proof of this trail")
    for beside in map(base64.b64decode, hashes):  # RFC 6962, 2.1: the pair of nodes under the next one
        while index % 2 == 0 and index == size - 1 and size > 1:
            index, size = index // 2, (size + 1) // 2
        found = sha256(b"\1" + (beside + found if index % 2 else found + beside)).digest()
        index, size = index // 2, (size + 1) // 2
    if size != 1 or found != base64.b64decode(root):
        raise ValueError("this entry is not there")
    return text


if __name__ == "__main__":
    print(check_proof(sys.argv[1], Path(sys.argv[2]).read_text("utf-8"), Path(sys.argv[3]).read_bytes()))
