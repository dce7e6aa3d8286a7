"""The code of the gateway that is run: this checkout, or an older commit unpacked beside it.

The environment has this checkout installed as editable, and its console scripts import that. So
gateways are started by the entry points which their own pyproject.toml names, with their tree first
in the path, and refuse to start if the package comes from anywhere else.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_START = """
import sys
import gateway
tree = {tree!r}
if not gateway.__file__.startswith(tree + "/"):
    sys.exit(f"the gateway of {{gateway.__file__}} would run instead of the one in {{tree}}")
from {module} import {function}
sys.exit({function}())
"""


class Unusable(Exception):
    """There is no such commit, or it holds no gateway that can be started; the text says why."""


@dataclass(frozen=True)
class Tree:
    """A folder with a gateway in it, and what the table says of it."""

    path: Path
    version: str

    def command(self, script: str, *arguments: str) -> list[str]:
        """What starts this tree's console script, with this environment's interpreter."""
        project = tomllib.loads((self.path / "pyproject.toml").read_text())["project"]
        if script not in project.get("scripts", {}):
            raise Unusable(f"{self.version} has no command named {script}")
        module, _, function = project["scripts"][script].partition(":")
        start = _START.format(tree=str(self.path), module=module, function=function)
        return [sys.executable, "-P", "-c", start, *arguments]

    def module(self, name: str) -> list[str]:
        """What runs this tree's module."""
        return [sys.executable, "-P", "-m", name]

    @property
    def environment(self) -> dict[str, str]:
        """Needed by both."""
        return {"PYTHONPATH": str(self.path)}

    def limits(self, wanted: Iterable[tuple[str, int]]) -> str:
        """A limits.toml of those that this tree knows: an older one refuses what is newer than itself."""
        known = tomllib.loads((self.path / "acl" / "limits.toml").read_text())
        return "".join(f"{name} = {value}\n" for name, value in wanted if name in known)


def this_checkout() -> Tree:
    """The working tree, with what is not committed."""
    try:
        commit = _git("describe", "--always", "--dirty=, with what is not committed")
    except Unusable:  # an archive without its history
        commit = "this checkout"
    return Tree(ROOT, commit)


def resolve(commit: str) -> str:
    """The full id of a commit, branch or tag."""
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")


def unpack(commit: str, folder: Path) -> Tree:
    """The files of a commit (its full id) in a new folder; nothing in the repository remembers it."""
    folder.mkdir()
    archive = subprocess.Popen(["git", "archive", "--format=tar", commit], cwd=ROOT, stdout=subprocess.PIPE)
    unpacked = subprocess.run(
        ["tar", "-x", "-f", "-"], cwd=folder, stdin=archive.stdout, timeout=60, check=False
    )
    if archive.stdout is not None:
        archive.stdout.close()
    if archive.wait(60) or unpacked.returncode:
        raise Unusable(f"commit {commit} could not be unpacked")
    return Tree(folder.resolve(), _git("show", "--no-patch", "--format=%h %s", commit))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise Unusable(done.stderr.strip() or f"git {' '.join(arguments)} found nothing")
    return done.stdout.strip()
