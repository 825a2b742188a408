"""Fetching over HTTPS from a server that is slow, endless, cut, wrong, or somebody else."""

import email.utils
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.config.device import load
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import answer, download, fetch
from fwsign.gateway.https import connection as https
from fwsign.gateway.offered import staged_bytes
from fwsign.gateway.target.sources import Sources
from gateway.kit import Gateway, crls, make_gateway
from gateway.server import Handler, Server, certificates, serving
from support import component, refused

DATA = os.urandom(3 * 1024 * 1024 + 17)
PART = 1024 * 1024 + 9


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    """A server with nothing but a file."""
    _server.clear()
    _server.files["/app.tar"] = DATA
    return _server


def rules(server: Server, **more: Any) -> FetchRules:
    return FetchRules(**{"ca": server.ca, "pause_seconds": 0, "stall_seconds": 5, **more})


def get(server: Server, path: str = "/app.tar", start: int = 0, **more: Any) -> bytes:
    said, size = more.pop("said", []), more.pop("size", None)
    url = path if "://" in path else server.url(path)
    with fetch.opened(url, rules(server, **more), start, said.append, size) as source:
        return b"".join(iter(lambda: source.read(1 << 20), b""))


def test_a_file_comes_as_it_is(server: Server) -> None:
    assert get(server) == DATA
    assert get(server, start=100) == DATA[100:]
    assert server.requests == [("/app.tar", None), ("/app.tar", "bytes=100-")]


def test_small_files_have_a_limit(server: Server) -> None:
    server.files["/e"] = b"x" * 10
    assert fetch.fetch_bytes(server.url("/e"), rules(server), 10, print) == b"x" * 10
    with refused("malformed.size", "with 10 bytes", "at most 9"):
        fetch.fetch_bytes(server.url("/e"), rules(server), 9, print)


# --- addresses and redirects ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/app.tar",
        "ftp://localhost/app.tar",
        "https://user:secret@localhost/app.tar",
        "https:///app.tar",
        "https://localhost:99999/app.tar",
        "https://[::1/app.tar",
        "https://localhost/a b",
        "https://localhost/\u00e4",
    ],
)
def test_an_address_that_is_not_plain_https_is_refused(server: Server, url: str) -> None:
    with refused("io.fetch-address", "is not an https address"):
        get(server, url)
    assert server.requests == []


def test_only_hosts_that_are_allowed_are_asked(server: Server) -> None:
    assert get(server, allow_hosts=("localhost",)) == DATA
    with refused("io.fetch-address", "is on localhost, which allow_hosts does not name"):
        get(server, allow_hosts=("updates.acme.example",))


def redirect(place: str, status: int = 302) -> Any:
    return lambda handler: handler.head(status, {"Location": place, "Content-Length": "0"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_shown(server: Server, status: int) -> None:
    server.answers["/a"] = redirect("/app.tar", status)
    said: list[str] = []
    assert get(server, "/a", said=said) == DATA
    assert said == [f"{server.url('/a')} redirects to {server.url('/app.tar')}"]


def test_five_redirects_and_no_more(server: Server) -> None:
    for number in range(6):
        server.answers[f"/{number}"] = redirect(f"/{number + 1}")
    server.files["/6"] = b"end"
    assert get(server, "/1") == b"end"
    with refused("io.fetch-redirect", "redirects more than 5 times"):
        get(server, "/0")
    server.answers["/loop"] = redirect("/loop")
    with refused("io.fetch-redirect"):
        get(server, "/loop")


@pytest.mark.parametrize(
    "place",
    ["http://localhost/app.tar", "file:///etc/passwd", "ftp://localhost/", "https://[bad/", "//["],
)
def test_a_redirect_away_from_https_is_refused(server: Server, place: str) -> None:
    server.answers["/a"] = redirect(place)
    with refused("io.fetch-address", "is not an https address"):
        get(server, "/a")


def test_a_redirect_to_another_host_is_refused_where_hosts_are_named(server: Server) -> None:
    server.answers["/a"] = redirect(f"https://127.0.0.1:{server.port}/app.tar")
    with refused("io.fetch-address", "is on 127.0.0.1"):
        get(server, "/a", allow_hosts=("localhost",))


def test_a_redirect_to_nowhere_is_refused(server: Server) -> None:
    server.answers["/a"] = lambda handler: handler.head(302, {"Content-Length": "0"})
    with refused("io.fetch-redirect", "redirects to nowhere"):
        get(server, "/a")


# --- who the server is ---------------------------------------------------------------------------


def test_another_server_is_refused(server: Server, tmp_path: Path) -> None:
    other, _ = certificates(tmp_path)
    with refused("io.fetch-connect", "no connection"):
        get(server, ca=other)
    with refused("io.fetch-connect", "no connection"):  # it has no name for its address
        get(server, f"https://127.0.0.1:{server.port}/app.tar")


def test_the_environment_names_no_roots_and_no_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(server.ca))
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/")
    with refused("io.fetch-connect"):
        get(server, ca=None)
    assert get(server) == DATA


def test_roots_that_are_not_there_are_an_error(server: Server, tmp_path: Path) -> None:
    with refused("io.fetch-connect", "no roots to judge servers by"):
        get(server, ca=tmp_path / "none.pem")
    (tmp_path / "empty.pem").write_bytes(b"")
    with refused("io.fetch-connect", "no roots to judge servers by"):
        get(server, ca=tmp_path / "empty.pem")


def test_nobody_at_the_port_is_an_error(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with refused("io.fetch-connect", "refused"):
            get(server, f"https://localhost:{unused.getsockname()[1]}/app.tar")


def test_old_tls_is_refused(server: Server) -> None:
    assert https.make_context(server.ca).minimum_version == ssl.TLSVersion.TLSv1_2


# --- transfers that go wrong ---------------------------------------------------------------------


def test_a_cut_transfer_goes_on_where_it_ended(server: Server) -> None:
    server.answers["/app.tar"] = lambda handler: handler.give(most=PART)
    said: list[str] = []
    assert get(server, said=said) == DATA
    assert len(server.requests) == 3
    assert server.requests[1][1] == f"bytes={PART}-"
    assert "trying again" in said[0]


def test_a_transfer_that_is_cut_again_and_again_ends(server: Server) -> None:
    server.answers["/app.tar"] = lambda handler: handler.give(most=10)
    with refused("io.fetch-cut", "ended after 50 bytes, 5 times"):
        get(server)
    assert len(server.requests) == download.MAX_ATTEMPTS


def test_a_server_in_trouble_is_asked_again_but_not_for_ever(server: Server) -> None:
    server.answers["/app.tar"] = lambda handler: handler.head(503, {"Content-Length": "0"})
    with refused("io.fetch-cut", "status 503"):
        get(server)
    assert len(server.requests) == download.MAX_ATTEMPTS


def test_a_file_that_is_not_there_is_asked_for_once(server: Server) -> None:
    with refused("io.fetch-status", "status 404"):
        get(server, "/none")
    assert len(server.requests) == 1


def then(first: Any, second: Any) -> Any:
    """Answer the first request in one way, and all others in another."""

    def answer(handler: Handler) -> None:
        (second if len(handler.requests) > 1 else first)(handler)

    return answer


def cut(handler: Handler) -> None:
    handler.give(most=1000)


def test_404_during_resume_ends_at_once(server: Server) -> None:
    gone = then(cut, lambda handler: handler.head(404, {"Content-Length": "0"}))
    server.answers["/app.tar"] = gone
    with refused("io.fetch-status", "status 404"):
        get(server)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "given",
    ["bytes 0-99/100", "bytes 900-999/5000", "bytes 1001-1100/5000", "bytes */5000", "none", ""],
)
def test_a_wrong_range_is_refused(server: Server, given: str) -> None:
    def wrong(handler: Handler) -> None:
        handler.head(206, {"Content-Range": given, "Content-Length": "100"})
        handler.wfile.write(bytes(100))

    server.answers["/app.tar"] = then(cut, wrong)
    with refused("io.fetch-range", "bytes from 1000 on were asked for"):
        get(server)


def test_a_range_that_nobody_asked_for_is_refused(server: Server) -> None:
    headers = {"Content-Range": "bytes 0-9/10", "Content-Length": "10"}
    server.answers["/app.tar"] = lambda handler: handler.head(206, headers)
    with refused("io.fetch-range"):
        get(server)


def test_a_range_of_another_size_than_the_body_is_refused(server: Server) -> None:
    headers = {"Content-Range": "bytes 5-9/10", "Content-Length": "4"}
    server.answers["/app.tar"] = lambda handler: handler.head(206, headers)
    with refused("io.fetch-range"):
        get(server, start=5)


def test_a_server_without_ranges_gives_the_file_from_its_beginning(server: Server) -> None:
    def whole(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(DATA))})
        handler.wfile.write(DATA)

    server.answers["/app.tar"] = whole
    assert get(server, start=2_000_000) == DATA[2_000_000:]


def test_a_shorter_file_than_before_is_refused(server: Server) -> None:
    server.answers["/app.tar"] = lambda handler: handler.head(200, {"Content-Length": "0"})
    with refused("io.fetch-status", "a shorter file than before"):
        get(server, start=5)


def test_chunks_are_read_and_cut_ones_noticed(server: Server) -> None:
    def chunked(handler: Handler) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        handler.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    def torn(handler: Handler) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        handler.wfile.write(b"3\r\nabc\r\n2\r\nd")

    server.answers["/app.tar"] = chunked
    assert get(server) == b"abcde"
    server.answers["/app.tar"] = torn
    with refused("io.fetch-cut"):
        get(server)


@pytest.mark.parametrize("start", [0, 50])
def test_chunks_of_negative_size_bring_no_more_than_was_asked_for(
    server: Server, start: int
) -> None:
    def negative(handler: Handler) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        handler.wfile.write(b"-5\r\n" + b"A" * 100_000)

    server.answers["/app.tar"] = negative
    with (
        fetch.opened(server.url("/app.tar"), rules(server), start, print) as source,
        refused("io.fetch-protocol", "more bytes than were asked for"),
    ):
        source.read(10)


def test_the_end_of_an_ipv6_address_is_not_taken_for_a_port(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def nobody(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with refused("io.fetch-connect"):
        get(server, "https://[2001:db8::8443]/app.tar", allow_hosts=("2001:db8::8443",))
    assert asked == [("2001:db8::8443", 443)]


@pytest.mark.parametrize(
    "headers",
    [{"Content-Encoding": "gzip"}, {"Content-Length": "-1"}, {"Content-Length": "1_0"}],
)
def test_an_answer_that_is_not_the_file_is_refused(server: Server, headers: dict[str, str]) -> None:
    server.answers["/app.tar"] = lambda handler: handler.head(200, headers)
    with refused("io.fetch-protocol"):
        get(server)


def test_an_answer_that_is_not_http_is_refused(server: Server) -> None:
    server.answers["/app.tar"] = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")
    with refused("io.fetch-protocol", "no proper answer"):
        get(server)


def test_endless_headers_are_refused(server: Server) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not handler.stopped.is_set():
            handler.wfile.write(b"X-More: yes\r\n")

    server.answers["/app.tar"] = endless
    with refused("io.fetch-protocol"):
        get(server)


def answered(status: int, headers: dict[str, str], body: bytes = b"") -> Any:
    """Give one answer, whatever was asked for."""

    def answer(handler: Handler) -> None:
        handler.head(status, headers)
        handler.wfile.write(body)

    return answer


def ranged(most: int, *, earlier: int = 0, total: str = str(len(DATA))) -> Any:
    """Give ranges that are shorter than what was asked for, and may begin earlier."""

    def answer(handler: Handler) -> None:
        if not handler.start:
            handler.give(most=most)
            return
        start = handler.start - earlier
        body = DATA[start : handler.start + most]
        if handler.start >= len(DATA):
            handler.head(416, {"Content-Range": f"bytes */{len(DATA)}", "Content-Length": "0"})
            return
        place = f"bytes {start}-{start + len(body) - 1}/{total}"
        handler.head(206, {"Content-Range": place, "Content-Length": str(len(body))})
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize("total", [str(len(DATA)), "*"])
@pytest.mark.parametrize("earlier", [0, 1, 777])
def test_short_ranges_are_put_together_and_are_no_attempts(
    server: Server, total: str, earlier: int
) -> None:
    """RFC 9110 s.15.3.7: a server may send less than what was asked for."""
    server.answers["/app.tar"] = ranged(300_000, earlier=earlier, total=total)
    for size in (None, len(DATA)):
        server.requests.clear()
        said: list[str] = []
        assert get(server, said=said, size=size) == DATA
        assert len(server.requests) > 2 * download.MAX_ATTEMPTS
        assert len(said) == 1  # the first answer was cut, all others were whole


def test_a_range_that_ends_before_what_was_asked_for_is_refused(server: Server) -> None:
    headers = {"Content-Range": "bytes 0-4/10", "Content-Length": "5"}
    server.answers["/app.tar"] = answered(206, headers, b"01234")
    with refused("io.fetch-range", "bytes from 5 on were asked for"):
        get(server, start=5)


@pytest.mark.parametrize("given", ["bytes 5-10/10", "bytes 5-99/10"])
def test_a_range_beyond_its_own_file_is_refused(server: Server, given: str) -> None:
    server.answers["/app.tar"] = answered(206, {"Content-Range": given})
    with refused("io.fetch-range", given):
        get(server, start=5)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    busy = answered(status, {"Content-Length": "0"})
    server.answers["/app.tar"] = then(busy, lambda handler: handler.give())
    assert get(server) == DATA
    server.answers["/app.tar"] = busy
    with refused("io.fetch-cut", f"ended after 0 bytes, 5 times: status {status}"):
        get(server)


class TestRetryAfter:
    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        monkeypatch.setattr("fwsign.gateway.https.download.time.sleep", self.slept.append)

    def waits(self, server: Server, value: str, **more: Any) -> list[str]:
        busy = answered(429, {"Content-Length": "0", "Retry-After": value})
        server.answers["/app.tar"] = then(busy, lambda handler: handler.give())
        said: list[str] = []
        assert get(server, said=said, **more) == DATA
        return said

    def test_seconds_are_waited_for_and_said(self, server: Server) -> None:
        (said,) = self.waits(server, "7")
        assert self.slept == [7]
        assert said.endswith("ended after 0 bytes, trying again in 7 seconds: status 429")

    def test_a_date_is_waited_for(self, server: Server) -> None:
        self.waits(server, email.utils.formatdate(time.time() + 60, usegmt=True))
        assert 50 < self.slept[0] <= 60

    @pytest.mark.parametrize("value", ["86400", "99999999999", "Fri, 31 Dec 2999 23:59:59 GMT"])
    def test_the_wait_is_bounded(self, server: Server, value: str) -> None:
        self.waits(server, value)
        assert self.slept == [answer.MAX_WAIT]

    @pytest.mark.parametrize(
        "value", ["", "soon", "-5", "1.5", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Jan 9999"]
    )
    def test_other_values_are_no_wait(self, server: Server, value: str) -> None:
        self.waits(server, value)
        assert self.slept == [0]

    def test_the_usual_pause_is_the_least(self, server: Server) -> None:
        self.waits(server, "1", pause_seconds=3)
        assert self.slept == [3]

    def test_the_whole_time_bounds_it_too(self, server: Server) -> None:
        busy = answered(503, {"Content-Length": "0", "Retry-After": "200"})
        server.answers["/app.tar"] = busy
        with refused("io.fetch-cut", "status 503"):
            get(server, total_seconds=60)
        assert max(self.slept) <= 60


class TestEndedEarly:
    """What ends early is never taken for a file with other content."""

    def test_an_answer_without_a_size_that_ends_by_closing(self, server: Server) -> None:
        """RFC 9112 s.9.8: whole only if the TLS connection was closed properly."""
        server.answers["/app.tar"] = answered(200, {}, DATA[:1000])
        for size in (None, len(DATA)):
            with refused("io.fetch-cut", "ended after 1000 bytes, 5 times"):
                get(server, size=size)

    def test_it_is_resumed_where_the_server_has_ranges(self, server: Server) -> None:
        closing = then(answered(200, {}, DATA[:1000]), lambda handler: handler.give())
        server.answers["/app.tar"] = closing
        assert get(server) == DATA
        assert server.requests[1][1] == "bytes=1000-"

    def test_without_a_close_of_tls_a_file_of_the_right_size_is_whole(self, server: Server) -> None:
        server.answers["/app.tar"] = answered(200, {}, DATA)
        assert get(server, size=len(DATA)) == DATA
        assert len(server.requests) == 1

    @pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b"0\r\n", b"5", b"5\r\n"])
    def test_chunks_that_end_early(self, server: Server, end: bytes) -> None:
        more = DATA[1000:1002] if end == b"5\r\n" else b""
        body = b"3e8\r\n" + DATA[:1000] + b"\r\n" + end + more
        chunked = {"Transfer-Encoding": "chunked"}
        torn = answered(200, chunked, body)
        server.answers["/app.tar"] = then(torn, lambda handler: handler.give())
        assert get(server, size=len(DATA)) == DATA
        server.answers["/app.tar"] = torn
        with refused("io.fetch-cut", "5 times"):
            get(server, size=len(DATA))

    def test_a_size_larger_than_the_body(self, server: Server) -> None:
        long = answered(200, {"Content-Length": str(len(DATA))}, DATA[:1000])
        server.answers["/app.tar"] = long
        with refused("io.fetch-cut", "ended after 1000 bytes, 5 times"):
            get(server, size=len(DATA))

    def test_a_size_smaller_than_the_body_is_the_size(self, server: Server) -> None:
        server.answers["/app.tar"] = answered(200, {"Content-Length": "1000"}, DATA[:2000])
        assert get(server) == DATA[:1000]

    @pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
    def test_a_head_that_ends_early(self, server: Server, head: bytes) -> None:
        server.answers["/app.tar"] = then(
            lambda handler: handler.wfile.write(head), lambda handler: handler.give()
        )
        assert get(server, size=len(DATA)) == DATA

    def test_the_beginning_that_is_skipped_may_be_cut_too(self, server: Server) -> None:
        server.answers["/app.tar"] = then(
            answered(200, {}, DATA[:500]), answered(200, {"Content-Length": str(len(DATA))}, DATA)
        )
        assert get(server, start=1000) == DATA[1000:]


class TestNoMoreBytes:
    """Status 416: the file has no byte where one was asked for."""

    @pytest.mark.parametrize("given", [f"bytes */{len(DATA)}", None])
    def test_at_the_end_it_is_the_end(self, server: Server, given: str | None) -> None:
        headers = {"Content-Length": "0", **({"Content-Range": given} if given else {})}
        server.answers["/app.tar"] = answered(416, headers)
        for size in (None, len(DATA)):
            assert get(server, start=len(DATA), size=size) == b""

    @pytest.mark.parametrize(
        ("given", "found"),
        [("bytes */1000", "1000 bytes"), ("bytes */5", "5 bytes"), ("x", "none")],
    )
    def test_before_the_end_it_is_another_file(
        self, server: Server, given: str, found: str
    ) -> None:
        server.answers["/app.tar"] = answered(416, {"Content-Length": "0", "Content-Range": given})
        message = f"status 416 for bytes from 1000 on, size of its file: {found}"
        with refused("io.fetch-status", message):
            get(server, start=1000, size=len(DATA))

    def test_for_the_whole_file_it_is_no_answer(self, server: Server) -> None:
        server.answers["/app.tar"] = answered(416, {"Content-Length": "0"})
        with refused("io.fetch-status", "status 416"):
            get(server)


# --- slow and endless servers --------------------------------------------------------------------


def test_a_silent_server_is_left(server: Server) -> None:
    server.answers["/app.tar"] = lambda handler: handler.stopped.wait(20)
    with refused("io.fetch-slow", "0.02 seconds of silence"):
        get(server, stall_seconds=0.02)


def test_a_server_that_drips_is_left_when_the_time_is_up(server: Server) -> None:
    """Each byte comes in time; all of them would never."""

    def drip(handler: Handler) -> None:
        handler.head(200, {"Content-Length": "1000000"})
        while not handler.stopped.wait(0.01):
            handler.wfile.write(b"x")

    server.answers["/app.tar"] = drip
    with refused("io.fetch-slow", "0.3 in all"):
        get(server, total_seconds=0.3)


def test_headers_that_drip_are_left_too(server: Server) -> None:
    def drip(handler: Handler) -> None:
        while not handler.stopped.wait(0.01):
            handler.wfile.write(b"H")

    server.answers["/app.tar"] = drip
    with refused("io.fetch-slow"):
        get(server, total_seconds=0.3)


def test_without_time_nobody_is_asked(server: Server) -> None:
    with refused("io.fetch-slow"):
        get(server, total_seconds=0)
    assert server.requests == []


def test_a_server_that_never_answers_the_handshake_is_left(server: Server) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with refused("io.fetch-slow"):
            get(server, f"https://localhost:{deaf.getsockname()[1]}/", stall_seconds=0.05)


# --- the whole way -------------------------------------------------------------------------------


@pytest.fixture
def gateway(tmp_path: Path, server: Server) -> Gateway:
    made = make_gateway(tmp_path)
    made.configure(f'[fetch]\nca = "{server.ca}"\nstall_seconds = 5\n')
    return made


def publish(gateway: Gateway, server: Server, number: int, data: bytes, **more: Any) -> str:
    envelope = gateway.release(number, {"app.tar": data}, **more)
    server.files["/x1/update.suit"] = envelope.read_bytes()
    server.files["/x1/app.tar"] = data
    return server.url("/x1/update.suit")


def test_a_release_is_installed_from_a_server(gateway: Gateway, server: Server) -> None:
    url = publish(gateway, server, 1, DATA)
    gateway.install(url)
    assert gateway.installed == {"app.tar": DATA}
    gateway.install(url)
    assert [path for path, _ in server.requests] == [
        "/x1/update.suit",
        "/x1/app.tar",
        "/x1/update.suit",  # not the payload, which is installed
    ]


def test_payloads_may_have_an_address_of_their_own(gateway: Gateway, server: Server) -> None:
    envelope = gateway.release(1, {"app.tar": DATA}, uris={"app.tar": server.url("/app.tar")})
    (envelope.parent / "app.tar").unlink()
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": DATA}
    second = gateway.release(2, {"app.tar": DATA[::-1]})
    server.files["/other/app.tar"] = DATA[::-1]
    gateway.install(second, server.url("/other/app.tar"))
    assert gateway.installed == {"app.tar": DATA[::-1]}


def test_an_interrupted_download_is_resumed_by_the_next_run(
    gateway: Gateway, server: Server
) -> None:
    url = publish(gateway, server, 1, DATA)
    server.answers["/x1/app.tar"] = then(
        lambda handler: handler.give(), lambda handler: handler.give(most=100_000)
    )
    with refused("io.fetch-cut"):
        gateway.install(url)
    assert gateway.floor is None
    server.answers.clear()
    server.requests.clear()
    gateway.install(None)
    assert gateway.installed == {"app.tar": DATA}
    assert server.requests[1] == ("/x1/app.tar", "bytes=500000-")


def test_a_download_goes_on_though_the_envelope_has_newer_crls(
    gateway: Gateway, server: Server
) -> None:
    """Who puts CRLs on it each night does not make slow gateways begin anew."""
    url = publish(gateway, server, 1, DATA)
    cut = then(lambda handler: handler.give(), lambda handler: handler.give(most=100_000))
    server.answers["/x1/app.tar"] = cut
    with refused("io.fetch-cut"):
        gateway.install(url, download_only=True)
    publish(gateway, server, 1, DATA, crls=crls(2))
    device, sources = load(gateway.config), Sources(url, (), rules(server), print)
    assert staged_bytes(device, sources) == 500_000
    server.answers.clear()
    server.requests.clear()
    gateway.install(url)
    assert gateway.installed == {"app.tar": DATA}
    assert server.requests[-1] == ("/x1/app.tar", "bytes=500000-")


@pytest.mark.parametrize("cut", [0, 10, 500_000])
def test_a_payload_that_ended_early_is_never_a_tampered_one(
    gateway: Gateway, server: Server, cut: int
) -> None:
    url = publish(gateway, server, 1, DATA)
    server.answers["/x1/app.tar"] = answered(200, {}, DATA[:cut])
    with refused("io.fetch-cut", f"ended after {cut} bytes"):
        gateway.install(url)
    server.answers["/x1/app.tar"] = ranged(400_000)
    gateway.install(url)
    assert gateway.installed == {"app.tar": DATA}


def test_an_endless_server_is_left_at_the_signed_size(gateway: Gateway, server: Server) -> None:
    url = publish(gateway, server, 1, b"small")
    sent = threading.Event()

    def endless(handler: Handler) -> None:
        handler.head(200, {})
        while not handler.stopped.is_set():
            handler.wfile.write(bytes(65536))
        sent.set()

    server.answers["/x1/app.tar"] = endless
    with refused("tampered.payload-size", "more than 5 bytes"):
        gateway.install(url)
    assert gateway.installed is None


def test_an_endless_envelope_is_left_at_the_limit(gateway: Gateway, server: Server) -> None:
    def endless(handler: Handler) -> None:
        handler.head(200, {})
        while not handler.stopped.is_set():
            handler.wfile.write(bytes(1 << 20))

    server.answers["/update.suit"] = endless
    with refused("malformed.size"):
        gateway.install(server.url("/update.suit"))


def test_a_dry_run_fetches_and_keeps_nothing(gateway: Gateway, server: Server) -> None:
    url = publish(gateway, server, 1, DATA)
    assert gateway.install(url, dry_run=True).verdict == "dry run"
    assert list(gateway.target.iterdir()) == []


def test_a_payload_name_is_the_end_of_its_address() -> None:
    def named(uri: str) -> str:
        return component(b"", "app.tar", uri).payload_name

    assert named("https://a.example/b/c.bin") == "c.bin"
    assert named("https://a.example/b?c=d") == "app.tar"
    assert named("#x.bin") == "x.bin"
