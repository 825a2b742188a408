"""The server of EST on a real connection: TLS, many clients at once, and those that misbehave."""

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from est_kit import (
    Serving,
    basic,
    body_of,
    certificates_in,
    csr,
    new_key,
    posted,
    read_response,
    serving,
)
from fwsign.errors import Failed
from fwsign.est import server
from fwsign.est.server import make_context
from fwsign.pki.log import verify_log
from pki_kit import issue, withdraw


@pytest.fixture(scope="module")
def est(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("est")) as found:
        yield found


def enrol(est: Serving, name: str, key: object = None, password: str | None = None) -> int:
    password = est.enrolment.invite(name) if password is None else password
    body = body_of(csr(key or new_key(), name))
    return est.post("simpleenroll", body, Authorization=basic(name, password)).status


def test_a_client_enrols_and_enrols_again(est: Serving) -> None:
    key, password = new_key(), est.enrolment.invite("first")
    body = body_of(csr(key, "first"))
    found = est.post("simpleenroll", body, Authorization=basic("first", password))
    assert found.status == 200
    assert found.headers["Connection"] == "close"
    (first,) = certificates_in(found.body)
    again = body_of(csr(key, "first", org="Acme"))
    found = est.post("simplereenroll", again, (first, key))
    assert certificates_in(found.body) == [est.enrolment.pki.certificate("first")]
    assert [event.status for event in est.events[-2:]] == [200, 200]


def test_the_cas_come_without_a_certificate(est: Serving) -> None:
    found = est.send(b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\n\r\n")
    assert est.enrolment.pki.root in certificates_in(found.body)


def test_a_wrong_password_is_refused(est: Serving) -> None:
    est.enrolment.invite("wrong")
    assert enrol(est, "wrong", password="no") == 401
    assert enrol(est, "nobody", password="no") == 401


def test_a_revoked_client_is_refused(est: Serving) -> None:
    key = new_key()
    enrol(est, "revoked", key)
    pki = est.enrolment.pki
    withdraw(pki.directory, "revoked", now=est.enrolment.now)
    body = body_of(csr(key, "revoked", org="Acme"))
    found = est.post("simplereenroll", body, (pki.certificate("revoked"), key))
    assert found.status == 403
    assert found.body.startswith(b'the certificate of "revoked" was revoked')


def test_a_foreign_client_does_not_get_through_tls(est: Serving, tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        key = new_key()
        enrol(other, "foreign", key)
        foreign = other.enrolment.pki.certificate("foreign")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        est.post("simplereenroll", b"", (foreign, key))
    end = time.monotonic() + 10  # the server's thread may tell later
    while not any(event.operation == "TLS" and "verify" in event.note for event in est.events):
        assert time.monotonic() < end, est.events
        time.sleep(0.02)


def test_a_client_that_is_a_server_does_not_get_through_tls(est: Serving) -> None:
    pki, key = est.enrolment.pki, new_key()
    issue(
        pki.directory,
        "other",
        "server",
        domains=["x.acme.example"],
        key=key.public_key(),
        now=est.enrolment.now,
    )
    with pytest.raises((ssl.SSLError, ConnectionError)):
        est.post("simplereenroll", b"", (pki.certificate("other"), key))


def test_old_tls_is_refused(est: Serving) -> None:
    context = est.context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        est.connect(context=context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_tls_is_spoken(est: Serving, version: ssl.TLSVersion) -> None:
    context = est.context()
    context.minimum_version = context.maximum_version = version
    with est.connect(context=context) as tls:
        tls.sendall(b"GET /.well-known/est/csrattrs HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(tls).status == 204


def test_plain_http_is_no_tls(est: Serving) -> None:
    with socket.create_connection(("127.0.0.1", est.port), timeout=10) as raw:
        raw.sendall(b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in raw.recv(1000)


def test_a_large_body_gets_an_answer(est: Serving) -> None:
    said = {"Authorization": basic("x", "y")}
    found = est.send(posted("simpleenroll", b"A" * 200_000, **said))
    assert found.status == 413
    assert found.body == b"a body of 200000 bytes, at most 32768 are allowed\n"


def test_a_flood_of_headers_gets_an_answer(est: Serving) -> None:
    lines = b"".join(b"h%d: x\r\n" % number for number in range(20_000))
    found = est.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    assert found.status == 431


def test_pipelined_requests_get_one_answer(est: Serving) -> None:
    one = b"GET /.well-known/est/csrattrs HTTP/1.1\r\nHost: x\r\n\r\n"
    with est.connect() as tls:
        tls.sendall(one * 50)
        data = b""
        while piece := tls.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1") == 1


def test_fifty_clients_enrol_at_once(est: Serving) -> None:
    names = [f"many-{number}" for number in range(50)]
    passwords = {name: est.enrolment.invite(name) for name in names}
    keys = {name: new_key() for name in names}

    def run(name: str) -> int:
        return enrol(est, name, keys[name], passwords[name])

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(run, names)) == [200] * 50
    pki = est.enrolment.pki
    for name in names:
        assert pki.certificate(name).public_key() == keys[name].public_key()
    verify_log(pki.directory)


def test_one_password_at_the_same_time_counts_once(est: Serving) -> None:
    for number in range(5):
        name = f"race-{number}"
        password = est.enrolment.invite(name)
        barrier = threading.Barrier(8)

        def run(
            _: int, name: str = name, password: str = password, barrier: threading.Barrier = barrier
        ) -> int:
            body = posted(
                "simpleenroll", body_of(csr(new_key(), name)), Authorization=basic(name, password)
            )
            with est.connect() as tls:
                barrier.wait(20)
                tls.sendall(body)
                return read_response(tls).status

        with ThreadPoolExecutor(8) as pool:
            assert Counter(pool.map(run, range(8))) == {200: 1, 401: 7}


def test_slow_clients_do_not_keep_others_away(est: Serving) -> None:
    slow = [est.connect() for _ in range(40)]
    idle = [socket.create_connection(("127.0.0.1", est.port)) for _ in range(10)]  # no handshake
    try:
        for one in slow:
            one.sendall(b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHo")
        assert enrol(est, "quick") == 200
    finally:
        for connection in (*slow, *idle):
            connection.close()


def test_a_slow_client_is_told_and_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "EXCHANGE_SECONDS", 0.5)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.3)
    with serving(tmp_path) as est:
        begin = time.monotonic()
        with est.connect() as tls:
            tls.sendall(b"GET / HT")
            found = read_response(tls)
        assert (found.status, found.body) == (408, b"too slow\n")
        with socket.create_connection(("127.0.0.1", est.port), timeout=10) as raw:
            assert raw.recv(100) == b""  # it never began TLS
        assert time.monotonic() - begin < 8


def test_connections_of_one_address_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_OF_ONE_ADDRESS", 3)
    with serving(tmp_path) as est:
        held = [est.connect() for _ in range(3)]
        with pytest.raises((ssl.SSLError, OSError)):
            est.connect()
        held.pop().close()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                held.append(est.connect())
                break
            except OSError:
                time.sleep(0.05)
        assert len(held) == 3
        for one in held:
            one.close()


def test_too_many_requests_are_told_so(tmp_path: Path) -> None:
    with serving(tmp_path, per_minute=3) as est:
        request = b"GET /.well-known/est/csrattrs HTTP/1.1\r\nHost: x\r\n\r\n"
        found = [est.send(request) for _ in range(4)]
    assert [one.status for one in found] == [204, 204, 204, 429]
    assert found[3].headers["Retry-After"] == "60"


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    with serving(tmp_path, per_minute=20) as est:
        statuses = [enrol(est, "nobody", password="x") for _ in range(9)]
    assert statuses[:3] == [401, 401, 401]
    assert 429 in statuses  # a slow machine has a few more


def test_a_fault_of_ours_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as est:

        def broken(*_: object) -> None:
            raise KeyError("/secret/place")

        monkeypatch.setattr(est.enrolment.service, "answer", broken)
        found = est.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (found.status, found.body) == (
            500,
            b"the certificate cannot be issued: ask the operator\n",
        )
        monkeypatch.undo()
        assert enrol(est, "sensor-7") == 200


def test_the_pki_s_place_is_nobody_s_business(tmp_path: Path) -> None:
    with serving(tmp_path) as est:
        password = est.enrolment.invite("sensor-7")
        (est.enrolment.pki.directory / "issued").rename(tmp_path / "gone")
        body = body_of(csr(new_key(), "sensor-7"))
        found = est.post("simpleenroll", body, Authorization=basic("sensor-7", password))
        (tmp_path / "gone").rename(est.enrolment.pki.directory / "issued")
    assert found.status == 500
    assert str(tmp_path).encode() not in found.body
    assert str(tmp_path) in est.events[-1].note


def test_stopping_lets_the_request_in_progress_end(tmp_path: Path) -> None:
    with serving(tmp_path) as est:
        name, password = "last", est.enrolment.invite("last")
        body = body_of(csr(new_key(), name))
        data = posted("simpleenroll", body, Authorization=basic(name, password))
        with est.connect() as tls:
            tls.sendall(data[:100])
            time.sleep(0.2)
            est.server.stop()
            time.sleep(0.2)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", est.port), timeout=1)
            tls.sendall(data[100:])
            assert read_response(tls).status == 200
        est.thread.join(10)
        assert not est.thread.is_alive()


def test_a_key_that_tls_cannot_use_is_named(tmp_path: Path) -> None:
    with serving(tmp_path) as est:
        chain = tmp_path / "chain.pem"
        with pytest.raises(Failed) as caught:
            make_context(chain, est.enrolment.pki.key_path("release"), "", None)
        assert caught.value.code == "key.unsupported"
        assert "TLS cannot use" in caught.value.message
