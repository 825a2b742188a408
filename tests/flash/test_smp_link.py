# SPDX-License-Identifier: Apache-2.0
"""Framing, CBOR and the line of serial recovery; cbor2 and the package smp know them as well."""

import base64
import contextlib
import random
import struct
from collections.abc import Callable
from typing import Any, cast

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.smp_kit import Asked, Scripted, answer, framed, no_progress, quick
from fwsign.errors import Failed
from fwsign.flash.boards.board import Run
from fwsign.flash.boards.port import Port
from fwsign.flash.smp import link as smp_link
from fwsign.flash.smp.board import SerialRecovery
from fwsign.flash.smp.cbor import decode_map
from fwsign.flash.smp.frame import LINE_LIMIT, OVERHEAD, READ, Assembler, Garbled, Packet, lines
from fwsign.flash.smp.link import SmpLink
from support import refused, require_package

PACKETS = st.builds(
    Packet,
    st.integers(0, 3),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFF),
    st.integers(0, 0xFF),
    st.binary(max_size=1200),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=70)
    | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
Respond = Callable[[Asked], bytes]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def assemble(text: bytes) -> list[Packet]:
    assembler = Assembler()
    found = [assembler.add(line) for line in text.split(b"\n")]
    return [packet for packet in found if packet is not None]


# --- frames -------------------------------------------------------------------------------------


@given(PACKETS)
def test_what_is_framed_is_assembled(packet: Packet) -> None:
    sent = list(lines(packet))
    assert assemble(b"".join(sent)) == [packet]
    assert max(map(len, sent)) <= LINE_LIMIT
    assert [line[:2] for line in sent[1:]] == [b"\x04\x14"] * (len(sent) - 1)
    assert sent[0][:2] == b"\x06\x09"


def test_the_overhead_is_that_of_a_frame_without_a_body() -> None:
    (line,) = lines(Packet(0, 0, 0, 0, b""))
    assert len(base64.b64decode(line[2:])) == OVERHEAD


@pytest.mark.external
@given(PACKETS)
def test_another_implementation_reads_and_writes_the_same_frames(packet: Packet) -> None:
    require_package("smp")
    from smp import header  # not everywhere installed
    from smp.packet import decode, encode  # the same

    decoder = decode()
    next(decoder)
    whole = b""
    try:
        for line in lines(packet):
            decoder.send(line)
    except StopIteration as end:
        whole = end.value
    assert header.Header.SIZE == 8
    assert struct.unpack(">BBHHBB", whole[:8]) == (
        packet.operation,
        0,
        len(packet.body),
        packet.group,
        packet.sequence,
        packet.command,
    )
    assert whole[8:] == packet.body
    assert assemble(b"".join(encode(whole))) == [packet]


@given(PACKETS, st.data())
def test_no_flipped_bit_makes_another_packet(packet: Packet, data: st.DataObject) -> None:
    text = bytearray(b"".join(lines(packet)))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(Garbled):
        assert assemble(bytes(text)) in ([], [packet])


@given(st.lists(st.binary(max_size=200)), PACKETS)
def test_noise_before_a_frame_is_passed_over(noise: list[bytes], packet: Packet) -> None:
    before = b"".join(one.translate(None, b"\x04\x06\n") + b"\n" for one in noise)
    assert assemble(before + b"log: " + b"".join(lines(packet))) == [packet]


def test_a_log_message_between_two_lines_of_a_frame_is_passed_over() -> None:
    first, second = lines(Packet(1, 1, 0, 7, bytes(100)))
    assert len(assemble(first + b"<inf> hello\n" + second)) == 1


HEADER = struct.pack(">BBHHBB", 1, 0, 3, 0, 5, 0)


@pytest.mark.parametrize(
    "text",
    [
        b"\x06\x09AA!A",
        b"\x06\x09AAA",
        b"\x04\x14AAAA",
        framed(b"short"),
        framed(HEADER + b"ab"),
        framed(HEADER + b"abcd"),
        framed(HEADER + b"abc")[:-5] + b"AAAA\n",
        framed(HEADER + b"abc")[:-1] + b"\x06\n",
        b"\x06\x09AAAAAAAA\n",
    ],
    ids=[
        "no base64",
        "half a group",
        "no beginning",
        "less than a header",
        "a shorter body",
        "a longer body",
        "wrong crc",
        "a stray byte",
        "nothing in it",
    ],
)
def test_a_damaged_frame_is_garbled(text: bytes) -> None:
    with pytest.raises(Garbled):
        assemble(text)


def test_a_frame_that_is_cut_off_is_forgotten_with_the_next() -> None:
    first, _ = lines(Packet(1, 1, 0, 7, bytes(100)))
    (whole,) = lines(Packet(1, 0, 0, 8, b"\xa0"))
    assert assemble(first + whole) == [Packet(1, 0, 0, 8, b"\xa0")]


def test_a_later_version_of_the_protocol_is_read() -> None:
    packet = struct.pack(">BBHHBB", 0x08 | 1, 0, 1, 0, 5, 0) + b"\xa0"
    assert assemble(framed(packet)) == [Packet(1, 0, 0, 5, b"\xa0")]


# --- cbor ---------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=9), VALUES), st.booleans())
def test_cbor_is_read_as_cbor2_writes_it(value: dict[str, Any], open_length: bool) -> None:
    assert decode_map(cbor2.dumps(value, indefinite_containers=open_length)) == value


@given(st.binary(max_size=80))
def test_garbage_is_refused_as_no_cbor(data: bytes) -> None:
    for one in (data, b"\xbf" + data, b"\xa1\x61a" + data):
        with contextlib.suppress(ValueError):
            assert isinstance(decode_map(one), dict)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "too early"),
        ("a1", "too early"),
        ("bf", "too early"),
        ("bbffffffffffffffff", "too early"),
        ("80", "one map"),
        ("a000", "one map"),
        ("a16161f97e00", "simple value 25"),
        ("a16161c100", "a tag"),
        ("a161615f4100ff", "a length"),
        ("a161615a00ff", "a length"),
        ("a1616142ff", "too early"),
        ("a1" * 9, "nested"),
        ("a16161" + "81" * 9 + "00", "nested"),
        ("a16161ff", "simple value 31"),
        ("a1616161ff", "decode"),
    ],
)
def test_what_no_boot_loader_writes_is_refused(data: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_map(bytes.fromhex(data))


def test_keys_that_are_no_text_are_left_out() -> None:
    assert decode_map(cbor2.dumps({1: 2, "rc": 0})) == {"rc": 0}


# --- requests -----------------------------------------------------------------------------------


def ask(respond: Respond, patience: float = 2.0) -> tuple[dict[str, Any], list[Asked]]:
    """Ask for the list of images."""
    port = Scripted(respond)
    link = SmpLink(cast(Port, port))
    found = link.request(READ, smp_link.IMAGE, smp_link.STATE, {}, patience)
    link.close()
    return found, port.asked


def knocks(asked: Asked) -> bool:
    return asked[:3] == (2, 0, 0)


def test_an_answer_among_noise_is_found() -> None:
    found, asked = ask(lambda one: b"\xff\x00\x04boot\n\n>>" + answer(one, {"rc": 0}) + b"\x06\x09")
    assert found == {"rc": 0}
    assert len(asked) == 1


@pytest.mark.parametrize(
    "fields",
    [{"sequence": 99}, {"group": 0}, {"command": 1}, {"operation": 3}, {"operation": 0}],
    ids=str,
)
def test_an_answer_to_another_request_is_passed_over(fields: dict[str, int]) -> None:
    found, asked = ask(lambda one: answer(one, {"rc": 7}, **fields) + answer(one, {"rc": 0}))
    assert found == {"rc": 0}
    assert len(asked) == 1


def test_only_answers_to_others_count_as_silence() -> None:
    with refused("device.absent", "no boot loader answers at scripted"):
        ask(lambda one: answer(one, {}, sequence=one.sequence ^ 0x80), patience=0.3)


def test_a_request_that_was_lost_is_sent_again() -> None:
    asked_before: list[Asked] = []

    def respond(one: Asked) -> bytes:
        asked_before.append(one)
        return b"" if len(asked_before) == 1 else answer(one, {"rc": 0})

    found, asked = ask(respond)
    assert found == {"rc": 0}
    assert [knocks(one) for one in asked] == [False, True, False]
    assert len({one.sequence for one in asked}) == 3


def test_a_request_that_takes_long_is_not_sent_again() -> None:
    asked_before: list[Asked] = []

    def respond(one: Asked) -> bytes:
        asked_before.append(one)
        return b"" if len(asked_before) < 3 else answer(asked_before[0], {"rc": 0})

    found, asked = ask(respond)
    assert found == {"rc": 0}
    assert [knocks(one) for one in asked] == [False, True, True]


def test_a_late_answer_to_the_first_try_is_taken() -> None:
    asked_before: list[Asked] = []

    def respond(one: Asked) -> bytes:
        asked_before.append(one)
        if knocks(one):
            return answer(one, {"r": ""})
        return b"" if len(asked_before) == 1 else answer(asked_before[0], {"rc": 0})

    assert ask(respond)[0] == {"rc": 0}


def test_a_line_that_damages_everything_is_given_up() -> None:
    with refused("device.lost", "the line to scripted damages", "8 requests"):
        ask(lambda one: answer(one, {"rc": 0})[:-9] + b"AAAAAAAA\n")


def test_endless_noise_is_given_up() -> None:
    noise = random.Random(1).randbytes(100_000).replace(b"\n", b" ")  # no secret
    with refused("device.absent", "no boot loader answers"):
        ask(lambda _: noise, patience=0.3)


def test_a_very_long_line_is_forgotten() -> None:
    found, _ = ask(lambda one: b"x" * 4097 + answer(one, {"rc": 0}))
    assert found == {"rc": 0}


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xff", b"\xa1\x62rc"])
def test_an_answer_that_is_no_cbor_breaks_the_protocol(body: bytes) -> None:
    with refused("device.protocol", "is not CBOR"):
        ask(lambda one: answer(one, body))


# --- answers that make no sense -----------------------------------------------------------------


def board(changes: dict[tuple[int, int, int], object]) -> SerialRecovery:
    """Return a board whose answers are sound but for the ones given."""
    sound: dict[tuple[int, int, int], object] = {
        (2, 0, 0): {"r": ""},
        (0, 0, 6): {"buf_size": 512},
        (0, 1, 0): {"images": []},
        (2, 1, 1): {"rc": 0, "off": 0},
        (2, 0, 5): {"rc": 0},
    }
    known = sound | changes
    port = Scripted(lambda one: answer(one, known[one[:3]]))
    return SerialRecovery(SmpLink(cast(Port, port)))


@pytest.mark.parametrize("images", [None, 5, [5], {"slot": 0}])
def test_a_list_that_is_none_breaks_the_protocol(images: object) -> None:
    with refused("device.protocol", "expected a list of maps"):
        board({(0, 1, 0): {"images": images}}).probe()


def test_a_list_that_is_refused_is_refused() -> None:
    with refused("device.refused", "did not list its images: not supported (8)"):
        board({(0, 1, 0): {"rc": 8}}).probe()


def test_an_error_of_version_2_is_read() -> None:
    with refused("device.refused", "did not reset: an error (77)"):
        board({(2, 0, 5): {"err": {"group": 0, "rc": 77}}}).reset()


def test_a_result_that_is_no_number_breaks_the_protocol() -> None:
    with refused("device.protocol", "result: expected a number, the boot loader says no"):
        board({(2, 0, 5): {"rc": "no"}}).reset()


@pytest.mark.parametrize("size", ["big", 0, -1, None])
def test_a_buffer_of_no_sensible_size_counts_as_unknown(size: object) -> None:
    assert ("buffer", "512 bytes") in board({(0, 0, 6): {"buf_size": size}}).probe().details


@pytest.mark.parametrize(("off", "shown"), [(None, "nothing"), ("a", "a"), (b"", "b''")])
def test_an_offset_that_is_no_number_breaks_the_protocol(off: object, shown: str) -> None:
    with refused(
        "device.protocol", f"next offset: expected a number, the boot loader says {shown}"
    ):
        board({(2, 1, 1): {"rc": 0, "off": off}}).write([Run(0, bytes(100))], no_progress)


@pytest.mark.parametrize("off", [0, -1, 33, 100])
def test_an_offset_that_leads_nowhere_breaks_the_protocol(off: int) -> None:
    with refused("device.protocol", "next offset: expected 1 to 32"):
        board({(2, 1, 1): {"rc": 0, "off": off}}).write([Run(0, bytes(100))], no_progress)


@pytest.mark.parametrize("hashed", [None, 7, "text"])
def test_an_image_without_a_hash_cannot_be_verified(hashed: object) -> None:
    listed = {"images": [{"slot": 0, "hash": hashed}]}
    found = board({(0, 1, 0): listed}).probe()
    assert found.digest is None
    assert ("image", "of unknown version") in found.details


@given(st.dictionaries(st.sampled_from(["rc", "off", "images", "err", "buf_size"]), VALUES))
def test_whatever_is_answered_only_our_errors_leave(body: dict[str, Any]) -> None:
    known = [(2, 0, 0), (0, 0, 6), (0, 1, 0), (2, 1, 1), (2, 0, 5), (2, 1, 0)]
    made = board(dict.fromkeys(known, body))
    for call in (
        made.probe,
        lambda: made.digest(0, 100),
        lambda: made.write([Run(0, bytes(100))], no_progress),
        lambda: made.finish([]),
        made.reset,
    ):
        with contextlib.suppress(Failed):
            call()
