"""Mosquitto's `password_file`: who may log in, and the hashes as they are written there.

Reads the file as Mosquitto 2.0 does; `gateway.auth.passwords` finds out whether the hashes are valid. Neither
hashes nor plain passwords appear in any message.
"""

from __future__ import annotations

from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.intermediate_model import Account, Finding, refuse_nul
from gateway.policy.imports.wrong_file_kind import FileKind, demand_kind

_BLANKS = " \t\n\v\f\r"


def read_passwords(raw: bytes, file: str) -> tuple[tuple[Account, ...], tuple[Finding, ...]]:
    """The accounts in a file, and findings about its other lines. Of two lines for one user the last counts.

    Raises PolicyError for a NUL byte, and for a file of a different kind.
    """
    accounts: dict[str, Account] = {}
    findings: list[Finding] = []
    text = raw.decode("utf-8", "surrogateescape")
    refuse_nul(text, file)
    demand_kind(FileKind.PASSWORDS, text, file)
    for number, line in enumerate(text.split("\n"), start=1):
        location = f"{file}:{number}"
        if line[:1] == "#" or not line.strip(_BLANKS):
            continue
        # As strtok does: colons at the beginning are ignored.
        fields = [field.strip(_BLANKS) for field in line.split(":") if field]
        if ":" not in line or len(fields) < 2 or not fields[0] or not fields[1]:
            findings.append(Finding("note", location, "is not `name:hash`; Mosquitto lets nobody in by it"))
            continue
        user, hashed = fields[:2]
        if user in accounts:
            findings.append(
                Finding("note", accounts[user].location, f"user {user!r} is there again in {location}")
            )
        accounts.pop(user, None)
        accounts[user] = Account(user, hashed, location)
    if findings and not accounts:
        raise PolicyError(
            [f"{file}: no line is `name:hash`, so that this is no password_file: give its path"]
        )
    return tuple(accounts.values()), tuple(findings)
