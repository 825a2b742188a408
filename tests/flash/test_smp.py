# SPDX-License-Identifier: Apache-2.0
import base64
import struct

import pytest

from flash.smp_kit import RAM_LOAD, Bench, bench, flash, image, no_progress, quick, write
from fwsign.errors import Failed, Malformed
from fwsign.flash.boards.board import BoardInfo, Run
from fwsign.flash.simulate import Settings, Simulated
from fwsign.flash.simulate.line import Fault
from fwsign.flash.simulate.smp import Simulator
from fwsign.flash.smp import board as smp
from fwsign.flash.smp.cbor import decode_map
from fwsign.flash.smp.frame import Packet, lines
from fwsign.images.mcuboot import image_hash
from support import refused

IMAGE, OTHER = image(), image(seed=2)
HASH = image_hash(IMAGE)
DETAILS = ("boot loader", "MCUboot serial recovery"), ("buffer", "1024 bytes")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


# --- without faults ---------------------------------------------------------------------------


def test_an_empty_board_says_what_it_is() -> None:
    with bench() as made, made.board() as board:
        assert board.probe() == BoardInfo(
            "smp", None, None, None, sector=1, digest="image", details=DETAILS
        )
        assert board.digest(0, 100) == b""


def test_a_board_with_an_image_says_which() -> None:
    with bench(flash=IMAGE) as made, made.board() as board:
        assert board.probe().details == (*DETAILS, ("image", "1.2.3"))
        assert board.digest(0, len(IMAGE)) == HASH


def test_an_image_is_uploaded_and_started() -> None:
    told: list[int] = []
    with bench(flash=OTHER * 2) as made:
        with made.board() as board:
            board.probe()
            board.write([Run(0x10000, IMAGE)], told.append)
            assert board.digest(0, len(IMAGE)) == HASH
            assert board.finish([]) == ()
            board.reset()
        assert made.machine.flash.startswith(IMAGE)
        assert made.machine.started == 1
    assert sum(told) == len(IMAGE)
    assert min(told) > 0


def test_a_board_without_parameters_gets_smaller_packets() -> None:
    with bench() as made:
        made.machine.parameters = False
        with made.board() as board:
            assert board.probe().details[1] == ("buffer", "512 bytes")
            board.write([Run(0, IMAGE)], no_progress)
        assert made.machine.flash.startswith(IMAGE)


@pytest.mark.parametrize(
    ("buffer", "attempt", "size"),
    [(1024, 0, 992), (1024, 1, 480), (1024, 9, 96), (512, 0, 480), (100, 0, 64), (9, 0, 32)],
)
def test_packets_fit_the_buffer_and_shrink_with_each_attempt(
    buffer: int, attempt: int, size: int
) -> None:
    assert smp._chunk(buffer, attempt) == size


def test_the_simulator_is_found_by_name() -> None:
    with Simulated("sim:smp?fault=nak@0") as simulated:
        board = smp.connect(simulated.port)(0)
        write(board, IMAGE)
        board.close()
        board.close()
        assert simulated.flash.startswith(IMAGE)


# --- into the boot loader -----------------------------------------------------------------------


def test_the_application_is_asked_to_enter_the_boot_loader() -> None:
    with bench(flash=IMAGE) as made:
        made.machine.application = True
        with made.board() as board:
            assert board.probe().digest == "image"
        assert not made.machine.application
        assert made.machine.started == 0


def test_an_application_that_stays_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smp, "_START", 0.1)
    with bench(flash=IMAGE) as made:
        made.machine.application = True
        monkeypatch.setattr(made.machine, "_reset", lambda _: None)
        with made.board() as board, refused("device.absent", "application answers"):
            board.probe()


def test_an_image_for_ram_is_judged_after_a_restart() -> None:
    data = image(flags=RAM_LOAD)
    with bench() as made:
        made.machine.speaks = True
        with made.board() as board:
            write(board, data)
            assert made.machine.started == 1
            assert board.digest(0, len(data)) == image_hash(data)


def test_a_boot_loader_that_goes_back_to_an_older_image_is_told_from_a_failed_write() -> None:
    data = image(flags=RAM_LOAD)
    with bench() as made:
        made.machine.speaks = True
        made.machine.older = OTHER
        with made.board() as board:
            write(board, data)
            words = "taken the whole image, but it lists another, version 1.2.3: it went back to"
            with refused("device.mismatch", words) as caught:
                board.digest(0, len(data))
    assert "a key that this boot loader knows" in (caught.value.hint or "")
    assert (caught.value.expected, caught.value.found) == (
        image_hash(data).hex(),
        image_hash(OTHER).hex(),
    )


def test_an_image_that_is_not_listed_after_its_upload_is_said_to_be_so() -> None:
    with bench(("stuck", 5000)) as made, made.board() as board:
        write(board, IMAGE)
        words = "it lists none: a byte is wrong in its flash, or it does not accept the signature"
        with refused("device.mismatch", words):
            board.digest(0, len(IMAGE))


def test_a_hash_before_any_upload_is_only_read() -> None:
    with bench(flash=OTHER) as made, made.board() as board:
        board.probe()
        assert board.digest(0, 0) == image_hash(OTHER)


def test_a_board_that_does_not_come_back_from_ram_is_absent() -> None:
    with bench() as made, made.board() as board, refused("device.absent", "no boot loader"):
        write(board, image(flags=RAM_LOAD))


# --- resuming -----------------------------------------------------------------------------------


def interrupted(made: Bench, data: bytes, end: int) -> None:
    """Upload a part of an image, and go."""

    class Enough(Exception):
        pass

    done = 0

    def progress(size: int) -> None:
        nonlocal done
        done += size
        if done >= end:
            raise Enough

    with made.board() as board:
        board.probe()
        with pytest.raises(Enough):
            board.write([Run(0, data)], progress)


def test_an_upload_goes_on_where_it_was_interrupted() -> None:
    told: list[int] = []
    with bench() as made:
        interrupted(made, IMAGE, 8000)
        before = made.carried
        with made.board() as board:
            board.probe()
            board.write([Run(0, IMAGE)], told.append)
            assert board.digest(0, 0) == HASH
        assert made.carried - before < len(IMAGE) * 0.7
    assert sum(told) == len(IMAGE)
    assert told[0] >= 8000


def test_an_upload_that_was_resumed_may_be_interrupted_too() -> None:
    with bench() as made:
        interrupted(made, IMAGE, 5000)
        made.line._faults.append(Fault("cable", made.carried + 3000))
        assert flash(made, IMAGE, HASH) == ["device.lost"]
        assert made.machine.flash.startswith(IMAGE)


def test_half_of_another_image_is_found_out_and_begun_again() -> None:
    with bench() as made:
        interrupted(made, OTHER, 8000)
        assert flash(made, IMAGE, HASH) == ["device.mismatch"]
        assert made.machine.flash.startswith(IMAGE)


@pytest.mark.parametrize("size", [12500, 14000, 11900, 9000])
def test_half_of_an_image_of_another_length_is_begun_again(size: int) -> None:
    with bench() as made:
        interrupted(made, image(size, seed=2), 8000)
        assert flash(made, IMAGE, HASH) == []
        assert made.machine.flash.startswith(IMAGE)


def test_too_little_is_not_resumed() -> None:
    with bench() as made:
        interrupted(made, OTHER, 1)
        made.machine._expected = 16
        assert flash(made, IMAGE, HASH) == []


def test_a_list_of_unchecked_images_proves_nothing() -> None:
    with bench() as made:
        made.machine.checks = False
        with made.board() as board, refused("device.mismatch", "has not checked", "32 of"):
            write(board, IMAGE)
        with made.board() as board:
            assert board.probe().digest is None  # nor does it name a hash from then on
            board.write([Run(0, IMAGE)], no_progress)


def test_a_listed_slot_is_not_resumed() -> None:
    with bench() as made:
        interrupted(made, OTHER, 8000)
        made.machine.checks = False
        before = made.carried
        with made.board() as board:
            write(board, IMAGE)
        assert made.carried - before > len(IMAGE)
        assert made.machine.flash.startswith(IMAGE)


# --- what decides which image starts ------------------------------------------------------------


def finish(made: Bench) -> tuple[str, ...]:
    with made.board() as board:
        return board.finish([])


def test_an_unconfirmed_image_is_confirmed() -> None:
    with bench(flash=IMAGE) as made:
        made.machine.own = {"bootable": True}
        assert finish(made) == ()
        assert made.machine.own["confirmed"] is True


def test_an_image_that_cannot_be_confirmed_is_noted() -> None:
    with bench(("nak", 1), flash=IMAGE) as made:
        made.machine.own = {"bootable": True}
        assert finish(made) == (
            "boot not controlled",
            "the image cannot be confirmed: an unknown error (1)",
        )


@pytest.mark.parametrize(
    ("own", "other", "noted"),
    [
        ({}, {"slot": 1}, True),
        ({}, {"slot": 1, "image": 1}, False),
        ({"bootable": True, "confirmed": True}, {"slot": 1, "pending": True}, True),
        ({"bootable": True, "confirmed": True}, {"slot": 1}, False),
    ],
)
def test_a_second_image_that_may_start_is_noted(
    own: dict[str, bool], other: dict[str, int], noted: bool
) -> None:
    with bench(flash=IMAGE) as made:
        made.machine.own = own
        made.machine.others = [other | {"version": "9.0.0"}]
        found = ("boot not controlled", "the second slot holds an image too, version 9.0.0")
        assert finish(made) == (found if noted else ())


def test_an_empty_slot_is_noted() -> None:
    with bench() as made:
        assert finish(made)[0] == "boot not controlled"


# --- refusals -----------------------------------------------------------------------------------


def test_only_one_image_is_taken() -> None:
    with bench() as made, made.board() as board, refused("device.refused", "one image, not 2"):
        board.write([Run(0, IMAGE), Run(0x10000, IMAGE)], no_progress)


def test_less_than_a_header_is_not_sent() -> None:
    with bench() as made, made.board() as board, refused("device.refused", "invalid value (3)"):
        board.write([Run(0, bytes(32))], no_progress)


def test_an_image_larger_than_the_slot_changes_nothing() -> None:
    with bench(flash=IMAGE) as made:
        with made.board() as board, refused("device.refused", "did not write"):
            write(board, image(600 * 1024))
        assert made.machine.flash.startswith(IMAGE)


def test_the_flash_cannot_be_read() -> None:
    words = "cannot read 16 bytes at 0x1000"
    with bench() as made, made.board() as board, refused("device.refused", words):
        board.read(0x1000, 16)


# --- faults: each may fail, none may end in wrong bytes that pass for right ---------------------


@pytest.mark.parametrize(
    "fault",
    [
        *(("nak", at) for at in range(12)),
        *(("cable", at) for at in (0, 20, 500, 9000, 17000)),
        *(("flip", at) for at in (0, 1, 2, 40, 90, 150, 400, 9000, 17000)),
        *(("flip-back", at) for at in (0, 1, 5, 30, 31, 100, 250, 400)),
        *(("power", at) for at in range(3)),
    ],
    ids=lambda fault: f"{fault[0]}@{fault[1]}",
)
def test_any_fault_is_made_good(fault: tuple[str, int]) -> None:
    with bench(fault, flash=OTHER) as made:
        codes = flash(made, IMAGE, HASH)
        assert "gave up" not in codes, codes
        assert made.machine.flash.startswith(IMAGE)


def test_a_byte_that_cannot_be_written_is_noticed() -> None:
    with bench(("stuck", 5000)) as made:
        assert flash(made, IMAGE, HASH) == [*["device.mismatch"] * 4, "gave up"]


def test_a_board_that_lies_is_believed() -> None:
    # Nobody can tell: that is why this is "device-reported" and not "verified".
    with bench(("lie", 0), ("stuck", 5000)) as made:
        assert flash(made, IMAGE, HASH) == []


def test_power_loss_loses_the_upload_and_is_noticed() -> None:
    with bench(("power", 1)) as made:
        with made.board() as board, refused("device.protocol", "next offset", "says 0"):
            write(board, IMAGE)
        assert made.machine.flash[4096:8192] == b"\xff" * 4096


def test_a_dead_line_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smp, "_HELLO", 0.2)
    with bench() as made:
        made.machine._silent = True
        monkeypatch.setattr(made.machine, "connected", lambda: None)
        with made.board() as board, refused("device.absent", "no boot loader answers at socket"):
            board.probe()


def test_a_pulled_cable_is_a_lost_board() -> None:
    with bench(("cable", 3000)) as made, made.board() as board:
        with pytest.raises(Failed) as caught:
            write(board, IMAGE)
        assert caught.value.code == "device.lost"


# --- the simulator is as strict as the boot loader ----------------------------------------------

ECHO = b"".join(lines(Packet(2, 0, 0, 1, b"\xa1\x61d\x62hi")))


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (ECHO, True),
        (b"noise\n" + ECHO, True),
        (b"noise" + ECHO, False),
        (ECHO[:-6] + b"A" + ECHO[-5:], False),
        (b"\x06\x09!\n", False),
        (b"\x06\x09" + b"A" * 128 + b"\n", False),
        (b"A" * 1025 + ECHO, True),
        (b"".join(lines(Packet(1, 0, 0, 1, b"\xa0"))), False),
        (b"".join(lines(Packet(2, 0, 0, 1, bytes(1020)))), False),
    ],
)
def test_the_simulator_answers_sound_frames_alone(sent: bytes, answered: bool) -> None:
    assert bool(Simulator(Settings("smp")).receive(sent)) is answered


@pytest.mark.parametrize(
    "packet",
    [
        Packet(2, 0, 0, 1, b"\xff"),
        Packet(2, 0, 0, 1, b"\x05"),
        Packet(2, 1, 1, 1, b"\xa0"),
        Packet(2, 9, 9, 1, b"\xa0"),
    ],
)
def test_the_simulator_refuses_what_it_does_not_know(packet: Packet) -> None:
    answer = Simulator(Settings("smp")).receive(b"".join(lines(packet)))
    assert decode_map(base64.b64decode(answer[2:])[10:-2])["rc"] in (3, 8)


def test_the_simulator_is_silent_after_a_start_until_the_button_is_pressed() -> None:
    with bench(flash=IMAGE) as made:
        with made.board() as board:
            board.reset()
        assert made.machine.receive(ECHO) == b""
        with made.board() as board:
            assert board.probe().digest == "image"


# --- the hash that an image carries -------------------------------------------------------------


def test_the_hash_is_that_of_the_tlv() -> None:
    start = 32 + 12000 + 8
    assert IMAGE[start : start + 32] == HASH


@pytest.mark.parametrize("data", [b"", b"\0" * 100, struct.pack("<I", 0x96F3B83D), IMAGE[:9000]])
def test_what_is_no_image_has_no_hash(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        image_hash(data)
    assert caught.value.code == "malformed.image"
