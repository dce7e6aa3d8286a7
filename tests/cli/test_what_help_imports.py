"""A command imports what it needs and no more: that is most of the time that one takes."""

import subprocess
import sys
from pathlib import Path

SELDOM = ("rich.table", "http.client", "argon2", "alembic", "gateway.policy.analysis", "gateway.keys.backup")


def imported(*command, **where):
    """All that Python imports for it."""
    words = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(words, capture_output=True, text=True, check=True, **where)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_all_commands_are_known_without_the_database_or_its_tables():
    found = imported("-c", "import gateway.cli.gateway_admin")
    assert "typer" in found
    assert found.isdisjoint({"sqlalchemy", "pydantic", "cryptography", *SELDOM})


def test_a_list_of_devices_takes_the_database_and_not_what_other_commands_need(place):
    assert place.shell("gateway-admin device add lamp-1 --role sensor")[0] == 0
    program = Path(sys.executable).with_name("gateway-admin")
    found = imported(program, "device", "list", "--json", cwd=place.folder, env=place.environment)
    assert "sqlalchemy" in found
    assert found.isdisjoint(SELDOM)
