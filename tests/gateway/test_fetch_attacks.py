"""Servers that would keep a gateway busy for ever, or fill its memory."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fwsign.gateway import fetch
from fwsign.gateway.fetch_rules import FetchRules
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
    assert time.monotonic() - start < 4


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
    assert time.monotonic() - start < 4


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
