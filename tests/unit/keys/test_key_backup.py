"""The backup of the keys: what comes back, and what must not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from gateway.keys import key_backup, key_files
from gateway.keys.key_backup import export_keys, import_keys
from gateway.keys.key_files import (
    SEALING,
    SIGNING,
    KeyFileError,
    destroy,
    ensure_sealing_file,
    ensure_signing_file,
    read_sealing_file,
    read_signing_file,
    rotate_sealing,
    rotate_signing,
)
from gateway.keys.secret_values import Secret
from gateway.keys.wrapping import Wrapping, passphrase_cipher, unwrap, wrap

WRAPPING = Wrapping(Secret(bytes(range(32))), is_passphrase=False)
WORDS = b"correct horse battery staple"


@pytest.fixture
def clock(monkeypatch):
    now = [1_800_000_000]
    for module in (key_files, key_backup):
        monkeypatch.setattr(module, "now", lambda: now[0])
    return now


class Keys:
    """The two files of one gateway."""

    def __init__(self, folder: Path, wrapping: Wrapping | None = None) -> None:
        self.sealing = folder / "encryption.key"
        self.signing = folder / "signing.key"
        self.wrapping = wrapping

    def make(self) -> Keys:
        ensure_sealing_file(self.sealing, self.wrapping)
        ensure_signing_file(self.signing, self.wrapping)
        return self

    def rotate(self, overlap_s: int = 100) -> None:
        rotate_sealing(self.sealing, self.wrapping)
        rotate_signing(self.signing, self.wrapping, overlap_s)

    def destroy(self, key_id: str) -> None:
        path, purpose = (self.signing, SIGNING) if key_id[0] == "s" else (self.sealing, SEALING)
        destroy(path, purpose, self.wrapping, key_id)

    def export(self, passphrase: bytes = WORDS) -> bytes:
        return export_keys(self.sealing, self.signing, self.wrapping, passphrase)

    def bring_in(self, data: bytes, passphrase: bytes = WORDS):
        return import_keys(data, passphrase, self.sealing, self.signing, self.wrapping)

    def all(self):
        return [
            *read_sealing_file(self.sealing, self.wrapping),
            *read_signing_file(self.signing, self.wrapping),
        ]

    def states(self) -> dict[str, str]:
        return {key.key_id: str(key.state) for key in self.all()}

    def lose(self) -> None:
        self.sealing.unlink()
        self.signing.unlink()


@pytest.fixture
def keys(tmp_path, clock) -> Keys:
    made = Keys(tmp_path / "keys").make()
    made.rotate()
    return made


def test_lost_keys_come_back_as_they_were(keys):
    keys.rotate()
    keys.destroy("k1")
    before, backup = keys.all(), keys.export()
    keys.lose()
    done = keys.bring_in(backup)
    assert keys.all() == before
    assert done.added == ("k1", "k2", "k3", "s1", "s2", "s3")
    assert (done.present, done.left_out) == ((), ())
    assert keys.sealing.stat().st_mode & 0o777 == keys.signing.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("before", [None, WRAPPING], ids=["open", "wrapped"])
@pytest.mark.parametrize("after", [None, WRAPPING], ids=["open", "wrapped"])
def test_they_come_back_wrapped_as_the_settings_say_now(tmp_path, clock, before, after):
    """It is also how keys that lay open are wrapped, and the other way round."""
    keys = Keys(tmp_path / "keys", before).make()
    backup, was = keys.export(), keys.all()
    keys.lose()
    keys.wrapping = after
    keys.bring_in(backup)
    assert keys.all() == was
    for file in (keys.sealing, keys.signing):
        assert json.loads(file.read_text())["wrapped"] is (after is not None)


def test_the_document_shows_no_key(keys):
    backup = keys.export()
    for key in keys.all():
        for form in (key.material, key.material.hex().encode(), base64.b64encode(key.material)):
            assert form not in backup
    assert keys.export() != backup, "another salt and nonce"


@pytest.mark.parametrize("passphrase", [b"", b"x" * 15, "ü".encode() * 15])
def test_a_short_passphrase_protects_nothing(keys, passphrase):
    with pytest.raises(KeyFileError, match="at least 16 characters"):
        keys.export(passphrase)


def test_a_gateway_with_a_jwt_secret_has_no_signing_keys(tmp_path):
    keys = Keys(tmp_path / "keys")
    ensure_sealing_file(keys.sealing, None)
    backup = keys.export()
    keys.sealing.unlink()
    assert keys.bring_in(backup).added == ("k1",)
    assert not keys.signing.exists()


def test_nothing_to_export(tmp_path):
    with pytest.raises(KeyFileError, match="can't be read"):
        Keys(tmp_path / "keys").export()


def test_a_file_that_is_there_keeps_its_active_key(keys, clock):
    newer, older = keys.export(), None
    # An older state of both files, as a snapshot of the disk brings it back.
    sealing, signing = (json.loads(file.read_text()) for file in (keys.sealing, keys.signing))
    for file, document in ((keys.sealing, sealing), (keys.signing, signing)):
        (first, _) = document["keys"]
        first = {name: value for name, value in first.items() if name not in {"retired_at", "until"}}
        file.write_text(json.dumps(document | {"keys": [first | {"state": "active"}]}))
    older = keys.states()
    assert older == {"k1": "active", "s1": "active"}
    done = keys.bring_in(newer)
    assert (done.added, done.present) == (("k2", "s2"), ("k1", "s1"))
    assert keys.states() == {"k1": "active", "k2": "decrypt-only", "s1": "active", "s2": "verify-only"}
    (until,) = {key.until for key in keys.all() if key.key_id == "s2"}
    assert until == clock[0] + 366 * 86_400, "no token lives longer"
    assert rotate_sealing(keys.sealing, None).key_id == "k3"


def test_what_is_destroyed_stays_destroyed(keys):
    backup = keys.export()
    keys.destroy("k1")
    keys.destroy("s1")
    before = keys.all()
    done = keys.bring_in(backup)
    assert done.added == ()
    assert set(done.present) == {"k1", "k2", "s1", "s2"}
    assert keys.all() == before


def test_what_the_backup_calls_destroyed_is_not_destroyed_by_it(keys):
    sealing = keys.sealing.read_bytes()
    keys.destroy("k1")
    backup = keys.export()
    keys.sealing.write_bytes(sealing)
    keys.bring_in(backup)
    assert keys.states()["k1"] == "decrypt-only"


def test_no_backup_makes_tokens_good_again_whose_key_was_taken_out(keys, clock):
    """A signing key that leaked is rotated away without overlap; an old backup still has it."""
    backup = keys.export()
    rotate_signing(keys.signing, None, overlap_s=0)
    rotate_signing(keys.signing, None, overlap_s=0)
    before = keys.states()
    assert "s2" not in before
    done = keys.bring_in(backup)
    assert done.left_out == ("s2",)
    assert keys.states() == before


def test_signing_keys_that_are_over_do_not_come_back(keys, clock):
    backup = keys.export()
    rotate_signing(keys.signing, None, overlap_s=100)
    clock[0] += 100
    rotate_signing(keys.signing, None, overlap_s=100)
    assert set(keys.bring_in(backup).left_out) == {"s1", "s2"}
    keys.lose()
    done = keys.bring_in(backup)
    assert (done.added, done.left_out) == (("k1", "k2", "s2"), ("s1",))


@pytest.mark.parametrize("which", ["sealing", "signing"])
def test_another_key_of_the_same_name_is_an_error_and_nothing_is_written(tmp_path, keys, which):
    backup = keys.export()
    other = Keys(tmp_path / "other").make()
    for name in {"sealing", "signing"} - {which}:
        getattr(other, name).write_bytes(getattr(keys, name).read_bytes())
    rotate_sealing(keys.sealing, None)
    before = other.sealing.read_bytes(), other.signing.read_bytes()
    with pytest.raises(KeyFileError, match=r"a different key from .1 of the backup"):
        other.bring_in(backup)
    assert (other.sealing.read_bytes(), other.signing.read_bytes()) == before


def test_a_damaged_file_is_not_written_over(keys):
    backup = keys.export()
    keys.sealing.write_text("damaged")
    with pytest.raises(KeyFileError, match="move it away first"):
        keys.bring_in(backup)
    assert keys.sealing.read_text() == "damaged"


def test_once_more_does_no_harm(keys):
    backup, before = keys.export(), keys.all()
    keys.bring_in(backup)
    assert keys.all() == before


@pytest.mark.parametrize("passphrase", [b"", WORDS[:-1], WORDS + b"\n", WORDS.upper()])
def test_another_passphrase(keys, passphrase):
    with pytest.raises(KeyFileError, match="not the backup's"):
        keys.bring_in(keys.export(), passphrase)


def changed(backup: bytes, **values) -> bytes:
    return json.dumps(json.loads(backup) | values).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"4711",
        b"{",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        lambda backup: backup[:-20],
        lambda backup: changed(backup, data="****"),
        lambda backup: changed(backup, data=""),
        lambda backup: changed(backup, data=None),
        lambda backup: changed(backup, salt=5),
        lambda backup: changed(backup, salt=""),
        lambda backup: changed(backup, v=2),
        lambda backup: changed(backup, kdf=None),
    ],
    ids=range(16),
)
def test_a_backup_that_is_none(keys, data):
    before = keys.states()
    with pytest.raises(KeyFileError) as caught:
        keys.bring_in(data if isinstance(data, bytes) else data(keys.export()))
    assert caught.value.__cause__ is None
    assert keys.states() == before


@pytest.mark.parametrize("more", [{"memory_kib": 2**30}, {"passes": 10**9}, {"lanes": 2**20}])
def test_a_file_does_not_choose_how_much_work_it_is(keys, more):
    document = json.loads(keys.export())
    with pytest.raises(KeyFileError, match="newer gateway"):
        keys.bring_in(changed(keys.export(), kdf=document["kdf"] | more))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("signing"),
        lambda content: content.update(sealing=content["signing"]),
        lambda content: content["sealing"].pop(),
        lambda content: content["sealing"].append(content["sealing"][1]),
        lambda content: content["sealing"][0].update(key="AAAA"),
        lambda content: content["sealing"][0].update(state="verify-only"),
    ],
    ids=range(6),
)
def test_a_backup_whose_content_is_none(keys, change):
    document = json.loads(keys.export())
    cipher = passphrase_cipher(WORDS, base64.b64decode(document["salt"]))
    content = json.loads(unwrap(cipher, base64.b64decode(document["data"]), key_backup._ASSOCIATED_DATA))
    change(content)
    sealed = wrap(cipher, json.dumps(content).encode(), key_backup._ASSOCIATED_DATA)
    keys.lose()
    with pytest.raises(KeyFileError):
        keys.bring_in(json.dumps(document | {"data": base64.b64encode(sealed).decode()}).encode())
    assert not keys.sealing.exists()
    assert not keys.signing.exists()
