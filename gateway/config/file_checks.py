"""What is wrong with the files that the settings name, as far as can be seen before anything is started."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from gateway.config.settings import Settings
from gateway.pki.ecdsa_and_rsa_choice import rsa_twin
from gateway.system.file_errors import is_unreachable, who_may
from gateway.system.tls_floor import raise_to_floor


def file_problems(settings: Settings) -> list[str]:
    """All problems with files and folders. Files that a first start makes may be missing."""
    return [
        *_server_certificate(settings),
        *_authority("TLS_CLIENT_CA_PATH", settings.tls_client_ca_path),
        *_authority("MQTT_CA_PATH", settings.mqtt_ca_path),
        *_policy(settings.acl_path),
        *_writable("GATEWAY_DATA_DIR", settings.gateway_data_dir),
        *_writable("DATABASE_URL", settings.database_path.parent),
        *_ours("DATABASE_URL", settings.database_path, os.R_OK | os.W_OK),
        *_writable("ENCRYPTION_KEY_PATH", settings.encryption_key_path.parent),
        *_ours("ENCRYPTION_KEY_PATH", settings.encryption_key_path, os.R_OK),
        *_ours("ENCRYPTION_KEY_PATH", settings.signing_key_path, os.R_OK),
        *_ours("ENCRYPTION_KEY_PATH", settings.audit_key_path, os.R_OK),
    ]


def _ours(name: str, path: Path, wanted: int) -> Iterator[str]:
    # A file that the gateway itself makes. If its folder can't be entered, `_writable` says so.
    if not is_unreachable(path) and path.exists() and not os.access(path, wanted):
        yield f"{name}: {path} can't be used: {who_may(path, wanted)}."


def _server_certificate(settings: Settings) -> Iterator[str]:
    if settings.tls_enabled:
        certificate, key = settings.tls_cert_path, settings.tls_key_path
        yield from _pair(certificate, key)
        if not (is_unreachable(certificate) or certificate.exists() or key.exists()):
            # They are to be made. Each start that could not would be one more event in the store.
            yield from _writable("TLS_CERT_PATH", certificate.parent)
            yield from _writable("TLS_KEY_PATH", key.parent)
        yield from _pair(rsa_twin(certificate), rsa_twin(key))


def _pair(certificate: Path, key: Path) -> Iterator[str]:
    closed = [
        f"{name}: {path} can't be used: {who_may(path)}."
        for name, path in (("TLS_CERT_PATH", certificate), ("TLS_KEY_PATH", key))
        if is_unreachable(path) or (path.exists() and not os.access(path, os.R_OK))
    ]
    if closed:
        yield from closed
        return
    if not (certificate.exists() or key.exists()):
        return
    for name, path, other in (("TLS_CERT_PATH", certificate, key), ("TLS_KEY_PATH", key, certificate)):
        if not path.exists():
            yield f"{name}: {path} is missing, but {other} is there. Put it back, or take that away too."
            return
    try:
        # An empty passphrase: OpenSSL would ask for one on the terminal.
        raise_to_floor(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        said = _in_words(lambda faults: faults.why_no_pair(certificate, key)) or _said(error)
        yield (
            f"TLS_CERT_PATH, TLS_KEY_PATH: {certificate} and {key} cannot be used ({said}). Both "
            "must be readable PEM files that belong together, the key without a passphrase."
        )


def _authority(name: str, path: Path | None) -> Iterator[str]:
    if path is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        in_words = _in_words(lambda faults: faults.why_no_authority(path)) or _said(error)
        said = who_may(path) if isinstance(error, PermissionError) else in_words
        yield f"{name}: {path} cannot be used ({said}). It must be a readable PEM file."


def _policy(folder: Path) -> Iterator[str]:
    if is_unreachable(folder) or not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        why = f" ({who_may(folder)})" if is_unreachable(folder) or folder.exists() else ""
        yield f"ACL_PATH: {folder} is not a readable folder{why}. Without a policy nobody may do anything."


def _writable(name: str, folder: Path) -> Iterator[str]:
    """The folder must be writable; if a first start has to make it, its nearest parent must be."""
    there = folder
    while (is_unreachable(there) or not there.exists()) and there != there.parent:
        there = there.parent
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        yield f"{name}: nothing can be written in {there}: {who_may(there, os.R_OK | os.W_OK)}."
    elif not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield f"{name}: nothing can be written in {there}. Make it a folder of the user who runs the gateway."


def _in_words(look: Callable[[ModuleType], str]) -> str:
    """What `pem_faults` says is wrong inside a file; empty if it finds nothing."""
    from gateway.pki import pem_faults  # which takes long to import: here something is wrong already

    try:
        return look(pem_faults)
    except OSError:
        return ""


def _said(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
