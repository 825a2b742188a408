"""What a release makes of an ESP's flash: needs, the table in force, data that stays, waivers."""

import hashlib
import struct

import pytest

from flash.esp_kit import bench
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
    stock,
)
from flash.test_plan import entry, make
from fwsign.flash import plan as planning
from fwsign.flash.engine import flash
from fwsign.flash.outcome import Judged, Options
from fwsign.flash.simulate.esp_stock import (
    Head,
    application,
    boot_loader,
    old_application,
    signature_block,
    signed,
)
from fwsign.flash.simulate.esp_stock import stock as esp_stock
from fwsign.images.esp import CHIPS
from support import refused, require_package

APP = esp_image()
MCUBOOT = struct.pack("<IIHHIIBBHI4x", 0x96F3B83D, 0, 32, 0, 64, 0, 1, 0, 0, 0) + bytes(64)
NVS = partition_table(
    ("nvs", 1, 2, 0x9000, 0x4000),
    ("otadata", 1, 0, 0xD000, 0x2000),
    ("phy", 1, 1, 0xF000, 0x1000),
    ("ota_0", 0, 0x10, 0x10000, 0x40000),
    ("ota_1", 0, 0x11, 0x50000, 0x40000),
    ("files", 1, 0x82, 0x90000, 0x10000),
)


def merged(
    table: bytes = FACTORY_TABLE, app: bytes = APP, boot: bytes = BOOT, **more: bytes
) -> bytes:
    """Make a merged image, which ends with its last bytes."""
    whole = content(at_0=boot, at_8000=table, at_10000=app, **more)
    return whole.rstrip(b"\xff")


class TestNeeds:
    @pytest.mark.parametrize(
        ("limits", "revision", "words"),
        [
            ((301, 399), 101, "v3.1 to v3.99, the board's has v1.1"),
            ((301, 399), 400, "v3.1 to v3.99, the board's has v4.0"),
            ((3, 0xFFFF), 2, "v0.3 or later, the board's has v0.2"),
            ((100, 0), 99, "v1.0 or later, the board's has v0.99"),
        ],
    )
    @pytest.mark.parametrize("role", ["boot loader", "application", "merged"])
    def test_another_revision_is_refused(
        self, limits: tuple[int, int], revision: int, words: str, role: str
    ) -> None:
        boot = esp_image(app=False, revisions=limits)
        app = esp_image(revisions=limits)
        parts = {
            "boot loader": {"esp32c3@0x0": boot, "esp32c3@0x10000": APP},
            "application": {"esp32c3@0x10000": app},
            "merged": {"esp32c3@0x0": merged(app=app)},
        }[role]
        info = board_info(revision=revision)
        with refused("unsuitable.revision", f"needs a chip of revision {words}") as caught:
            make(parts, info)
        assert "--accept revision" in str(caught.value.hint)
        assert make(parts, info, STOCK, "revision").regions

    @pytest.mark.parametrize("revision", [301, 350, 399, None])
    def test_a_revision_that_suits_passes(self, revision: int | None) -> None:
        app = esp_image(revisions=(301, 399))
        assert make({"esp32c3@0x10000": app}, board_info(revision=revision)).regions

    def test_a_boot_loader_on_the_board_is_not_judged_by_its_revision_twice(self) -> None:
        flash = content(at_0=esp_image(app=False, revisions=(300, 0)), at_8000=FACTORY_TABLE)
        with refused("unsuitable.revision", "the boot loader on the board needs"):
            make({"esp32c3@0x10000": APP}, board_info(revision=200), flash)

    def test_a_header_for_a_larger_flash_is_refused(self) -> None:
        app = esp_image(megabytes=16)
        words = "esp32c3@0x10000 is made for a flash of 16 MB, the board has 1 MB"
        with refused("unsuitable.flash-size", words) as caught:
            make({"esp32c3@0x10000": app})
        assert "--accept flash-size" in str(caught.value.hint)
        assert make({"esp32c3@0x10000": app}, None, STOCK, "flash-size").regions
        assert make({"esp32c3@0x10000": app}, board_info(flash_size=None)).regions

    def test_a_boot_loader_for_a_smaller_flash_than_the_table_is_refused(self) -> None:
        info = board_info(flash_size=4 << 20)
        table = partition_table(("factory", 0, 0, 0x10000, 0x300000))
        parts = {"esp32c3@0x8000": table, "esp32c3@0x10000": APP}
        words = "made for a flash of 1 MB, the partition table ends at 0x310000"
        with refused("unsuitable.flash-size", f"the boot loader on the board is {words}"):
            make(parts, info)
        with refused("unsuitable.flash-size", f"esp32c3@0x0 is {words}"):
            make({"esp32c3@0x0": BOOT, **parts}, info)
        boot = esp_image(app=False, megabytes=4)
        assert make({"esp32c3@0x0": boot, **parts}, info).regions


@pytest.mark.parametrize("chip", [one.name for one in CHIPS])
def test_every_chip_has_its_place_for_a_boot_loader(chip: str) -> None:
    place = next(one.bootloader for one in CHIPS if one.name == chip)
    boot = esp_image(chip, app=False)
    parts = {
        f"{chip}@{place:#x}": boot,
        f"{chip}@0x8000": FACTORY_TABLE,
        f"{chip}@0x10000": esp_image(chip),
    }
    info = board_info(chip=chip)
    assert [one.offset for one in make(parts, info, ERASED).regions] == [0x10000, 0x8000, place]
    for wrong in {0, 0x1000, 0x2000} - {place}:
        with refused("unsuitable.region", f"expected offset {place:#x}, found {wrong:#x}"):
            make({f"{chip}@{wrong:#x}": boot}, info, ERASED)


class TestData:
    """Data lies where the table has room for it, and nowhere else."""

    @pytest.mark.parametrize(
        ("target", "data", "words"),
        [
            ("esp32c3@0x1000", noise(99), "the boot loader below 0x8000, found no image"),
            ("esp32c3@0x8000", noise(99), "a partition table at 0x8000, found other bytes"),
            ("esp32c3@0x7000", noise(9000), "a partition table at 0x8000, found other bytes"),
            ("esp32c3@0xd000", noise(99), 'OTA data in "otadata", found other bytes'),
            ("esp32c3@0xc000", noise(9000), 'OTA data in "otadata", found other bytes'),
            ("esp32c3@0x10000", noise(99), 'the application in "ota_0" at 0x10000, found no im'),
            ("esp32c3@0x20000", noise(99), 'an application in "ota_0" at 0x10000, found no im'),
            ("esp32c3@0xf000", noise(5000), 'the application in "ota_0" at 0x10000, found no im'),
        ],
    )
    def test_data_over_something_else_is_refused(
        self, target: str, data: bytes, words: str
    ) -> None:
        flash = content(at_0=BOOT, at_8000=NVS)
        with refused("unsuitable.region", words):
            make({target: data}, flash=flash)
        if "partition table" not in words:
            assert make({target: data}, None, flash, "raw").regions

    @pytest.mark.parametrize(
        ("place", "size", "words"),
        [
            (0x9000, 0x3350, 'goes to 0x9000 to 0xc350, partition "nvs" is at 0x9000 to 0xb000'),
            (0xC000, 0x1001, 'goes to 0xc000 to 0xd001, partition "x" is at 0xd000 to 0xe000'),
        ],
    )
    def test_data_beyond_its_partition_is_refused(self, place: int, size: int, words: str) -> None:
        table = partition_table(("nvs", 1, 2, 0x9000, 0x2000), ("x", 1, 6, 0xD000, 0x1000))
        flash = content(at_0=BOOT, at_8000=table)
        with refused("unsuitable.partition", words):
            make({f"esp32c3@{place:#x}": noise(size)}, flash=flash)

    @pytest.mark.parametrize(
        "target", ["esp32c3@0x9000", "esp32c3@0xa000", "esp32c3@0x90000", "esp32c3@0xb0000"]
    )
    def test_data_in_its_partition_or_outside_of_all_passes(self, target: str) -> None:
        found = make({target: noise(99)}, flash=content(at_0=BOOT, at_8000=NVS))
        assert (found.selection, found.notes) == (None, ())

    def test_an_application_elsewhere_needs_its_waiver(self) -> None:
        parts = {"esp32c3@0x10000": APP, "esp32c3@0xa0000": esp_image(seed=3)}
        with refused("unsuitable.partition", "no partition for one begins at 0xa0000"):
            make(parts)
        assert len(make(parts, None, STOCK, "layout").regions) == 2

    def test_a_damaged_image_needs_raw(self) -> None:
        broken = APP[:500] + bytes([APP[500] ^ 1]) + APP[501:]
        with refused("malformed.image"):
            make({"esp32c3@0x10000": broken})
        raw = held({"esp32c3@0x10000": broken}, ("raw",))
        board = MemoryBoard(STOCK)
        found = flash(
            board.connect,
            lambda _: Judged(raw, lambda: None),
            Options(waived=("raw",)),
            lambda _: None,
        )
        assert found.status == "not bootable"
        assert [note for note in found.notes if note.startswith("esp32c3@0x10000: esp image: ")]

    def test_an_application_over_the_table_is_refused(self) -> None:
        whole = esp_image(size=30000)
        with refused("unsuitable.region", "a partition table at 0x8000, found application"):
            make({"esp32c3@0x4000": whole})

    def test_a_boot_loader_that_reaches_the_table_is_refused(self) -> None:
        large = esp_image(app=False, size=0x9000)
        with refused("unsuitable.region", "a partition table at 0x8000, found boot loader"):
            make({"esp32c3@0x0": large})
        later = partition_table(("factory", 0, 0, 0x20000, 0x80000))
        parts = {"esp32c3@0x0": large, "esp32c3@0xc000": later, "esp32c3@0x20000": APP}
        assert len(make(parts, flash=ERASED).regions) == 3


class TestKept:
    """The board's own data stays when a merged image is written over it."""

    def board(self) -> MemoryBoard:
        return MemoryBoard(
            content(
                at_0=BOOT,
                at_8000=NVS,
                at_9000=b"settings",
                at_d000=entry(2),
                at_f000=b"calibration",
                at_10000=esp_image(seed=1),
                at_90000=b"my files",
            )
        )

    def test_blank_bytes_of_a_merged_image_are_not_written_over_data(self) -> None:
        board = self.board()
        before = bytes(board.flash)
        found = run(board, {"esp32c3@0x0": merged(NVS)})
        assert found.status == "verified", found
        assert [one.label for one in found.kept] == ["nvs", "phy"]
        assert found.kept[0] == ("nvs", 0x9000, 0x4000)
        assert board.flash[0x9000:0xD000] == before[0x9000:0xD000]
        assert board.flash[0xF000:0x10000] == before[0xF000:0x10000]
        assert board.flash[0x90000:] == before[0x90000:]
        assert board.flash[0x10000 : 0x10000 + len(APP)] == APP
        assert board.flash[0xE000:0xF000] == entry(3)  # the board's OTA data selected another slot
        assert "kept as the board has it: nvs, phy; --erase-data replaces it" in found.notes
        assert "changed in otadata: which application starts" in found.notes

    def test_it_is_written_if_that_is_typed(self) -> None:
        board = self.board()
        whole = merged(NVS)
        found = run(board, {"esp32c3@0x0": whole}, waived=("erase-data",))
        assert (found.status, found.kept) == ("verified", ())
        assert board.flash[: len(whole)] == whole

    def test_a_component_of_its_own_is_written(self) -> None:
        board = self.board()
        found = run(board, {"esp32c3@0x0": merged(NVS), "esp32c3@0x9000": b"factory settings"})
        assert found.status == "verified"
        assert board.flash[0x9000:0x9010] == b"factory settings"

    def test_content_of_a_merged_image_fills_what_is_blank(self) -> None:
        whole = merged(NVS, at_90000=noise(9000))
        board = MemoryBoard(content(at_0=BOOT, at_8000=NVS, at_9000=b"settings"))
        found = run(board, {"esp32c3@0x0": whole})
        assert [one.label for one in found.kept] == ["nvs", "otadata", "phy"]
        assert not [note for note in found.notes if note.startswith("replaced")]
        assert board.flash[0x90000 : 0x90000 + 9000] == noise(9000)

    def test_content_of_a_merged_image_does_not_replace_what_is_there(self) -> None:
        board = self.board()
        found = run(board, {"esp32c3@0x0": merged(NVS, at_90000=noise(9000))})
        assert [one.label for one in found.kept] == ["nvs", "phy", "files"]
        assert board.flash[0x90000:0x90008] == b"my files"

    @pytest.mark.parametrize("size", [1, 255, 4096, 5000, 8999])
    @pytest.mark.parametrize("partial", [0, 0xFF])
    def test_a_sector_that_was_half_written_is_finished(self, size: int, partial: int) -> None:
        wanted = bytes(256) + noise(8744)
        begun = wanted[:size] + bytes([wanted[size] | partial & 0x3C])
        board = MemoryBoard(content(at_0=BOOT, at_8000=NVS, at_90000=begun))
        found = run(board, {"esp32c3@0x0": merged(NVS, at_90000=wanted)})
        assert [one.label for one in found.kept] == ["nvs", "otadata", "phy"]
        assert board.flash[0x90000 : 0x90000 + 9000] == wanted

    def test_a_sector_that_was_half_erased_is_finished(self) -> None:
        wanted = noise(9000)
        begun = b"\xff" * 2048 + wanted[2048:4000]
        board = MemoryBoard(content(at_0=BOOT, at_8000=NVS, at_90000=begun))
        run(board, {"esp32c3@0x0": merged(NVS, at_90000=wanted)})
        assert board.flash[0x90000 : 0x90000 + 9000] == wanted

    @pytest.mark.parametrize("own", [b"\x01", bytes(255) + b"\x7f\x7f", bytes(256) + b"my files"])
    def test_other_content_is_never_taken_for_half_written(self, own: bytes) -> None:
        wanted = bytes(256) + noise(8744)
        board = MemoryBoard(content(at_0=BOOT, at_8000=NVS, at_90000=own + b"\x01"))
        found = run(board, {"esp32c3@0x0": merged(NVS, at_90000=wanted)})
        assert "files" in [one.label for one in found.kept]
        assert board.flash[0x90000 : 0x90000 + len(own)] == own

    @pytest.mark.parametrize("step", range(0, 260, 7))
    def test_content_that_was_half_written_is_finished(self, step: int) -> None:
        from flash.kit import lost

        whole = merged(NVS, at_90000=noise(40_000))

        def fault(now: int) -> None:
            if now == step:
                raise lost()

        board = MemoryBoard(content(at_0=BOOT, at_8000=NVS), fault=fault)
        run(board, {"esp32c3@0x0": whole})
        board.fault = lambda _: None
        assert run(board, {"esp32c3@0x0": whole}).status == "verified"
        assert board.flash[0x90000 : 0x90000 + 40_000] == noise(40_000)

    @pytest.mark.parametrize("now", [b"", b"\xaa\x50\x01"])
    def test_data_is_kept_after_the_table_was_lost_on_the_way(self, now: bytes) -> None:
        board, whole = self.board(), merged(NVS, esp_image(seed=3))
        run(board, {"esp32c3@0x0": whole})
        board.flash[0x8000:0x9000] = now.ljust(SECTOR, b"\xff")
        found = run(board, {"esp32c3@0x0": whole})
        assert (found.status, found.kept[0].label) == ("verified", "nvs")
        assert board.flash[0x9000:0x9008] == b"settings"
        assert board.flash[0xF000:0xF00B] == b"calibration"

    @pytest.mark.parametrize("flash", [ERASED, None], ids=["blank", "with data"])
    def test_a_component_of_its_own_lies_in_a_merged_image(self, flash: bytes | None) -> None:
        board = self.board() if flash is None else MemoryBoard(flash)
        data = {"esp32c3@0x9000": b"factory", "esp32c3@0xd000": entry(1) + b"\xff" * SECTOR}
        found = run(board, {"esp32c3@0x0": merged(NVS), **data})
        assert (found.status, found.error) == ("verified", None)
        assert [one.label for one in found.kept] == (["phy"] if flash is None else [])
        assert board.flash[0x9000:0x9007] == b"factory"
        assert board.flash[0xD000:0xF000] == entry(1) + b"\xff" * SECTOR

    def test_content_of_a_merged_image_is_not_laid_over(self) -> None:
        parts = {"esp32c3@0x0": merged(NVS, at_9000=b"other"), "esp32c3@0x9000": b"factory"}
        with refused("unsuitable.region", "esp32c3@0x0 and esp32c3@0x9000 overlap"):
            make(parts, None, ERASED)

    def test_nothing_is_kept_of_another_program_without_a_table(self) -> None:
        board, whole = self.board(), merged(NVS, esp_image(seed=3))
        board.flash[0x8000:0x9000] = b"\xff" * SECTOR
        assert run(board, {"esp32c3@0x0": whole}).kept == ()
        assert board.flash[: len(whole)] == whole

    def test_data_of_another_table_is_not_kept(self) -> None:
        board = MemoryBoard(content(at_0=BOOT, at_8000=OTA_TABLE, at_9000=noise(0x10000)))
        whole = merged(FACTORY_TABLE)
        found = run(board, {"esp32c3@0x0": whole})
        assert (found.status, found.kept) == ("verified", ())
        assert "replaced, for the partition table changes: nvs, otadata" in found.notes
        assert board.flash[: len(whole)] == whole

    def test_a_blank_board_keeps_nothing(self) -> None:
        found = run(MemoryBoard(ERASED), {"esp32c3@0x0": merged(NVS)})
        assert (found.status, found.kept) == ("verified", ())


class TestTwoTables:
    """A release that moved the table left the former one on the board."""

    MOVED = partition_table(("nvs", 1, 2, 0xB000, 0x4000), ("factory", 0, 0, 0x10000, 0x80000))
    COPY = partition_table(("copy", 3, 1, 0xA000, 0x1000), ("factory", 0, 0, 0x10000, 0x80000))

    def flash(self) -> bytes:
        boot, app, nvs = BOOT, esp_image(seed=1), b"settings"
        return content(at_0=boot, at_8000=NVS, at_a000=self.MOVED, at_b000=nvs, at_10000=app)

    def test_an_application_alone_is_refused(self) -> None:
        with refused("unsuitable.partition", "partition tables at 0x8000 and 0xa000") as caught:
            make({"esp32c3@0x10000": APP}, None, self.flash())
        assert caught.value.hint == "sign and flash the table in force in the same release"

    def test_the_one_of_the_release_counts(self) -> None:
        board = MemoryBoard(self.flash())
        whole = content(at_0=BOOT, at_a000=self.MOVED, at_10000=APP).rstrip(b"\xff")
        found = run(board, {"esp32c3@0x0": whole})
        assert (found.status, [one.label for one in found.kept]) == ("verified", ["nvs"])
        assert board.flash[0xB000:0xB008] == b"settings"
        assert board.flash[0x10000 : 0x10000 + len(APP)] == APP
        assert found.notes == ("kept as the board has it: nvs; --erase-data replaces it",)

    def test_a_copy_that_the_table_names_is_none(self) -> None:
        flash = content(at_0=BOOT, at_8000=self.COPY, at_a000=self.COPY)
        assert make({"esp32c3@0x10000": APP}, None, flash).unbootable is None

    def test_a_table_in_an_application_is_none(self) -> None:
        flash = content(at_0=BOOT, at_8000=FACTORY_TABLE, at_11000=NVS)
        assert make({"esp32c3@0x10000": APP}, None, flash).unbootable is None


class TestStart:
    def test_an_unconfirmed_slot_is_selected_anew(self) -> None:
        flash = content(at_0=BOOT, at_8000=NVS, at_d000=entry(1, state=1))
        found = make({"esp32c3@0x10000": APP}, flash=flash)
        assert found.selection is not None
        assert found.selection == (0xE000, entry(3))

    def test_slots_with_a_gap_cannot_all_be_selected(self) -> None:
        table = partition_table(
            ("otadata", 1, 0, 0xD000, 0x2000),
            ("ota_0", 0, 0x10, 0x10000, 0x40000),
            ("ota_2", 0, 0x12, 0x50000, 0x40000),
        )
        with refused("unsuitable.bootable", 'nothing selects "ota_2"'):
            make({"esp32c3@0x50000": APP}, flash=content(at_0=BOOT, at_8000=table))

    def test_a_table_that_cuts_the_application_is_refused(self) -> None:
        flash = content(at_0=BOOT, at_8000=FACTORY_TABLE, at_10000=APP)
        small = partition_table(("factory", 0, 0, 0x10000, 0x1000))
        words = (
            'no application is one to start: the one in "factory" is damaged or cut: '
            "esp image: segment"
        )
        with refused("unsuitable.bootable", words):
            make({"esp32c3@0x8000": small}, flash=flash)
        assert make({"esp32c3@0x8000": NVS}, flash=flash).regions

    @pytest.mark.parametrize(
        ("app", "locks", "words"),
        [
            (esp_image("esp32s3"), (), 'in "factory" on the board has an image for esp32s3'),
            (esp_image(revisions=(4, 9999)), (), "needs a chip of revision v0.4 to v99.99"),
            (APP, ("secure boot",), 'in "factory" on the board has no signature for it'),
        ],
    )
    def test_an_application_on_the_board_must_suit_it(
        self, app: bytes, locks: tuple[str, ...], words: str
    ) -> None:
        flash = content(at_0=BOOT, at_8000=NVS, at_10000=app)
        info = board_info(locks=locks, revision=3)
        with refused("unsuitable.bootable", "no application is one to start: ", words):
            make({"esp32c3@0x8000": FACTORY_TABLE}, info, flash)

    def test_a_merged_image_on_a_board_that_cannot_be_read(self) -> None:
        info = board_info(readable=False, digest=None, locks=("secure download mode",))
        found = planning.make(held({"esp32c3@0x0": merged(NVS)}), info, lambda *_: None)
        assert [one.label for one in found.kept] == ["nvs", "otadata", "phy"]
        words = 'boot not controlled: the OTA data that may select "ota_0" cannot be read'
        assert words in found.notes

    def test_blank_bytes_are_ota_data_only_in_its_partition(self) -> None:
        flash, blank = content(at_0=BOOT, at_8000=NVS, at_10000=APP), b"\xff" * 2 * SECTOR
        assert make({"esp32c3@0x9000": blank}, None, flash).unbootable is None
        assert make({"esp32c3@0xd000": blank}, None, flash).unbootable is None
        with refused("unsuitable.region", "expected 0xd000, found OTA data at 0xb000"):
            make({"esp32c3@0xb000": blank}, None, flash)
        with refused("unsuitable.region", "expected 0xd000, found OTA data at 0x9000"):
            make({"esp32c3@0x9000": entry(1) + blank[:SECTOR]}, None, flash)

    def test_an_application_that_its_partition_cuts_is_told_so(self) -> None:
        table = partition_table(("factory", 0, 0, 0x10000, 0x1000))
        flash = content(at_0=BOOT, at_8000=table)
        words = 'expected the application in "factory" at 0x10000, found esp image: segment 0: '
        with refused("unsuitable.region", words):
            make({"esp32c3@0x10000": APP}, None, flash, "layout")

    def test_ota_data_that_select_an_empty_slot(self) -> None:
        flash = content(at_0=BOOT, at_8000=NVS, at_10000=APP)
        found = make({"esp32c3@0xd000": entry(2) + b"\xff" * SECTOR}, None, flash)
        words = 'boot not controlled: the OTA data select "ota_1", which has no whole application'
        assert found.notes == (words,)

    def test_ota_data_that_select_what_the_board_does_not_start(self) -> None:
        other = esp_image("esp32s3")
        flash = content(at_0=BOOT, at_8000=NVS, at_10000=APP, at_50000=other)
        found = make({"esp32c3@0xd000": entry(2) + b"\xff" * SECTOR}, None, flash)
        words = 'the OTA data select "ota_1", and the application in "ota_1" on the board has an '
        assert found.notes[0].startswith(f"boot not controlled: {words}image for esp32s3")

    @pytest.mark.parametrize("place", ["0x0", "0x10000"])
    def test_a_signature_that_an_earlier_image_left_is_none(self, place: str) -> None:
        head = Head("esp32c3", 1 << 20)
        images = {"0x0": boot_loader(head, seed=2), "0x10000": application(head, seed=2)}
        boot, app = signed(boot_loader(head), 2), signed(application(head), 2)
        flash = content(at_0=boot, at_8000=FACTORY_TABLE, at_10000=app)
        part = {f"esp32c3@{place}": images[place]}
        assert make(part, None, flash).unbootable is None
        with refused("unsuitable.locked", f"esp32c3@{place} has no signature for it"):
            make(part, board_info(locks=("secure boot",)), flash)

    def test_a_boot_loader_alone_does_not_start_a_damaged_application(self) -> None:
        damaged = content(at_0=BOOT, at_8000=FACTORY_TABLE, at_10000=APP[:-1] + b"?")
        with refused("unsuitable.bootable", '"factory" is damaged or cut: esp image: appended sha'):
            make({"esp32c3@0x0": esp_image(app=False, seed=3)}, flash=damaged)
        assert make({"esp32c3@0x10000": APP}, flash=damaged).regions

    def test_a_boot_loader_alone_does_not_start_another_chips_application(self) -> None:
        other = content(at_0=BOOT, at_8000=FACTORY_TABLE, at_10000=esp_image("esp32s3"))
        words = (
            "no application is one to start: "
            'the application in "factory" on the board has an image for esp32s3'
        )
        with refused("unsuitable.bootable", words):
            make({"esp32c3@0x0": esp_image(app=False, seed=3)}, flash=other)

    def test_an_application_that_cannot_be_mapped_is_refused(self) -> None:
        table = partition_table(("factory", 0, 0, 0x11000, 0x40000))
        flash = content(at_0=BOOT, at_8000=table)
        words = "is at 0x11000, and applications are mapped from multiples of 0x10000"
        with refused("unsuitable.partition", words) as caught:
            make({"esp32c3@0x11000": APP}, flash=flash)
        assert caught.value.expected == "a multiple of 0x10000"
        assert make({"esp32c3@0x11000": APP}, None, flash, "layout").regions

    def test_an_application_that_no_boot_loader_maps_is_refused(self) -> None:
        app = application(Head("esp32c3", FLASH_SIZE))
        code = struct.pack("<I", 0x42010128)
        assert app.count(code) == 1
        moved = app.replace(code, struct.pack("<I", 0x42010228))
        moved = moved[:-32] + hashlib.sha256(moved[:-32]).digest()
        assert make({"esp32c3@0x10000": app}, None, STOCK).regions
        words = "is to be mapped to 0x42010228, but lies at 0x128: they differ within a page"
        with refused("unsuitable.bootable", "no boot loader starts ", words) as caught:
            make({"esp32c3@0x10000": moved}, None, STOCK)
        assert "--accept unbootable" in str(caught.value.hint)
        assert make({"esp32c3@0x10000": moved}, None, STOCK, "unbootable").regions

    def test_an_old_signature_does_not_sign_what_is_written_before_it(self) -> None:
        """The rest of the last sector is erased, and the board's signature with it."""
        from fwsign.flash.boards.board import SECURE_BOOT_V1

        head = Head("esp32", FLASH_SIZE)
        old, new = application(head, seed=1), application(head, seed=2)
        flash = content(at_1000=boot_loader(head), at_8000=FACTORY_TABLE, at_10000=signed(old, 1))
        info = board_info(chip="esp32", locks=(SECURE_BOOT_V1,))
        assert make({"esp32@0x10000": signed(new, 1)}, info, flash).regions
        with refused("unsuitable.locked", "secure boot v1 switched on", "has no signature for it"):
            make({"esp32@0x10000": new}, info, flash)

    @pytest.mark.parametrize(
        ("chip", "starts"), [("esp32", False), ("esp32c2", False), ("esp32s3", True)]
    )
    def test_some_chips_look_at_one_signature_block(self, chip: str, starts: bool) -> None:
        from fwsign.flash.boards.board import SECURE_BOOT

        head = Head(chip, FLASH_SIZE)
        padded = application(head)
        padded += b"\xff" * (-len(padded) % 4096)
        good = signature_block(padded, 2)
        late = padded + (good[:1196] + bytes(20) + good).ljust(4096, b"\xff")
        place = 0x1000 if chip == "esp32" else 0
        flash = content(**{f"at_{place:x}": boot_loader(head)}, at_8000=FACTORY_TABLE)
        info, parts = board_info(chip=chip, locks=(SECURE_BOOT,)), {f"{chip}@0x10000": late}
        if starts:
            assert make(parts, info, flash).regions
            return
        with refused("unsuitable.locked", "secure boot switched on", "has no signature for it"):
            make(parts, info, flash)

    def test_a_write_is_never_its_own_witness(self) -> None:
        """Data whose bytes at 0x8000 look like a table is no table."""
        sly = noise(0x8000) + FACTORY_TABLE
        with refused("unsuitable.region"):
            make({"esp32c3@0x0": sly}, None, STOCK)
        with refused("unsuitable.region", "a partition table at 0x8000"):
            make({"esp32c3@0x0": sly, "esp32c3@0x10000": APP}, None, STOCK, "raw")

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ("esp32c3@0x0", "the chip starts a boot loader at 0x0, and it is damaged"),
            ("esp32c3@0x1000", "the chip starts a boot loader at 0x0, and it is damaged"),
            ("esp32c3@0x10000", 'no application is in "factory" at 0x10000'),
            ("esp32c3@0x11000", 'no application is one to start: the one in "factory" is d'),
        ],
    )
    def test_raw_bytes_over_what_starts_are_never_verified(self, target: str, words: str) -> None:
        board = MemoryBoard(content(at_0=BOOT, at_8000=FACTORY_TABLE, at_10000=APP))
        found = run(board, {target: noise(99)}, waived=("raw",))
        assert found.status == "not bootable"
        assert [note for note in found.notes if note.startswith(f"boot not controlled: {words}")]

    def test_raw_bytes_beside_what_starts_are_verified(self) -> None:
        flash = content(at_0=BOOT, at_8000=OTA_TABLE, at_10000=APP)
        found = run(MemoryBoard(flash), {"esp32c3@0x50000": noise(99)}, waived=("raw",))
        assert (found.status, found.notes) == ("verified", ())

    def test_an_mcuboot_image_over_an_application_is_refused(self) -> None:
        flash = content(at_0=BOOT, at_8000=FACTORY_TABLE, at_10000=APP)
        with refused("unsuitable.bootable", 'the one in "factory" is damaged or cut'):
            make({"esp32c3@0x11000": MCUBOOT}, None, flash)

    def test_an_mcuboot_image_says_that_mcuboot_selects(self) -> None:
        found = make({"esp32c3@0x20000": MCUBOOT}, None, content(at_0=BOOT))
        assert "boot not controlled: what MCUboot starts is not known here" in found.notes

    def test_an_application_outside_of_all_partitions_is_not_what_starts(self) -> None:
        flash = content(at_0=BOOT, at_8000=FACTORY_TABLE, at_10000=APP)
        found = make({"esp32c3@0xa0000": APP}, None, flash, "layout")
        words = "no partition for an application begins where esp32c3@0xa0000 was written"
        assert found.notes == (f"boot not controlled: {words}",)

    @pytest.mark.parametrize("waived", [(), ("raw",)])
    def test_data_over_the_program_of_an_esp8266(self, waived: tuple[str, ...]) -> None:
        info = board_info(chip="esp8266")
        program = old_application()
        with refused("unsuitable.bootable", "the chip starts the image at 0x0, and there is none"):
            make({"esp8266@0x1000": noise(99)}, info, program.ljust(1 << 20, b"\xff"), *waived)
        assert make({"esp8266@0x1000": noise(99)}, info, ERASED, *waived).unbootable is None
        raw = make({"esp8266@0x0": noise(99)}, info, ERASED, "raw")
        assert raw.unbootable == "what begins the flash is no image"

    def test_secure_boot_v1_wants_a_signed_table(self) -> None:
        flash = esp_stock("esp32", 1 << 20, 0x8000, 1).ljust(1 << 20, b"\xff")
        info = board_info(chip="esp32", locks=("secure boot v1",), revision=None)
        table = flash[0x8000:0x8C00]
        words = "secure boot v1 switched on, and esp32@0x8000 has no signature for it"
        with refused("unsuitable.locked", words) as caught:
            make({"esp32@0x8000": table}, info, flash)
        assert "espsecure sign-data --version 1" in str(caught.value.hint)
        assert make({"esp32@0x8000": signed(table, 1)}, info, flash).unbootable is None

    def test_raw_bytes_do_not_start_on_a_locked_board(self) -> None:
        from fwsign.flash.boards.board import SECURE_BOOT, SECURE_BOOT_V1

        for lock in (SECURE_BOOT, SECURE_BOOT_V1):
            with refused("unsuitable.region", "the application in") as caught:
                make({"esp32c3@0x10000": noise(99)}, board_info(locks=(lock,)), STOCK, "raw")
            assert caught.value.hint is None

    def test_hints_fit_the_lock(self) -> None:
        from fwsign.flash.boards.board import FLASH_ENCRYPTION, SECURE_BOOT

        with refused("unsuitable.locked") as caught:
            make({"esp32c3@0x10000": APP}, board_info(locks=(FLASH_ENCRYPTION,)))
        assert caught.value.hint == "fwsign cannot flash boards with flash encryption"
        with refused("unsuitable.locked") as caught:
            make({"esp32c3@0x10000": APP}, board_info(locks=(SECURE_BOOT,)))
        assert "fwsign sign --native esp-secure-boot-v2" in str(caught.value.hint)


class TestFlashMode:
    """An ESP32-S3 with octal flash stops an image that was not built for it."""

    @pytest.mark.parametrize("mode", [0, 1, 2])
    def test_an_image_for_four_lines_is_refused(self, mode: int) -> None:
        board = board_info(chip="esp32s3", octal=True)
        app = esp_image("esp32s3", mode=mode)
        parts = {"esp32s3@0x10000": app}
        found = ("qio", "qout", "dio")[mode]
        with refused("unsuitable.flash-mode", f"in mode {found}, the board's is octal"):
            make(parts, board, stock("esp32s3", mode=3))
        assert make(parts, board, stock("esp32s3", mode=3), "flash-mode").regions
        assert make(parts, board_info(chip="esp32s3"), stock("esp32s3")).regions
        quad = board_info(chip="esp32s3", octal=False)
        assert make(parts, quad, stock("esp32s3")).regions

    def test_an_image_for_eight_lines_passes(self) -> None:
        board = board_info(chip="esp32s3", octal=True)
        app = esp_image("esp32s3", mode=3)
        assert make({"esp32s3@0x10000": app}, board, stock("esp32s3", mode=3)).regions
        with refused("unsuitable.flash-mode", "the boot loader on the board is made for"):
            make({"esp32s3@0x10000": app}, board, stock("esp32s3"))

    @pytest.mark.external
    @pytest.mark.parametrize("octal", [True, False])
    def test_a_simulated_board_tells_it(self, octal: bool) -> None:
        require_package("esptool")
        with bench("esp32s3", octal=octal) as one, one.board() as opened:
            assert opened.probe().octal is octal


def test_a_program_that_may_need_no_table_is_written() -> None:
    """Zephyr and NuttX have programs that the ROM starts; nothing tells them from old loaders."""
    own = esp_image(app=False, described=False)
    found = run(MemoryBoard(ERASED), {"esp32c3@0x0": own})
    words = "no partition table is in the release or on the board, which some programs need"
    assert (found.status, found.error) == ("not bootable", None)
    assert found.notes == (f"boot not controlled: {words}",)
    with refused("unsuitable.bootable", "no partition table is in the release"):
        make({"esp32c3@0x0": BOOT}, flash=ERASED)
