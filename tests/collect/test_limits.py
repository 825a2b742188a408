"""The limits of the collector's server: slow, large, many, and silent clients."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collect.kit import chain_of, devices_ca, devices_root, sqlite_address
from collect.server_kit import Collector, make_place
from fwsign.collect import app as app_module
from fwsign.collect import serve as serve_module
from fwsign.collect import sqlite_file
from fwsign.collect.app import CollectorApp
from fwsign.collect.clients import Clients, HeldCrls, require_clients, split_roots
from fwsign.collect.service import CollectorService, IntakeReply
from fwsign.collect.store import open_store
from fwsign.est.server import make_context
from gateway.server import own_localhost
from support import NOW


class Crashing(CollectorService):
    """Crashes at a batch of one byte."""

    def receive(self, body: bytes, *rest: Any, **more: Any) -> IntakeReply:
        if body == b"!":
            raise RuntimeError("s3cret")
        return super().receive(body, *rest, **more)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector in a thread, with limits that do not take long."""
    place = make_place(tmp_path_factory.mktemp("collector"))
    roots, pool = split_roots([devices_ca().der, devices_root().der])
    clients = Clients(roots, pool, roots, HeldCrls((), lambda _: (), print))
    context = make_context(place.server, place.server, place.devices.read_text(), None)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stops: list[Any] = []
    ready = threading.Event()

    def began(stop: Any) -> None:
        stops.append(stop)
        ready.set()

    with pytest.MonkeyPatch.context() as patch, open_store(sqlite_address(place.folder)) as store:
        patch.setattr(app_module, "BODY_SECONDS", 1.0)
        patch.setattr(serve_module, "CONNECTION_SECONDS", 3.0)
        patch.setattr(serve_module, "HANDSHAKE_SECONDS", 1.0)
        patch.setattr(serve_module, "IDLE_SECONDS", 2)
        patch.setattr(serve_module, "MAX_CONNECTIONS", 4)
        service = Crashing(store, lambda: NOW)
        app = CollectorApp(service, clients, lambda: NOW, lambda _: None).asgi()
        thread = threading.Thread(
            target=serve_module.serve, args=(listener, require_clients(context), app, began)
        )
        thread.start()
        assert ready.wait(20)
        with own_localhost():
            yield Collector(place, None, port)  # type: ignore[arg-type]
        stops[0]()
        thread.join(20)
        assert not thread.is_alive()


HEAD = b"POST /receipts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jsonl\r\n"


def said(sock: ssl.SSLSocket) -> bytes:
    """Return all that a server says until it hangs up."""
    found = b""
    try:
        while part := sock.recv(4096):
            found += part
    except (ConnectionError, ssl.SSLError):
        pass
    return found


def test_a_slow_body_is_not_waited_for(collector: Collector) -> None:
    began = time.monotonic()
    with collector.connect() as sock:
        sock.sendall(HEAD + b"Content-Length: 1000\r\nConnection: close\r\n\r\nx")
        found = said(sock)
    assert b" 408 " in found
    assert b"the body took longer than 1 seconds" in found
    assert time.monotonic() - began < 6


def test_a_body_that_is_announced_too_long_is_not_read(collector: Collector) -> None:
    with collector.connect() as sock:
        sock.sendall(HEAD + b"Content-Length: 1048577\r\nConnection: close\r\n\r\n")
        assert b" 413 " in said(sock)


def test_a_body_in_chunks_has_the_same_limit(collector: Collector) -> None:
    with collector.connect() as sock:
        sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            for _ in range(17):
                sock.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in said(sock)


def test_heads_that_come_in_drops_have_an_end(collector: Collector) -> None:
    began = time.monotonic()
    with collector.connect() as sock:
        try:
            while time.monotonic() - began < 10:
                sock.sendall(b"P" if time.monotonic() - began < 0.1 else b"x")
                time.sleep(0.2)
        except OSError:
            pass
    assert time.monotonic() - began < 8


def test_long_heads_are_refused(collector: Collector) -> None:
    with collector.connect() as sock:
        sock.sendall(HEAD + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n")
        assert b" 400 " in said(sock)


def test_what_is_not_http_is_refused(collector: Collector) -> None:
    with collector.connect() as sock:
        sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b" 400 " in said(sock)


def test_a_client_that_does_not_shake_hands_is_hung_up_on(collector: Collector) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as raw:
        assert raw.recv(1) == b""
    assert time.monotonic() - began < 8


def test_many_connections_leave_room_for_nobody_but_do_not_stay(collector: Collector) -> None:
    held = [collector.connect() for _ in range(4)]
    try:
        found = collector.send(chain_of("gw-many", 1).lines, "gw-many")
        assert found.status == 503
    finally:
        for one in held:
            one.close()
    end = time.monotonic() + 10
    while collector.send(chain_of("gw-many", 1).lines, "gw-many").status != 200:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_one_client_does_not_take_all_connections(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "MAX_OF_CLIENT", 2)
    held = [collector.connect() for _ in range(2)]
    try:
        for one in held:
            one.sendall(HEAD)
        with contextlib.suppress(OSError), collector.connect() as third:
            third.sendall(HEAD + b"Content-Length: 1\r\n\r\n!")
            assert said(third) == b""
        assert collector.send(chain_of("gw-other", 1).lines, "gw-other").status == 200
    finally:
        for one in held:
            one.close()
    end = time.monotonic() + 10
    while serve_module._Protocol._held:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert collector.send(chain_of("gw-1", 1).lines).status == 200


def test_a_fault_in_one_request_ends_no_other(collector: Collector) -> None:
    found = collector.send(b"!")
    assert found.status == 500
    assert "s3cret" not in str(found.content)
    assert collector.send(chain_of("gw-after", 1).lines, "gw-after").status == 200


def test_a_full_disk_stores_nothing_by_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collect.kit import collector as made

    device, address = chain_of("gw-1", 60), sqlite_address(tmp_path)
    open_store(address).close()
    monkeypatch.setattr(sqlite_file, "_WRITING", (*sqlite_file._WRITING, "max_page_count = 60"))
    with open_store(address) as store:
        taker, at = made(store), 0
        while (reply := taker.send(device.lines[at : at + 20])).status == 200:
            at += 20
        assert (reply.status, reply.retry) == (503, 30)
        assert "database or disk is full" in reply.note
        assert taker.stored() == at >= 20
    monkeypatch.undo()
    with open_store(address) as store:
        taker = made(store)
        assert taker.send(device.lines[at:]).content["head"] == device.head
        assert taker.stored() == 60
        assert taker.breaks == []
