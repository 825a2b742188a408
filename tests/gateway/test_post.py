"""Sending over HTTPS: by the rules of fetching, bounded, and to nobody else."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https.post import MAX_ANSWER, Posted, Poster
from gateway.server import Answer, Handler, Server, serving
from support import refused


@pytest.fixture(scope="module")
def _serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def server(_serving: Server) -> Server:
    _serving.clear()
    return _serving


def rules(server: Server, **more: object) -> FetchRules:
    return FetchRules(("localhost",), server.ca, 5)._replace(**more)  # type: ignore[arg-type]


def post(server: Server, answer: Answer, seconds: float = 10, **more: object) -> Posted:
    server.answers["/receipts"] = answer
    poster = Poster(server.url("/receipts"), rules(server, **more))
    return poster.post(b"lines\n", "application/jsonl", seconds)


def saying(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(status, {"Content-Length": str(len(body)), **more})
        handler.wfile.write(body)

    return answer


def test_a_body_is_sent_and_answered(server: Server, tmp_path: Path) -> None:
    bodies = []

    def answer(handler: Handler) -> None:
        bodies.append(handler.body)
        saying(200, b"{}")(handler)

    token = tmp_path / "token"
    token.write_text("a-token-of-this-gateway")
    token.chmod(0o600)
    assert post(server, answer, token_file=token) == Posted(200, b"{}")
    assert bodies == [b"lines\n"]
    assert server.heads[0]["Content-Type"] == "application/jsonl"
    assert server.heads[0]["Authorization"] == "Bearer a-token-of-this-gateway"
    assert post(server, saying(429, Retry_After="7")) == Posted(429, b"", 7)


@pytest.mark.parametrize("kind", ["target", "gateway"])
def test_a_token_of_hawkbit_goes_to_no_collector(server: Server, tmp_path: Path, kind: str) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-this-gateway")
    token.chmod(0o600)
    assert post(server, saying(200), token_file=token, token_kind=kind).status == 200
    assert "Authorization" not in server.heads[0]


def test_a_redirect_is_an_answer_and_not_followed(server: Server) -> None:
    found = post(server, saying(307, Location=server.url("/elsewhere")))
    assert found.status == 307
    assert [path for path, _ in server.requests] == ["/receipts"]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (saying(503, b"busy"), "io.fetch-status", "cannot take it now: status 503"),
        (saying(200, b"x" * (MAX_ANSWER + 1)), "io.fetch-protocol", "more than 16384 bytes"),
        (lambda one: one.wfile.write(b"SSH-2.0\r\n\r\n"), "io.fetch-protocol", "no proper answer"),
        (lambda one: one.connection.close(), "io.fetch-", "/receipts"),
    ],
)
def test_other_answers_are_refused(server: Server, answer: Answer, code: str, words: str) -> None:
    server.answers["/receipts"] = answer
    with pytest.raises(Exception, match="receipts") as caught:
        post(server, answer)
    assert str(getattr(caught.value, "code", "")).startswith(code)
    assert words in str(caught.value)


def test_a_server_that_says_nothing_is_left(server: Server) -> None:
    with refused("io.fetch-slow", "did not answer in 1 seconds"):
        post(server, lambda one: one.stopped.wait(3), seconds=1)


def test_a_server_that_drips_is_left(server: Server) -> None:
    def drip(handler: Handler) -> None:
        handler.head(200, {"Content-Length": "1000"})
        while not handler.stopped.wait(0.1):
            handler.wfile.write(b"x")

    with refused("io.fetch-slow", "did not answer in 1 seconds"):
        post(server, drip, seconds=1)


def test_hosts_and_addresses_follow_the_rules_of_fetching(server: Server) -> None:
    with refused("io.fetch-address", "which allow_hosts does not name"):
        Poster("https://other.example/receipts", rules(server))
    for url in ("http://localhost/receipts", "https://me:pw@localhost/receipts"):
        with refused("io.fetch-address", "is not an https address without user and password"):
            Poster(url, rules(server))


def test_credentials_stay_here_without_allow_hosts(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-this-gateway")
    token.chmod(0o600)
    assert post(server, saying(200), allow_hosts=(), token_file=token).status == 200
    assert "Authorization" not in server.heads[0]


def test_a_server_that_nobody_vouches_for_gets_nothing(server: Server, tmp_path: Path) -> None:
    with serving(tmp_path) as other, refused("io.fetch-connect", "no connection"):
        post(other, saying(200), ca=server.ca)


def test_nobody_there(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    poster = Poster(f"https://localhost:{port}/receipts", rules(server))
    with refused("io.fetch-connect", "no connection"):
        poster.post(b"", "application/jsonl", 5)


def hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def test_a_server_that_resets(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        poster = Poster(f"https://localhost:{port}/receipts", rules(server))
        with pytest.raises(Exception, match="receipts") as caught:
            poster.post(b"", "application/jsonl", 5)
        thread.join()
    assert str(getattr(caught.value, "code", "")).startswith("io.fetch-")
