"""A list with nothing in it says so: to people in a line, to scripts by an empty list and an empty stdout."""

from __future__ import annotations

import json

import pytest

LISTS = [
    ("device list", "devices", "No devices."),
    ("device held", "devices", "No device holds anything on the bus."),
    ("token list", "tokens", "No tokens."),
    ("status --refused", "refused", "Nobody was refused in the last three days."),
]


@pytest.mark.parametrize(("command", "name", "said"), LISTS)
def test_it_is_said_beside_the_result(place, command, name, said):
    code, out, err = place.shell(f"gateway-admin {command}")
    assert (code, out) == (0, "")
    assert err.splitlines()[-1] == f"note: {said}"
    code, out, err = place.shell(f"gateway-admin {command} --json")
    assert (code, json.loads(out)[name]) == (0, [])
    assert said not in err


def test_on_a_terminal_it_is_a_line_of_its_own(place):
    shown, code = place.on_a_terminal("gateway-admin device held")
    assert (shown.strip(), code) == ("No device holds anything on the bus.", 0)


def test_rules_that_are_all_switched_off(place):
    from gateway.alerts.shipped_rules import SHIPPED

    off = "".join(f'[[alert]]\nname = "{one.name}"\nenabled = false\n' for one in SHIPPED)
    (place.folder / "monitoring.toml").write_text(off)
    code, out, err = place.shell("gateway-admin alerts list")
    assert (code, out.splitlines()) == (
        0,
        ["no channel: nobody is told but the log and the audit (monitoring.toml)"],
    )
    assert err == "note: No rule is in force: monitoring.toml switches all of them off.\n"
