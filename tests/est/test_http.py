"""HTTP as the server of EST reads it: hostile bytes on a connection, and what they get."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fwsign.est import http
from fwsign.est.http import MAX_BODY, MAX_HEAD, Answer, Exchange, Gone, HttpRequest, Refused
from fwsign.est.limits import MAX_ADDRESSES, RateLimits, site_of

HOST = b"Host: x\r\n"
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def read(pair: Pair, data: bytes, *, close: bool = True, seconds: float = 5) -> HttpRequest:
    def send() -> None:
        try:
            pair[1].sendall(data)
            if close:
                pair[1].shutdown(socket.SHUT_WR)
        except OSError:  # the server has given up
            pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        return Exchange(pair[0], seconds).read()
    finally:
        pair[0].close()
        thread.join(5)


def refused(pair: Pair, data: bytes, status: int, message: str) -> None:
    with pytest.raises(Refused) as caught:
        read(pair, data)
    assert (caught.value.status, caught.value.message) == (status, message)


def test_a_request_is_read(pair: Pair) -> None:
    found = read(pair, b"POST /a HTTP/1.1\r\nHOST: x\r\nContent-Length:  3 \r\nA:\r\n\r\nabcGET /")
    headers = {"host": "x", "content-length": "3", "a": ""}
    assert found == HttpRequest("POST", "/a", headers, b"abc")


def test_what_follows_a_request_is_no_request(pair: Pair) -> None:
    one = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    assert read(pair, one + one.replace(b"/a", b"/b")).target == "/a"


@pytest.mark.parametrize("end", [b"", b"\x01"])
def test_a_header_of_spaces_costs_no_time(pair: Pair, end: bytes) -> None:
    begin = time.process_time()
    data = b"GET /a HTTP/1.1\r\nHost: x\r\nA:" + b" \t" * 4000 + end + b"\r\n\r\n"
    if end:
        refused(pair, data, 400, "a header that cannot be read")
    else:
        assert read(pair, data).headers == {"host": "x", "a": ""}
    assert time.process_time() - begin < 1


def test_an_old_client_needs_no_host(pair: Pair) -> None:
    assert read(pair, b"GET /a HTTP/1.0\r\n\r\n").headers == {}


NOT_HTTP = "not a request of HTTP/1.1"
UNREADABLE = "a header that cannot be read"


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"\r\n\r\n", 400, NOT_HTTP),
        (b"GET /\r\n\r\n", 400, NOT_HTTP),
        (b"GET / HTTP/2.0\r\n\r\n", 400, NOT_HTTP),
        (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400, NOT_HTTP),
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400, NOT_HTTP),
        (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400, NOT_HTTP),
        (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400, NOT_HTTP),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400, NOT_HTTP),
        (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400, NOT_HTTP),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, NOT_HTTP),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400, UNREADABLE),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, UNREADABLE),
        (b"GET / HTTP/1.1\r\nHost: x\0\r\n\r\n", 400, UNREADABLE),
        (b"GET / HTTP/1.1\r\nHost: x\ny: z\r\n\r\n", 400, UNREADABLE),
        (b"GET / HTTP/1.1\r\n: x\r\n\r\n", 400, UNREADABLE),
        (b"GET / HTTP/1.1\r\n" + HOST + b"host: y\r\n\r\n", 400, "the header host twice"),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
            400,
            "the header content-length twice",
        ),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            411,
            "a body needs Content-Length",
        ),
        (
            b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(65)) + b"\r\n",
            431,
            "more than 64 headers",
        ),
        (
            b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD + b"\r\n\r\n",
            431,
            "more than 8192 bytes of headers",
        ),
        (b"A" * 100_000, 431, "more than 8192 bytes of headers"),
    ],
)
def test_bad_requests_are_refused(pair: Pair, data: bytes, status: int, message: str) -> None:
    refused(pair, data, status, message)


@pytest.mark.parametrize("length", ["-1", "+1", "1.0", "0x1", "1 1", "", "1_0", "9" * 10, "\u0663"])
def test_a_bad_length_is_refused(pair: Pair, length: str) -> None:
    data = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    words = UNREADABLE if not length.isascii() else "Content-Length is no number"
    refused(pair, data, 400, words)


def test_a_large_body_is_refused_before_it_comes(pair: Pair) -> None:
    data = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode()
    refused(pair, data, 413, f"a body of {MAX_BODY + 1} bytes, at most {MAX_BODY} are allowed")


def test_the_largest_body_is_read(pair: Pair) -> None:
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode()
    assert len(read(pair, head + b"a" * MAX_BODY).body) == MAX_BODY


@pytest.mark.parametrize(
    "data", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na"]
)
def test_a_client_that_goes_is_gone(pair: Pair, data: bytes) -> None:
    with pytest.raises(Gone):
        read(pair, data)


@pytest.mark.parametrize(
    "data", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na"]
)
def test_a_client_that_waits_is_too_slow(pair: Pair, data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read(pair, data, close=False, seconds=0.1)
    assert (caught.value.status, caught.value.message) == (408, "too slow")


def test_a_client_that_says_nothing_is_gone(pair: Pair) -> None:
    with pytest.raises(Gone):
        read(pair, b"", close=False, seconds=0.1)


def test_a_byte_now_and_then_extends_nothing(pair: Pair) -> None:
    done = threading.Event()

    def drip() -> None:
        while not done.wait(0.02):
            try:
                pair[1].send(b"a")
            except OSError:
                return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(Refused, match="too slow"):
        Exchange(pair[0], 0.3).read()
    assert time.monotonic() - begin < 3
    done.set()
    thread.join(5)


def test_a_client_that_reads_nothing_is_not_waited_for(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        Exchange(pair[0], 0.2).send(b"a" * 50_000_000)


def test_the_server_asks_for_a_body_that_waits(pair: Pair) -> None:
    ours, theirs = pair
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    said: list[bytes] = []

    def client() -> None:
        theirs.sendall(head)
        said.append(theirs.recv(100))
        theirs.sendall(b"ab")

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    assert Exchange(ours, 5).read().body == b"ab"
    thread.join(5)
    assert said == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_the_rest_is_read_within_bounds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_DRAINED", 10)
    pair[1].sendall(b"a" * 1000)
    Exchange(pair[0], 5).drain()  # returns, although the client neither ends nor goes on
    monkeypatch.setattr(http, "DRAIN_SECONDS", 0.05)
    Exchange(pair[0], 5).drain()


def test_an_answer_has_its_length() -> None:
    assert Answer(401, b"no\n", {"WWW-Authenticate": "Basic"}).encode() == (
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 3\r\n"
        b"Connection: close\r\n\r\nno\n"
    )
    assert Answer(204).encode() == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


# --- how often ------------------------------------------------------------------------------


def test_an_address_has_its_share_of_a_minute() -> None:
    limits = RateLimits(3, 1000)
    assert [limits.take("192.0.2.1", 100.0) for _ in range(4)] == [True, True, True, False]
    assert limits.take("192.0.2.2", 100.0)
    assert [limits.take("192.0.2.1", 120.0) for _ in range(2)] == [True, False]
    assert [limits.take("192.0.2.1", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_all_addresses_have_one_limit() -> None:
    limits = RateLimits(3, 2)
    assert [limits.take(f"192.0.2.{n}", 100.0) for n in range(3)] == [True, True, False]


def test_a_wrong_password_costs_more() -> None:
    limits = RateLimits(10, 1000)
    assert limits.take("192.0.2.1", 100.0)
    limits.charge("192.0.2.1", 100.0, 6)
    assert [limits.take("192.0.2.1", 100.0) for _ in range(4)] == [True, True, True, False]
    limits.charge("192.0.2.1", 100.0, 6)
    assert limits.take("192.0.2.1", 106.0)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::8", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_ipv6_network_is_one_client(address: str, site: str) -> None:
    assert site_of(address) == site


def test_the_memory_for_addresses_is_bounded() -> None:
    limits = RateLimits(1, 10**9)
    for number in range(MAX_ADDRESSES + 100):
        assert limits.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 100.0)
    assert len(limits._each) == MAX_ADDRESSES
