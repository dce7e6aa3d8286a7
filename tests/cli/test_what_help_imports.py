"""A command imports what it needs and no more: that is most of the time that one takes."""

import os
import re
import subprocess
import sys
from pathlib import Path

SELDOM = (
    "rich.table",
    "http.client",
    "argon2",
    "alembic",
    "gateway.policy.analysis",
    "gateway.keys.key_backup",
)

COMMAND = Path(sys.executable).with_name("gateway-admin")
NOUNS = {"device", "acl", "token", "keys", "alerts", "audit", "backup", "init", "status"}


def imported(*command, **where):
    """All that Python imports for it."""
    words = [sys.executable, "-v", *command]  # `-X importtime` leaves out what importlib is asked for by name
    done = subprocess.run(words, capture_output=True, text=True, check=False, **where)
    assert "Traceback" not in done.stderr, done.stderr
    return set(re.findall(r"^import '([^']+)' #", done.stderr, re.MULTILINE))


def test_all_commands_are_known_without_the_database_or_its_tables():
    found = imported("-c", "from gateway.cli.gateway_admin import app; app()")
    assert {"typer", "gateway.cli.device", "gateway.cli.audit_check"} <= found
    assert found.isdisjoint({"sqlalchemy", "pydantic", "cryptography", *SELDOM})


READING = (
    "device list",
    "device held lamp-1",
    "acl show lamp-1",
    "token list",
    "keys list",
    "alerts list",
    "status",
)
FOR_NO_DEVICE = {"cryptography", "gateway.policy.engine.decision_recorder"}
ONLY_FOR_OTHERS = {"sqlalchemy.ext.asyncio", "sqlalchemy.orm", "aiosqlite", "alembic", "argon2", "rich.table"}


def test_what_reads_the_store_imports_its_own_noun_and_no_event_loop_for_the_database(place):
    assert place.shell("gateway-admin device add lamp-1 --role sensor")[0] == 0
    for words in READING:
        found = imported(COMMAND, *words.split(), cwd=place.folder, env=place.environment)
        assert "sqlalchemy" in found, words
        assert found.isdisjoint(ONLY_FOR_OTHERS), (words, found & ONLY_FOR_OTHERS)
        assert not words.startswith("device") or found.isdisjoint(FOR_NO_DEVICE), (
            words,
            found & FOR_NO_DEVICE,
        )
        ours = {name.removeprefix("gateway.cli.") for name in found if name.startswith("gateway.cli.")}
        assert ours & NOUNS <= {words.split()[0]}, words
        assert any(name.startswith(words.split()[0]) for name in ours), words


def test_no_package_can_put_its_code_into_the_check_of_settings(tmp_path):
    about = tmp_path / "other-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pydantic]\nother = other:plugin\n")
    (tmp_path / "other.py").write_text("print('imported')\n")
    code = "from gateway.config import load_settings; load_settings([])"
    where = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=where, cwd=tmp_path)
    assert "imported" not in done.stdout


def test_what_reads_no_store_imports_no_database(place):
    for words in ("audit tail", "audit verify", "acl test", "device list --help"):
        found = imported(COMMAND, *words.split(), cwd=place.folder, env=place.environment)
        assert "gateway.cli.gateway_admin" in found
        assert "sqlalchemy" not in found, words


def test_python_does_not_look_through_all_that_was_imported_when_it_ends():
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count(), gc.get_threshold()[0]))\n"
        "from gateway.cli.gateway_admin import main\n"
        "sys.argv = ['gateway-admin', '--version']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frozen, threshold = done.stdout.splitlines()[-1].split()
    assert int(frozen) > 1_000
    assert int(threshold) > 100_000
