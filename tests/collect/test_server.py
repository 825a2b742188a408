"""`fwsign collect` as a program: real TLS, real gateways, kills, and a database that goes away."""

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from cli.kit import run
from collect.kit import Chain, chain_of, device_leaf, devices_ca, devices_root, sqlite_address
from collect.postgres import Postgres, emptied
from collect.server_kit import (
    Collector,
    Place,
    collecting,
    make_place,
    pem_files,
    reporting_gateway,
)
from fwsign.cli import inputs
from fwsign.collect.store import open_store
from fwsign.receipts.chain import line_digest
from gateway.server import LONG
from support import NOW, make_crl, make_leaf


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("collector"))


@pytest.fixture(scope="module")
def store(place: Place) -> str:
    return sqlite_address(place.folder)


@pytest.fixture(scope="module")
def collector(place: Place, store: str) -> Iterator[Collector]:
    """One collector for all tests that leave it alive; each has devices of its own."""
    with collecting(place, store, "--station", "line-3") as found:
        yield found
        assert "stopped" in found.stop()


def rows(store: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    with open_store(store) as opened, opened.transaction("read") as run_:
        return run_.rows(statement, *values)


def results(store: str, name: str) -> list[object]:
    select = "SELECT result FROM receipts JOIN devices USING (device) WHERE name = ?"
    return [result for (result,) in rows(store, f"{select} ORDER BY receipt", name)]


def test_a_gateway_reports_what_it_did(
    tmp_path: Path,
    place: Place,
    collector: Collector,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW)
    gateway = reporting_gateway(tmp_path, "gw-real", place, collector.url)
    own = ("--config", gateway.config)
    good = gateway.release(100, {"app": b"one"})
    done = run("install", good, *own)
    assert (done.status, "receipts wait" in done.err) == (0, False), done.err
    assert results(store, "gw-real")[-2:] == ["accepted", "installed"]
    older = gateway.release(50, {"app": b"none"})
    refusal = run("install", older, *own)
    assert refusal.status == 4
    assert results(store, "gw-real")[-1] == "refused"
    # Nothing waits, and nothing is stored twice.
    before = len(results(store, "gw-real"))
    assert run("report", *own).out == "reported  0 receipts\n"
    assert run("report", "--json", *own).status == 0
    assert len(results(store, "gw-real")) == before
    assert rows(
        store,
        "SELECT COUNT(*) FROM breaks WHERE device = (SELECT device FROM devices"
        " WHERE name = 'gw-real')",
    ) == [(0,)]


def test_a_collector_that_is_away_is_in_nobody_s_way(
    tmp_path: Path, place: Place, store: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"https://localhost:{closed.getsockname()[1]}/receipts"
    gateway = reporting_gateway(tmp_path, "gw-late", place, gone)
    own = ("--config", gateway.config)
    found = run("install", gateway.release(100, {"app": b"one"}), *own)
    assert found.status == 0
    assert gateway.installed == {"app": b"one"}
    assert f"receipts wait to be sent: {gone}: no connection" in found.err
    # The second run does not try again so soon; typed, it does.
    again = run("install", gateway.release(101, {"app": b"two"}), *own)
    assert (again.status, "receipts wait" in again.err) == (0, False)
    typed = run("report", *own)
    assert (typed.status, typed.errors[0].startswith(f"error: {gone}: no connection")) == (5, True)
    assert run("report", "--once", *own).status == 0  # not due
    # Nothing that nobody acknowledged is pruned.
    pruned = run("receipts", "prune", "--keep", "1", "--lines", tmp_path / "a.jsonl", *own)
    assert "receipts stay" in pruned.err
    assert pruned.out.startswith("pruned  0 receipts")
    text = gateway.config.read_text().replace(gone, collector.url)
    gateway.config.write_text(text)
    assert run("report", *own).out.startswith("reported  ")
    assert results(store, "gw-late")[-1] == "installed"
    pruned = run("receipts", "prune", "--keep", "1", "--lines", tmp_path / "b.jsonl", *own)
    assert "receipts stay" not in pruned.err
    assert pruned.out.startswith("pruned  4 receipts")
    assert run("install", gateway.release(102, {"app": b"three"}), *own).status == 0
    assert results(store, "gw-late")[-1] == "installed"
    assert rows(
        store, "SELECT COUNT(*) FROM breaks JOIN devices USING (device) WHERE name = 'gw-late'"
    ) == [(0,)]


def test_a_station_reports_a_file(
    tmp_path: Path, place: Place, collector: Collector, store: str
) -> None:
    station = chain_of("line-3", 2)
    file = tmp_path / "line3.jsonl"
    file.write_text("".join(f"{line}\n" for line in station.lines))
    certificate, key = pem_files(tmp_path, "line-3")
    own = ("--client-cert", certificate, "--client-key", key, "--ca", place.ca)
    first = run("report", file, "--to", collector.url, *own)
    assert first.out == "reported  2 receipts\n", first
    station.add()
    with file.open("a") as more:
        more.write(f"{station.lines[-1]}\n")
    assert run("report", file, "--to", collector.url, *own).out == "reported  1 receipt\n"
    assert results(store, "line-3") == ["installed"] * 3


def test_receipt_replay_by_another_device_is_refused(collector: Collector, store: str) -> None:
    device = chain_of("gw-victim", 2)
    assert collector.send(device.lines, "gw-victim").status == 200
    found = collector.send(device.lines, "gw-thief")
    assert (found.status, found.content["code"]) == (422, "untrusted.receipt")
    assert found.content["message"] == 'the receipts of device "gw-victim" came from "gw-thief"'
    assert results(store, "gw-victim") == ["installed"] * 2
    assert rows(store, "SELECT 1 FROM devices WHERE name = 'gw-thief'") == []


def test_forged_receipt_is_refused(collector: Collector, store: str) -> None:
    device = chain_of("gw-forger", 2)
    device.lines[1] = device.lines[1].replace("1.1.0", "9.9.9")
    found = collector.send(device.lines, "gw-forger")
    assert (found.status, found.content["code"]) == (422, "tampered.signature")
    assert found.content["head"] == line_digest(device.lines[0])
    assert results(store, "gw-forger") == ["installed"]
    assert rows(store, "SELECT code FROM forged WHERE client = 'gw-forger'") == [
        ("tampered.signature",)
    ]


def test_deleted_receipts_are_noticed(collector: Collector, store: str) -> None:
    device = chain_of("gw-deleter", 4)
    assert collector.send(device.lines, "gw-deleter").status == 200
    shorter = Chain("gw-deleter")
    shorter.lines = device.lines[:2]
    shorter.add("refused", code="stale.crl")
    assert collector.send(shorter.lines[2:], "gw-deleter").status == 200
    assert rows(
        store, "SELECT kind FROM breaks JOIN devices USING (device) WHERE name = 'gw-deleter'"
    ) == [("fork",)]


def test_a_client_without_a_certificate_has_no_connection(collector: Collector) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        collector.send(b"{}", None)


def test_a_client_that_resumes_a_session_is_known(collector: Collector) -> None:
    """With TLS 1.2 it does not send the CAs above it again."""
    context = ssl.create_default_context(cafile=str(collector.place.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*pem_files(collector.place.folder, "gw-resumes"))
    lines = ("POST /receipts HTTP/1.1", "Host: localhost", "Content-Length: 0", "Connection: close")
    head = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
    session = None
    for reused in (False, True):
        raw = socket.create_connection(("127.0.0.1", collector.port), timeout=20)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
            sock.sendall(head)
            found = b"".join(iter(partial(sock.recv, 1000), b""))
            assert found.startswith(b"HTTP/1.1 415 ")  # past the judgement of the client
            session = sock.session
            assert sock.session_reused is reused


def test_a_client_of_another_kind_is_refused(collector: Collector) -> None:
    signer = make_leaf(devices_ca(), "release", days=LONG)  # codeSigning
    with pytest.raises((ssl.SSLError, ConnectionError)):
        collector.send(b"{}", "release", signer)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{}\n", "application/json", 415, "the content is not application/jsonl"),
        (b"x" * (1024 * 1024 + 1), "application/jsonl", 413, "the body has more than 1048576"),
        (b"\xff", "application/jsonl", 400, "the batch is not lines of receipts"),
        (b"{}\n", "application/jsonl", 422, "receipt 1 is not a line of canonical JSON"),
    ],
)
def test_what_is_no_batch_is_refused(
    collector: Collector, body: bytes, kind: str, status: int, words: str
) -> None:
    found = collector.send(body, kind=kind)
    assert found.status == status
    assert words in found.content["message"]


def test_other_addresses_and_methods_do_not_exist(collector: Collector) -> None:
    with collector.connect() as sock:
        sock.sendall(b"GET /receipts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"405" in sock.recv(100)
    with collector.connect() as sock:
        sock.sendall(b"POST /other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert b"404" in sock.recv(100)


def test_a_flood_of_one_client_is_told_to_wait(collector: Collector, store: str) -> None:
    device = chain_of("gw-flood", 1)
    assert collector.send(device.lines, "gw-flood").status == 200  # and writes the client's files
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: collector.send(device.lines, "gw-flood"), range(70)))
    statuses = [one.status for one in found]
    assert statuses.count(200) >= 60
    assert statuses.count(429) >= 1
    assert {one.headers.get("retry-after") for one in found if one.status == 429} == {"60"}
    assert results(store, "gw-flood") == ["installed"]
    # Another client does not notice it.
    assert collector.send(chain_of("gw-calm", 1).lines, "gw-calm").status == 200


def test_a_client_that_says_nothing_is_hung_up_on(collector: Collector) -> None:
    began = time.monotonic()
    with collector.connect() as sock:
        sock.settimeout(15)
        assert sock.recv(1) == b""
    assert 3 < time.monotonic() - began < 15


def test_a_revoked_client_is_refused_once_the_list_says_so(tmp_path: Path, place: Place) -> None:
    """The list is read at the start here; `test_clients` has one that changes."""
    lists = tmp_path / "bundle.pem"
    revoked = device_leaf("gw-stolen")
    write_lists(lists, [revoked])
    with collecting(place, sqlite_address(tmp_path), "--crl", str(lists)) as found:
        refusal = found.send(chain_of("gw-stolen", 1).lines, "gw-stolen")
        assert (refusal.status, refusal.content["code"]) == (403, "untrusted.revoked")
        assert 'certificate "gw-stolen" revoked' in refusal.content["message"]
        assert found.send(chain_of("gw-good", 1).lines, "gw-good").status == 200


def write_lists(path: Path, revoked: list[object]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    made = (
        make_crl(devices_ca(), revoked, days=LONG),  # type: ignore[arg-type]
        make_crl(devices_root(), days=LONG),
    )
    parts = [x509.load_der_x509_crl(data).public_bytes(Encoding.PEM) for data in made]
    path.write_bytes(b"".join(parts))


def kill_soon(found: Collector) -> None:
    time.sleep(0.3)
    found.kill()


def test_collector_restart_in_the_middle_loses_nothing(tmp_path: Path, place: Place) -> None:
    store = sqlite_address(tmp_path)
    device = chain_of("gw-1", 20)
    acknowledged = 0
    with collecting(place, store) as found, ThreadPoolExecutor(1) as pool:
        kill = pool.submit(kill_soon, found)
        try:
            while True:
                found.send(device.lines[acknowledged : acknowledged + 1])
                acknowledged += 1
                if acknowledged == len(device.lines):
                    break
        except (OSError, ssl.SSLError):
            pass
        kill.result()
    # Whatever was acknowledged is there, and the device goes on where it was.
    kept = rows(store, "SELECT line FROM receipts ORDER BY receipt")
    assert [line for (line,) in kept][:acknowledged] == device.lines[:acknowledged]
    with collecting(place, store) as found:
        answer = found.send(device.lines[max(acknowledged - 1, 0) :])
        assert answer.content["head"] == device.head
    assert results(store, "gw-1") == ["installed"] * 20
    assert rows(store, "SELECT kind FROM breaks") == []


def test_a_certificate_at_its_limit_is_told_when_to_come_again(
    tmp_path: Path, place: Place
) -> None:
    store = sqlite_address(tmp_path)
    device, liar = chain_of("gw-1", 3), chain_of("gw-2", 1)
    liar.add("verified", kind="flash", board={"identity": "mac:1"})
    with collecting(place, store, "--day-lines", "2", "--gateway-boards", "0") as found:
        late = found.send(device.lines)
        full = found.send(liar.lines, "gw-2")
        said = found.stop()
    words = '"gw-1" is at its limit: 3 lines in a day'
    assert (late.status, late.content["code"], late.content["message"]) == (
        *(429, "state.limit"),
        words,
    )
    assert 0 < int(late.headers["retry-after"]) <= 24 * 3600
    assert late.content["lines"] == 2
    assert (full.status, full.content["message"], full.headers["retry-after"]) == (
        413,
        '"gw-2" is at its limit: 1 boards of a gateway',
        "21600",
    )
    assert f"gw-1 429 state.limit: {words}" in said
    assert results(store, "gw-1") == ["installed"] * 2
    assert results(store, "gw-2") == ["installed"]


def test_database_gone_for_a_while_loses_nothing(
    tmp_path: Path, place: Place, postgres: Postgres
) -> None:
    store = emptied(postgres)
    device = chain_of("gw-1", 6)
    with collecting(place, store) as found:
        assert found.send(device.lines[:2]).status == 200
        postgres.stop()
        away = found.send(device.lines[2:4])
        assert (away.status, away.headers["retry-after"]) == (503, "30")
        assert away.content == {
            "code": "io.store",
            "message": "the collector cannot keep it now",
        }
        postgres.start()
        assert found.send(device.lines[2:]).content["head"] == device.head
        said = found.stop()
    assert "io.store" not in said
    assert "the store postgresql://" in said
    assert results(store, "gw-1") == ["installed"] * 6
    assert rows(store, "SELECT kind FROM breaks") == []
    del tmp_path
