# SPDX-License-Identifier: Apache-2.0
"""The real MCUboot in an emulated board: the images come with smpclient's source distribution."""

import hashlib
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fwsign.errors import Failed
from fwsign.flash.attempts import ATTEMPTS
from fwsign.flash.boards.board import Run
from fwsign.flash.smp.board import SerialRecovery, connect
from fwsign.images.mcuboot import image_hash
from support import absent, require_program

SMPCLIENT = "smpclient==7.3.0"
SHA256 = "86aa4bc1c621805d97f449793a4077f049aa88a98a1e916bf59423d072bd2a3b"
CACHE = Path(__file__).parents[2] / "build" / "external"
ECHO = (2, 0, 0, {"d": "here?"})
IMAGES = "smpclient-7.3.0/tests/fixtures/smp-server/"
RECOVERY = "zephyr_f33aa2bc4a43_smp_server_27c54835_mps2_an385_serial_recovery"
BUILDS = {
    "console": RECOVERY,
    "raw": f"{RECOVERY}_raw",
    "cobs": "zephyr_f33aa2bc4a43_smp_server_fa39f8c2_mps2_an385_serial_recovery_raw_cobs",
}

pytestmark = pytest.mark.external


def archive() -> Path:
    """Return smpclient's source distribution, fetched where there is an emulator to run it."""
    require_program("qemu-system-arm")
    found = CACHE / "smpclient-7.3.0.tar.gz"
    if not found.exists():
        fetch(CACHE)
    assert hashlib.sha256(found.read_bytes()).hexdigest() == SHA256
    return found


def fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pinned = folder / "smpclient.txt"
    pinned.write_text(f"{SMPCLIENT} --hash=sha256:{SHA256}\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet")
    what = ("--no-deps", "--no-binary=smpclient", "--require-hashes", "--requirement", str(pinned))
    done = subprocess.run([*pip, *what, "--dest", str(folder)], check=False, capture_output=True)
    if done.returncode:
        absent(f"pip cannot fetch {SMPCLIENT}: {done.stderr.decode()[-500:]}")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Unpack the images that the test needs."""
    with tarfile.open(archive()) as files:
        for name in (
            f"{build}{end}" for build in BUILDS.values() for end in (".hex", ".signed.bin")
        ):
            packed = files.extractfile(IMAGES + name)
            assert packed is not None
            with packed, (tmp_path / name).open("wb") as file:
                shutil.copyfileobj(packed, file)
    return tmp_path


@contextmanager
def emulator(images: Path, encoding: str = "console") -> Iterator[tuple[str, Path]]:
    """Run the board, with nothing but MCUboot; give its port and its log."""
    log = images / "log"
    # The port listens before the emulator starts, so that there is nothing to wait for.
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [
            *(require_program("qemu-system-arm"), "-machine", "mps2-an385", "-nographic"),
            *("-chardev", f"socket,id=line,fd={server.fileno()},server=on,wait=off"),
            *("-serial", "chardev:line", "-serial", f"file:{log}", "-monitor", "none"),
            *("-device", f"loader,file={BUILDS[encoding]}.hex"),
        ]
        process = subprocess.Popen(
            command,
            cwd=images,
            pass_fds=[server.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield f"socket://127.0.0.1:{server.getsockname()[1]}", log
        finally:
            process.terminate()
            process.wait(timeout=10)


def opened(port: str, encoding: str = "console") -> SerialRecovery:
    """Connect as often as a run does: the emulator loses bytes while it starts."""
    for attempt in range(ATTEMPTS):
        try:
            board = connect(port, encoding=encoding)(attempt)
        except Failed as error:
            if error.code != "device.absent":
                raise
        else:
            assert isinstance(board, SerialRecovery)
            return board
    raise AssertionError(f"no answer in {ATTEMPTS} attempts")


def test_mcuboot_takes_an_image_in_two_parts(images: Path) -> None:
    data = (images / f"{RECOVERY}.signed.bin").read_bytes()
    first: list[int] = []
    second: list[int] = []

    def pull_the_cable(size: int) -> None:
        first.append(size)
        if sum(first) > 9000:
            board.close()

    with emulator(images) as (port, log):
        board = opened(port)
        assert board.probe().details[1:] == (("buffer", "1024 bytes"),)
        with pytest.raises(Failed) as caught:
            board.write([Run(0, data)], pull_the_cable)
        assert caught.value.code == "device.lost"
        board.close()
        assert b"Jumping" not in log.read_bytes()

        # Its image runs from RAM: MCUboot starts it, and the application goes back to MCUboot.
        board = opened(port)
        board.probe()
        assert board.digest(0, 0) == b""
        board.write([Run(0, data)], second.append)
        assert second[0] >= sum(first)
        assert sum(second) == len(data)
        assert log.read_bytes().count(b"Jumping to the first image slot") == 1
        assert board.digest(0, 0) == image_hash(data)
        assert board.finish([]) == ()

        board.reset()
        board._link.request(*ECHO, 15)
        assert log.read_bytes().count(b"Jumping to the first image slot") == 2
        assert board._slots()[0]["active"] is True
        board.close()


def test_mcuboot_answers_in_raw_packets(images: Path) -> None:
    """Only the questions: the emulator's line loses bytes of long raw packets, and MCUboot waits.

    A whole upload in raw packets is tried with the simulator.
    """
    with emulator(images, "raw") as (port, _):
        board = opened(port, "raw")
        assert board.probe().details[1:] == (("buffer", "1024 bytes"),)
        board.close()


def test_mcuboot_goes_on_in_frames_of_cobs(images: Path) -> None:
    data = (images / f"{BUILDS['cobs']}.signed.bin").read_bytes()
    done: list[int] = []

    def pull_the_cable(size: int) -> None:
        done.append(size)
        if sum(done) > 9000:
            board.close()

    with emulator(images, "cobs") as (port, _):
        board = opened(port, "cobs")
        board.probe()
        with pytest.raises(Failed) as caught:
            board.write([Run(0, data)], pull_the_cable)
        assert caught.value.code == "device.lost"
        board = opened(port, "cobs")
        board.probe()
        assert board._resumable(len(data)) >= sum(done)
        board.close()


@pytest.mark.parametrize("encoding", ["raw", "cobs"])
def test_mcuboot_of_another_encoding_is_absent(images: Path, encoding: str) -> None:
    with emulator(images, encoding) as (port, _):
        board = opened(port)
        with pytest.raises(Failed) as caught:
            board.probe()
        assert caught.value.code == "device.absent"
        board.close()
