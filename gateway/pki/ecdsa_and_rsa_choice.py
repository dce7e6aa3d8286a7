"""Which kinds of keys certificates may have, and where the files of a second kind are."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path


class KeyType(StrEnum):
    """The kinds of keys that certificates are made with."""

    ECDSA = "ecdsa"
    RSA = "rsa"
    BOTH = "both"
    """Two certificates, each from a CA with the same kind of key: a client is shown one that it can
    verify."""


def rsa_twin(path: Path) -> Path:
    """Where the RSA certificate or key is, if the ECDSA one is at `path`."""
    return path.with_name(f"{path.stem}-rsa{path.suffix}")
