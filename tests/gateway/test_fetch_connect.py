"""Connecting: one deadline for a name and all its addresses, and who the server is."""

import errno
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fwsign.format.identifiers import vendor_id
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import connection as https
from fwsign.gateway.https import fetch, server_dates, tcp
from fwsign.memory import floors
from fwsign.memory.state import State
from fwsign.trust.lists import Floors
from gateway.follow_kit import Follower
from gateway.kit import make_gateway, pki
from gateway.server import Server, certificates, serving
from support import NOW, VENDOR, for_child, refused
from trust import test_update as trust_update

DATA = b"the whole file"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.clear()
    _server.files["/f"] = DATA
    return _server


def get(server: Server, **more: Any) -> bytes:
    usual = {"ca": server.ca, "pause_seconds": 0, "stall_seconds": 5}
    url = more.pop("url", server.url("/f"))
    return fetch.fetch_bytes(url, FetchRules(**{**usual, **more}), 1000, lambda _: None)


# --- addresses -----------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that never answers, as behind a firewall: its queue is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for one in others:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        time.sleep(0.05)
        yield full.getsockname()[1]
        for one in others:
            one.close()


def named(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
    """Let every name have these addresses."""

    def find(*_: object, **__: object) -> list[Any]:
        found = []
        for host, port in places:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            found.append((family, socket.SOCK_STREAM, 6, "", (host, port)))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", find)


def test_twenty_silent_addresses_share_one_deadline(
    server: Server, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, *[("127.0.0.1", silent)] * 20)
    begin = time.monotonic()
    with refused("io.fetch-slow", "stalled after 0 bytes"):
        get(server, total_seconds=0.6)
    assert time.monotonic() - begin < 6
    begin = time.monotonic()
    with refused("io.fetch-slow"):
        get(server, stall_seconds=0.1)  # for each of five attempts
    assert time.monotonic() - begin < 6


def test_the_one_good_address_of_twenty_is_found(
    server: Server, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, *[("127.0.0.1", silent)] * 19, ("127.0.0.1", server.port))
    begin = time.monotonic()
    assert get(server, total_seconds=4) == DATA
    assert time.monotonic() - begin < 4


def test_an_address_that_accepts_and_is_silent_is_not_the_first_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        named(monkeypatch, deaf.getsockname(), deaf.getsockname(), ("127.0.0.1", server.port))
        assert get(server, stall_seconds=1) == DATA


def test_a_system_without_threads_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with refused("io.fetch-connect", "no connection: can't start new thread"):
            get(server)


def test_an_address_that_refuses_costs_no_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()
        named(monkeypatch, *[closed] * 20, ("127.0.0.1", server.port))
        begin = time.monotonic()
        assert get(server) == DATA
        assert time.monotonic() - begin < 4
        named(monkeypatch, *[closed] * 20)
        with refused("io.fetch-connect", "no connection: connection refused"):
            get(server)


def test_a_family_that_this_system_lacks_is_passed_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = socket.socket

    def lacking(*given: Any, **more: Any) -> socket.socket:
        if given[:1] == (socket.AF_INET6,):
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return system(*given, **more)

    named(monkeypatch, ("::1", server.port), ("127.0.0.1", server.port))
    monkeypatch.setattr(socket, "socket", lacking)
    assert get(server) == DATA
    named(monkeypatch, ("::1", server.port))
    with refused("io.fetch-connect", "address family not supported"):
        get(server)


def test_an_address_that_no_way_leads_to_is_passed_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = ("255.255.255.255", 9)  # of no host: the system says so at once
    named(monkeypatch, nowhere, nowhere, ("127.0.0.1", server.port))
    assert get(server) == DATA
    named(monkeypatch, nowhere)
    with refused("io.fetch-connect", "no connection"):
        get(server)


def test_a_name_without_addresses_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch)
    with refused("io.fetch-connect", "the name has no address"):
        get(server)


def test_a_name_server_that_hangs_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait(20))
    try:
        begin = time.monotonic()
        with refused("io.fetch-slow"):
            get(server, total_seconds=0.3)
        assert time.monotonic() - begin < 6
    finally:
        never.set()


def test_a_name_server_that_hangs_does_not_keep_the_program(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure("[fetch]\ntotal_seconds = 1\n")
    code = (
        "import socket, time, sys; socket.getaddrinfo = lambda *_, **__: time.sleep(60);"
        "from fwsign.__main__ import main; sys.exit(main())"
    )
    words = ("install", "https://localhost/u.suit", "--config", str(gateway.config))
    begin = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=for_child(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, "stalled after 0 bytes" in run.stderr) == (5, True), run.stderr
    assert time.monotonic() - begin < 20


def test_thousands_of_addresses_open_few_sockets(
    server: Server, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    system = socket.socket

    def counting(*given: Any, **more: Any) -> socket.socket:
        opened.append(1)
        return system(*given, **more)

    named(monkeypatch, *[("127.0.0.1", silent)] * 5000)
    monkeypatch.setattr(socket, "socket", counting)
    with refused("io.fetch-slow"):
        get(server, total_seconds=0.3)
    assert len(opened) <= tcp.MAX_ADDRESSES


def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, ("::1", 1), ("::2", 1), ("::3", 1), ("127.0.0.1", 1), ("127.0.0.2", 1))
    found = tcp._resolve("localhost", 1, time.monotonic() + 5)
    assert [one.place[0] for one in found] == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]


@pytest.mark.parametrize("host", ["a..b", ".localhost", "x" * 64])
def test_an_impossible_name_is_an_error(server: Server, host: str) -> None:
    with refused("io.fetch-connect", "no connection"):
        get(server, url=f"https://{host}/f")


# --- names ---------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, **more: Any) -> Iterator[Server]:
    with serving(folder, certificates(folder, **more)) as server:
        server.files["/f"] = DATA
        yield server


def test_a_common_name_alone_is_no_name(tmp_path: Path) -> None:
    """RFC 9525 s.2: the names of a server are its alternative names."""
    with (
        served(tmp_path, names=None) as server,
        refused("io.fetch-connect", "no connection: hostname mismatch"),
    ):
        get(server)


def test_an_address_must_be_an_alternative_name_of_its_own_type(tmp_path: Path) -> None:
    good = x509.IPAddress(ip_address("127.0.0.1"))
    with served(tmp_path, names=(good,)) as server:
        assert get(server, url=f"https://127.0.0.1:{server.port}/f") == DATA
        with refused("io.fetch-connect", "hostname mismatch"):
            get(server)
    with (
        served(tmp_path, names=(x509.DNSName("127.0.0.1"),)) as server,
        refused("io.fetch-connect", "ip address mismatch"),
    ):
        get(server, url=f"https://127.0.0.1:{server.port}/f")


# --- dates ---------------------------------------------------------------------------------------


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def future(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a certificate that begins in the clock's future."""
    folder = tmp_path_factory.mktemp("future")
    with served(folder, days=(1000, 2000), root_days=(900, 3000)) as server:
        yield server


class TestClockBehind:
    """A clock of 1970 sees certificates that begin in the future; here the clock is right, and
    the certificates begin in its future, which OpenSSL cannot tell apart."""

    def test_a_server_of_later_years_is_trusted_by_the_time_floor(self, future: Server) -> None:
        with refused("io.fetch-connect", "certificate is not yet valid") as caught:
            get(future)
        assert "is this gateway's clock right?" in str(caught.value.hint)
        assert get(future, since=now() + 1500 * DAY) == DATA

    def test_it_may_have_been_made_after_the_time_floor(self, future: Server) -> None:
        """The floor has passed, and nobody knows how long ago."""
        assert get(future, since=now() + 2 * DAY) == DATA

    def test_it_must_not_have_ended_before_the_time_floor(self, future: Server) -> None:
        with refused("io.fetch-connect", "certificate 0 of its chain ended") as caught:
            get(future, since=now() + 2001 * DAY)
        assert caught.value.hint == "the server needs a new certificate"

    def test_nor_may_its_root(self, tmp_path: Path) -> None:
        with served(tmp_path, days=(1000, 3000), root_days=(900, 2000)) as server:
            assert get(server, since=now() + 1500 * DAY) == DATA
            with refused("io.fetch-connect", "certificate 1 of its chain ended"):
                get(server, since=now() + 2500 * DAY)

    def test_a_clock_less_than_a_day_behind_may_be_right(
        self, server: Server, future: Server
    ) -> None:
        with refused("io.fetch-connect", "certificate is not yet valid"):
            get(future, since=now() + 0.9 * DAY)
        assert get(server, since=now() + 0.9 * DAY) == DATA

    def test_then_both_times_count(self, tmp_path: Path) -> None:
        with served(tmp_path, days=(-10, 2)) as server:
            assert get(server, since=now() + 0.1 * DAY) == DATA
        with served(tmp_path, days=(-10, 1)) as server:  # ends in at most a day
            assert get(server) == DATA
            with refused("io.fetch-connect", "certificate 0 of its chain ended"):
                get(server, since=now() + DAY - timedelta(seconds=1))

    def test_everything_but_dates_is_checked_as_always(
        self, future: Server, tmp_path: Path
    ) -> None:
        since = now() + 1500 * DAY
        other, _ = certificates(tmp_path)
        with refused("io.fetch-connect", "no connection: unable to get local issuer"):
            get(future, since=since, ca=other)
        with refused("io.fetch-connect", "ip address mismatch"):
            get(future, since=since, url=f"https://127.0.0.1:{future.port}/f")
        names = (x509.DNSName("elsewhere.example"),)
        with (
            served(tmp_path, names=names, days=(1000, 2000)) as server,
            refused("io.fetch-connect", "hostname mismatch"),
        ):
            get(server, since=since)

    def test_certificates_that_cannot_be_read_are_refused(
        self, future: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        since = now() + 1500 * DAY
        monkeypatch.setattr(server_dates, "verified_chain", lambda _: [])
        with refused("io.fetch-connect", "its certificates cannot be read"):
            get(future, since=since)
        monkeypatch.setattr(server_dates, "verified_chain", lambda _: [b"\x30\x03\x30\x01\x02"])
        with refused("io.fetch-connect", "a certificate of its chain cannot be read"):
            get(future, since=since)


class TestGoodClock:
    def test_an_ended_server_is_refused_whatever_the_floor(self, tmp_path: Path) -> None:
        with served(tmp_path, days=(-100, -2)) as server:
            for since in (None, now() - 200 * DAY, now() - 50 * DAY, now() + 0.5 * DAY):
                with refused("io.fetch-connect", "certificate has expired"):
                    get(server, since=since)
            with refused("io.fetch-connect", "certificate 0 of its chain ended"):
                get(server, since=now() + 5 * DAY)

    def test_a_floor_in_the_past_changes_nothing(self, server: Server) -> None:
        assert get(server, since=now() - DAY) == DATA


def test_a_clock_that_is_set_right_meanwhile_is_kept_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL was told not to look at dates; the time of the check counts."""
    since = now() + 5 * DAY
    connector = https.Connector(FetchRules(ca=server.ca, since=since))
    monkeypatch.setattr(server_dates, "now", lambda: datetime.now(UTC) + 50_000 * DAY)
    with refused("io.fetch-connect", "certificate 0 of its chain ended"):
        connector.connect(server.url("/f"), time.monotonic() + 5, own=False)


def test_the_chain_is_read_as_newer_pythons_give_it() -> None:
    class Newer:
        def get_verified_chain(self) -> list[bytes]:
            return [b"leaf", b"root"]

    class Older:
        _sslobj = None

    assert server_dates.verified_chain(Newer()) == [b"leaf", b"root"]
    assert server_dates.verified_chain(Older()) == []
    assert server_dates.verified_chain(object()) == []


def test_a_gateway_with_a_clock_of_1970_fetches_by_what_its_memory_knows(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    first = gateway.release(1, {"app.tar": b"one"})
    gateway.install(first)
    second = gateway.release(2, {"app.tar": b"two"})
    with served(tmp_path, days=(5, 100)) as server:
        server.files["/update.suit"] = second.read_bytes()
        server.files["/app.tar"] = b"two"
        gateway.configure(f'[fetch]\nca = "{server.ca}"\n')
        with refused("io.fetch-connect", "not yet valid"):
            gateway.install(server.url("/update.suit"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server_dates, "now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
            gateway.install(server.url("/update.suit"))
    assert gateway.installed == {"app.tar": b"two"}


def test_a_gateway_with_a_clock_of_1970_follows_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll, CRLs and trust updates of their own addresses, and the install."""
    (tmp_path / "web").mkdir()
    with served(tmp_path / "web", days=(5, 100)) as server:
        crl = f'crls = ["{server.url("/ca.crl")}"]'
        trust = f'trust = "{server.url("/trust.suit")}"'
        (tmp_path / "gateway").mkdir()
        fetching = f'[fetch]\nca = "{server.ca}"\n'
        follower = Follower(tmp_path / "gateway", f"{crl}\n{trust}", fetching)
        follower.address = server.url("/u.suit")
        server.files["/u.suit"] = follower.offer(1).read_bytes()
        server.files["/app1.bin"] = b"release 1"
        for ask in (follower.check, follower.poll):
            with refused("io.fetch-connect", "not yet valid"):
                ask()
        monkeypatch.setattr(server_dates, "now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
        assert follower.check().verdict == "offered"
        assert follower.poll().verdict == "installed"
    asked = [path for path, _ in server.requests]
    assert {"/ca.crl", "/trust.suit", "/u.suit", "/app1.bin"} == set(asked)


def test_a_time_floor_far_ahead_does_not_keep_the_update_away_that_sets_it_right(
    tmp_path: Path, server: Server
) -> None:
    """A fast-forward: the epoch is the way back, and it may come from an address alone."""
    own = server.url
    lines = f'trust = "{own("/trust.suit")}"\ncrls = ["{own("/ca.crl")}"]'
    follower = Follower(tmp_path, lines, f'[fetch]\nca = "{server.ca}"\n')
    follower.address = own("/u.suit")
    server.files["/u.suit"] = follower.offer(1).read_bytes()
    server.files["/app1.bin"] = b"release 1"
    with State.open(tmp_path / "state.db") as state, state.transaction():
        floors.keep_time(state._file, vendor_id(VENDOR), datetime(9990, 1, 1, tzinfo=UTC))
    with refused("io.fetch-connect", "certificate 0 of its chain ended"):
        follower.poll()
    lower = Floors(None, int(NOW.timestamp()))
    update = trust_update.update(1, trust_update.root(pki().root), epoch=1, floors=lower)
    server.files["/trust.suit"] = trust_update.sign(update, pki().root.key)
    with refused("io.fetch-connect"):  # nothing but the list is fetched by the clock alone
        follower.poll()
    assert {path for path, _ in server.requests} == {"/trust.suit"}
    assert follower.poll().verdict == "installed"


def test_a_new_gateway_with_a_clock_of_1970_knows_when_this_program_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway(tmp_path)
    envelope = gateway.release(1, {"app.tar": b"one"})
    monkeypatch.setattr(server_dates, "now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
    gateway.configure(f'[fetch]\nca = "{tmp_path}/servers.pem"\n')
    before = (datetime(2025, 12, 31, tzinfo=UTC) - datetime.now(UTC)).days
    with (
        served(tmp_path, days=(before - 90, before)) as server,
        refused("io.fetch-connect", "certificate 0 of its chain ended 2025-12-"),
    ):
        gateway.install(server.url("/update.suit"))
    with served(tmp_path, days=(5, 100)) as server:
        server.files["/update.suit"] = envelope.read_bytes()
        server.files["/app.tar"] = b"one"
        gateway.install(server.url("/update.suit"))
    assert gateway.installed == {"app.tar": b"one"}


def test_old_tls_is_refused_and_dates_are_openssls_as_long_as_the_clock_may_be_right(
    server: Server,
) -> None:
    context = https.make_context(server.ca)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not context.hostname_checks_common_name
    assert not context.verify_flags & 0x200000
