"""The bounds: what ships in acl/limits.toml is what holds without the file, and none of them is no bound."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from gateway.policy.engine.limits import CONNECT_BYTES_MAX, CONNECT_DEADLINE, Limits

SHIPPED = tomllib.loads((Path(__file__).parents[4] / "acl" / "limits.toml").read_text("utf-8"))


def test_the_file_says_what_holds_anyway():
    assert dataclasses.asdict(Limits()) == SHIPPED


def test_everything_is_bounded():
    assert all(0 < value < 2**31 for value in SHIPPED.values())
    # Bytes and time before authentication.
    assert (CONNECT_BYTES_MAX, CONNECT_DEADLINE) == (65_536, 10.0)
