"""Block lists on the command line: made by `sign`, and enough for `verify` to judge a file."""

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from blocks_kit import list_of
from cli.kit import good, refused, run
from fwsign import reading
from fwsign.cli import payloads
from fwsign.format.blocks import MAX_BLOCK_SIZE, is_block_size
from fwsign.format.envelope import decode_envelope
from fwsign.format.payload import CHUNK_SIZE
from fwsign.signing.release import _size_of, usual_block_size

LARGE = b"".join(index.to_bytes(4, "big") for index in range(1024 * 1024))  # 4 MiB
OTHER = "this is not the file that was signed; fetch it again"


@pytest.fixture
def large(project: Path) -> Path:
    """A project with large.bin, which is signed."""
    (project / "large.bin").write_bytes(LARGE)
    good("sign", "large.bin")
    return project


def integrated(envelope: str) -> dict[str, bytes]:
    return dict(decode_envelope(Path(envelope).read_bytes()).integrated)


def changed(at: int, size: int = len(LARGE)) -> bytes:
    return (LARGE[:at] + bytes([LARGE[at] ^ 1]) + LARGE[at + 1 :])[:size]


class TestSign:
    @pytest.mark.usefixtures("large")
    def test_above_1_mib_a_list_of_16_kib_blocks_is_made(self) -> None:
        assert integrated("large.bin.suit") == {"#blocks-0": list_of(LARGE, 16384)}

    @pytest.mark.parametrize(("size", "lists"), [(1024 * 1024, 0), (1024 * 1024 + 1, 1)])
    def test_up_to_1_mib_none_is_made(self, project: Path, size: int, lists: int) -> None:
        (project / "some.bin").write_bytes(LARGE[:size])
        good("sign", "some.bin")
        assert len(integrated("some.bin.suit")) == lists

    @pytest.mark.parametrize(("size", "lists"), [(8192, 0), (8193, 1)])
    def test_a_block_size_given_is_used_for_all_that_is_larger(
        self, project: Path, size: int, lists: int
    ) -> None:
        (project / "some.bin").write_bytes(LARGE[:size])
        good("sign", "some.bin", "--block-size", "8192")
        expected = {"#blocks-0": list_of(LARGE[:size], 8192)} if lists else {}
        assert integrated("some.bin.suit") == expected
        good("verify", "some.bin.suit")

    @pytest.mark.usefixtures("large")
    def test_0_makes_none(self) -> None:
        good("sign", "large.bin", "--block-size", "0", "--force")
        assert integrated("large.bin.suit") == {}
        assert "block list" not in good("verify", "large.bin.suit")

    @pytest.mark.usefixtures("large")
    def test_what_is_inside_the_envelope_has_none(self) -> None:
        good("sign", "large.bin", "--embed", "--force")
        assert integrated("large.bin.suit") == {"#large.bin": LARGE}
        refused(
            run("sign", "large.bin", "--embed", "--block-size", "4096", "--force"),
            2,
            "--embed and --block-size exclude each other",
            "fwsign sign --help shows how",
        )

    @pytest.mark.usefixtures("large")
    @pytest.mark.parametrize("size", ["1", "5000", "2048", "33554432", "-4096", "1099511627776"])
    def test_other_sizes_are_refused(self, size: str) -> None:
        found = run("sign", "large.bin", "--block-size", size, "--force")
        assert found.status == 2
        assert found.errors[0] == (
            f"error: --block-size {size} is not 0 or a power of two from 4096 to 16777216"
        )

    def test_only_those_of_several_that_are_large_have_one(self, large: Path) -> None:
        (large / "later.bin").write_bytes(LARGE[::-1])
        good("sign", "build.bin", "large.bin", "later.bin", "--output", "all.suit")
        assert integrated("all.suit") == {
            "#blocks-1": list_of(LARGE, 16384),
            "#blocks-2": list_of(LARGE[::-1], 16384),
        }
        assert good("verify", "all.suit").count(", by its block list\n") == 2
        (large / "later.bin").write_bytes(LARGE)
        assert run("verify", "all.suit").status == 1

    def test_files_and_lists_together_have_a_limit(self, project: Path) -> None:
        names = [f"f{index}" for index in range(130)]
        for name in names:
            (project / name).write_bytes(LARGE[:4097])
        several = ("sign", *names, "--output", "all.suit", "--block-size")
        words = "a release of 130 files with 130 block lists, together at most 256 are possible"
        refused(run(*several, "4096"), 5, words)
        good(*several, "0")

    def test_a_list_that_fits_no_envelope_is_refused(
        self, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fwsign.signing.release.MAX_EMBEDDED_SIZE", 1000)
        (large / "large.bin.suit").unlink()
        refused(
            run("sign", "large.bin"),
            5,
            "the block list of large.bin has 8200 bytes, at most 1000 fit into an envelope: 16384 "
            "bytes are too small for its blocks",
        )


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("size", "block"),
    [
        (0, 16),
        (MIB + 1, 16),
        (10 * MIB, 16),
        (16 * MIB, 16),
        (16 * MIB + 1, 32),
        (64 * MIB, 32),
        (64 * MIB + 1, 64),
        (256 * MIB, 64),
        (1024 * MIB, 128),
        (1024 * MIB + 1, 256),
        (1 << 53, 16 * 1024),
    ],
)
def test_a_list_is_no_longer_than_two_blocks(size: int, block: int) -> None:
    found = usual_block_size(size)
    assert found == block * 1024
    assert is_block_size(found)
    count = -(-size // found)
    assert 32 * count <= 2 * found or found == MAX_BLOCK_SIZE
    if block > 16:
        assert 32 * -(-size // (found // 2)) > found


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_what_tells_no_size_before_its_end_gets_64_kib(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nowhere"):
        assert usual_block_size(_size_of(tmp_path / name)) == 65536
    (tmp_path / "file").write_bytes(bytes(5))
    assert _size_of(tmp_path / "file") == 5


def test_a_larger_file_has_larger_blocks(project: Path) -> None:
    with (project / "big.bin").open("wb") as file:
        file.truncate(16 * MIB + 1)
    good("sign", "big.bin")
    assert integrated("big.bin.suit") == {"#blocks-0": list_of(bytes(16 * MIB + 1), 32768)}
    good("verify", "big.bin.suit")


@pytest.mark.usefixtures("large")
class TestVerify:
    def test_it_says_that_the_list_was_enough(self) -> None:
        assert "..., large.bin, by its block list\n" in good("verify", "large.bin.suit")
        found = json.loads(good("verify", "large.bin.suit", "--json"))
        assert found["release"]["components"][0]["checked_by"] == "block list"

    def test_it_says_whose_digest_was_checked_and_what_was_not(self, project: Path) -> None:
        good("sign", "build.bin")
        for arguments, by in (((), "digest"), (("--manifest-only",), None)):
            found = json.loads(good("verify", "build.bin.suit", "--json", *arguments))
            assert found["release"]["components"][0]["checked_by"] == by
            (project / "build.bin").unlink(missing_ok=True)

    @pytest.mark.parametrize("cores", [1, 2, 7])
    @pytest.mark.parametrize("at", [0, 16383, 16384, 1024 * 1024, len(LARGE) - 1])
    def test_a_changed_byte_is_found_and_no_thread_stays(
        self, monkeypatch: pytest.MonkeyPatch, cores: int, at: int
    ) -> None:
        monkeypatch.setattr(reading, "_cores", lambda: cores)
        Path("large.bin").write_bytes(changed(at))
        before = threading.active_count()
        found = run("verify", "large.bin.suit")
        block = at // 16384
        assert (found.status, found.errors[1]) == (1, f"hint: {OTHER}")
        assert f"block {block} of 16384 bytes, at offset {block * 16384}, " in found.errors[0]
        assert threading.active_count() == before

    def test_the_first_bad_block_is_the_one_named(self) -> None:
        bad = bytearray(LARGE)
        for at in range(0, len(LARGE), 16384):
            bad[at] ^= 1
        Path("large.bin").write_bytes(bad)
        assert "block 0 of" in run("verify", "large.bin.suit").errors[0]

    def test_another_size_is_refused(self) -> None:
        for content, words in (
            (LARGE[:-1], f"{len(LARGE) - 1} bytes"),
            (b"", "0 bytes"),
            (LARGE + b"x", f"more than {len(LARGE)} bytes"),
        ):
            Path("large.bin").write_bytes(content)
            refused(
                run("verify", "large.bin.suit"),
                1,
                f'payload of "large.bin" has {words}, the signed size is {len(LARGE)}',
                OTHER,
            )

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
    @pytest.mark.parametrize(("content", "status"), [(LARGE, 0), (changed(7), 1), (LARGE * 2, 1)])
    def test_a_pipe_will_do(self, content: bytes, status: int) -> None:
        os.mkfifo("pipe")

        def write() -> None:
            with contextlib.suppress(BrokenPipeError):
                Path("pipe").write_bytes(content)

        writer = threading.Thread(target=write)
        writer.start()
        found = run("verify", "large.bin.suit", "pipe")
        writer.join()
        assert found.status == status, found

    @pytest.mark.parametrize("grown", [1, len(LARGE)])
    def test_a_file_that_grows_or_shrinks_meanwhile_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, grown: int
    ) -> None:
        class Moving(reading.BlockCheck):
            def _next(self, memory: memoryview) -> tuple[int, memoryview]:
                os.truncate("large.bin", len(LARGE) + grown if self._read_so_far else len(LARGE))
                return super()._next(memory)

        monkeypatch.setattr(payloads, "BlockCheck", Moving)
        words = f"has more than {len(LARGE)} bytes, the signed size is {len(LARGE)}"
        assert words in run("verify", "large.bin.suit").errors[0]
        monkeypatch.setattr(payloads, "BlockCheck", _Shrinking)
        words = f"has {2 * CHUNK_SIZE} bytes, the signed size is {len(LARGE)}"
        Path("large.bin").write_bytes(LARGE)
        assert words in run("verify", "large.bin.suit").errors[0]

    def test_a_failure_of_the_disk_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def readinto(self, memory: Any) -> int:
                raise OSError(5, f"no {len(memory)} bytes to be had")

        whole: Any = reading.BlockCheck
        monkeypatch.setattr(payloads, "BlockCheck", lambda _, *more: whole(Broken(), *more))
        found = run("verify", "large.bin.suit")
        words = 'error: reading the payload of "large.bin" failed: no 131072 bytes to be had'
        assert (found.status, found.errors[0]) == (5, words)

    def test_a_thread_that_dies_is_no_success(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def die(*_: object) -> tuple[int, memoryview]:
            raise MemoryError

        monkeypatch.setattr(reading.BlockCheck, "_next", die)
        assert run("verify", "large.bin.suit").status == 70

    def test_a_block_left_out_is_no_success(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nothing(*_: object) -> tuple[int, memoryview]:
            return 0, memoryview(b"")

        monkeypatch.setattr(reading.BlockCheck, "_next", nothing)
        monkeypatch.setattr(reading.BlockCheck, "_fill", lambda *_: 0)
        found = run("verify", "large.bin.suit")
        assert (found.status, "a block was left out" in found.errors[0]) == (70, True)

    def test_ctrl_c_stops_the_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Interrupted(threading.Thread):
            def join(self, timeout: float | None = None) -> None:
                super().join(timeout)
                raise KeyboardInterrupt

        monkeypatch.setattr(threading, "Thread", Interrupted)
        assert run("verify", "large.bin.suit").status == 130

    def test_a_missing_or_unreadable_file_is_told(self) -> None:
        Path("large.bin").unlink()
        assert "is not there: large.bin" in run("verify", "large.bin.suit").errors[0]
        Path("large.bin").mkdir()
        refused(run("verify", "large.bin.suit"), 5, "cannot read large.bin: is a directory")


class _Shrinking(reading.BlockCheck):
    def _next(self, memory: memoryview) -> tuple[int, memoryview]:
        if self._read_so_far == CHUNK_SIZE:
            os.truncate("large.bin", 2 * CHUNK_SIZE)
        return super()._next(memory)
