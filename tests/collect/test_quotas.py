"""What one certificate may store: a device can invent boards, chains and lines without end."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collect.kit import Chain, Taker, chain_of, collector, devices_root, release, sqlite_address
from fwsign.cli.collect_quotas import QuotaOptions
from fwsign.collect.broker import BrokerIntake, BrokerPlace
from fwsign.collect.clients import Clients, HeldCrls, split_roots
from fwsign.collect.quotas import DAY, LATER_SECONDS, Quotas
from fwsign.collect.service import CollectorService
from fwsign.collect.store import FleetStore, open_store
from fwsign.fleet.questions import Questions
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.report.sending import CollectorAnswer, send_waiting
from fwsign.gateway.report.spool import FileSpool
from fwsign.mqtt.address import Broker
from support import NOW, refused

TO = "https://collector.example/receipts"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[FleetStore]:
    """An empty store in a file."""
    with open_store(sqlite_address(tmp_path)) as made:
        yield made


class Days:
    """The collector's clock."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def limited(store: FleetStore, clock: Days | None = None, **quotas: int) -> Taker:
    """Return a collector with other limits."""
    taker = collector(store)
    return taker._replace(
        service=CollectorService(store, clock or Days(), Quotas()._replace(**quotas))
    )


def station(name: str, boards: range, *, device: bool = False) -> Chain:
    """Return a chain with a receipt of each board; a gateway's names its device."""
    found = Chain(name)
    more: dict[str, Any] = {} if device else {"device": None}
    for number in boards:
        board = {"identity": f"mac:{number}"}
        told = release("1.0.0", 1, "sensor")
        found.add("verified", kind="flash", board=board, release=told, **more)
    return found


def problems(store: FleetStore) -> list[tuple[str | None, str]]:
    """Return who is at a limit, and the words."""
    with Questions.asked(store, NOW, timedelta(7)) as questions:
        found = [(one.device, one.detail) for one in questions.problems() if one.kind == "limit"]
        assert questions.totals().problems.get("limit", 0) == len(found)
    return found


def test_the_options_have_the_defaults_of_the_collector() -> None:
    """They are written twice, so that the help needs no import of the collector."""
    assert QuotaOptions().quotas() == Quotas()


# --- boards --------------------------------------------------------------------------------------


def test_a_gateway_that_invents_boards_is_stopped_by_the_defaults(store: FleetStore) -> None:
    taker = limited(store)
    liar = station("gw-1", range(100), device=True)
    reply = taker.send(liar.lines)
    assert (reply.status, reply.retry) == (413, LATER_SECONDS)
    words = '"gw-1" is at its limit: 65 boards of a gateway'
    assert (reply.content["code"], reply.content["message"]) == ("state.limit", words)
    assert reply.content["lines"] == taker.stored() == 64
    assert reply.note == f"state.limit: {words}"
    assert len([board for _, board, *_ in taker.running() if board]) == 64
    # Without naming its device it is a gateway all the same.
    rest = station("gw-1", range(200, 203))
    rest.lines = [rest.lines[0]]
    assert taker.send(rest.lines).status == 413
    assert taker.stored() == 64
    limit = "at its limit of 64 boards of a gateway, refused 2 times"
    assert problems(store) == [("gw-1", limit)]
    # It hides nobody else.
    assert taker.send(chain_of("gw-2", 2).lines, "gw-2").status == 200


def test_a_factory_station_passes_the_defaults(small: FleetStore) -> None:
    taker = limited(small)
    assert taker.send(station("line-1", range(300)).lines, "line-1").status == 200
    assert taker.stored("line-1") == 300
    assert problems(small) == []
    usual = Quotas()
    per_day = 8 * 24 * 60  # eight slots, a board in each minute
    assert per_day <= usual.day_lines
    assert per_day * 35_000 <= usual.day_bytes  # with the largest signatures
    assert usual.boards > 50 * per_day


def test_the_same_boards_again_cost_nothing(small: FleetStore) -> None:
    taker = limited(small, boards=3)
    line = station("line-1", range(3))
    for number in (0, 1, 2, 2, 1):
        again: dict[str, Any] = {"kind": "flash", "device": None, "release": release("2.0.0", 2)}
        line.add("verified", board={"identity": f"mac:{number}"}, **again)
    assert taker.send(line.lines, "line-1").status == 200
    line.add("verified", kind="flash", device=None, board={"identity": "mac:3"})
    reply = taker.send(line.lines, "line-1")
    assert (reply.status, reply.content["lines"]) == (413, 8)
    assert reply.content["message"] == '"line-1" is at its limit: 4 boards'
    # A board that was simulated, or has no identity, makes no row.
    other = station("line-2", range(3))
    other.add("verified", kind="flash", device=None, board={"identity": "x", "simulated": True})
    other.add("refused", kind="flash", device=None, board=None)
    assert taker.send(other.lines, "line-2").status == 200


# --- lines, bytes, and days ----------------------------------------------------------------------


def test_lines_of_a_day_wait_for_the_next(store: FleetStore) -> None:
    clock = Days()
    taker = limited(store, clock, day_lines=3)
    device = chain_of("gw-1", 5)
    reply = taker.send(device.lines)
    assert (reply.status, reply.content["lines"]) == (429, 3)
    assert reply.content["message"] == '"gw-1" is at its limit: 4 lines in a day'
    assert reply.retry == DAY - int(NOW.timestamp()) % DAY
    assert "head" in reply.content
    assert taker.stored() == 3
    again = taker.send(device.lines[3:])
    assert (again.status, again.content) == (
        429,
        {"code": "state.limit", "message": '"gw-1" is at its limit: 4 lines in a day'},
    )
    assert problems(store)[0][0] == "gw-1"
    clock.now += timedelta(seconds=reply.retry or 0)
    assert taker.send(device.lines).status == 200
    assert taker.stored() == 5
    assert problems(store) == []
    assert taker.breaks == []


def test_bytes_of_a_day_and_of_all_days(small: FleetStore) -> None:
    device = chain_of("gw-1", 4)
    size = sum(len(line) + 1 for line in device.lines[:2])
    clock = Days()
    taker = limited(small, clock, day_bytes=size + 200)
    reply = taker.send(device.lines)
    assert (reply.status, reply.content["lines"]) == (429, 2)
    assert "bytes in a day" in reply.content["message"]
    clock.now += timedelta(1)
    full = taker._replace(
        service=CollectorService(small, clock, Quotas(day_bytes=size, total_bytes=size + 200))
    )
    reply = full.send(device.lines)
    assert (reply.status, reply.content["lines"]) == (413, 2)
    assert reply.content["message"].endswith(" bytes")
    assert taker.send(device.lines).status == 200
    assert taker.stored() == 4


def test_lines_that_are_stored_cost_nothing(small: FleetStore) -> None:
    """Whoever brings a device's lines again must not use up its account."""
    taker = limited(small, day_lines=3)
    device = chain_of("gw-1", 3)
    for _ in range(5):
        assert taker.send(device.lines).status == 200
        assert taker.send(device.lines, direct=False).status == 200
    device.add()
    assert taker.send(device.lines).status == 429


def test_nobody_uses_up_the_account_of_another(small: FleetStore) -> None:
    taker = limited(small, day_lines=2)
    victim = chain_of("gw-2", 2)
    for _ in range(5):
        forged = [
            line.replace('"result":"installed"', '"result":"refused"') for line in victim.lines
        ]
        assert taker.send(forged, "gw-1").status == 422
        assert taker.send(victim.lines, "gw-1").status == 422  # they are not its own
    assert taker.send(victim.lines, "gw-2").status == 200


def test_a_clock_that_goes_back_is_another_day(small: FleetStore) -> None:
    clock = Days()
    taker = limited(small, clock, day_lines=2)
    device = chain_of("gw-1", 6)
    assert taker.send(device.lines[:2]).status == 200
    clock.now -= timedelta(3)
    assert taker.send(device.lines[2:4]).status == 200
    assert taker.send(device.lines[4:]).status == 429


def test_a_wrong_line_beyond_the_limit_is_judged_when_it_fits(small: FleetStore) -> None:
    clock = Days()
    taker = limited(small, clock, day_lines=1)
    device = chain_of("gw-1", 2)
    device.lines.append("{}")
    assert taker.send(device.lines).status == 429
    assert taker.rows("SELECT count(*) FROM forged") == [(0,)]
    clock.now += timedelta(1)
    assert taker.send(device.lines).status == 422
    assert taker.stored() == 2


# --- chains --------------------------------------------------------------------------------------


def test_chains_without_end_are_refused(store: FleetStore) -> None:
    taker = limited(store, chains=3)
    fresh = Chain("gw-1")
    for number in range(3):
        fresh = Chain("gw-1")
        fresh.add(text=f"{number}")
        assert taker.send(fresh.lines).status == 200
    other = Chain("gw-1")
    other.add(text="other")
    reply = taker.send(other.lines)
    assert (reply.status, reply.retry) == (413, LATER_SECONDS)
    assert reply.content["message"] == '"gw-1" is at its limit: 4 chains'
    assert "head" not in reply.content
    assert taker.breaks == [("restart", False)] * 2
    # The chain that it has goes on.
    fresh.add()
    assert taker.send(fresh.lines).status == 200
    # What begins with a gap is another one, too.
    other.add()
    assert taker.send(other.lines[1:]).status == 413
    assert len(taker.breaks) == 2


def test_who_comes_back_with_old_lines_for_ever_fills_nothing(small: FleetStore) -> None:
    taker = limited(small, chains=3)
    device = chain_of("gw-1", 3)
    assert taker.send(device.lines).status == 200
    found = [taker.send(device.lines[: 1 + 2 * (number % 2)]).status for number in range(20)]
    assert set(found) == {200, 413}
    assert taker.breaks == [("behind", True)] * 2


def test_a_station_does_not_invent_devices_without_end(small: FleetStore) -> None:
    """Unsigned lines are for the account of who brings them."""
    taker = limited(small, chains=2)
    taker = taker._replace(trust=taker.trust._replace(unsigned=True, stations=("line-1",)))
    found = [
        taker.send(chain_of(f"gw-{number}", 1, signed=False).lines, "line-1").status
        for number in range(4)
    ]
    assert found == [200, 200, 413, 413]
    assert taker.rows("SELECT count(*) FROM devices") == [(2,)]
    assert [name for name, _ in problems(small)] == ["line-1"]
    # Lines that devices signed are for theirs, whoever brings them.
    assert taker.send(chain_of("gw-9", 1).lines, "line-1").status == 200
    assert taker.send(chain_of("gw-1", 2, signed=False).lines, "line-1").status == 200


# --- what an honest device does ------------------------------------------------------------------


def test_an_honest_device_keeps_its_receipts_and_sends_them_later(
    small: FleetStore, tmp_path: Path
) -> None:
    clock = Days()
    taker = limited(small, clock, day_lines=2)
    device = chain_of("gw-1", 5)
    file = tmp_path / "lines"
    file.write_text("".join(f"{line}\n" for line in device.lines))
    spool = FileSpool(file)

    def send(body: bytes, _: float) -> CollectorAnswer:
        reply = taker.service.receive(body, "gw-1", taker.trust)
        return CollectorAnswer(reply.status, json.dumps(dict(reply.content)).encode())

    for number in (2, 4):
        words = "takes no more receipts now, with status 429: state.limit"
        with refused("io.fetch-status", words) as found:
            send_waiting(spool, TO, send, clock(), 10)
        assert found.value.hint == (
            "they stay here, and are sent again later; the collector's owner sets its limits"
        )
        place = spool.place(TO)
        assert (place.number, place.failures) == (number, 1)
        assert not place.is_due(clock())
        assert file.read_text().count("\n") == 5
        clock.now += timedelta(1)
        assert place.is_due(clock())
    assert send_waiting(spool, TO, send, clock(), 10).head == device.head
    assert taker.stored() == 5
    assert taker.breaks == []


def test_over_mqtt_there_is_no_answer_and_a_line_in_the_log(small: FleetStore) -> None:
    roots, pool = split_roots([devices_root().der])
    clients = Clients(roots, pool, roots, HeldCrls((), lambda _: (), print))
    said: list[tuple[str, int, str]] = []
    taker = limited(small, day_lines=2, chains=1)
    place = BrokerPlace(Broker("localhost"), FetchRules())
    intake = BrokerIntake(place, taker.service, clients, said.append)
    device = chain_of("gw-1", 3)
    body = "".join(f"{line}\n" for line in device.lines).encode()
    assert intake._answer("gw-1", body) is None
    words = 'state.limit: "gw-1" is at its limit: 3 lines in a day'
    assert said == [("gw-1", 429, words)]
    assert taker.stored() == 2
    other = chain_of("gw-1", 1, signed=True)
    other.lines = []
    other.add("refused", code="stale.crl")
    assert intake._answer("gw-1", f"{other.lines[0]}\n".encode()) is None
    assert said[1][1] in (413, 429)
