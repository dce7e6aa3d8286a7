"""Tiles, read by their specification alone."""

from __future__ import annotations

from hashlib import sha256

import pytest
from harness.trails import event, key_of, made, trail_in

from gateway.audit_trail import writer as writer_module
from gateway.audit_trail.errors import TrailError
from gateway.audit_trail.segments import segments_of
from gateway.audit_trail.tile_export import export, tile_path


def node(left, right):
    return sha256(b"\x01" + left + right).digest()


def mth(hashes):
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node(mth(hashes[:k]), mth(hashes[k:]))


def test_names_are_those_of_the_specification():
    assert tile_path(1_234_067) == "x001/x234/067"
    assert tile_path(5, 112) == "005.p/112"
    assert tile_path(273, 112) == "273.p/112"


def test_the_tree_and_its_entries_can_be_read_again(tmp_path):
    size = 70_000
    made(tmp_path / "audit", 300, size)
    key = key_of(tmp_path / "audit")
    done = export(tmp_path / "audit", key, tmp_path / "out")
    assert (done.size, done.first) == (size, 0)
    tiles = tmp_path / "out" / "tile"
    assert (tiles / "0" / "273.p" / "112").stat().st_size == 112 * 32
    assert (tiles / "1" / "000").stat().st_size == 8_192
    assert (tiles / "1" / "001.p" / "17").stat().st_size == 17 * 32
    assert (tiles / "2" / "000.p" / "1").stat().st_size == 32
    leaves = []
    for number in range(274):
        data = (tiles / "entries" / tile_path(number, 256 if number < 273 else 112)).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            leaves.append(sha256(b"\x00" + data[2 : 2 + length]).digest())
            data = data[2 + length :]
    assert b"".join(leaves[:256]) == (tiles / "0" / "000").read_bytes()
    assert mth(leaves) == key.verified((tmp_path / "out" / "checkpoint").read_text()).root


def test_what_is_not_kept_any_more_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "SEGMENT_ENTRIES_MAX", 300)
    trail = trail_in(tmp_path / "audit")
    trail.append([event(number) for number in range(900)])
    trail.append([event(900, kind="audit", kept_from=300)])
    trail.sign()
    trail.delete(segments_of(tmp_path / "audit" / "entries")[:1])
    done = export(tmp_path / "audit", key_of(tmp_path / "audit"), tmp_path / "out")
    assert done.first == 512
    bundle = (tmp_path / "out" / "tile" / "entries" / "002").read_bytes()
    entry = bundle[2 : 2 + int.from_bytes(bundle[:2], "big")]
    assert sha256(b"\x00" + entry).digest() == (tmp_path / "out" / "tile" / "0" / "002").read_bytes()[:32]
    assert not (tmp_path / "out" / "tile" / "entries" / "001").exists()
    assert (tmp_path / "out" / "tile" / "0" / "000").exists()


def test_nothing_is_written_over(tmp_path):
    made(tmp_path / "audit", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(TrailError, match="is not empty"):
        export(tmp_path / "audit", key_of(tmp_path / "audit"), tmp_path / "out")
    trail_in(tmp_path / "new").close()
    with pytest.raises(TrailError, match="no checkpoint yet"):
        export(tmp_path / "new", key_of(tmp_path / "new"), tmp_path / "out2")
