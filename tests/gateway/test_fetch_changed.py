"""Asking a server whether a small file has changed: one small request if it has not."""

import email.utils
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import answer, fetch
from fwsign.gateway.https.fetch import Fetched
from gateway.server import Handler, Server, serving
from support import refused

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.clear()
    return _server


def ask(server: Server, tag: str | None, **more: Any) -> Fetched:
    limit = more.pop("limit", len(DATA))
    rules = FetchRules(ca=server.ca, pause_seconds=0, stall_seconds=5, **more)
    return fetch.changed(server.url("/u.suit"), rules, tag, limit)


def gives(headers: dict[str, str], data: bytes = DATA) -> Callable[[Handler], None]:
    """Give a file with headers, and 304 to those who have its tag."""

    def answer(handler: Handler) -> None:
        known = (handler.headers.get("If-None-Match"), handler.headers.get("If-Modified-Since"))
        seen.append(known)
        if any(one is not None and one in headers.values() for one in known):
            handler.head(304, headers)
            return
        size = {"Content-Length": str(len(data))}
        handler.head(200, {**size, **headers})
        handler.wfile.write(data)

    seen: list[tuple[str | None, str | None]] = []
    answer.seen = seen  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"', '""', f'"{"x" * (answer.MAX_TAG - 2)}"'])
def test_a_file_with_a_tag_is_sent_once(server: Server, tag: str) -> None:
    server.answers["/u.suit"] = gives({"ETag": tag})
    assert ask(server, None) == Fetched(DATA, tag)
    assert ask(server, tag) == Fetched(None, tag)
    server.answers["/u.suit"] = gives({"ETag": '"other"'}, DATA[1:])
    assert ask(server, tag) == Fetched(DATA[1:], '"other"')
    assert len(server.requests) == 3


def test_without_a_tag_the_time_of_the_last_change_serves(server: Server) -> None:
    changed = email.utils.formatdate(time.time() - 100, usegmt=True)
    answering = gives({"Last-Modified": changed})
    server.answers["/u.suit"] = answering
    assert ask(server, None) == Fetched(DATA, changed)
    assert ask(server, changed) == Fetched(None, changed)
    assert answering.seen == [(None, None), (None, changed)]  # type: ignore[attr-defined]


def test_a_change_within_the_second_of_the_answer_is_not_missed(server: Server) -> None:
    """RFC 9110 s.8.8.2.2: the file may change again in the same second."""
    now = email.utils.formatdate(time.time() + 1, usegmt=True)
    server.answers["/u.suit"] = gives({"Last-Modified": now})
    assert ask(server, None) == Fetched(DATA, None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": "abc"},
        {"ETag": '"a b"'},
        {"ETag": '"\x7f"'},
        {"ETag": f'"{"x" * (answer.MAX_TAG - 1)}"'},
        {"ETag": '"a", "b"'},
        {"Last-Modified": "yesterday"},
        {"Last-Modified": "Thu, 99 Jan 1970 00:00:00 GMT"},
        {"Last-Modified": "1 Jan 1970 00:00:00 GMT"},
    ],
)
def test_without_either_the_file_comes_each_time(server: Server, headers: dict[str, str]) -> None:
    server.answers["/u.suit"] = gives(headers)
    for _ in range(2):
        found = ask(server, None)
        assert found == Fetched(DATA, None)


@pytest.mark.parametrize("tag", ["", "x", '"a b"', '"a"\r\nX: y', '"' + "x" * 256 + '"', "*"])
def test_a_tag_that_no_server_gave_asks_for_the_file(server: Server, tag: str) -> None:
    answering = gives({"ETag": '"abc"'})
    server.answers["/u.suit"] = answering
    assert ask(server, tag) == Fetched(DATA, '"abc"')
    assert answering.seen == [(None, None)]  # type: ignore[attr-defined]


def test_not_modified_without_a_tag_is_no_answer(server: Server) -> None:
    server.answers["/u.suit"] = lambda handler: handler.head(304, {"ETag": '"abc"'})
    for tag in (None, "no tag"):
        with refused("io.fetch-status", "the server answers with status 304"):
            ask(server, tag)


def test_a_server_that_always_says_not_modified_only_delays(server: Server) -> None:
    """It could as well give the old file; who asks without a tag gets the file or an error."""
    server.answers["/u.suit"] = lambda handler: handler.head(304, {"ETag": '"evil"'})
    assert ask(server, '"abc"') == Fetched(None, '"abc"')  # the tag of the answer is not taken
    assert len(server.requests) == 1


def test_the_limit_counts(server: Server) -> None:
    server.answers["/u.suit"] = gives({"ETag": '"abc"'})
    with refused("malformed.size", f"with {len(DATA)} bytes", f"at most {len(DATA) - 1}"):
        ask(server, '"other"', limit=len(DATA) - 1)


class TestCutTransfers:
    def resumed(self, server: Server, second: dict[str, str]) -> None:
        server.files["/u.suit"] = DATA

        def answer(handler: Handler) -> None:
            conditions.append(handler.headers.get("If-None-Match"))
            if not handler.start:
                handler.head(200, {"Content-Length": str(len(DATA)), "ETag": '"one"'})
                handler.wfile.write(DATA[:1000])
                return
            place = f"bytes {handler.start}-{len(DATA) - 1}/{len(DATA)}"
            handler.head(206, {"Content-Range": place, **second})
            handler.wfile.write(DATA[handler.start :])

        conditions: list[str | None] = []
        server.answers["/u.suit"] = answer
        try:
            found = ask(server, '"zero"')
        finally:
            assert conditions == ['"zero"', None]  # not modified since when, in the middle?
        assert found.data == DATA
        assert found.tag == second.get("ETag")

    def test_the_rest_has_the_same_tag(self, server: Server) -> None:
        self.resumed(server, {"ETag": '"one"', "Content-Length": str(len(DATA) - 1000)})

    def test_the_rest_has_no_tag(self, server: Server) -> None:
        self.resumed(server, {"Content-Length": str(len(DATA) - 1000)})

    def test_a_file_that_was_exchanged_meanwhile_is_refused(self, server: Server) -> None:
        with refused("io.fetch-cut", "was exchanged on its server while it was fetched"):
            self.resumed(server, {"ETag": '"two"', "Content-Length": str(len(DATA) - 1000)})

    def test_not_modified_in_the_middle_is_no_answer(self, server: Server) -> None:
        def answer(handler: Handler) -> None:
            if len(server.requests) > 1:
                handler.head(304, {"ETag": '"zero"'})
                return
            handler.head(200, {"Content-Length": str(len(DATA))})
            handler.wfile.write(DATA[:1000])

        server.answers["/u.suit"] = answer
        with refused("io.fetch-status", "status 304"):
            ask(server, '"zero"')


def test_a_tag_is_asked_with_after_a_redirect(server: Server) -> None:
    place = {"Location": "/there", "Content-Length": "0", "ETag": '"redirect"'}
    server.answers["/u.suit"] = lambda handler: handler.head(302, place)
    server.answers["/there"] = gives({"ETag": '"abc"'})
    assert ask(server, None) == Fetched(DATA, '"abc"')
    assert ask(server, '"abc"') == Fetched(None, '"abc"')


def test_a_retry_at_a_date_is_counted_by_the_clock_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock here may say 1970."""
    slept: list[float] = []
    monkeypatch.setattr("fwsign.gateway.https.download.time.sleep", slept.append)
    monkeypatch.setattr("fwsign.gateway.https.answer.time.time", lambda: 0.0)
    again = email.utils.formatdate(1_900_000_020, usegmt=True)
    sent = email.utils.formatdate(1_900_000_000, usegmt=True)

    def answer(handler: Handler) -> None:
        if len(server.requests) > 1:
            gives({})(handler)
            return
        handler.send_response_only(503)
        for key, value in {"Date": sent, "Retry-After": again, "Content-Length": "0"}.items():
            handler.send_header(key, value)
        handler.end_headers()

    server.answers["/u.suit"] = answer
    assert ask(server, None).data == DATA
    assert slept == [20]
