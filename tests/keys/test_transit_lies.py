"""A server that pretends to be OpenBao, is slow, or says too much."""

import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from bao_kit import Bao
from cli.kit import refused as refused_by_cli
from cli.kit import run
from fwsign.cli import inputs
from fwsign.keys import exchange
from fwsign.keys.held import HeldSigner
from fwsign.keys.stand_in import private_key
from keys.contract import MESSAGE
from keys.transit_kit import TOKEN, Asked, answer, lying, made, opened
from support import NOW, PAYLOAD, make_ca, make_leaf, refused

pytestmark = pytest.mark.usefixtures("no_steering")


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, no_steering: None) -> None:
    del no_steering
    monkeypatch.setenv("BAO_TOKEN", TOKEN)


ODD_FACTS: tuple[dict[str, object], ...] = (
    {"latest_version": None},
    {"latest_version": "x"},
    {"keys": {"1": 17}},
    {"type": "ed25519", "keys": {"1": {"public_key": "AAAA"}}},
    {"type": "mldsa-65", "keys": {"1": {"public_key": "AAAA"}}},
    {"keys": {"1": {"public_key": "-----BEGIN PUBLIC KEY-----"}}},
    {"keys": {"one": {}}},
)


def facts(**more: object) -> bytes:
    """Return what a server says of a key."""
    plain = {"supports_signing": True, "latest_version": 1, "type": "ecdsa-p256", "keys": {}}
    return json.dumps({"data": {**plain, **more}}).encode()


def test_the_liar_is_believed_while_it_is_honest() -> None:
    with lying() as lie:
        held = opened(lie.uri)
        HeldSigner(held).sign(MESSAGE)
        held.close()
    assert [one.token for one in lie.asked] == [TOKEN, TOKEN]
    assert lie.asked[1].body["key_version"] == 1


def test_a_signature_of_another_key_is_refused_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "now", lambda: NOW)
    with lying() as lie:
        root = make_ca()
        held = opened(lie.uri)
        leaf = make_leaf(root, key=private_key(held))
        pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (leaf, root))
        Path("chain.pem").write_bytes(pem)
        Path("a.bin").write_bytes(PAYLOAD)
        lie.signing = ec.generate_private_key(ec.SECP256R1())
        key: Any = private_key(held)
        words = "gave a signature that its own public key does not verify"
        with refused("key.failed", held.place, words):
            HeldSigner(held).sign(MESSAGE)
        with refused("key.failed", held.place, words):
            key.sign(MESSAGE, ec.ECDSA(SHA256()))
        done = run(
            "sign", "a.bin", "--key", lie.uri, "--chain", "chain.pem", "--product", "x", "--force"
        )
        refused_by_cli(done, 5, f"{held.place} {words}")
        assert TOKEN not in done.out + done.err
        held.close()
    assert not Path("a.bin.suit").exists()


def test_a_redirect_is_not_followed() -> None:
    with lying() as other:

        def away(asked: Asked, handler: Any) -> bool:
            place = f"http://127.0.0.1:{other.port}{asked.path}"
            answer(handler, 307, b"", Location=place)
            return True

        with lying(away) as lie:
            words = f"sends to http://127.0.0.1:{other.port}/v1/transit/keys/release, which is not"
            with refused("key.unreachable", words):
                opened(lie.uri)
    assert len(lie.asked) == 1
    assert other.asked == []


@pytest.mark.parametrize("sized", [True, False])
def test_an_answer_of_100_megabytes_is_cut_off(sized: bool) -> None:
    sent = []

    def flood(_asked: Asked, handler: Any) -> bool:
        handler.send_response(200)
        if sized:
            handler.send_header("Content-Length", str(100 << 20))
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" " * (1 << 20))
            sent.append(1)
        return True

    with lying(flood) as lie, refused("key.unreachable", "an answer of more than 4194304 bytes"):
        opened(lie.uri)
    assert len(sent) < 50


def test_a_silent_server_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "STALL_SECONDS", 0.2)

    def wait(_asked: Asked, _handler: Any) -> bool:
        time.sleep(1)
        return False

    with lying(wait) as lie, refused("key.unreachable", "no answer from http://127.0.0.1:", "out"):
        opened(lie.uri)


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_sends_a_byte_now_and_then_is_left(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "TOTAL_SECONDS", 0.5)
    begin = time.monotonic()

    def drip(_asked: Asked, handler: Any) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if part == "body" else b"X: "))
        while time.monotonic() < begin + 6:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
        handler.close_connection = True
        return True

    with lying(drip) as lie, refused("key.unreachable", "no answer in 0.5 seconds"):
        opened(lie.uri)
    assert time.monotonic() < begin + 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "its answer is not JSON"),
        (b"[" * 100_000, "its answer is not JSON"),
        (b"null", 'says of the key "release" cannot be read'),
        *((facts(**more), "cannot be read") for more in ODD_FACTS),
    ],
)
def test_an_answer_that_is_none_is_refused(body: bytes, words: str) -> None:
    def odd(_asked: Asked, handler: Any) -> bool:
        answer(handler, 200, body)
        return True

    with lying(odd) as lie, refused("key.failed", words):
        opened(lie.uri)


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"data": {"signature": 1}},
        {"data": {"signature": "vault:v2:AAAA"}},
        {"data": {"signature": "vault:v1:A"}},
        {"data": {"signature": "vault:v1:!"}},
    ],
)
def test_a_signature_is_that_of_the_version(told: object) -> None:
    def odd(asked: Asked, handler: Any) -> bool:
        if "/sign/" not in asked.path:
            return False
        answer(handler, 200, json.dumps(told).encode())
        return True

    with lying(odd) as lie:
        held = opened(lie.uri)
        with refused("key.failed", f"{held.place} gave no signature of version 1"):
            HeldSigner(held).sign(MESSAGE)
        held.close()


@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_token_that_a_server_repeats_is_not_repeated(status: int) -> None:
    def tell(_asked: Asked, handler: Any) -> bool:
        answer(
            handler, status, json.dumps({"errors": [f"you said {TOKEN}\x1b[31m\n" * 99]}).encode()
        )
        return True

    code = "key.unreachable" if status == 503 else "key.failed"
    with lying(tell) as lie, refused(code, "you said ***?[31m you said") as caught:
        opened(lie.uri)
    assert TOKEN not in repr(vars(caught.value))
    assert len(caught.value.message) < 500


def test_a_connection_is_used_again_and_made_anew_where_it_was_closed() -> None:
    def once(_asked: Asked, handler: Any) -> bool:
        handler.close_connection = True  # after an answer that promised more
        return False

    for answering in (once, lambda _asked, _handler: False):
        with lying(answering) as lie:
            held = opened(lie.uri)
            for _ in range(3):
                HeldSigner(held).sign(MESSAGE)
            held.close()
        assert len(lie.asked) == 4


def test_the_keys_of_sessions_are_written_nowhere(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = made(bao, "p256", "p256")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    opened(uri).close()
    assert not (tmp_path / "keys.log").exists()
    context = exchange.make_context(bao.ca)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert not context.hostname_checks_common_name
