"""The command `gateway-admin`: one noun a file, mounted here."""

from __future__ import annotations

import typer

from gateway.cli import acl, device, keys, token
from gateway.cli.command import SETTINGS, run, tell_version
from gateway.cli.device_held import held
from gateway.cli.init import init
from gateway.cli.keys_backup import export, import_
from gateway.cli.rewrap import rewrap
from gateway.cli.status import status
from gateway.cli.token_revoke import revoke

app = typer.Typer(
    no_args_is_help=True,
    context_settings=SETTINGS,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    help=(
        "Administer the MQTT security gateway.\n\n"
        "Reads the same settings as `gateway run` and works while it runs: the gateway follows within a "
        "second.\n\n"
        'With --json each command prints one JSON object to stdout; an error is {"error", "problems"} '
        "there, and text on stderr.\n\n"
        "Exit codes: 0 done, 1 refused or not found, 2 wrong usage."
    ),
)


tell_version(app, "gateway-admin")


app.command()(init)
device.app.command()(held)
app.add_typer(device.app, name="device")
app.add_typer(acl.app, name="acl")
token.app.command()(revoke)
app.add_typer(token.app, name="token")
keys.app.command()(rewrap)
keys.app.command()(export)
keys.app.command("import")(import_)
app.add_typer(keys.app, name="keys")
app.command()(status)


def main() -> None:
    """Entry point."""
    run(app)
