"""The command `gateway-admin`: all its commands, each a function of a module here."""

from __future__ import annotations

import gc

from gateway.cli import (
    acl,
    acl_import,
    acl_prove_diff,
    acl_usage,
    alerts,
    audit,
    audit_check,
    backup,
    device,
    device_connections,
    device_held,
    device_set,
    device_trace,
    init,
    keys,
    keys_backup,
    keys_rewrap,
    status,
    token,
    token_revoke,
)
from gateway.cli.typer_app import Group, program, run

_COLLECT_AFTER = 200_000
"""Objects more."""

_DEVICE = Group(
    "Devices: who may connect, and in which roles.",
    {
        "add": device.add,
        "set": device_set.set_,
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
        "export": device_set.export,
    },
)
_ACL = Group(
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
_TOKEN = Group(
    "Tokens: issue, look at and revoke them.",
    {
        "issue": token.issue,
        "verify": token.verify,
        "list": token.list_tokens,
        "revoke": token_revoke.revoke,
    },
)
_KEYS = Group(
    "Keys: list, rotate, re-seal, destroy, back up.",
    {
        "list": keys.list_keys,
        "rotate": keys.rotate,
        "destroy": keys.destroy,
        "rewrap": keys_rewrap.rewrap,
        "export": keys_backup.export,
        "import": keys_backup.import_,
    },
)
_AUDIT = Group(
    "Audit trail: what happened, and that nothing of it was changed.",
    {
        "tail": audit.tail,
        "search": audit.search,
        "verify": audit_check.verify,
        "prove": audit_check.prove,
        "export": audit_check.export,
    },
)
_ALERTS = Group(
    "Alerts: what fires, who is told, and silence for a while.",
    {
        "list": alerts.list_alerts,
        "test": alerts.send_test,
        "silence": alerts.silence,
        "unsilence": alerts.unsilence,
    },
)
app = program(
    "gateway-admin",
    Group(
        "Administer the MQTT security gateway.\n\n"
        "Reads the same settings as `gateway run` and works while it runs: the gateway follows within a "
        "second.\n\n"
        'With --json each command prints one JSON object to stdout; an error is {"error", "problems"} '
        "there, and text on stderr.\n\n"
        "Exit codes: 0 done, 1 refused or not found, 2 wrong usage.",
        {
            "init": init.init,
            "device": _DEVICE,
            "acl": _ACL,
            "token": _TOKEN,
            "keys": _KEYS,
            "alerts": _ALERTS,
            "backup": backup.backup,
            "restore": backup.restore,
            "audit": _AUDIT,
            "status": status.status,
        },
    ),
)


def main() -> None:
    """Entry point."""
    # Most commands are over before there is anything to collect, and to look for it takes a tenth of them.
    gc.set_threshold(_COLLECT_AFTER)
    run(app)
