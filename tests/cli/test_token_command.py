"""What a transcript can't show: that the token is a real one, and that nothing keeps or repeats it."""

import asyncio
import base64
import json

import jwt
import pytest

from gateway.store import open_store


@pytest.fixture
def place(place):
    place.shell("gateway-admin init")
    place.shell("gateway-admin device add lamp-1 --role sensor --label room=kitchen")
    place.noted()
    return place


def issue(place, *options):
    code, out, err = place.shell(f"gateway-admin token issue lamp-1 --json {' '.join(options)}")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_what_is_printed_is_a_token_that_says_what_was_printed(place):
    issued = issue(place, "--ttl 90s", "--publish devices/lamp-1/state")
    claims = jwt.decode(issued["token"], options={"verify_signature": False})
    assert claims["sub"] == "lamp-1"
    assert claims["jti"] == claims["root"] == issued["token_id"]
    assert claims["exp"] * 1000 == issued["expires_at"]
    assert claims["exp"] - claims["iat"] == 90
    assert claims["permissions"] == issued["permissions"]
    assert claims["permissions"] == {
        "publish": ["devices/lamp-1/state"],
        "subscribe": [],
        "encrypt": [],
        "decrypt": [],
    }


def test_with_a_secret_it_is_signed_with_that(place):
    place.environment["JWT_SECRET"] = "0123456789012345678901234567890123456789"
    (place.folder / "data/keys/signing.key").unlink()
    token = issue(place)["token"]
    assert jwt.decode(token, place.environment["JWT_SECRET"], ["HS256"], audience="mqtt")["sub"] == "lamp-1"
    code, out, _ = place.shell("gateway-admin token verify --json", stdin=token.encode())
    assert (code, json.loads(out)["kid"]) == (0, "hs256")
    # Whoever else has the secret may name no key, nor a chain or an epoch.
    claims = jwt.decode(token, options={"verify_signature": False})
    del claims["root"], claims["epoch"]
    foreign = jwt.encode(claims, place.environment["JWT_SECRET"])
    code, out, _ = place.shell("gateway-admin token verify --json", stdin=foreign.encode())
    assert (code, json.loads(out)["valid"], json.loads(out)["kid"]) == (0, True, None)
    code, out, _ = place.shell("gateway-admin token verify", stdin=foreign.encode())
    assert (code, out.splitlines()[-1]) == (0, "signed by  JWT_SECRET, by another program")
    place.environment["JWT_SECRET"] = "another-012345678901234567890123456789"
    code, out, _ = place.shell("gateway-admin token verify --json", stdin=token.encode())
    assert (code, json.loads(out)["error"]) == (1, "invalid_token")


def test_a_token_that_was_changed_is_not_good(place):
    header, payload, signature = issue(place)["token"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["permissions"]["publish"] = ["#"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    code, out, _ = place.shell(
        "gateway-admin token verify --json", stdin=f"{header}.{forged}.{signature}".encode()
    )
    assert (code, json.loads(out)["error"]) == (1, "invalid_token")


def test_a_token_that_would_be_over_at_once_is_not_issued(place):
    code, _, err = place.shell("gateway-admin token issue lamp-1 --ttl 0s")
    assert (code, "--ttl" in err) == (2, True)


def test_a_revocation_outlives_what_is_renewed_before_the_gateway_sees_it(place):
    """Good again in its last seconds, it could be renewed, and the chain would be back for ever."""
    issued = issue(place, "--ttl 90s")
    assert place.shell(f"gateway-admin token revoke {issued['token_id']}")[0] == 0

    async def revocations():
        store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
        device = await store.device("lamp-1")
        await store.close()
        return device.revocations

    (one,) = asyncio.run(revocations())
    # A day is the longest life, and the store may have been busy.
    assert one.until > one.since + 86_400 + 60


def test_an_expired_token_is_told_apart_and_can_not_be_revoked_alone(place):
    issued = issue(place, "--ttl 1s")
    for _ in range(60):
        code, out, _ = place.shell("gateway-admin token verify --json", stdin=issued["token"].encode())
        if code:
            break
    assert json.loads(out)["error"] == "token_expired"
    code, _, err = place.shell("gateway-admin token revoke --token-stdin", stdin=issued["token"].encode())
    assert code == 1
    assert "token revoke --device lamp-1" in err
    _, out, _ = place.shell("gateway-admin token list --json")
    assert json.loads(out) == {"tokens": []}


def test_a_token_of_a_disabled_device_is_not_accepted_and_can_be_revoked(place):
    token = issue(place)["token"].encode()
    place.shell("gateway-admin device disable lamp-1")
    code, out, _ = place.shell("gateway-admin token verify --json", stdin=token)
    assert (code, json.loads(out)["error"]) == (1, "not_accepted")
    code, out, _ = place.shell("gateway-admin token revoke --token-stdin --json", stdin=token)
    assert (code, json.loads(out)["revoked"]) == (0, 1)
    place.shell("gateway-admin device enable lamp-1")
    _, out, _ = place.shell("gateway-admin token verify --json", stdin=token)
    assert json.loads(out)["error"] == "token_revoked"


def test_what_was_done_and_refused_is_noted_without_the_token(place):
    issued = issue(place)
    place.shell("gateway-admin token issue lamp-1 --publish '#'")
    place.shell("gateway-admin token issue ghost")
    place.shell(f"gateway-admin token revoke {issued['token_id']}")
    place.shell("gateway-admin token revoke --device lamp-1")
    place.shell("gateway-admin token verify", stdin=issued["token"].encode())
    events = place.noted()
    assert [(event["kind"], event["outcome"], event["device"]) for event in events] == [
        ("token", "done", "lamp-1"),
        ("token", "refused", "lamp-1"),
        ("token", "done", "lamp-1"),
        ("token", "done", "lamp-1"),
    ]
    assert issued["token_id"] in events[0]["reason"]
    assert "publish #" in events[1]["reason"]
    assert issued["token_id"] in events[2]["reason"]
    assert "eyJ" not in json.dumps(events)


def test_no_file_and_no_other_command_has_the_token(place):
    signature = issue(place)["token"].rpartition(".")[2]
    for file in (place.folder / "data").rglob("*"):
        assert file.is_dir() or signature.encode() not in file.read_bytes()
    for command in ("token list", "token list --json", "token revoke --device lamp-1 --json"):
        _, out, err = place.shell(f"gateway-admin {command}")
        assert "eyJ" not in out + err


def test_on_a_terminal_the_list_is_a_coloured_table(place):
    shown, code = place.on_a_terminal("gateway-admin token list")
    assert (shown.strip(), code) == ("No tokens.", 0)
    issued = issue(place)
    shown, code = place.on_a_terminal("COLUMNS=150 gateway-admin token list")
    assert code == 0
    assert "\x1b[32mactive" in shown
    assert issued["token_id"] in shown
    place.shell("gateway-admin token revoke --device lamp-1")
    shown, _ = place.on_a_terminal("COLUMNS=150 gateway-admin token list")
    assert "\x1b[31mrevoked" in shown


def test_a_terminal_is_not_waited_for(place):
    """Its lines end after 4,096 bytes, and a token may be longer."""
    shown, code = place.on_a_terminal("gateway-admin token verify")
    assert code == 2
    assert "< FILE" in shown
