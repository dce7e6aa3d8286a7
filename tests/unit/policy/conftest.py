"""A folder with a policy that is right, for tests to break."""

from __future__ import annotations

import pytest

FILES = {
    "roles/sensor.toml": """\
description = "Reports."

[[allow]]
actions = ["publish"]
topics = ["devices/{device}/telemetry"]

[[deny]]
actions = ["publish"]
topics = ["devices/{device}/locked"]
""",
    "encryption.toml": '[[sensitive]]\ntopics = ["devices/+/private/#"]\n',
    "limits.toml": "in_flight = 7\n",
}


@pytest.fixture
def acl(tmp_path):
    folder = tmp_path / "acl"
    (folder / "roles").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder
