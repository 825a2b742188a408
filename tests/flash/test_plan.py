"""Every refusal before the first erase, the order of writing, and what selects what boots."""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import pytest

from flash.kit import (
    BOOT,
    ERASED,
    FACTORY_TABLE,
    FLASH_SIZE,
    OTA_TABLE,
    SECTOR,
    STOCK,
    MemoryBoard,
    board_info,
    content,
    esp_image,
    held,
    noise,
    partition_table,
    run,
)
from fwsign.errors import FwsignError
from fwsign.flash import plan as planning
from fwsign.flash.boards.board import (
    FLASH_ENCRYPTION,
    SECURE_BOOT,
    SECURE_BOOT_V1,
    SECURE_DOWNLOAD,
    BoardInfo,
)
from fwsign.flash.outcome import abandoned
from fwsign.flash.plan import Plan
from fwsign.flash.simulate.esp_stock import old_application, signed
from fwsign.images.uf2 import write_uf2
from support import refused

APP = esp_image()
RP2040 = 0xE48BFF56


def make(
    parts: Mapping[str, bytes], info: BoardInfo | None = None, flash: bytes = STOCK, *waived: str
) -> Plan:
    """Plan payloads for a board with some content in its flash."""
    return planning.make(
        held(parts),
        info or board_info(),
        lambda offset, size: flash[offset : offset + size],
        waived,
    )


def with_table(table: bytes, otadata: bytes = b"") -> bytes:
    """Return the content of a flash with a boot loader, a table, and OTA data at 0xd000."""
    return content(at_0=BOOT, at_8000=table, at_d000=otadata)


def entry(sequence: int, state: int = 0xFFFFFFFF) -> bytes:
    """Make the sector of one OTA entry."""
    crc = zlib.crc32(struct.pack("<I", sequence), 0xFFFFFFFF)
    return struct.pack("<I20sII", sequence, b"\xff" * 20, state, crc).ljust(SECTOR, b"\xff")


class TestChips:
    def test_another_chip_than_signed_is_refused(self) -> None:
        with refused("unsuitable.chip", "the release is for esp32c3, the board is esp32s3"):
            make({"esp32c3@0x10000": APP}, board_info(chip="esp32s3"))

    def test_an_image_for_another_chip_than_its_target_is_refused(self) -> None:
        with refused("unsuitable.chip", "is an image for esp32s3, signed for esp32c3"):
            make({"esp32c3@0x10000": esp_image("esp32s3")})

    def test_the_part_for_this_chip_is_taken_and_the_others_are_told(self) -> None:
        found = make({"esp32s3@0x10000": esp_image("esp32s3"), "esp32c3@0x10000": APP})
        assert [one.component for one in found.regions] == ["esp32c3@0x10000"]
        assert "for other chips, left out: esp32s3@0x10000" in found.notes

    def test_a_board_that_does_not_tell_its_chip_is_said_to(self) -> None:
        found = make({"esp32c3@0x10000": APP}, board_info(chip=None))
        assert "the board does not tell its chip, the release is for esp32c3" in found.notes
        with refused("unsuitable.chip", "the board does not tell which it is"):
            make({"esp32c3@0x0": b"1", "esp32s3@0x1000": b"2"}, board_info(chip=None))


class TestPlaces:
    def test_a_flash_too_small_is_refused(self) -> None:
        with refused("unsuitable.flash-size", "ends at 0x", "flash at 0x11000"):
            make({"esp32c3@0x10000": APP}, board_info(flash_size=0x11000))

    def test_a_region_that_begins_within_a_sector_is_refused(self) -> None:
        with refused("unsuitable.region", "expected a multiple of 4096, found 0x20100"):
            make({"esp32c3@0x20100": b"data"})

    def test_a_region_below_what_the_boot_loader_writes_is_refused(self) -> None:
        with refused("unsuitable.region", "expected 0x30000 or more, found 0x20000"):
            make({"esp32c3@0x20000": b"data"}, board_info(start=0x30000))

    def test_an_overlap_is_refused(self) -> None:
        parts = {"esp32c3@0xa0000": noise(5000), "esp32c3@0xa1000": b"data"}
        with refused("unsuitable.region", "overlap: one ends at 0xa2000, the other begins at 0xa1"):
            make(parts)

    def test_an_empty_payload_is_refused(self) -> None:
        with refused("unsuitable.region", "expected at least one byte"):
            make({"esp32c3@0x20000": b""})

    def test_an_application_where_the_boot_loader_goes_is_refused(self) -> None:
        with refused("unsuitable.region", "expected offset 0x10000, found 0x0"):
            make({"esp32c3@0x0": APP})

    def test_a_boot_loader_elsewhere_is_refused(self) -> None:
        with refused("unsuitable.region", "expected offset 0x0, found 0x10000"):
            make({"esp32c3@0x10000": BOOT})


class TestLocks:
    def test_flash_encryption_is_refused(self) -> None:
        with refused("unsuitable.locked", "flash encryption switched on"):
            make({"esp32c3@0x10000": APP}, board_info(locks=(FLASH_ENCRYPTION,)))

    def test_secure_boot_needs_a_signature(self) -> None:
        with refused("unsuitable.locked", "secure boot", "has no signature for it"):
            make({"esp32c3@0x10000": APP}, board_info(locks=(SECURE_BOOT,)))

    def test_secure_boot_lets_data_pass(self) -> None:
        assert make({"esp32c3@0xa0000": noise(99)}, board_info(locks=(SECURE_BOOT,))).regions

    def test_secure_boot_v1_protects_the_boot_loader(self) -> None:
        with refused("unsuitable.locked", "esp32c3@0x0 is below 0x8000"):
            make({"esp32c3@0x0": BOOT}, board_info(locks=(SECURE_BOOT_V1,)))

    @pytest.mark.parametrize("lock", [SECURE_BOOT_V1, SECURE_BOOT])
    @pytest.mark.parametrize("flash", [STOCK, ERASED, with_table(OTA_TABLE)])
    def test_an_unsigned_application_is_refused_everywhere(self, lock: str, flash: bytes) -> None:
        with refused("unsuitable.locked", f"{lock} switched on, and esp32c3@0x10000 has no sig"):
            make({"esp32c3@0x10000": APP}, board_info(locks=(lock,)), flash)

    def test_secure_download_mode_hides_the_partition_table(self) -> None:
        info = board_info(locks=(SECURE_DOWNLOAD,), readable=False)
        found = planning.make(held({"esp32c3@0x10000": APP}), info, lambda *_: None)
        assert found.notes == ("boot not controlled: the board's partition table is not known",)


class TestOrder:
    PARTS: Mapping[str, bytes] = {
        "esp32c3@0x0": BOOT,
        "esp32c3@0x8000": FACTORY_TABLE,
        "esp32c3@0x10000": APP,
    }

    def test_boot_loader_last_partition_table_before_it(self) -> None:
        found = make(self.PARTS)
        assert [one.offset for one in found.regions] == [0x10000, 0x8000, 0]
        assert found.notes == ()

    def test_a_merged_image_is_cut_into_the_same_order(self) -> None:
        merged = (BOOT.ljust(0x8000, b"\xff") + FACTORY_TABLE).ljust(0x10000, b"\xff") + APP
        found = make({"esp32c3@0x0": merged}, flash=ERASED)
        assert [one.offset for one in found.regions] == [0x9000, 0x8000, 0]
        board = MemoryBoard(b"old" * 100)
        assert run(board, {"esp32c3@0x0": merged}).status == "verified"
        assert board.holds({"esp32c3@0x0": merged})
        erased = [offset for offset, _ in board.did("erase")]
        assert erased.index(0x10000) < erased.index(0x8000) < erased.index(0)


class TestPartitions:
    def test_an_application_that_does_not_fit_is_refused(self) -> None:
        small = partition_table(("factory", 0, 0, 0x10000, 0x1000))
        with refused("unsuitable.partition", 'partition "factory" has 4096'):
            make({"esp32c3@0x10000": APP}, flash=with_table(small))

    def test_an_application_outside_any_partition_is_refused(self) -> None:
        with refused("unsuitable.partition", "no partition for one begins at 0x20000"):
            make({"esp32c3@0x20000": APP}, flash=with_table(FACTORY_TABLE))

    def test_the_table_in_the_release_counts_and_not_the_one_on_the_board(self) -> None:
        parts = {"esp32c3@0x8000": FACTORY_TABLE, "esp32c3@0x10000": APP}
        moved = partition_table(("factory", 0, 0, 0x20000, 0x10000))
        assert len(make(parts, flash=with_table(moved)).regions) == 2

    def test_a_table_beyond_the_flash_is_refused(self) -> None:
        table = partition_table(("factory", 0, 0, 0x10000, 2 * FLASH_SIZE))
        with refused("unsuitable.partition", 'partition "factory" is at 0x10000 to 0x210000'):
            make({"esp32c3@0x8000": table})

    def test_a_partition_on_the_table_is_refused(self) -> None:
        table = partition_table(("nvs", 1, 2, 0x8000, 0x1000))
        with refused("unsuitable.partition", 'partition "nvs" is at 0x8000'):
            make({"esp32c3@0x8000": table})

    def test_a_damaged_table_in_the_release_is_refused(self) -> None:
        damaged = FACTORY_TABLE.replace(b"factory", b"factorz")
        with refused("malformed.image", "md5 of partition table"):
            make({"esp32c3@0x8000": damaged})

    def test_a_board_without_a_table_would_not_start(self) -> None:
        with refused("unsuitable.bootable", "no partition table is in the release or on the b"):
            make({"esp32c3@0x10000": APP}, flash=content(at_0=BOOT))

    def test_a_board_without_a_boot_loader_would_not_start(self) -> None:
        words = "the chip starts a boot loader at 0x0, and there is none"
        with refused("unsuitable.bootable", words) as caught:
            make({"esp32c3@0x10000": APP}, flash=content(at_8000=FACTORY_TABLE))
        assert "--accept unbootable" in str(caught.value.hint)
        board = MemoryBoard(ERASED)
        found = run(board, {"esp32c3@0x10000": APP}, waived=("unbootable",))
        assert (found.status, found.notes) == ("not bootable", (f"boot not controlled: {words}",))

    def test_a_damaged_boot_loader_on_the_board_would_not_start(self) -> None:
        flash = content(
            at_0=BOOT[:-40] + bytes([BOOT[-40] ^ 1]) + BOOT[-39:], at_8000=FACTORY_TABLE
        )
        with refused(
            "unsuitable.bootable", "the chip starts a boot loader at 0x0, and it is damaged"
        ):
            make({"esp32c3@0x10000": APP}, flash=flash)

    def test_data_alone_needs_no_control(self) -> None:
        found = make({"esp32c3@0x9000": noise(99)}, flash=with_table(OTA_TABLE))
        assert (found.selection, found.notes) == (None, ())


class TestSelection:
    def select(self, target: str, otadata: bytes, table: bytes = OTA_TABLE) -> Plan:
        return make({target: APP}, flash=with_table(table, otadata))

    @pytest.mark.parametrize(
        ("target", "otadata", "sequence", "sector"),
        [
            ("esp32c3@0x50000", b"", 2, 0),
            ("esp32c3@0x50000", entry(1), 2, 1),
            ("esp32c3@0x10000", entry(1) + entry(2), 3, 0),
            ("esp32c3@0x50000", entry(5) + entry(4), 6, 1),
            ("esp32c3@0x50000", entry(5) + entry(6, state=4), 6, 1),  # 6 was aborted
        ],
    )
    def test_the_slot_that_was_written_is_selected(
        self, target: str, otadata: bytes, sequence: int, sector: int
    ) -> None:
        found = self.select(target, otadata)
        assert found.selection is not None
        assert found.selection.offset == 0xD000 + sector * SECTOR
        assert found.selection.data == entry(sequence)
        assert found.notes == ()

    @pytest.mark.parametrize(
        ("target", "otadata"),
        [
            ("esp32c3@0x10000", b""),
            ("esp32c3@0x10000", entry(1)),
            ("esp32c3@0x50000", entry(1) + entry(2)),
            ("esp32c3@0x10000", entry(3) + entry(2)),
            ("esp32c3@0x10000", entry(1) + entry(2, state=3)),  # 2 is invalid
            ("esp32c3@0x10000", entry(1) + entry(2).replace(b"\xff", b"\0", 1)[:16] + b"bad!"),
        ],
    )
    def test_a_slot_that_boots_already_is_left_alone(self, target: str, otadata: bytes) -> None:
        found = self.select(target, otadata)
        assert (found.selection, found.notes) == (None, ())

    def test_the_factory_application_needs_erased_ota_data(self) -> None:
        table = partition_table(
            ("otadata", 1, 0, 0xD000, 0x2000),
            ("factory", 0, 0, 0x10000, 0x40000),
            ("ota_0", 0, 0x10, 0x50000, 0x40000),
        )
        found = self.select("esp32c3@0x10000", entry(1), table)
        assert found.selection is not None
        assert found.selection == (0xD000, b"\xff" * 2 * SECTOR)
        assert self.select("esp32c3@0x10000", b"", table).selection is None

    def test_a_slot_without_ota_data_is_out_of_control(self) -> None:
        table = partition_table(
            ("factory", 0, 0, 0x10000, 0x40000), ("ota_0", 0, 0x10, 0x50000, 0x40000)
        )
        found = self.select("esp32c3@0x50000", b"", table)
        note = 'boot not controlled: nothing selects "ota_0", which was written'
        assert (found.selection, found.notes) == (None, (note,))

    def test_the_test_application_is_out_of_control(self) -> None:
        table = partition_table(
            ("otadata", 1, 0, 0xD000, 0x2000),
            ("factory", 0, 0, 0x10000, 0x40000),
            ("test", 0, 0x20, 0x50000, 0x40000),
        )
        with refused("unsuitable.bootable", 'nothing selects "test", which was written'):
            self.select("esp32c3@0x50000", b"", table)

    @pytest.mark.parametrize("last", [0xFFFFFFFD, 0xFFFFFFFE])
    def test_numbers_that_are_used_up_begin_anew(self, last: int) -> None:
        target = "esp32c3@0x10000" if last % 2 == 0 else "esp32c3@0x50000"
        found = self.select(target, entry(last - 1) + entry(last))
        number = 1 if last % 2 == 0 else last + 1
        fresh = (0xD000, entry(1) + b"\xff" * SECTOR)
        assert found.selection == (fresh if number == 1 else (0xD000, entry(number)))

    def test_signed_ota_data_is_never_replaced(self) -> None:
        parts = {"esp32c3@0x50000": APP, "esp32c3@0xd000": entry(1) + b"\xff" * SECTOR}
        flash = with_table(OTA_TABLE, entry(1) + entry(2))
        with refused("unsuitable.bootable", 'OTA data of the release does not select "ota_1"'):
            make(parts, flash=flash)
        assert make(parts, None, flash, "unbootable").selection is None

    @pytest.mark.parametrize("step", range(0, 60, 3))
    def test_a_board_switches_slots_whatever_happens(self, step: int) -> None:
        def fault(now: int) -> None:
            if now == step:
                from flash.kit import lost

                raise lost()

        board = MemoryBoard(with_table(OTA_TABLE, entry(1)), fault=fault)
        found = run(board, {"esp32c3@0x50000": APP})
        assert found.status == "verified"
        assert board.flash[0xD000 : 0xD000 + 2 * SECTOR] == entry(1) + entry(2)


class TestUf2:
    INFO: BoardInfo = board_info(kind="pico-uf2", chip="rp2040", digest=None, flash_size=None)

    def test_a_uf2_file_is_unpacked(self) -> None:
        data = noise(1000)
        parts = {"rp2040@0x4000": write_uf2(data, 0x10004000, RP2040)}
        found = make(parts, self.INFO)
        (region,) = found.regions
        assert region.run == (0x4000, data.ljust(1024, b"\0"))
        assert found.notes == (
            "the board does not tell the size of its flash, so that was not checked",
            "boot not controlled: what begins the flash was not written",
        )

    def test_a_uf2_file_for_another_place_than_signed_is_refused(self) -> None:
        parts = {"rp2040@0x5000": write_uf2(noise(256), 0x10004000, RP2040)}
        with refused("unsuitable.region", "expected rp2040@0x4000, found rp2040@0x5000"):
            make(parts, self.INFO)

    def test_a_uf2_file_for_ram_is_refused(self) -> None:
        parts = {"rp2040@0x0": write_uf2(noise(256), 0x20000000, RP2040)}
        with refused("unsuitable.payload", "nothing for the flash of rp2040: for rp2040 it is a"):
            make(parts, self.INFO)

    def scattered(self, *offsets: int) -> dict[str, bytes]:
        """Return a file of single pages, and of its target."""
        files = [write_uf2(noise(256, at), 0x10000000 + at, RP2040) for at in offsets]
        return {f"rp2040@0x{min(offsets):x}": b"".join(files)}

    @pytest.mark.parametrize(
        ("offsets", "regions"),
        [
            ((0x4000, 0x4200), [(0x4000, 0x300)]),
            ((0x4000, 0x4F00, 0x5000), [(0x4000, 0x1100)]),
            ((0x4000, 0x5100), [(0x4000, 0x100), (0x5000, 0x200)]),
            ((0x4000, 0x4100, 0x6000), [(0x4000, 0x200), (0x6000, 0x100)]),
        ],
    )
    def test_holes_in_a_sector_are_filled_with_what_the_flash_holds(
        self, offsets: tuple[int, ...], regions: list[tuple[int, int]]
    ) -> None:
        flash = noise(FLASH_SIZE, 9)
        found = make(self.scattered(*offsets), self.INFO, flash)
        assert sorted((one.offset, one.size) for one in found.regions) == regions
        for region in found.regions:
            right = bytearray(flash[region.offset : region.end])
            for at in offsets:
                if region.offset <= at < region.end:
                    right[at - region.offset : at - region.offset + 256] = noise(256, at)
            assert region.run.data == right

    def test_holes_that_cannot_be_read_are_refused_with_the_way_out(self) -> None:
        words = "leaves out 256 bytes at 0x4100, in a sector of 4096 that is erased as a whole"
        with refused("unsuitable.region", words) as caught:
            planning.make(
                held(self.scattered(0x4000, 0x4200)),
                self.INFO._replace(readable=False),
                lambda *_: None,
            )
        assert "or let the linker fill the gaps" in (caught.value.hint or "")

    def test_whole_sectors_need_no_reading(self) -> None:
        parts = self.scattered(0x4000, 0x5000)
        found = planning.make(held(parts), self.INFO, lambda *_: pytest.fail("it was read"))
        assert len(found.regions) == 2

    def test_holes_beyond_the_flash_are_not_read(self) -> None:
        pages = [
            write_uf2(noise(256), 0x10000000 + at, RP2040) for at in (0x4000, FLASH_SIZE + 256)
        ]
        with refused("unsuitable.flash-size", f"the board's flash at 0x{FLASH_SIZE:x}"):
            planning.make(
                held({"rp2040@0x4000": b"".join(pages)}),
                self.INFO._replace(flash_size=FLASH_SIZE),
                lambda *_: pytest.fail("it was read"),
            )

    def test_a_place_beyond_what_a_pico_reaches_is_refused(self) -> None:
        parts = {"rp2350@0x1000000": write_uf2(noise(256), 0x11000000, 0xE48BFF59)}
        words = "ends at 0x1000100, the board's flash at 0x1000000"
        with refused("unsuitable.flash-size", words):
            make(parts, self.INFO._replace(chip="rp2350"))

    def test_a_uf2_file_is_not_for_esp_boards(self) -> None:
        parts = {"esp32c3@0x10000": write_uf2(noise(256), 0x10000, 0xD42BA06C)}
        with refused("unsuitable.payload", "is of kind uf2"):
            make(parts)


def test_mcuboot_boards_take_mcuboot_images_alone() -> None:
    with refused("unsuitable.payload", "is of kind unknown, this board takes an MCUboot image"):
        make({"nrf52840@0x0": noise(99)}, board_info(kind="smp", chip=None, sector=1))


def test_esp8266_boots_what_is_at_zero() -> None:
    info, app = board_info(chip="esp8266"), old_application()
    assert make({"esp8266@0x0": app}, info).notes == ()
    for flash in (b"", app):
        found = make({"esp8266@0x10000": noise(99)}, info, flash)
        assert found.notes == ("boot not controlled: nothing was written at 0x0",)
    found = make({"esp8266@0x10000": app}, info, app)
    assert found.notes == ("boot not controlled: nothing was written at 0x0",)


@pytest.mark.parametrize("flash", [b"", noise(9000), old_application()[:-1]])
def test_esp8266_with_nothing_whole_at_zero_is_refused(flash: bytes) -> None:
    info, parts = board_info(chip="esp8266"), {"esp8266@0x10000": old_application()}
    with refused("unsuitable.bootable", "the chip starts the image at 0x0, and there is none: esp"):
        make(parts, info, flash)
    found = make(parts, info, flash, "unbootable")
    assert found.unbootable is not None


@pytest.mark.parametrize("data", [noise(99), b"\xea" + old_application()[1:]])
def test_esp8266_starts_no_other_bytes(data: bytes) -> None:
    info = board_info(chip="esp8266")
    with refused("unsuitable.region", "expected an image at 0x0, found no image that it starts"):
        make({"esp8266@0x0": data}, info)


class TestHeld:
    def hold(self, waived: tuple[str, ...] = (), **more: Any) -> FwsignError:
        with pytest.raises(FwsignError) as caught:
            held({"esp32c3@0x10000": APP}, waived, **more)
        return caught.value

    def test_what_was_not_checked_refuses(self) -> None:
        found = self.hold(min_sequence=None)
        assert found.code == "state.unchecked"
        assert found.message == "not checked, and not waived by name: rollback"

    def test_what_was_waived_by_name_passes(self) -> None:
        assert held({"esp32c3@0x10000": APP}, ("rollback", "product"), min_sequence=None).payloads

    def test_revocation_off_needs_its_waiver(self) -> None:
        assert self.hold(revocation="off").found == "revocation"
        assert held({"esp32c3@0x10000": APP}, ("revocation",), revocation="off").payloads


class TestWholeRelease:
    """What is written fits together, and nothing of the release is left out under a good word."""

    TABLE: Mapping[str, bytes] = {"esp32c3@0x8000": OTA_TABLE}

    @pytest.mark.parametrize(
        ("target", "data", "words"),
        [
            ("esp32c3@0x0", noise(9000), "the boot loader at 0x0, found no image for an ESP"),
            ("esp32c3@0x0", FACTORY_TABLE, "expected offset 0x8000, found 0x0"),
            ("esp32c3@0x0", b"\xff" * 8192, "expected 0xd000, found OTA data at 0x0"),
            ("esp32c3@0x10000", noise(9000), 'in "ota_0" at 0x10000, found no image for an ESP'),
            ("esp32c3@0x50000", b"\xff" * 8192, "expected 0xd000, found OTA data at 0x50000"),
            ("esp32c3@0x4f000", noise(9000), 'in "ota_1" at 0x50000, found no image'),
            ("esp32c3@0x7000", noise(9000), "a partition table at 0x8000, found other bytes"),
        ],
    )
    def test_what_would_not_start_is_refused(self, target: str, data: bytes, words: str) -> None:
        with refused("unsuitable.region", words):
            make({target: data}, flash=with_table(OTA_TABLE))

    def test_the_releases_own_table_says_what_starts_where(self) -> None:
        with refused("unsuitable.region", 'the application in "ota_0" at 0x10000'):
            make({**self.TABLE, "esp32c3@0x10000": noise(99)})
        parts = {**self.TABLE, "esp32c3@0x10000": APP, "esp32c3@0xd000": b"\xff" * 8192}
        assert [one.offset for one in make(parts).regions] == [0xD000, 0x10000, 0x8000]

    def test_a_table_elsewhere_is_the_table_too(self) -> None:
        moved = partition_table(("nvs", 1, 2, 0x11000, 0x4000), ("factory", 0, 0, 0x20000, 0x80000))
        parts = {"esp32c3@0x0": BOOT, "esp32c3@0x10000": moved, "esp32c3@0x20000": APP}
        found = make(parts)
        assert [one.offset for one in found.regions] == [0x20000, 0x10000, 0]
        assert found.notes == (
            "boot not controlled: the partition table moves from 0x8000 to 0x10000",
        )
        with refused("unsuitable.partition", "no partition for one begins at 0x30000"):
            make({"esp32c3@0x10000": moved, "esp32c3@0x30000": APP})
        low = partition_table(("nvs", 1, 2, 0x9000, 0x4000), ("factory", 0, 0, 0x20000, 0x80000))
        with refused("unsuitable.partition", 'partition "nvs" is at 0x9000'):
            make({"esp32c3@0x10000": low})

    def test_a_table_does_not_move_without_its_boot_loader(self) -> None:
        moved = partition_table(("nvs", 1, 2, 0x11000, 0x4000), ("factory", 0, 0, 0x20000, 0x80000))
        parts = {"esp32c3@0x10000": moved, "esp32c3@0x20000": APP}
        words = "moves from 0x8000 to 0x10000, where the board's boot loader may not look"
        assert make(parts).unbootable == f"the partition table {words}"
        assert run(MemoryBoard(STOCK), parts).status == "not bootable"
        on_board = content(at_0=BOOT, at_10000=moved)
        assert make(parts, flash=on_board).notes == ()
        assert make({"esp32c3@0x20000": APP}, flash=on_board).notes == ()

    def test_two_tables_are_refused(self) -> None:
        with refused("unsuitable.partition", "esp32c3@0x8000 and esp32c3@0x9000 are both"):
            make({**self.TABLE, "esp32c3@0x9000": FACTORY_TABLE})

    def test_a_table_without_an_application_says_that_nothing_starts(self) -> None:
        words = 'no application is in "ota_0" at 0x10000, "ota_1" at 0x50000'
        with refused("unsuitable.bootable", f"would not start what is written: {words}"):
            make(self.TABLE)
        found = make(self.TABLE, None, STOCK, "unbootable")
        assert (found.unbootable, found.notes) == (words, (f"boot not controlled: {words}",))
        assert make(self.TABLE, flash=content(at_0=BOOT, at_10000=APP)).notes == ()

    def test_ota_data_needs_a_partition(self) -> None:
        with refused("unsuitable.region", "expected a partition for it in the table"):
            make({"esp32c3@0xd000": b"\xff" * 8192}, flash=with_table(FACTORY_TABLE))

    def test_secure_boot_needs_no_signature_of_a_table(self) -> None:
        flash = content(at_0=BOOT, at_10000=signed(APP, 2))
        assert make(self.TABLE, board_info(locks=(SECURE_BOOT,)), flash).regions


def test_a_dry_run_counts_what_selects_a_slot() -> None:
    board = MemoryBoard(with_table(OTA_TABLE))
    parts = {"esp32c3@0x50000": APP}
    found = run(board, parts, dry_run=True)
    size = -(-len(APP) // SECTOR) * SECTOR
    assert (found.status, found.differing, found.written) == ("dry run", size + SECTOR, 0)
    assert run(board, parts).differing == size
    assert run(board, parts, dry_run=True).differing == 0


def test_a_board_that_nobody_waits_for_may_have_been_written_to() -> None:
    found = abandoned()
    assert (found.status, found.touched, found.differing) == ("incomplete", True, None)
    assert found.error is not None
    assert str(found.error) == "ended at once: what the board holds is not known"


def test_a_board_gets_nothing_that_goes_elsewhere() -> None:
    parts = {"esp32c3@0x10000": APP, "esp32s3@0x10000": esp_image("esp32s3")}
    plan = planning.make(
        held(parts, elsewhere=("esp32s3@0x10000",)),
        board_info(),
        lambda offset, size: STOCK[offset : offset + size],
    )
    assert "not for this board, they go elsewhere: esp32s3@0x10000" in plan.notes
    with refused("unsuitable.chip", "the release is for esp32s3, the board is esp32c3"):
        planning.make(held(parts, elsewhere=("esp32c3@0x10000",)), board_info(), lambda *_: None)
