"""Of which kinds the keys of certificates are, and where those of a second kind stand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path


class KeyType(StrEnum):
    """With which keys certificates are made."""

    ECDSA = "ecdsa"
    RSA = "rsa"
    BOTH = "both"
    """Two certificates, each of a CA of its own kind: each client is shown the one that it can verify."""


def rsa_twin(path: Path) -> Path:
    """Where the RSA certificate or key of a pair stands, beside the ECDSA one at `path`."""
    return path.with_name(f"{path.stem}-rsa{path.suffix}")
