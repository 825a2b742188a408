"""Servers that would keep a gateway busy for ever, or fill its memory."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import fetch
from gateway.server import Handler, Server, serving
from support import refused


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.clear()
    return _server


def get(server: Server, **more: Any) -> bytes:
    usual = {"ca": server.ca, "pause_seconds": 0, "stall_seconds": 1, "total_seconds": 1}
    limit = more.pop("limit", 1000)
    return fetch.fetch_bytes(server.url("/f"), FetchRules(**{**usual, **more}), limit, print)


def endless(begin: bytes, again: bytes, pause: float = 0) -> Callable[[Handler], None]:
    """Send something, and then something else for ever."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(begin)
        while not handler.stopped.wait(pause):
            handler.wfile.write(again)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\nX: y\r\n" * 50 + b"\r\n"),
        (CHUNKED + b"0\r\n", b"Trailer: yes\r\n"),
        (CHUNKED, b"0;" + b"x" * 70_000),
        (OK, b"X: " + b"y" * 70_000 + b"\r\n"),
        (b"HTTP/1.1 200 ", b"O" * 70_000),
        (b"", b"\r\n"),
        (b"", b"\0"),
    ],
)
@pytest.mark.parametrize("pause", [0, 0.01])
def test_an_answer_without_an_end_ends_in_time(
    server: Server, begin: bytes, again: bytes, pause: float
) -> None:
    server.answers["/f"] = endless(begin, again, pause)
    start = time.monotonic()
    with pytest.raises(Exception, match="localhost") as caught:
        get(server)
    assert caught.value.code in (  # type: ignore[attr-defined]
        "io.fetch-slow",
        "io.fetch-cut",
        "io.fetch-protocol",
    )
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("size", [b"ffffffffffffffff", b"7fffffff", b"f" * 60_000])
def test_a_chunk_of_any_size_takes_no_memory(server: Server, size: bytes) -> None:
    server.answers["/f"] = endless(CHUNKED + size + b"\r\n", b"x" * 65536)
    tracemalloc.start()
    try:
        with pytest.raises(Exception, match=r"localhost|at most 1000"):
            get(server)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def test_a_thousand_headers_are_refused(server: Server) -> None:
    server.answers["/f"] = lambda handler: handler.wfile.write(OK + b"X: y\r\n" * 1000 + b"\r\n")
    with refused("io.fetch-protocol", "no proper answer"):
        get(server)


def test_ranges_of_one_byte_end_in_time(server: Server) -> None:
    def one(handler: Handler) -> None:
        place = f"bytes {handler.start}-{handler.start}/100000"
        if handler.start:
            handler.head(206, {"Content-Range": place, "Content-Length": "1"})
        else:
            handler.head(200, {"Content-Length": "100000"})
        handler.wfile.write(b"x")

    server.answers["/f"] = one
    start = time.monotonic()
    with refused("io.fetch-slow"):
        get(server, limit=100_000)
    assert time.monotonic() - start < 10


def test_redirects_count_for_the_whole_time(server: Server) -> None:
    def slow(handler: Handler) -> None:
        handler.stopped.wait(0.3)
        handler.head(302, {"Location": "/f", "Content-Length": "0"})

    server.answers["/f"] = slow
    with refused("io.fetch-slow"):
        get(server, total_seconds=0.8)


def test_a_place_of_any_length_is_refused(server: Server) -> None:
    place = f"https://localhost:1/{'x' * 60_000}"
    server.answers["/f"] = lambda handler: handler.head(302, {"Location": place})
    with pytest.raises(Exception, match="localhost"):
        get(server)


class TestClosedProperly:
    """An end that TLS confirms is an end all the same, and the file may go on (RFC 9112 s.9.8)."""

    DATA = bytes(range(256)) * 100

    @pytest.fixture(autouse=True)
    def _file(self, server: Server) -> None:
        server.files["/f"] = self.DATA

    def answer(self, head: bytes, body: bytes, *, always: bool = False) -> Callable[..., None]:
        """Give one answer and close TLS after it; then give the file, or the same again."""

        def answer(handler: Handler) -> None:
            if not always and len(handler.requests) > 1:
                handler.give()
                return
            handler.wfile.write(head + body)
            handler.connection.unwrap()

        return answer

    def get(self, server: Server, size: int | None, start: int = 0) -> bytes:
        rules = FetchRules(ca=server.ca, pause_seconds=0, stall_seconds=5)
        with fetch.opened(server.url("/f"), rules, start, lambda _: None, size) as source:
            return b"".join(iter(lambda: source.read(4096), b""))

    @pytest.mark.parametrize(
        ("head", "body"),
        [
            (OK + b"Content-Length: 25600\r\n\r\n", DATA[:1000]),
            (CHUNKED, b"3e8\r\n" + DATA[:1000] + b"\r\n"),
            (CHUNKED, b"ffff\r\n" + DATA[:1000]),
            (OK + b"\r\n", DATA[:1000]),
        ],
    )
    def test_what_is_missing_is_asked_for(self, server: Server, head: bytes, body: bytes) -> None:
        server.answers["/f"] = self.answer(head, body)
        assert self.get(server, len(self.DATA)) == self.DATA
        assert server.requests[1] == ("/f", "bytes=1000-")
        server.answers["/f"] = self.answer(head, body, always=True)
        with refused("io.fetch-cut", "5 times"):
            self.get(server, len(self.DATA))

    def test_without_a_size_the_end_is_the_end(self, server: Server) -> None:
        server.answers["/f"] = self.answer(OK + b"\r\n", self.DATA[:1000])
        assert self.get(server, None) == self.DATA[:1000]

    @pytest.mark.parametrize("length", [b"", b"Content-Length: 25600\r\n"])
    def test_the_bytes_that_are_skipped_may_end_early(self, server: Server, length: bytes) -> None:
        server.answers["/f"] = self.answer(OK + length + b"\r\n", self.DATA[:500])
        assert self.get(server, len(self.DATA), start=1000) == self.DATA[1000:]


def test_a_part_is_read_to_its_end_and_no_further(server: Server) -> None:
    server.files["/f"] = bytes(range(200))
    rules = FetchRules(ca=server.ca, pause_seconds=0)
    with fetch.opened(server.url("/f"), rules, 0, print) as source:
        source.aim(10, 20)
        assert source.read(100) == bytes(range(10, 20))
        assert source.read(100) == b""
        source.aim(5, None)
        assert source.read(0) == b""
        assert source.read(3) == bytes([5, 6, 7])
    assert server.requests == [("/f", "bytes=10-19"), ("/f", "bytes=5-")]
