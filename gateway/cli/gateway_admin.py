"""The command `gateway-admin`: its nouns and their verbs, each a function of a module here.

Only the module that is called is imported: importing all takes longer than what most commands do.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable, Mapping, Sequence

import typer

from gateway.cli.leading_options import after_the_verb
from gateway.cli.typer_app import Command, Group, program, run

_COLLECT_AFTER = 200_000
"""New objects after which the garbage collector runs."""


def _init() -> Command:
    from gateway.cli import init

    return init.init


def _device() -> Group:
    from gateway.cli import device, device_connections, device_held, device_set_export, device_trace

    return Group(
        "Devices: who may connect, and in which roles.",
        {
            "add": device.add,
            "set": device_set_export.set_,
            "list": device.list_devices,
            "show": device.show,
            "disable": device.disable,
            "enable": device.enable,
            "remove": device.remove,
            "rotate": device.rotate,
            "observe": device.observe,
            "kick": device_connections.kick,
            "trace": device_trace.trace,
            "held": device_held.held,
            "export": device_set_export.export,
        },
    )


def _acl() -> Group:
    from gateway.cli import acl, acl_import, acl_prove_diff, acl_usage

    return Group(
        "Policy: what the roles in acl/ allow, and why.",
        {
            "import": Group(
                "Make a policy of another broker's access rules.", {"mosquitto": acl_import.mosquitto}
            ),
            "prove": acl_prove_diff.prove,
            "diff": acl_prove_diff.diff,
            "learn": acl_usage.learn,
            "unused": acl_usage.unused,
            "check": acl.check,
            "test": acl.run_all_cases,
            "show": acl.show,
            "why": acl.why,
        },
    )


def _token() -> Group:
    from gateway.cli import token, token_revoke

    return Group(
        "Tokens: issue, look at and revoke them.",
        {
            "issue": token.issue,
            "verify": token.verify,
            "list": token.list_tokens,
            "revoke": token_revoke.revoke,
        },
    )


def _keys() -> Group:
    from gateway.cli import keys, keys_backup, keys_rewrap_retained_messages

    return Group(
        "Keys: list, rotate, re-seal, destroy, back up.",
        {
            "list": keys.list_keys,
            "rotate": keys.rotate,
            "destroy": keys.destroy,
            "rewrap": keys_rewrap_retained_messages.rewrap,
            "export": keys_backup.export,
            "import": keys_backup.import_,
        },
    )


def _alerts() -> Group:
    from gateway.cli import alerts

    return Group(
        "Alerts: what fires, who is told, and silence for a while.",
        {
            "list": alerts.list_alerts,
            "test": alerts.send_test,
            "silence": alerts.silence,
            "unsilence": alerts.unsilence,
        },
    )


def _backup() -> Command:
    from gateway.cli import backup

    return backup.backup


def _restore() -> Command:
    from gateway.cli import backup

    return backup.restore


def _audit() -> Group:
    from gateway.cli import audit, audit_check

    return Group(
        "Audit trail: what happened, and that nothing of it was changed.",
        {
            "tail": audit.tail,
            "search": audit.search,
            "verify": audit_check.verify,
            "prove": audit_check.prove,
            "export": audit_check.export,
        },
    )


def _status() -> Command:
    from gateway.cli import status

    return status.status


_HELP = (
    "Administer the MQTT security gateway.\n\n"
    "Reads the same settings as `gateway run` and works while it runs: the gateway follows within a "
    "second.\n\n"
    'With --json each command prints one JSON object to stdout; an error is {"error", "problems"} '
    "there, and text on stderr. --json and --config FILE may stand before the noun, too.\n\n"
    "Exit codes: 0 done, 1 refused or not found, 2 wrong usage."
)
_NOUNS: Mapping[str, Callable[[], Command | Group]] = {
    "init": _init,
    "device": _device,
    "acl": _acl,
    "token": _token,
    "keys": _keys,
    "alerts": _alerts,
    "backup": _backup,
    "restore": _restore,
    "audit": _audit,
    "status": _status,
}


def app(words: Sequence[str] = ()) -> typer.Typer:
    """The program for these arguments: with the noun that they begin with alone, else with all."""
    first = words[0] if words else ""
    nouns = {first: _NOUNS[first]} if first in _NOUNS else _NOUNS
    return program("gateway-admin", Group(_HELP, {name: noun() for name, noun in nouns.items()}))


def main() -> None:
    """Entry point."""
    # Most commands are over before there is any garbage, and collecting takes a tenth of their time. Another
    # fourth is the last collection, when Python ends: it leaves out what is frozen.
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)
    sys.argv[1:] = after_the_verb(sys.argv[1:], lambda word: _NOUNS[word]() if word in _NOUNS else None)
    run(app(sys.argv[1:]))
