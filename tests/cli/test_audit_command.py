"""`gateway-admin audit` on a trail that lies there: no gateway runs, and there is no store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness.trails import NOON, ORIGIN, event, key_of, made, trail_in

from gateway.audit_trail.checkpoints import SigningKey

ROOT = Path(__file__).parents[2]
CHECKER = f"{sys.executable} {ROOT / 'docs' / 'check_proof.py'}"
CONSOLE = "15:00:00.000 info     audit checkpoint  trail=x size=300 note="


@pytest.fixture
def trail(bare):
    """The folder of a trail of 300 entries, and its checkpoints over 200 and all of them."""
    folder = bare.folder / "data" / "audit"
    folder.parent.mkdir(parents=True)
    return folder, made(folder, 200, 300)


def verified(bare, words=""):
    code, out, _ = bare.shell(f"gateway-admin audit verify --json {words}")
    answer = json.loads(out)
    assert answer["ok"] is (code == 0)
    return answer


def line(note):
    """A line of the log."""
    return json.dumps({"ts": "x", "level": "info", "event": "audit checkpoint", "size": 1, "note": note})


def test_it_is_what_was_signed(bare, trail):
    assert verified(bare) == {
        "ok": True,
        "trail": ORIGIN,
        "key": str(key_of(trail[0])),
        "entries": 300,
        "first": 0,
        "signed": 300,
        "checkpoints": 1,
        "problems": [],
        "notes": [],
    }
    code, out, err = bare.shell("gateway-admin audit verify")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "The trail is what was signed."


def test_checkpoints_are_read_from_a_note_from_any_log_and_from_stdin(bare, trail):
    _, notes = trail
    (bare.folder / "note").write_text(notes[0])
    (bare.folder / "json.log").write_text(
        "\n".join(["noise", f"gateway-1  | {line(notes[0])}", line(notes[1])])
    )
    (bare.folder / "text.log").write_text(f"{CONSOLE}{json.dumps(notes[1])}\n")
    found = verified(bare, "--checkpoint note --checkpoint json.log --checkpoint text.log")
    assert found["checkpoints"] == 3, "the newest, and two at hand, each once"
    code, out, _ = bare.shell(
        "gateway-admin audit verify --json --checkpoint -", stdin=f"{line(notes[0])}\n".encode()
    )
    assert (code, json.loads(out)["checkpoints"]) == (0, 2)


def test_the_newest_checkpoint_of_a_long_log_is_found(bare, trail):
    """However much came before it."""
    folder, notes = trail
    (bare.folder / "log").write_text(f"{line(notes[1])}\n")
    folder.rename(bare.folder / "gone")
    made(folder, 250)
    noise = f"yes {'x' * 4_000} | head -c 270000000"
    (bare.folder / "older").write_text(f"{line(notes[0])}\n")
    _, out, _ = bare.shell(
        f"(cat older; {noise}; echo; cat log) | gateway-admin audit verify --json --checkpoint -"
    )
    (problem,) = json.loads(out)["problems"]
    assert problem == "the trail was cut: a checkpoint was signed over 300 entries, and it has 250"


def test_a_cut_behind_a_checkpoint_in_the_log_is_found(bare, trail):
    folder, notes = trail
    (bare.folder / "log").write_text(f"{line(notes[1])}\n")
    for path in (folder,):
        path.rename(bare.folder / "gone")
    made(folder, 250)
    assert verified(bare)["ok"], "by itself it is a good trail"
    (problem,) = verified(bare, "--checkpoint log")["problems"]
    assert problem == "the trail was cut: a checkpoint was signed over 300 entries, and it has 250"
    code, out, _ = bare.shell("gateway-admin audit verify --checkpoint log")
    assert code == 1
    assert f"PROBLEM      {problem}\nThe trail is NOT what was signed.\n" in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            SigningKey("other/node", bytes(32)).sign(9, bytes(32)),
            f"it is of another trail: other/node, and this one is {ORIGIN}",
        ),
        (SigningKey(ORIGIN, bytes(32)).sign(9, bytes(32)), "it is not signed by the key"),
        ("nonsense\n", "has no checkpoint: it is no checkpoint, and no log with lines `audit checkpoint`"),
        ('{"event":"audit checkpoint"}\n', "has no checkpoint"),
        ('{"event":"audit checkpoint","note":7}\n', "it is no checkpoint"),
    ],
)
def test_a_checkpoint_that_can_not_be_compared_is_a_problem(bare, trail, text, says):
    (bare.folder / "kept").write_text(text)
    assert any(
        says in problem and "kept" in problem for problem in verified(bare, "--checkpoint kept")["problems"]
    )


def test_a_key_that_somebody_knows_is_asked_not_the_one_that_lies_there(bare, trail):
    other = SigningKey(ORIGIN, bytes(32)).verifier
    (problem,) = verified(bare, f"--key {other}")["problems"]
    assert "is not signed by the key" in problem
    assert verified(bare, f"--key {key_of(trail[0])}")["ok"]
    code, out, _ = bare.shell("gateway-admin audit verify --json --key nonsense")
    assert code == 1
    assert "not a key of an audit trail" in json.loads(out)["error"]


def test_a_proof_is_checked_by_the_program_of_the_documentation(bare, trail):
    code, out, _ = bare.shell("gateway-admin audit prove 123 --out one.tlog-proof")
    assert code == 0
    assert out.splitlines()[:2] == ["proof  one.tlog-proof", "entry  one.tlog-proof.entry"]
    key = key_of(trail[0])
    done = bare.shell(f"{CHECKER} '{key}' one.tlog-proof one.tlog-proof.entry")
    assert (done[0], done[1].splitlines()[:2]) == (0, [ORIGIN, "300"])
    assert json.loads((bare.folder / "one.tlog-proof.entry").read_text())["seq"] == 123
    code, out, _ = bare.shell("gateway-admin audit prove 123 --json")
    assert json.loads(out)["proof"] == (bare.folder / "one.tlog-proof").read_text()
    code, out, _ = bare.shell("gateway-admin audit prove 123")
    assert out == (bare.folder / "one.tlog-proof").read_text()
    code, _, err = bare.shell("gateway-admin audit prove 123 --out one.tlog-proof")
    assert (code, "exists already: name a new file" in err) == (1, True)


def test_what_can_not_be_proven_says_why(bare, trail):
    folder, _ = trail
    writing = trail_in(folder)
    writing.append([event(300, id="a1b2")])
    writing.close()
    for words, says in (
        ("301", "there is no entry '301'"),
        ("nobody", "there is no entry 'nobody'"),
        ("300", "entry 300 is newer than the newest checkpoint"),
        ("a1b2", "entry 300 is newer than the newest checkpoint"),
        ("-- -1", "there is no entry '-1'"),
    ):
        code, _, err = bare.shell(f"gateway-admin audit prove {words}")
        assert (code, says in err) == (1, True), err
    path = next((folder / "entries").iterdir())
    path.write_bytes(path.read_bytes().replace(b'because 7"', b'because 8"'))
    code, _, err = bare.shell("gateway-admin audit prove 7")
    assert code == 1
    assert f"this is not entry 7 of {ORIGIN}: `gateway-admin audit verify` says what is wrong" in err


def test_tiles_are_exported_once(bare, trail):
    code, out, _ = bare.shell("gateway-admin audit export tiles --json")
    assert (code, json.loads(out)["entries"], json.loads(out)["files"]) == (0, 300, 6)
    assert (bare.folder / "tiles" / "tile" / "0" / "001.p" / "44").stat().st_size == 44 * 32
    code, _, err = bare.shell("gateway-admin audit export tiles")
    assert (code, "is not empty" in err) == (1, True)


def test_entries_are_found_by_all_that_one_may_ask(bare, trail):
    folder, _ = trail
    writing = trail_in(folder)
    writing.append(
        [
            event(0, kind="login", device="lamp-1", time=NOON + 3_600_000),
            event(1, kind="login", device="lamp-2", outcome="done", time=NOON + 7_200_000, topic="a\u202eb"),
        ]
    )
    writing.close()

    def found(words):
        code, out, _ = bare.shell(f"gateway-admin audit search --json {words}")
        assert code == (0 if json.loads(out)["entries"] else 1)
        return [one["seq"] for one in json.loads(out)["entries"]]

    assert found("--kind login") == [300, 301]
    assert found("--device lamp-1") == [300]
    assert found("--outcome done") == [301]
    assert found("--since 2025-11-25T13:00") == [300, 301]
    assert found("--since 2025-11-25T13:00 --until 2025-11-25T15:00+01:00") == [300]
    assert found("--since 1h") == []
    assert found("--limit 2") == [300, 301]
    for words, ends in (("search", 1), ("tail", 0)):
        code, out, err = bare.shell(f"gateway-admin audit {words} --device nobody")
        assert (code, out, err) == (ends, "", "note: No such entries.\n")
    _, out, err = bare.shell("gateway-admin audit search --limit 1")
    assert out == "#301\t2025-11-25T14:00:00.000Z\tlogin\tdone\tlamp-2\tbecause 1 [a\\u202eb]\n"
    assert "there are older ones" in err
    _, out, _ = bare.shell("gateway-admin audit tail -n 3")
    assert [row.split("\t")[0] for row in out.splitlines()] == ["#299", "#300", "#301"]


def test_where_there_is_no_trail_it_says_so(bare):
    for words in ("tail", "search", "verify", "prove 1", "export x"):
        code, out, _ = bare.shell(f"gateway-admin audit {words} --json")
        assert code == 1
        assert "there is no audit trail at" in json.loads(out)["error"]


def test_follow_gives_what_comes_and_ends_with_a_key(bare, trail):
    folder, _ = trail
    words = ["gateway-admin", "audit", "tail", "--follow", "-n", "1", "--json"]
    with subprocess.Popen(
        words, cwd=bare.folder, env=bare.environment, stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["seq"] == 299
        writing = trail_in(folder)
        writing.append([event(300)])
        writing.close()
        assert json.loads(following.stdout.readline())["seq"] == 300
        following.terminate()


def test_what_is_followed_looks_like_what_is_listed(bare, trail):
    _, listed, _ = bare.shell("gateway-admin audit tail -n 2")
    assert listed.count("\t") == 2 * 5
    words = ["gateway-admin", "audit", "tail", "-n", "2", "--follow"]
    with subprocess.Popen(
        words, cwd=bare.folder, env=bare.environment, stdout=subprocess.PIPE, text=True
    ) as follower:
        followed = follower.stdout.readline() + follower.stdout.readline()
        follower.terminate()
    assert followed == listed
