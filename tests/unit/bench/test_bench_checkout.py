"""The code that a gateway peer runs: this checkout's, or that of an older commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench import checkout
from bench.checkout import ROOT, Tree, Unusable, resolve, this_checkout, unpack

PROJECT = '[project]\nname = "x"\n[project.scripts]\ngateway = "gateway.somewhere:begin"\n'
ELSEWHERE = "import sys\ndef begin():\n    print('the older one', __file__, *sys.argv[1:])\n    return 7\n"


def executed(command: list[str], environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=cwd, capture_output=True, text=True, check=False
    )


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def older(tmp_path: Path) -> Tree:
    """A tree whose gateway only says where it lies."""
    root = tmp_path / "older"
    (root / "gateway").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "gateway" / "__init__.py").write_text("")
    (root / "gateway" / "somewhere.py").write_text(ELSEWHERE)
    return Tree(root, "older")


def test_the_command_of_another_tree_runs_the_code_of_that_tree(older: Tree, tmp_path: Path) -> None:
    # The installed package is this checkout, and so is the folder that tests run in.
    for cwd in (tmp_path, ROOT):
        done = executed(older.command("gateway", "run", "--now"), older.environment, cwd)
        assert done.stdout == f"the older one {older.path}/gateway/somewhere.py run --now\n", done.stderr
        assert done.returncode == 7


def test_it_refuses_to_run_the_code_of_this_checkout_instead(older: Tree, tmp_path: Path) -> None:
    done = executed(older.command("gateway", "run"), {"PYTHONPATH": ""}, tmp_path)
    assert done.returncode == 1
    assert "would run instead" in done.stderr
    assert str(ROOT) in done.stderr
    assert done.stdout == ""


def test_against_head_starts_what_was_committed(tmp_path: Path) -> None:
    head = resolve("HEAD")
    unpacked = unpack(head, tmp_path / "tree")
    assert unpacked.version.startswith(f"{head[:7]}")
    init = unpacked.path / "gateway" / "__init__.py"
    init.write_text(init.read_text() + "\nprint('imported from', __file__)\n")
    asked = executed(unpacked.command("gateway", "--version"), unpacked.environment, tmp_path)
    assert f"imported from {init}" in asked.stdout
    assert asked.returncode == 0, asked.stderr
    enrol = executed(unpacked.module("bench.enrol"), unpacked.environment, tmp_path)
    assert f"{unpacked.path}/bench/enrol.py" in enrol.stderr  # nothing on stdin: its traceback says where


def test_an_older_commit_is_unpacked_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    for text in ("first", "second"):
        (root / "file").write_text(text)
        git(root, "add", "file")
        git(root, "commit", "--quiet", "--message", f"The {text} one")
    (root / "file").write_text("not committed")
    monkeypatch.setattr(checkout, "ROOT", root)
    first = resolve("HEAD~1")
    assert len(first) == 40
    before = git(root, "worktree", "list") + git(root, "status", "--porcelain")
    unpacked = unpack(first, tmp_path / "first")
    assert (unpacked.path / "file").read_text() == "first"
    assert unpacked.version == f"{git(root, 'rev-parse', '--short', first)} The first one"
    assert git(root, "worktree", "list") + git(root, "status", "--porcelain") == before
    assert "with what is not committed" in this_checkout().version


@pytest.mark.parametrize("name", ["no-such-commit", "--version", "HEAD:bench", ""])
def test_what_is_no_commit_is_refused(name: str) -> None:
    with pytest.raises(Unusable):
        resolve(name)


def test_a_tree_without_the_command_is_refused(older: Tree) -> None:
    with pytest.raises(Unusable, match="no command named gateway-admin"):
        older.command("gateway-admin", "init")


def test_an_older_tree_gets_no_limit_that_it_does_not_know(older: Tree) -> None:
    (older.path / "acl").mkdir()
    (older.path / "acl" / "limits.toml").write_text("# newer = 3\nold = 1\n")
    assert older.limits([("old", 10), ("newer", 20)]) == "old = 10\n"
