"""A sealed stream is whole, in order and of this passphrase, or it is not given out."""

from __future__ import annotations

import io
import os

import pytest

from gateway.keys import sealed_stream
from gateway.keys.sealed_stream import OpeningReader, SealingWriter, StreamNotOpened

PASSPHRASE = b"correct horse battery"
PIECE = 64


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sealed_stream, "PIECE", PIECE)


def sealed(data: bytes, *, finish: bool = True) -> bytes:
    target = io.BytesIO()
    writer = SealingWriter(target, PASSPHRASE, about="a test")
    for at in range(0, len(data), 50):
        writer.write(data[at : at + 50])
    if finish:
        writer.finish()
    return target.getvalue()


def opened(stream: bytes, passphrase: bytes = PASSPHRASE) -> bytes:
    reader = OpeningReader(io.BytesIO(stream), passphrase)
    data = reader.read()
    assert reader.is_over
    return data


def pieces(stream: bytes) -> tuple[bytes, list[bytes]]:
    head, _, rest = stream.partition(b"\n")
    size = PIECE + 16
    return head + b"\n", [rest[at : at + size] for at in range(0, len(rest), size)]


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 1_000])
def test_it_comes_back_whatever_its_length(length):
    data = os.urandom(length)
    stream = sealed(data)
    assert opened(stream) == data
    assert length < 20 or data[:20] not in stream


def test_not_by_a_different_passphrase():
    with pytest.raises(StreamNotOpened, match="passphrase"):
        opened(sealed(b"data"), b"correct horse batterx")


@pytest.mark.parametrize("at", [5, 40, -1, -20, 300, 420])
def test_not_with_a_bit_changed(at):
    stream = bytearray(sealed(os.urandom(300)))
    stream[at] ^= 1
    with pytest.raises(StreamNotOpened):
        opened(bytes(stream))


def test_not_cut_off_nor_with_pieces_left_out_swapped_or_of_a_different_stream():
    stream = sealed(bytes(300))
    head, parts = pieces(stream)
    assert len(parts) == 5
    _, others = pieces(sealed(bytes(300)))
    for wrong in (
        parts[:-1],
        parts[1:],
        [parts[1], parts[0], *parts[2:]],
        [*parts[:2], *parts[3:]],
        [*parts, parts[-1]],
        [*parts[:-1], others[-1]],
        [],
    ):
        with pytest.raises(StreamNotOpened):
            opened(head + b"".join(wrong))


def test_not_without_its_end():
    with pytest.raises(StreamNotOpened):
        opened(sealed(bytes(300), finish=False))


def test_what_is_given_out_before_the_fault_is_genuine():
    head, parts = pieces(sealed(b"a" * 300))
    reader = OpeningReader(io.BytesIO(head + parts[0] + parts[1][:-1] + b"x" + parts[2]), PASSPHRASE)
    assert reader.read(PIECE) == b"a" * PIECE
    with pytest.raises(StreamNotOpened, match="damaged or cut off"):
        reader.read(1)


@pytest.mark.parametrize(
    "stream", [b"", b"\n", b"{}\n", b"SQLite format 3\0" + bytes(200), b'{"v": 1}\n', b"[" * 5_000]
)
def test_not_what_is_none(stream):
    with pytest.raises(StreamNotOpened, match="no backup"):
        opened(stream)


def test_not_one_that_would_have_us_work_harder():
    stream = sealed(b"data").replace(b'"memory_kib": 65536', b'"memory_kib": 65537')
    with pytest.raises(StreamNotOpened, match="newer gateway"):
        opened(stream)
