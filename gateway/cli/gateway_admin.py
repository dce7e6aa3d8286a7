"""The command `gateway-admin`: its nouns and their verbs, each a function of a module here.

Only the module that is called is imported: importing all takes longer than what most commands do.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

import typer

from gateway.cli.leading_options import after_the_verb
from gateway.cli.typer_app import Deferred, Group, program, run

_COLLECT_AFTER = 200_000
"""New objects after which the garbage collector runs."""
_HELP = (
    "Administer the MQTT security gateway.\n\n"
    "Reads the same settings as `gateway run` and works while it runs: the gateway follows within a "
    "second.\n\n"
    'With --json each command prints one JSON object to stdout; an error is {"error", "problems"} '
    "there, and text on stderr. --json and --config FILE may stand before the noun, too.\n\n"
    "Exit codes: 0 done, 1 refused or not found, 2 wrong usage."
)
_PROGRAM = Group(
    _HELP,
    {
        "init": Deferred("init", "init"),
        "device": Group(
            "Devices: who may connect, and in which roles.",
            {
                "add": Deferred("device", "add"),
                "set": Deferred("device_set_export", "set_"),
                "list": Deferred("device", "list_devices"),
                "show": Deferred("device", "show"),
                "disable": Deferred("device", "disable"),
                "enable": Deferred("device", "enable"),
                "remove": Deferred("device", "remove"),
                "rotate": Deferred("device", "rotate"),
                "observe": Deferred("device", "observe"),
                "kick": Deferred("device_connections", "kick"),
                "trace": Deferred("device_trace", "trace"),
                "held": Deferred("device_held", "held"),
                "export": Deferred("device_set_export", "export"),
            },
        ),
        "acl": Group(
            "Policy: what the roles in acl/ allow, and why.",
            {
                "import": Group(
                    "Make a policy of another broker's access rules.",
                    {"mosquitto": Deferred("acl_import", "mosquitto")},
                ),
                "prove": Deferred("acl_prove_diff", "prove"),
                "diff": Deferred("acl_prove_diff", "diff"),
                "learn": Deferred("acl_usage", "learn"),
                "unused": Deferred("acl_usage", "unused"),
                "check": Deferred("acl", "check"),
                "test": Deferred("acl", "run_all_cases"),
                "show": Deferred("acl", "show"),
                "why": Deferred("acl", "why"),
            },
        ),
        "token": Group(
            "Tokens: issue, look at and revoke them.",
            {
                "issue": Deferred("token", "issue"),
                "verify": Deferred("token", "verify"),
                "list": Deferred("token", "list_tokens"),
                "revoke": Deferred("token_revoke", "revoke"),
            },
        ),
        "keys": Group(
            "Keys: list, rotate, re-seal, destroy, back up.",
            {
                "list": Deferred("keys", "list_keys"),
                "rotate": Deferred("keys", "rotate"),
                "destroy": Deferred("keys", "destroy"),
                "rewrap": Deferred("keys_rewrap_retained_messages", "rewrap"),
                "export": Deferred("keys_backup", "export"),
                "import": Deferred("keys_backup", "import_"),
            },
        ),
        "alerts": Group(
            "Alerts: what fires, who is told, and silence for a while.",
            {
                "list": Deferred("alerts", "list_alerts"),
                "test": Deferred("alerts", "send_test"),
                "silence": Deferred("alerts", "silence"),
                "unsilence": Deferred("alerts", "unsilence"),
            },
        ),
        "backup": Deferred("backup", "backup"),
        "restore": Deferred("backup", "restore"),
        "audit": Group(
            "Audit trail: what happened, and that nothing of it was changed.",
            {
                "tail": Deferred("audit", "tail"),
                "search": Deferred("audit", "search"),
                "verify": Deferred("audit_check", "verify"),
                "prove": Deferred("audit_check", "prove"),
                "export": Deferred("audit_check", "export"),
            },
        ),
        "status": Deferred("status", "status"),
    },
)


def app(words: Sequence[str] = ()) -> typer.Typer:
    """The program with the one command that these arguments begin with; with all, if they begin with none."""
    return program("gateway-admin", _PROGRAM.narrowed(words))


def main() -> None:
    """Entry point."""
    # Most commands are over before there is any garbage, and collecting takes a tenth of their time. Another
    # fourth is the last collection, when Python ends: it leaves out what is frozen.
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)
    sys.argv[1:] = after_the_verb(sys.argv[1:], _PROGRAM)
    run(app(sys.argv[1:]))
