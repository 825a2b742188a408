"""Payloads while they stream: not a byte more than was signed, and good only at the end."""

import hashlib
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwsign.format.component import Digest
from fwsign.format.payload import CHUNK_SIZE, digest, measure, receive
from support import PAYLOAD, component, refused

BUILD = component()


class Slow:
    """A source that gives a few bytes at a time, and counts what was asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step, self.given = data, step, 0

    def read(self, size: int, /) -> bytes:
        piece = self.data[self.given : self.given + min(size, self.step)]
        self.given += len(piece)
        return piece


class Generous:
    """A source that gives more than was asked for."""

    def read(self, size: int, /) -> bytes:
        return bytes(size + 1)


class Broken:
    """A cable that was pulled."""

    def read(self, size: int, /) -> bytes:
        raise OSError(5, f"no {size} bytes to be had")

    def write(self, data: bytes, /) -> int:
        raise OSError(28, f"no space left for {len(data)}")


class Short:
    """A sink that takes less than it is given."""

    def write(self, data: bytes, /) -> int:
        return len(data) - 1


class Silent:
    """A sink that does not say what it took."""

    def write(self, data: bytes, /) -> None:
        self.data = data


@pytest.mark.parametrize(
    ("algorithm", "function"), [(-16, "sha256"), (-43, "sha384"), (-44, "sha512")]
)
def test_digests(algorithm: int, function: str) -> None:
    assert digest(algorithm, b"a", b"", b"bc") == hashlib.new(function, b"abc").digest()


@pytest.mark.parametrize("algorithm", [-16, -43, -44])
@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_measure(algorithm: int, size: int) -> None:
    data = bytes(size)
    assert measure(io.BytesIO(data), algorithm) == (
        Digest(algorithm, digest(algorithm, data)),
        size,
    )


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_a_payload_arrives(size: int) -> None:
    data, sink = bytes(size), io.BytesIO()
    receive(component(data), io.BytesIO(data), sink)
    assert sink.getvalue() == data


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_payload_arrives_in_pieces_of_any_size(data: bytes, step: int) -> None:
    sink = io.BytesIO()
    receive(component(data), Slow(data, step), sink)
    assert sink.getvalue() == data


@pytest.mark.parametrize("algorithm", [-43, -44])
def test_longer_digests_are_checked_too(algorithm: int) -> None:
    long = BUILD._replace(digest=Digest(algorithm, digest(algorithm, PAYLOAD)))
    receive(long, io.BytesIO(PAYLOAD))
    with refused("tampered.payload-digest"):
        receive(long, io.BytesIO(PAYLOAD[:-1] + b"x"))


def test_a_payload_can_be_checked_without_a_sink() -> None:
    receive(BUILD, io.BytesIO(PAYLOAD))


def test_a_changed_payload_is_refused() -> None:
    wrong = bytes([PAYLOAD[0] ^ 1]) + PAYLOAD[1:]
    found, signed = digest(-16, wrong).hex(), BUILD.digest.value.hex()
    words = f'payload of "build.bin" has digest {found}, the signed one is {signed}'
    with refused("tampered.payload-digest", words) as caught:
        receive(BUILD, io.BytesIO(wrong))
    assert (caught.value.step, caught.value.expected, caught.value.found) == (10, signed, found)


@pytest.mark.parametrize("size", [0, 1, len(PAYLOAD) - 1])
def test_a_short_payload_is_refused(size: int) -> None:
    words = f'payload of "build.bin" has {size} bytes, the signed size is {len(PAYLOAD)}'
    with refused("tampered.payload-size", words) as caught:
        receive(BUILD, io.BytesIO(PAYLOAD[:size]))
    assert (caught.value.step, caught.value.expected) == (10, f"{len(PAYLOAD)} bytes")
    assert caught.value.found == f"{size} bytes"


def test_a_long_payload_is_refused_and_no_more_is_read_than_shows_it() -> None:
    source = Slow(PAYLOAD + bytes(10 * CHUNK_SIZE), CHUNK_SIZE)
    with refused("tampered.payload-size", f"has more than {len(PAYLOAD)} bytes") as caught:
        receive(BUILD, source)
    assert (source.given, caught.value.step) == (len(PAYLOAD) + 1, 10)


def test_at_most_the_signed_size_reaches_the_sink() -> None:
    for step in (1, 7, CHUNK_SIZE):
        sink = io.BytesIO()
        with refused("tampered.payload-size"):
            receive(BUILD, Slow(PAYLOAD + b"more", step), sink)
        assert len(sink.getvalue()) <= len(PAYLOAD)


def test_a_source_that_gives_more_than_was_asked_for_is_refused() -> None:
    sink = io.BytesIO()
    with refused("tampered.payload-size", "more than 800 bytes"):
        receive(BUILD, Generous(), sink)
    assert sink.getvalue() == b""


def test_a_source_that_fails_says_nothing_about_the_payload() -> None:
    words = 'reading the payload of "build.bin" failed: no 801 bytes to be had'
    with refused("io.read", words) as caught:
        receive(BUILD, Broken())
    assert caught.value.step == 10
    assert isinstance(caught.value.__cause__, OSError)


def test_a_sink_that_fails_says_nothing_about_the_payload() -> None:
    words = 'writing the payload of "build.bin" failed: no space left for 800'
    with refused("io.write", words) as caught:
        receive(BUILD, io.BytesIO(PAYLOAD), Broken())
    assert caught.value.step == 10


def test_a_sink_that_takes_less_is_refused() -> None:
    words = 'writing the payload of "build.bin" failed: only 799 of 800 bytes were taken'
    with refused("io.write", words):
        receive(BUILD, io.BytesIO(PAYLOAD), Short())


def test_a_sink_need_not_say_what_it_took() -> None:
    sink: Any = Silent()
    receive(BUILD, io.BytesIO(PAYLOAD), sink)
    assert sink.data == PAYLOAD
