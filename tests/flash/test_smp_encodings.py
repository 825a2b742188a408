# SPDX-License-Identifier: Apache-2.0
"""The ways in which SMP packets are carried, and boards that use them."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.smp_kit import image, no_progress, quick
from fwsign.errors import Failed
from fwsign.flash.boards.board import Run
from fwsign.flash.simulate import Settings, Simulated, check
from fwsign.flash.simulate import smp as simulated_smp
from fwsign.flash.simulate.line import Fault, Line
from fwsign.flash.simulate.smp import Simulator
from fwsign.flash.smp import board as smp
from fwsign.flash.smp import link as smp_link
from fwsign.flash.smp.encodings import (
    ENCODINGS,
    CobsEncoding,
    ConsoleEncoding,
    Encoding,
    RawEncoding,
    stuff,
    unstuff,
)
from fwsign.flash.smp.frame import Garbled, Packet
from fwsign.images.mcuboot import image_hash
from support import refused

IMAGE = image()
ANSWERS = st.builds(
    Packet,
    st.sampled_from([1, 3]),
    st.integers(0, 63),
    st.integers(0, 0xFF),
    st.integers(0, 0xFF),
    st.binary(max_size=1200),
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(simulated_smp, "FORGETS", 0.2)


def fed(encoding: Encoding, data: bytes) -> list[Packet]:
    found = [encoding.feed(bytes([byte])) for byte in data]
    return [packet for packet in found if packet is not None]


@given(st.sampled_from(sorted(ENCODINGS)), st.lists(ANSWERS, max_size=3))
def test_what_is_encoded_is_decoded(name: str, packets: list[Packet]) -> None:
    encoding = ENCODINGS[name]()
    sent = b"".join(map(encoding.encode, packets))
    assert fed(encoding, sent) == packets


@given(st.binary(max_size=1200))
def test_cobs_has_no_zeros_and_both_programs_agree(data: bytes) -> None:
    stuffed = stuff(data)
    assert 0 not in stuffed
    assert unstuff(stuffed) == data
    assert len(stuffed) <= len(data) + 1 + len(data) // 254


@pytest.mark.parametrize(
    ("data", "stuffed"),
    [
        (b"", b"\x01"),
        (b"\0", b"\x01\x01"),
        (b"\0\0", b"\x01\x01\x01"),
        (b"\x11\x22\0\x33", b"\x03\x11\x22\x02\x33"),
        (bytes(range(1, 255)), b"\xff" + bytes(range(1, 255)) + b"\x01"),
        (bytes(range(1, 255)) + b"\xff", b"\xff" + bytes(range(1, 255)) + b"\x02\xff"),
    ],
)
def test_known_frames_of_cobs(data: bytes, stuffed: bytes) -> None:
    assert stuff(data) == stuffed
    assert unstuff(stuffed) == data


@pytest.mark.parametrize("frame", [b"\x02", b"\x05\1\1", b"\x01\x03\1"])
def test_frames_that_are_no_cobs_are_garbled(frame: bytes) -> None:
    with pytest.raises(Garbled):
        unstuff(frame)
    with pytest.raises(Garbled):
        fed(CobsEncoding(), frame + b"\0")


def test_damaged_frame_of_cobs_is_garbled_and_the_next_is_read() -> None:
    packet = Packet(3, 1, 0, 7, b"\xa0")
    encoding = CobsEncoding()
    sent = encoding.encode(packet)
    for at in range(1, len(sent) - 1):
        changed = sent[at] ^ 0x40 or 0x20
        with pytest.raises(Garbled):
            fed(encoding, sent[:at] + bytes([changed]) + sent[at + 1 :])
    assert fed(encoding, b"\0\0" + sent) == [packet]
    encoding.reset()
    with pytest.raises(Garbled):
        fed(encoding, b"x" * 9000 + b"\0")
    assert fed(encoding, sent) == [packet]


def test_endless_noise_is_not_kept() -> None:
    encoding = CobsEncoding()
    fed(encoding, b"x" * 20_000)
    assert len(encoding._frame) <= 8192
    console = ConsoleEncoding()
    fed(console, b"x" * 20_000)
    assert len(console._line) <= 4096


def test_bytes_before_a_raw_answer_are_dropped() -> None:
    packet = Packet(1, 0, 6, 9, b"\xa1\x61a\x01")
    encoding = RawEncoding()
    sent = encoding.encode(packet)
    for noise in (b"\0", b"boot\r\n", b"\x03", b"\x03\x01", b"\x03\0\xff", b"\x01\0\0\1\xff\xff"):
        assert fed(encoding, noise + sent)[-1:] == [packet], noise
    fed(encoding, sent[:-1])
    encoding.reset()
    assert fed(encoding, sent) == [packet]


# --- on boards ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODINGS)
def test_image_is_uploaded_and_listed(name: str) -> None:
    with Line(Simulator(Settings("smp", encoding=name))) as line:
        board = smp.connect(line.port, encoding=name)(0)
        board.probe()
        board.write([Run(0, IMAGE)], no_progress)
        assert board.digest(0, len(IMAGE)) == image_hash(IMAGE)
        board.reset()
        board.close()


@pytest.mark.parametrize("name", ["raw", "cobs"])
def test_fewer_bytes_go_over_the_line_than_as_a_console(name: str) -> None:
    carried = {}
    for one in ("console", name):
        with Line(Simulator(Settings("smp", encoding=one))) as line:
            board = smp.connect(line.port, encoding=one)(0)
            board.probe()
            board.write([Run(0, IMAGE)], no_progress)
            board.close()
            carried[one] = line._received
    assert carried[name] < carried["console"] * 0.8


@pytest.mark.parametrize("name", ["raw", "cobs"])
@pytest.mark.parametrize(
    "fault", [("flip", 5000), ("flip", 20), ("flip-back", 40), ("cable", 7000), ("nak", 5)]
)
def test_any_fault_is_made_good_or_noticed(name: str, fault: tuple[str, int]) -> None:
    made = (Fault(*fault),)
    machine = Simulator(Settings("smp", encoding=name, faults=made))
    with Line(machine, made) as line:
        for attempt in range(4):
            board = smp.connect(line.port, encoding=name)(attempt)
            try:
                board.probe()
                board.write([Run(0, IMAGE)], no_progress)
                board.digest(0, len(IMAGE))
                break
            except Failed as error:
                assert error.code.startswith("device.")  # noqa: PT017 - most attempts are good
            finally:
                board.close()
        else:
            pytest.fail("no attempt was good")
    assert machine.flash.startswith(IMAGE)


def test_lost_bytes_of_a_raw_packet_do_not_become_those_of_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Simulator(Settings("smp", encoding="raw"))
    real, lost = machine.receive, random.Random(1).randrange(5, 15)  # no secret

    def receive(data: bytes) -> bytes:
        nonlocal lost
        if len(data) > 900 and lost:
            data, lost = data[:-lost], 0
        return real(data)

    monkeypatch.setattr(machine, "receive", receive)
    with Line(machine) as line:
        board = smp.connect(line.port, encoding="raw")(0)
        board.probe()
        board.write([Run(0, IMAGE)], no_progress)
        assert board.digest(0, len(IMAGE)) == image_hash(IMAGE)
        board.close()
    assert lost == 0


@pytest.mark.parametrize("name", ["raw", "cobs"])
def test_board_of_another_encoding_is_absent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smp, "_HELLO", 0.3)
    monkeypatch.setattr(smp_link, "_SILENCE", 0.1)
    with Line(Simulator(Settings("smp", encoding=name))) as line:
        board = smp.connect(line.port)(0)
        with refused("device.absent", "no boot loader answers at"):
            board.probe()
        board.close()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sim:smp?encoding=slip", "encoding=slip, expected encoding with console, raw or cobs"),
        ("sim:pico-uart?encoding=raw", "encoding, expected smp for it"),
    ],
)
def test_encodings_that_cannot_be_are_refused(uri: str, words: str) -> None:
    with refused("device.port", words):
        check(uri)


def test_simulated_board_has_the_encoding_of_its_port(tmp_path: Path) -> None:
    with Simulated(f"sim:smp?encoding=cobs&flash={tmp_path / 'slot'}") as simulated:
        board = smp.connect(simulated.port, encoding="cobs")(0)
        assert board.probe().kind == "smp"
        board.close()
