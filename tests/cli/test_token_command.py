"""What a transcript can't show: that the token is a real one, and that nothing keeps or repeats it."""

import asyncio
import base64
import json
import sqlite3
from contextlib import closing

import jwt
import pytest

from gateway.store import open_store
from gateway.store.tokens import REVOCATIONS_MAX


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
    for theirs in ({}, {"kid": "\x1b[2J planted", "cty": "json"}):
        foreign = jwt.encode(claims, place.environment["JWT_SECRET"], headers=theirs)
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


def claims_of(issued):
    return jwt.decode(issued["token"], options={"verify_signature": False})


def test_a_token_for_less_says_that_it_was_narrowed(place):
    """Also where it names all that the policy allows: what counts is what was asked for."""
    assert "narrowed" not in claims_of(issue(place))
    everything = issue(place)["permissions"]
    options = [f"--{action} '{one}'" for action, filters in everything.items() for one in filters]
    narrow, same = issue(place, *options), issue(place, *reversed(options))
    assert narrow["permissions"].keys() == everything.keys()
    assert len(claims_of(narrow)["narrowed"]) == 32
    assert claims_of(narrow)["narrowed"] == claims_of(same)["narrowed"]
    other = claims_of(issue(place, "--publish devices/lamp-1/state"))["narrowed"]
    assert other != claims_of(narrow)["narrowed"]


def test_a_revocation_is_kept_whatever_time_it_is(place):
    """Pruned by a clock that ran ahead, what it revoked would be good again, and be renewed."""
    revoked = [issue(place, "--ttl 90s") for _ in range(2)]
    with closing(sqlite3.connect(place.folder / "data/gateway.db")) as database:
        for each in revoked:
            assert place.shell(f"gateway-admin token revoke {each['token_id']}")[0] == 0
            database.execute("UPDATE token_revocations SET until = 1")
            database.commit()
        assert database.execute("SELECT count(*) FROM token_revocations").fetchone() == (2,)
    for each in revoked:
        _, out, _ = place.shell("gateway-admin token verify --json", stdin=each["token"].encode())
        assert json.loads(out)["error"] == "token_revoked"


def test_with_too_many_revocations_all_tokens_of_the_device_are_revoked_and_it_says_so(place):
    async def fill(count):
        store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
        for number in range(count):
            await store.tokens.revoke(device_id="lamp-1", root=f"t{number}", since=0, until=2**33)
        await store.close()

    asyncio.run(fill(REVOCATIONS_MAX))
    first, second = issue(place), issue(place)
    place.noted()
    code, out, _ = place.shell(f"gateway-admin token revoke {first['token_id']} --json")
    assert (code, json.loads(out)) == (0, {"device_id": "lamp-1", "token_id": None, "revoked": 2})
    for token in (first, second):
        code, out, _ = place.shell("gateway-admin token verify --json", stdin=token["token"].encode())
        assert (code, json.loads(out)["error"]) == (1, "token_revoked")
    (event,) = place.noted()
    assert first["token_id"] in event["reason"]
    assert "all tokens of the device" in event["reason"]
    # From now on there is room again, and the words of the command say what happened.
    third = issue(place)["token_id"]
    _, out, _ = place.shell(f"gateway-admin token revoke {third}")
    assert f"Token {third} of lamp-1 is revoked" in out
    asyncio.run(fill(REVOCATIONS_MAX - 1))
    fourth = issue(place)["token_id"]
    _, out, _ = place.shell(f"gateway-admin token revoke {fourth}")
    assert out.startswith(f"All tokens of lamp-1 are revoked, {fourth} among them: 100 revocations")


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
