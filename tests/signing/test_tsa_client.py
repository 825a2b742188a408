"""Asking an authority for a token: what is sent, and answers that are none."""

import socket
import threading

import pytest

from fwsign.signing import tsa_client
from fwsign.signing.tsa_client import MAX_RESPONSE_SIZE, make_request, read_response, request_token
from fwsign.x509.token import check_imprint, parse_token
from support import NOW, refused, tlv
from tsa_kit import NULL, imprint, integer, make_tsa, sequence
from tsa_server import granted, rejected, serving, stamping

SIGNATURE = bytes(range(64))
TSA = make_tsa()


def test_a_token_is_asked_for_and_returned() -> None:
    with serving(stamping(TSA)) as (url, seen):
        token = parse_token(request_token(url, SIGNATURE))
    check_imprint(token, SIGNATURE)
    assert token.gen_time == NOW
    assert (seen[0]["method"], seen[0]["path"]) == ("POST", "/tsa?x=1")
    assert seen[0]["Content-Type"] == "application/timestamp-query"


@pytest.mark.parametrize("nonce", [0, 127, 128, (1 << 64) - 1])
def test_what_is_asked(nonce: int) -> None:
    wanted = imprint(SIGNATURE, tail=NULL)
    asked = sequence(integer(1), wanted, integer(nonce), b"\x01\x01\xff")
    assert make_request(SIGNATURE, nonce) == asked


def test_each_request_has_its_own_nonce() -> None:
    asked = []

    def answer(request: bytes) -> bytes:
        asked.append(request)
        return stamping(TSA)(request)

    with serving(answer) as (url, _):
        for _ in range(2):
            request_token(url, SIGNATURE)
    assert asked[0] != asked[1]


def test_a_replayed_answer_is_refused() -> None:
    old = granted(TSA.stamp(SIGNATURE, nonce=integer(7)))
    without = granted(TSA.stamp(SIGNATURE))
    for answer in (old, without):
        with (
            serving(lambda _, answer=answer: answer) as (url, _),  # type: ignore[misc]
            refused("io.tsa", "answers another request"),
        ):
            request_token(url, SIGNATURE)


def test_granted_with_changes_is_granted() -> None:
    token = TSA.stamp(SIGNATURE)
    assert read_response(granted(token, 1)) == token


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (rejected(), "the authority refuses: rejection ''"),
        (rejected(2, "no \x1b such policy"), r"rejection 'no \x1b such policy'"),
        (rejected(3), "waiting"),
        (rejected(9), "refuses: 9"),
        (rejected(0), "no element of type 0x30"),
        (b"<html>", "not an answer of a time-stamping authority"),
        (b"", "not an answer"),
        (granted(TSA.stamp(SIGNATURE)) + b"\0", "1 bytes too many"),
        (sequence(sequence(integer(0)), sequence(), NULL), "2 bytes too many"),
        (sequence(sequence(tlv(2))), "shortest form"),
    ],
)
def test_answers_without_a_token(answer: bytes, words: str) -> None:
    with refused("io.tsa", words):
        read_response(answer)


def test_a_token_that_is_none_is_refused() -> None:
    with serving(lambda _: granted(sequence())) as (url, _), refused("malformed.token"):
        request_token(url, SIGNATURE)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tsa.example",
        "ftp://tsa.example/",
        "file:///etc/passwd",
        "http://",
        "http://user:secret@tsa.example/",
        "http://tsa.example/a b",
        "http://tsa.example/\u00e4",
        "http://tsa.example:99999/",
        "http://tsa.example:0/",
        "http://[tsa/",
        "http://tsa.example/\r\nHost: x",
    ],
)
def test_addresses_that_are_not_asked(url: str) -> None:
    with refused("io.tsa", "is not an address"):
        request_token(url, SIGNATURE)


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_other_statuses_are_refused(status: int) -> None:
    with serving(lambda _: b"", status=status) as (url, _), refused("io.tsa", f"status {status}"):
        request_token(url, SIGNATURE)


def test_redirects_are_not_followed() -> None:
    with serving(stamping(TSA)) as (there, seen):
        headers = {"Location": there}
        with (
            serving(lambda _: b"", status=307, headers=headers) as (url, _),
            refused("io.tsa", f"status 307 to {there}, which is not followed"),
        ):
            request_token(url, SIGNATURE)
    assert seen == []


def test_an_endless_answer_is_cut() -> None:
    large = bytes(MAX_RESPONSE_SIZE + 1)
    with serving(lambda _: large) as (url, _), refused("io.tsa", "more than 69632 bytes"):
        request_token(url, SIGNATURE)


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_an_endless_chunk_of_negative_size_is_cut(size: bytes) -> None:
    body = size + b"\r\n" + bytes(10 * MAX_RESPONSE_SIZE)
    with (
        serving(lambda _: body, headers={"Transfer-Encoding": "chunked"}) as (url, _),
        refused("io.tsa", "more than 69632 bytes"),
    ):
        request_token(url, SIGNATURE)


def test_the_end_of_an_ipv6_address_is_not_taken_for_a_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def nobody(address: tuple[str, int], *_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError(111, "connection refused")

    monkeypatch.setattr(socket, "create_connection", nobody)
    with refused("io.tsa", "connection refused"):
        request_token("http://[2001:db8::8443]/tsa", SIGNATURE)
    assert asked == [("2001:db8::8443", 80)]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(stamping(TSA)) as (url, _):
        request_token(url, SIGNATURE)


def test_nobody_there() -> None:
    with serving(stamping(TSA)) as (url, _):
        pass
    with refused("io.tsa", url):
        request_token(url, SIGNATURE)


def test_a_server_that_does_not_speak_tls() -> None:
    with serving(stamping(TSA)) as (url, _), refused("io.tsa", "https://127.0.0.1"):
        request_token(url.replace("http:", "https:"), SIGNATURE)


@pytest.mark.parametrize("limit", ["STALL_SECONDS", "TOTAL_SECONDS"])
def test_a_silent_server_is_left(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(tsa_client, limit, 0.2)
    done = threading.Event()

    def wait(_: bytes) -> bytes:
        done.wait(60)
        return b""

    with serving(wait) as (url, _):
        try:
            with refused("io.tsa", "timed out" if limit[0] == "S" else "no answer in 0.2 seconds"):
                request_token(url, SIGNATURE)
        finally:
            done.set()


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(tsa_client, "_post", broken)
    with pytest.raises(ZeroDivisionError):
        request_token("http://127.0.0.1:1/", SIGNATURE)
