"""Recognises a file that was given instead of another: each reader takes one kind of Mosquitto's files.

Nothing of a file's content is shown, for the wrong file may contain secrets.
"""

from __future__ import annotations

import re
from enum import StrEnum

from gateway.policy.files.toml_document import PolicyError

_HASH = re.compile(r":\s*(?:\$(?:6|7|2[abxy]|argon2id?)\$|PBKDF2\$)")
_ACL_WORDS = frozenset({"topic", "pattern", "user"})
_CONF_WORDS = frozenset(
    {"listener", "port", "bind_address", "allow_anonymous", "per_listener_settings", "password_file"}
    | {"acl_file", "persistence", "persistence_location", "pid_file", "log_dest", "log_type", "include_dir"}
    | {"plugin", "global_plugin", "auth_plugin", "cafile", "certfile", "keyfile", "require_certificate"}
    | {"max_packet_size", "max_connections", "max_inflight_messages", "max_queued_messages", "connection"}
    | {"set_tcp_nodelay", "socket_domain", "protocol", "user_name", "autosave_interval"}
)


class FileKind(StrEnum):
    """A kind of file, as the end of a sentence that says what it looks like and where it belongs."""

    PASSWORDS = "a password_file, which belongs after --passwords"
    ACL = "an acl_file, which belongs after --acl"
    JSON = "the JSON of dynamic security, which belongs after --dynsec"
    CONF = "a mosquitto.conf, whose acl_file and password_file say where those are"
    PEM = "a certificate or a key in PEM"


_NAMES = {
    FileKind.PASSWORDS: "a password_file",
    FileKind.ACL: "an acl_file",
    FileKind.JSON: "dynamic-security.json",
}


def demand_kind(wanted: FileKind, text: str, file: str) -> None:
    """Raise PolicyError if the file looks like a different kind than the wanted one."""
    kind = _looks_like(text)
    if kind not in {None, wanted}:
        raise PolicyError([f"{file}: looks like {kind}; {_NAMES[wanted]} is wanted here"])


def _looks_like(text: str) -> FileKind | None:
    """The kind of a file by its lines, without comments; None if they don't tell."""
    lines = [line.strip() for line in text.lstrip("\ufeff").split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        return None
    first = lines[0]
    if first.startswith(("{", "[")):
        return FileKind.JSON
    if first.startswith("-----BEGIN "):
        return FileKind.PEM
    words = [line.split(maxsplit=1)[0] for line in lines]
    if any(word not in _ACL_WORDS and _HASH.search(line) for word, line in zip(words, lines, strict=True)):
        return FileKind.PASSWORDS
    if words[0] == first:
        return None
    if words[0] in _ACL_WORDS:
        return FileKind.ACL
    return FileKind.CONF if words[0] in _CONF_WORDS else None
