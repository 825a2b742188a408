"""Step 10: payloads while they stream; what reaches the sink, and whose fault a failure is."""

import io
from typing import TypeVar

import pytest

from fwsign.errors import Failed, Tampered
from fwsign.format.payload import CHUNK_SIZE, measure
from fwsign.verify.verified import VerifiedRelease
from hostile import refused_at
from support import PAYLOAD, Pki, component, make_manifest, make_pki, sign_with, verify

Given = TypeVar("Given")


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="module")
def release(pki: Pki) -> VerifiedRelease:
    return verify(sign_with(pki), [pki.root])


class Drip:
    """A source that gives little at a time, and counts what it gave."""

    def __init__(self, data: bytes, step: int = 7) -> None:
        self.left, self.step, self.given = data, step, 0

    def read(self, size: int, /) -> bytes:
        taken = self.left[: min(size, self.step)]
        self.left = self.left[len(taken) :]
        self.given += len(taken)
        return taken


class Broken:
    """A source or sink that fails after some calls."""

    def __init__(self, calls: int = 0) -> None:
        self.calls = calls

    def read(self, size: int, /) -> bytes:
        return self._next(PAYLOAD[: min(size, 8)])

    def write(self, data: bytes, /) -> int:
        return self._next(len(data))

    def _next(self, value: Given) -> Given:
        self.calls -= 1
        if self.calls < 0:
            raise OSError(5, "the medium is gone")
        return value


def test_receive_by_name_and_by_component(release: VerifiedRelease) -> None:
    for wanted in ("build.bin", component()):
        sink = io.BytesIO()
        release.receive(wanted, io.BytesIO(PAYLOAD), sink)
        assert sink.getvalue() == PAYLOAD
    release.receive("build.bin", io.BytesIO(PAYLOAD))


def test_receive_takes_little_at_a_time(release: VerifiedRelease) -> None:
    sink = io.BytesIO()
    release.receive("build.bin", Drip(PAYLOAD), sink)
    assert sink.getvalue() == PAYLOAD


def test_unknown_component_is_refused(release: VerifiedRelease) -> None:
    words = 'the release has no component "x", it has build.bin'
    with refused_at(None, "unsuitable.component", words):
        release.receive("x", io.BytesIO())
    with refused_at(None, "unsuitable.component"):
        release.receive(component(file="other.bin"), io.BytesIO())


def test_receive_without_source_is_refused(release: VerifiedRelease) -> None:
    with refused_at(10, "io.payload-missing", 'no source for the payload of "build.bin"'):
        release.receive("build.bin")


def test_no_more_than_the_signed_size_reaches_the_sink(release: VerifiedRelease) -> None:
    for step in (1, 7, 799, 800, 801, CHUNK_SIZE):
        source, sink = Drip(PAYLOAD + b"x" * 5000, step), io.BytesIO()
        with refused_at(10, "tampered.payload-size"):
            release.receive("build.bin", source, sink)
        assert len(sink.getvalue()) <= len(PAYLOAD)
        assert source.given == len(PAYLOAD) + 1


def test_a_source_that_gives_more_than_asked_is_refused(release: VerifiedRelease) -> None:
    class Pushy:
        def read(self, size: int, /) -> bytes:
            return bytes(size + 1)

    sink = io.BytesIO()
    with refused_at(10, "tampered.payload-size"):
        release.receive("build.bin", Pushy(), sink)
    assert sink.getvalue() == b""


@pytest.mark.parametrize("calls", [0, 3])
def test_source_that_breaks_is_no_tampering(release: VerifiedRelease, calls: int) -> None:
    with refused_at(10, "io.read", "reading the payload", "the medium is gone"):
        release.receive("build.bin", Broken(calls))


def test_sink_that_breaks_is_no_tampering(release: VerifiedRelease) -> None:
    with refused_at(10, "io.write", "writing the payload", "the medium is gone"):
        release.receive("build.bin", io.BytesIO(PAYLOAD), Broken())


def test_sink_that_takes_less_is_an_error(release: VerifiedRelease) -> None:
    class Full:
        def write(self, data: bytes, /) -> int:
            return len(data) - 1

    with pytest.raises(Failed, match="only 799 of 800 bytes were taken") as caught:
        release.receive("build.bin", io.BytesIO(PAYLOAD), Full())
    assert caught.value.code == "io.write"
    assert isinstance(caught.value.__cause__, OSError)


def test_sink_that_says_nothing_is_trusted_to_have_taken_all(release: VerifiedRelease) -> None:
    class Silent:
        def __init__(self) -> None:
            self.taken = b""

        def write(self, data: bytes, /) -> None:
            self.taken += data

    sink = Silent()
    release.receive("build.bin", io.BytesIO(PAYLOAD), sink)
    assert sink.taken == PAYLOAD


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_payload_sizes_around_a_chunk(pki: Pki, size: int) -> None:
    payload = bytes(size)
    release = verify(sign_with(pki, make_manifest(component(payload))), [pki.root])
    release.receive("build.bin", io.BytesIO(payload))
    assert measure(io.BytesIO(payload)) == (component(payload).digest, size)
    with pytest.raises(Tampered):
        release.receive("build.bin", io.BytesIO(payload + b"\0"))
