"""Files in `acl/` that are none, never end, or that Python can't read: they are told, and nothing hangs.

Whoever may write there may change the policy; nobody may, by a file that can't be read, keep later changes
from taking effect unnoticed (promise 6).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import fork_server
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

HARMLESS = '[[allow]]\nactions = ["publish"]\ntopics = ["{}"]\n'


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room


def circle(path: Path) -> None:
    path.symlink_to(path)


def folder(path: Path) -> None:
    path.mkdir()


def long_number(path: Path) -> None:
    path.write_text("x = " + "1" * 5_000)


def deep(path: Path) -> None:
    path.write_text("x = " + "[" * 100_000)


NASTY = [pipe, endless, huge, circle, folder, long_number, deep]


def policy_is_fine(gateway: Gateway) -> bool:
    return bool(json.loads(gateway.health("/health")[1])["checks"]["policy"]["ok"])


def until(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("make", NASTY)
def test_what_is_no_policy_is_told_and_what_comes_after_it_is_followed(
    world: tuple[Mosquitto, Gateway], make: Callable[[Path], None]
) -> None:
    _, gateway = world
    path = gateway.acl / "roles" / "nasty.toml"
    make(path)
    try:
        assert until(lambda: not policy_is_fine(gateway))
    finally:
        path.rmdir() if path.is_dir() else path.unlink()
    assert until(lambda: policy_is_fine(gateway))


@pytest.mark.parametrize("make", NASTY)
def test_the_check_names_the_file(
    tmp_path: Path, world: tuple[Mosquitto, Gateway], make: Callable[[Path], None]
) -> None:
    path = tmp_path / "acl" / "roles" / "nasty.toml"
    path.parent.mkdir(parents=True)
    path.with_name("sound.toml").write_text(HARMLESS.format("a"))
    make(path)
    done = subprocess.run(
        [f"{fork_server.folder()}/gateway", "check", "--json"],
        env={**world[1].env, "ACL_PATH": str(tmp_path / "acl")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert any("nasty.toml" in problem for problem in json.loads(done.stdout)["problems"])
