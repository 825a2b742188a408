# SPDX-License-Identifier: Apache-2.0
"""UF2 files for several chips: one release, and each board takes its part."""

import json
from pathlib import Path

import pytest

from cli.kit import SAMPLES, good, refused, run
from flash.smp_kit import image
from fwsign.images.uf2 import write_uf2
from support import require_package

BOTH = ["rp2040@0x0", "rp2350@0x0"]


@pytest.fixture
def universal(project: Path) -> Path:
    """A project with a file for both chips."""
    require_package("serial")
    samples = [(SAMPLES / f"blink-{chip}.uf2").read_bytes() for chip in ("rp2350", "rp2040")]
    (project / "blink.uf2").write_bytes(b"".join(samples))
    return project


def components(envelope: str) -> list[tuple[str, str, str]]:
    found = json.loads(good("verify", envelope, "--json"))["release"]
    return [(one["name"], one["uri"], one["digest"]) for one in found["components"]]


@pytest.mark.parametrize("more", [(), ("--embed",), ("--output", "blink.uf2.suit")])
def test_one_component_for_each_chip_over_the_same_file(universal: Path, more: list[str]) -> None:
    signed = run("sign", "blink.uf2", *more)
    assert signed.status == 0, signed.err
    first, second = components("blink.uf2.suit")
    assert [first[0], second[0]] == BOTH
    assert first[1:] == second[1:]
    if not more:
        assert "for rp2040, rp2350: each board takes what is for its own chip" in signed.err
        good("verify", "blink.uf2.suit", "blink.uf2")
        (universal / "renamed").write_bytes((universal / "blink.uf2").read_bytes())
        good("verify", "blink.uf2.suit", "renamed")
        (universal / "blink.uf2").write_bytes(b"other")
        assert run("verify", "blink.uf2.suit").status == 1


@pytest.mark.usefixtures("universal")
def test_block_lists_of_a_shared_payload() -> None:
    good("sign", "blink.uf2", "--block-size", "4096")
    good("verify", "blink.uf2.suit", "blink.uf2")
    assert [one[0] for one in components("blink.uf2.suit")] == BOTH


def test_files_beside_a_universal_one(universal: Path) -> None:
    (universal / "app.bin").write_bytes((SAMPLES / "blink-esp32c3.bin").read_bytes())
    good("sign", "blink.uf2", "app.bin", "--output", "all.suit")
    assert [one[0] for one in components("all.suit")] == [*BOTH, "esp32c3@0x10000"]
    good("verify", "all.suit", "app.bin", "blink.uf2")


@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_each_board_takes_its_part(universal: Path, chip: str) -> None:
    good("sign", "blink.uf2", "--sequence", "1000")
    port = f"sim:pico-bootsel?chip={chip}&flash={chip}.flash"
    blind = run("flash", "blink.uf2.suit", "--port", port)
    words = f"error: {port}: the board cannot show what it holds, so that nothing could be verified"
    assert (blind.status, blind.errors[0]) == (4, words)
    flashed = ("flash", "blink.uf2.suit", "--port", port, "--accept-unverifiable", "--json")
    found = json.loads(good(*flashed))
    assert [one["component"] for one in found["regions"]] == [f"{chip}@0x0"]
    one, two = ((universal / f"{name}.flash") for name in (chip, "alone"))
    good("sign", "blink.uf2", "--target", f"{chip}@0x0", "--sequence", "1001", "--force")
    assert [name for name, _, _ in components("blink.uf2.suit")] == [f"{chip}@0x0"]
    alone = f"sim:pico-bootsel?chip={chip}&flash=alone.flash"
    good("flash", "blink.uf2.suit", "--port", alone, "--accept-unverifiable")
    assert one.read_bytes() == two.read_bytes()
    receipt = json.loads(good(*flashed))
    assert receipt["board"]["chip"] == chip
    assert one.read_bytes().strip(b"\xff")


@pytest.mark.usefixtures("universal")
def test_chip_that_was_left_out_by_its_target_is_refused() -> None:
    good("sign", "blink.uf2", "--target", "rp2040@0x0")
    port = "sim:pico-bootsel?chip=rp2350"
    found = run("flash", "blink.uf2.suit", "--port", port, "--accept-unverifiable")
    words = f"error: {port}: the release is for rp2040, the board is rp2350"
    assert (found.status, found.errors[0]) == (4, words)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            "rp2040@0x4000",
            "is a UF2 file for rp2040@0x0 or rp2350@0x0, the target is rp2040@0x4000",
        ),
        ("esp32c3@0x0", "is a UF2 file for rp2040@0x0 or rp2350@0x0, the target is esp32c3@0x0"),
    ],
)
def test_other_targets_are_refused(universal: Path, target: str, words: str) -> None:
    found = run("sign", "blink.uf2", "--target", target)
    refused(found, 1, f"blink.uf2 {words}", "--target rp2040@0x0")
    assert not (universal / "blink.uf2.suit").exists()


def test_remarks_are_said_when_signing(universal: Path) -> None:
    mixed = (universal / "blink.uf2").read_bytes()
    blocks = [mixed[at : at + 512] for at in range(0, len(mixed), 512)]
    (universal / "blink.uf2").write_bytes(b"".join([*blocks[1:], blocks[0]]))
    found = run("sign", "blink.uf2")
    assert "blink.uf2: the block for erratum RP2350-E10 is not the first" in found.err


def test_show_lists_each_family_with_its_ranges_and_the_places(universal: Path) -> None:
    shown = good("show", "blink.uf2").splitlines()
    assert [line for line in shown if line.startswith("usual places")] == [
        "usual places: rp2040@0x0",
        "usual places: rp2350@0x0",
    ]
    ranges = [line for line in shown if line.startswith("range: ")]
    assert any(line.endswith(", rp2040 (0xe48bff56)") for line in ranges)
    assert any(line.endswith(", rp2350-arm-s (0xe48bff59)") for line in ranges)
    (card,) = json.loads(good("show", "--json", "blink.uf2"))["content"]
    assert card["usual places"] == BOTH
    (universal / "ram.uf2").write_bytes(write_uf2(bytes(256), 0x20000000, 0xE48BFF56))
    assert "note: for rp2040 it is a program in RAM" in good("show", "ram.uf2")


def test_mcuboot_image_without_a_target_is_said_to_be_a_file(universal: Path) -> None:
    (universal / "app.bin").write_bytes(image())
    remark = (
        "app.bin: an MCUboot image does not name its chip, so this is signed as a file; for boards "
        "with serial recovery: --target app.bin=CHIP@0x0, --target file if it is meant"
    )
    assert remark in run("sign", "app.bin").err
    found = run("flash", "app.bin.suit", "--port", "sim:smp")
    assert found.status == 4
    assert found.errors == [
        "error: nothing in this release is for flash, it has app.bin",
        "hint: what is for a board is signed so: fwsign sign FILE --target CHIP@OFFSET",
    ]
    for target in ("file", "nrf52840@0x0"):
        assert remark not in run("sign", "--force", "app.bin", "--target", target).err
    good("flash", "app.bin.suit", "--port", "sim:smp")
