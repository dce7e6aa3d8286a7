"""The two commands as a user has them: separate processes, a folder of their own, a real store."""

import asyncio
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.store import open_store

SCRIPTS = sysconfig.get_path("scripts")
ACL = Path(__file__).parent / "acl"


@dataclass
class Place:
    """A folder where commands are called."""

    folder: Path

    def __post_init__(self):
        self.environment = {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            # Nothing may be left open, nor anything deprecated be called.
            "PYTHONWARNINGS": "error",
        }

    def shell(self, command, *, stdin=b"", **options):
        """Run `command` by a shell; stdout and stderr as text."""
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=self.folder, env=self.environment, input=stdin,
            capture_output=True, timeout=60, check=False, **options,
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def bare(tmp_path):
    """A policy and nothing else."""
    shutil.copytree(ACL, tmp_path / "acl")
    return Place(tmp_path)


@pytest.fixture
def place(bare):
    """A policy and a store without devices."""

    async def make():
        store = await open_store(f"sqlite:///{bare.folder}/data/gateway.db")
        await store.close()

    asyncio.run(make())
    return bare
