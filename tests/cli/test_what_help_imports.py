"""How a command is used is said without the database: half of what a command takes is what it imports."""

import subprocess
import sys


def test_all_commands_are_known_without_the_database_or_its_tables():
    program = (
        "import sys, gateway.cli.gateway_admin\n"
        "print([name for name in ('sqlalchemy', 'pydantic', 'rich.table') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
