"""What a start shows: what is open to whom, and the first steps only to whoever needs them."""

from __future__ import annotations

import shutil
from pathlib import Path

from gateway.app.startup_banner import banner
from gateway.config import Address, Settings
from gateway.policy.files.loader import load_policy

SHIPPED = Path(__file__).parents[3] / "acl"


def shown(*, first_steps: bool, host: str = "0.0.0.0", acl: Path = SHIPPED) -> str:
    return "\n".join(
        banner(
            Settings(),
            [],
            bus="the bus",
            policy=load_policy(acl, reserved="gateway"),
            mqtt=[Address(host, 8883)],
            http=[Address(host, 8443)],
            health=[Address("127.0.0.1", 8000)],
            first_steps=first_steps,
        )
    )


def test_what_is_open_to_the_network_is_said_with_how_to_close_it():
    text = shown(first_steps=False)
    assert "mqtts://0.0.0.0:8883   open to every network of this machine" in text
    assert "jwks.json   open to every network of this machine" in text
    assert "this machine alone: GATEWAY_MQTT_BIND=127.0.0.1:8883 GATEWAY_HTTP_BIND=127.0.0.1:8443" in text
    assert "mqtts://192.0.2.1:8883   open to the network" in shown(first_steps=False, host="192.0.2.1")


def test_what_is_not_open_is_not_said_to_be():
    text = shown(first_steps=False, host="127.0.0.1")
    assert "open to" not in text
    assert "this machine alone" not in text


def test_the_first_steps_end_with_a_message_that_is_seen():
    assert "Next" not in shown(first_steps=False)
    text = shown(first_steps=True)
    assert "device add lamp-1 --role sensor" in text
    assert "mosquitto_sub --cafile certs/ca.crt -h localhost -p 8883 -u me" in text


def policy_of(folder: Path, **roles: str) -> Path:
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("roles", "cases.toml"))
    (folder / "roles").mkdir()
    for name, topics in roles.items():
        rule = f'[[allow]]\nactions = ["publish", "subscribe"]\ntopics = {topics}\n'
        (folder / "roles" / f"{name}.toml").write_text(rule)
    return folder


def test_the_first_steps_name_roles_of_this_policy_that_may_take_them(tmp_path: Path) -> None:
    acl = policy_of(tmp_path, house='["devices/#"]', lamp='["home/lamp/#"]')
    text = shown(first_steps=True, acl=acl)
    assert "device add lamp-1 --role house" in text
    assert "device add me --role house" in text


def test_of_a_policy_for_other_topics_the_first_steps_show_its_roles_alone(tmp_path: Path) -> None:
    acl = policy_of(tmp_path, thermo='["home/thermo/#"]', operator='["home/lamp/#"]')
    text = shown(first_steps=True, acl=acl)
    assert "device add ID --role ROLE   # operator, thermo" in text
    assert "acl show ID" in text
    assert "mosquitto" not in text
