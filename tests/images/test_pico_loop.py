"""Blocks of the RP2350 that are none."""

import struct

import pytest

from fwsign.images.pico_loop import IGNORED, LAST, START, read_loop

END = 0xAB123579


def memory(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def test_a_block_alone_is_a_loop() -> None:
    (found,) = read_loop(memory(START, 0x100 | IGNORED, 0x100 | LAST, 0, END))
    assert (found.at, found.next, found.size, len(found.items)) == (0, 0, 20, 1)


@pytest.mark.parametrize(
    "words",
    [
        (START, 0x100 | IGNORED, 0, 0),  # no last item before the memory ends
        (START, IGNORED, 0x100 | LAST, 0, END),  # an item without a size
        (START, 0x900 | IGNORED, 0x100 | LAST, 0, END),  # one that is longer than the memory
        (START, 0x100 | IGNORED, 0x200 | LAST, 0, END),  # another size than that of the items
        (START, 0x100 | IGNORED, 0x100 | LAST, 0, START),  # another end
    ],
)
def test_what_only_begins_as_a_block_is_none(words: tuple[int, ...]) -> None:
    assert read_loop(memory(*words)) == ()
