"""What waits is sent until it is acknowledged, whatever a collector answers."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fwsign.gateway.report.sending import (
    CollectorAnswer,
    Reported,
    send_waiting,
    status_in,
)
from fwsign.gateway.report.spool import (
    LONGEST_PAUSE,
    FileSpool,
    MemorySpool,
    SpoolPlace,
    acknowledged,
    decode_place,
)
from fwsign.memory.state import State
from fwsign.receipts.chain import line_digest, make_line
from support import NOW, refused

if TYPE_CHECKING:
    from collections.abc import Callable

TO = "https://collector.example/receipts"


class Honest:
    """A collector that has nothing to hide; `lost` forgets lines, `answer` may do otherwise."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches: list[list[str]] = []
        self.answer: Callable[[list[str]], Any] = self.take

    def __call__(self, body: bytes, seconds: float) -> CollectorAnswer:
        assert seconds > 0
        lines = body.decode().splitlines()
        self.batches.append(lines)
        found = self.answer(lines)
        return found if isinstance(found, CollectorAnswer) else said(200, **found)

    def take(self, lines: list[str]) -> dict[str, Any]:
        known = {line_digest(line) for line in self.lines}
        self.lines += [line for line in lines if line_digest(line) not in known]
        return {"device": "gw", "head": line_digest(lines[-1]), "lines": len(lines)}


def said(status: int, **content: Any) -> CollectorAnswer:
    return CollectorAnswer(status, json.dumps(content).encode())


class Device:
    """A memory, or a file, with receipts."""

    def __init__(self, path: Path, *, in_file: bool) -> None:
        self.path, self.in_file = path, in_file
        self.spool = FileSpool(path) if in_file else MemorySpool(lambda: State.open(path))
        self.lines: list[str] = []
        if not in_file:
            State.open(path, create=True).close()

    def write(self, count: int = 1, **more: Any) -> None:
        for _ in range(count):
            content = {"kind": "test", "number": len(self.lines), **more}
            if self.in_file:
                previous = line_digest(self.lines[-1]) if self.lines else None
                self.lines.append(make_line(content, previous))
                with self.path.open("a") as file:
                    file.write(f"{self.lines[-1]}\n")
            else:
                with State.open(self.path) as state:
                    self.lines.append(state.append_receipt(content))

    def report(self, collector: Honest, seconds: float = 60, to: str = TO) -> Reported:
        return send_waiting(self.spool, to, collector, NOW, seconds)


@pytest.fixture(params=["memory", "file"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    return Device(tmp_path / "receipts", in_file=request.param == "file")


def test_each_line_is_sent_once_and_then_the_next(device: Device) -> None:
    collector = Honest()
    device.write(3)
    assert device.report(collector) == Reported(3, line_digest(device.lines[-1]))
    assert device.report(collector) == Reported(0, line_digest(device.lines[-1]))
    device.write(2)
    assert device.report(collector).sent == 2
    assert collector.lines == device.lines
    assert [len(one) for one in collector.batches] == [3, 2]


def test_what_was_not_acknowledged_is_sent_again(device: Device) -> None:
    collector = Honest()
    device.write(3)

    def a_part(lines: list[str]) -> dict[str, Any]:
        collector.answer = collector.take
        return collector.take(lines[:2])

    collector.answer = a_part
    assert device.report(collector).sent == 3
    assert [len(one) for one in collector.batches] == [3, 1]
    assert collector.lines == device.lines


def test_batches_are_bounded(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from fwsign.gateway.report import sending

    assert (sending.MAX_BATCH_LINES, sending.MAX_BATCH) == (500, 96 * 1024)
    monkeypatch.setattr(sending, "MAX_BATCH_LINES", 8)
    collector = Honest()
    device.write(3, text="x" * 50_000)
    device.write(9)
    assert device.report(collector).sent == 12
    assert collector.lines == device.lines
    for one in collector.batches:
        assert len(one) <= 8
        assert sum(len(line) + 1 for line in one) <= sending.MAX_BATCH
    # A memory cuts long texts, so only a file has lines of 50,000 bytes.
    counts = [1, 1, 8, 2] if device.in_file else [8, 4]
    assert [len(one) for one in collector.batches] == counts


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (said(200, head="f" * 64), "io.fetch-protocol", "acknowledges a receipt that was not sent"),
        (said(200), "io.fetch-protocol", "acknowledges a receipt that was not sent"),
        (said(200, head=["x"]), "io.fetch-protocol", "acknowledges a receipt that was not sent"),
        (CollectorAnswer(200, b"\xff"), "io.fetch-protocol", "that was not sent"),
        (CollectorAnswer(200, b"[" * 9999), "io.fetch-protocol", "that was not sent"),
        (CollectorAnswer(200, b"[]"), "io.fetch-protocol", "that was not sent"),
        (said(302, head=1), "io.fetch-status", "with status 302: nothing: nothing"),
        (
            said(422, code="tampered.signature", message="receipt 2: wrong"),
            "io.fetch-status",
            "with status 422: tampered.signature: receipt 2: wrong",
        ),
        (said(429, message="m" * 9999), "io.fetch-status", "m" * 300),
    ],
)
def test_a_lying_collector_changes_nothing(
    device: Device, answer: CollectorAnswer, code: str, words: str
) -> None:
    collector = Honest()
    device.write(3)
    collector.answer = lambda _: answer
    with refused(code, words) as caught:
        device.report(collector)
    assert len(caught.value.message) < 600
    assert len(collector.batches) == 1
    place = device.spool.place(TO)
    assert (place.number, place.digest, place.failures) == (0, "", 1)
    collector.answer = collector.take
    assert device.report(collector).sent == 3
    assert device.spool.place(TO).failures == 0


def test_a_refusal_keeps_what_was_acknowledged_before_it(device: Device) -> None:
    collector = Honest()
    device.write(3)
    collector.answer = lambda lines: said(422, code="c", message="m", head=line_digest(lines[0]))
    with refused("io.fetch-status", "c: m"):
        device.report(collector)
    assert device.spool.place(TO).number == 1


def test_a_collector_that_lost_lines_gets_them_again(device: Device) -> None:
    collector = Honest()
    device.write(4)
    device.report(collector)
    del collector.lines[1:]  # its database is an old backup
    device.write()

    def behind(lines: list[str]) -> dict[str, Any]:
        head = line_digest(collector.lines[-1])
        missing = json.loads(lines[0])["previous"] not in map(line_digest, collector.lines)
        return {**collector.take(lines), **({"after": head} if missing else {})}

    collector.answer = behind
    device.report(collector)
    assert sorted(collector.lines) == sorted(device.lines)
    # A stranger that always asks for everything gets it once in a run.
    collector.batches.clear()
    first = line_digest(device.lines[0])
    collector.answer = lambda lines: {**collector.take(lines), "after": first}
    device.write()
    device.report(collector)
    assert [len(one) for one in collector.batches] == [1, 5]
    # One that names a line which nobody has, not even that.
    collector.batches.clear()
    collector.answer = lambda lines: {**collector.take(lines), "after": "0" * 64}
    device.write()
    device.report(collector)
    assert [len(one) for one in collector.batches] == [1]


def test_another_collector_gets_all_lines(device: Device) -> None:
    device.write(2)
    device.report(Honest())
    other = Honest()
    assert device.report(other, to="https://other.example/receipts").sent == 2
    assert other.lines == device.lines


def test_a_memory_that_was_replaced_is_sent_anew(tmp_path: Path) -> None:
    one, other = Device(tmp_path / "a", in_file=True), Device(tmp_path / "b", in_file=True)
    one.write(2)
    one.report(Honest())
    other.write(3, other=True)
    one.path.write_bytes(other.path.read_bytes())
    collector = Honest()
    assert one.report(collector).sent == 3
    assert collector.lines == other.lines


def test_when_the_time_is_up_the_next_run_goes_on(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fwsign.gateway.report import sending

    device.write(3)
    monkeypatch.setattr(sending, "MAX_BATCHES", 1)
    monkeypatch.setattr(sending, "MAX_BATCH_LINES", 2)
    collector = Honest()
    assert device.report(collector) == Reported(2, line_digest(device.lines[1]), finished=False)
    assert device.report(collector) == Reported(1, line_digest(device.lines[2]), finished=False)
    device.write()
    assert device.report(collector, seconds=-1).finished is False
    assert device.report(collector).sent == 1


def test_pruning_keeps_the_place(tmp_path: Path) -> None:
    device = Device(tmp_path / "memory", in_file=False)
    collector = Honest()
    device.write(5)
    device.report(collector)
    with State.open(device.path) as state:
        assert acknowledged(state, TO) == 5
        assert acknowledged(state, "https://other.example") == 0
        state.prune_receipts(3, {})
        assert acknowledged(state, TO) == 3  # the record, and two lines
    device.write()
    device.report(collector)
    assert collector.lines == device.lines
    with State.open(device.path) as state:
        state.prune_receipts(5, {})  # typed: what is gone is more than was acknowledged
    assert acknowledged_after(device) == 0


def test_receipts_that_were_pruned_are_not_counted_as_sent(tmp_path: Path) -> None:
    device = Device(tmp_path / "memory", in_file=False)
    device.write(5)
    with State.open(device.path) as state:
        state.prune_receipts(3, {})
    collector = Honest()
    sent = device.report(collector).sent
    assert sent == len(collector.lines) == 3  # the record of what is gone, and two lines


def acknowledged_after(device: Device) -> int:
    with State.open(device.path) as state:
        state.remember("report", SpoolPlace(TO, 2, "0" * 64).encode())
        return acknowledged(state, TO)


def test_what_a_broker_acknowledges_is_not_pruned(tmp_path: Path) -> None:
    """It can invent an answer, and the only copy is here."""
    device, to = Device(tmp_path / "memory", in_file=False), "mqtts://broker.example"
    device.write(5)
    assert device.report(Honest(), to=to).sent == 5
    assert device.report(Honest(), to=to).sent == 0
    with State.open(device.path) as state:
        assert acknowledged(state, to) == 0


@pytest.mark.parametrize("wrong", [b"\xff\n", b"no receipt\n", b"\n"])
def test_what_is_no_receipt_does_not_leave_a_file(tmp_path: Path, wrong: bytes) -> None:
    device, collector = Device(tmp_path / "receipts", in_file=True), Honest()
    device.write(2)
    with device.path.open("ab") as file:
        file.write(wrong)
    with refused("malformed.receipt", "receipt 3 is not a line of canonical JSON"):
        device.report(collector)
    assert collector.lines == device.lines  # those before it


def test_an_empty_memory_has_nothing_to_report(tmp_path: Path) -> None:
    device = Device(tmp_path / "memory", in_file=False)
    assert device.report(Honest()) == Reported(0, None)
    with State.open(device.path) as state:
        assert acknowledged(state, TO) == 0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "[" * 9999,
        "7",
        '{"to":7}',
        '{"to":"' + TO + '","number":"1"}',
        '{"to":"' + TO + '","number":-1}',
        '{"to":"' + TO + '","number":true}',
        '{"to":"' + TO + '","failures":-1}',
        '{"to":"' + TO + '","other":1}',
        SpoolPlace("https://other.example", 5, "f" * 64).encode(),
    ],
)
def test_a_place_that_does_not_read_is_the_beginning(text: str | None) -> None:
    assert decode_place(text, TO) == SpoolPlace(TO)


def test_a_place_reads_back() -> None:
    place = SpoolPlace(TO, 7, "f" * 64, 3, 1_700_000_000)
    assert decode_place(place.encode(), TO) == place


def test_tries_come_later_and_later() -> None:
    place, pauses = SpoolPlace(TO), []
    for _ in range(40):
        place = place.failed(NOW)
        pause = 1
        while not place.is_due(NOW + timedelta(seconds=pause)):
            pause += 1 if pause < 200 else 60
        pauses.append(pause)
    assert pauses == sorted(pauses)
    assert pauses[0] == 120
    assert LONGEST_PAUSE <= pauses[-1] <= LONGEST_PAUSE + 60
    assert place.is_due(NOW - timedelta(days=1))  # the clock went back
    assert SpoolPlace(TO).is_due(NOW)


def test_the_status_of_an_answer_over_mqtt() -> None:
    assert [status_in(one) for one in (b'{"status":200}', b'{"status":"x"}', b"{}", b"x")] == [
        *(200, 0, 0, 0)
    ]


def test_a_file_whose_place_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    device = Device(tmp_path / "lines", in_file=True)
    device.write()
    (tmp_path / "lines.reported").mkdir()
    with refused("io.directory", "lines.reported"):
        device.report(Honest())
