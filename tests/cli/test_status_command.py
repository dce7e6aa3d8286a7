"""`gateway-admin status` beside a real health port, and beside none."""

import asyncio
import json
import socket

from gateway.config import Address
from gateway.http.health import serve
from gateway.net.tasks import Tasks
from gateway.observe.health_check_scheduler import Health
from gateway.system.folder_identity import folder_identity


async def ask(place, checks, folder=""):
    """The command's exit code, its JSON and its text, while a health port with `checks` is open."""
    health = Health(folder=lambda: folder)
    for name, answer in checks.items():
        health.add(name, lambda answer=answer: answer, vital=False)
    server = await serve(health, None, [Address("127.0.0.1", 0)], start=Tasks().start)
    try:
        place.environment["GATEWAY_HEALTH_BIND"] = f"0.0.0.0:{server.acceptor.port}"
        code, out, _ = await asyncio.to_thread(place.shell, "gateway-admin status --json")
        _, text, _ = await asyncio.to_thread(place.shell, "gateway-admin status")
    finally:
        await server.close()
    return code, json.loads(out), text


async def test_a_gateway_that_is_ready(place):
    code, out, text = await ask(place, {"store": (True, "2 devices"), "bus": (True, "reachable")})
    assert code == 0
    assert (out["running"], out["ready"], out["devices"], out["problems"]) == (True, True, 0, [])
    assert out["checks"]["bus"].items() >= {"ok": True, "detail": "reachable", "state": "healthy"}.items()
    assert len(out["policy"]) == 64
    assert text.splitlines()[0].startswith("gateway  ready")
    assert "  ok     bus: reachable" in text


async def test_a_gateway_that_was_started_with_another_policy_is_told(place):
    _, out, _ = await ask(place, {"store": (True, "2 devices")})
    in_force = out["policy"][:12]
    _, out, _ = await ask(place, {"policy": (True, in_force)})
    assert out["problems"] == []
    code, out, text = await ask(place, {"policy": (True, "0ab12f54d34e")})
    assert code == 0
    (problem,) = out["problems"]
    assert problem.startswith("the running gateway has policy 0ab12f54d34e, and the files in ")
    assert f"are {in_force}" in problem
    assert f"problem  {problem}" in text
    # What is broken is told already.
    _, out, _ = await ask(place, {"policy": (False, "acl/roles/x.toml: broken")})
    assert out["problems"] == []


async def test_a_gateway_of_this_folder_is_known_by_it(place):
    code, out, _ = await ask(place, {"bus": (True, "reachable")}, folder_identity(place.folder / "data"))
    assert (code, out["running"]) == (0, True)


async def test_the_gateway_of_another_folder_is_not_taken_for_this_ones(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    code, out, text = await ask(place, {"bus": (True, "reachable")}, folder_identity(tmp_path / "elsewhere"))
    assert (code, out["running"], out["ready"], out["checks"]) == (1, False, False, {})
    assert "works with a different data folder from" in out["detail"]
    assert str(place.folder / "data") in text


async def test_a_gateway_that_is_not_ready(place):
    code, out, text = await ask(place, {"bus": (False, "forged\n\x1b[2J")})
    assert code == 1
    assert (out["running"], out["ready"]) == (True, False)
    assert "  FAILED bus: forged\\u000a\\u001b[2J" in text


async def test_many_checks_that_say_much_are_shown(place):
    said = "nothing came on " + "t/" * 500
    code, out, _ = await ask(place, {f"device-{number}": (True, said) for number in range(200)})
    assert (code, out["running"], len(out["checks"])) == (0, True, 200)


async def test_what_is_wrong_on_disk_is_told_beside_the_health(bare):
    (bare.folder / "acl" / "limits.toml").write_text("typo = 1\n")
    code, out, _ = await ask(bare, {"bus": (True, "reachable")})
    assert code == 0
    assert (out["ready"], out["devices"], out["policy"]) == (True, None, None)
    assert len(out["problems"]) == 2


async def test_devices_whose_roles_have_no_file(place):
    of_sensors = [(f"s{number}", "--role sensor") for number in range(5)]
    for name, roles in (*of_sensors, ("b", "--role sensor --role reader"), ("c", "--role reader")):
        await asyncio.to_thread(place.shell, f"gateway-admin device add {name} {roles}")
    for name in ("roles/sensor.toml", "cases.toml"):
        (place.folder / "acl" / name).unlink()
    _, out, text = await ask(place, {})
    (problem,) = out["problems"]
    assert problem.startswith("acl/roles/sensor.toml is missing, a role of b, s0, s1 and 3 more, ")
    assert "gateway-admin device remove" in problem
    assert f"problem  {problem}" in text


def test_no_gateway(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    place.environment["GATEWAY_HEALTH_BIND"] = f"127.0.0.1:{port}"
    code, out, _ = place.shell("gateway-admin status --json")
    assert code == 1
    assert json.loads(out)["running"] is False
    assert json.loads(out)["devices"] == 0


async def test_something_else_answers(place):
    async def other(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        place.environment["GATEWAY_HEALTH_BIND"] = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        code, out, _ = await asyncio.to_thread(place.shell, "gateway-admin status --json")
    assert code == 1
    assert "is not a gateway" in json.loads(out)["detail"]
