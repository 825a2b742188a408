# SPDX-License-Identifier: Apache-2.0
"""Measure the bytes that a gateway fetches for a small change of a 10 MB payload.

usage: blocks.py [--quick | --sizes]        prints a table in Markdown

With --sizes: 440 bytes come into files of 1 MiB to 1 GiB, with blocks of several sizes.

Payloads: an application as a tar archive, of Python's own library; a firmware, laid out as a linker
does it. Changes: a constant, some more lines in a file or bytes in a function. fwsign's part is
measured with what installs, and a server that counts bytes. Others are asked if they are there:
xdelta3 (a delta for these two files, which somebody must make for each pair), rdiff (literal bytes,
with blocks found at any offset, as by zsync), casync (chunks cut by content).
"""

import hashlib
import io
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from fwsign.format.blocks import encode_blocks
from fwsign.format.component import Component, Digest
from fwsign.format.payload import Blocks, receive
from fwsign.gateway.target.reuse import reusing
from fwsign.signing.release import usual_block_size

MIB = 1024 * 1024
SIZE = 10 * MIB
SIZES = (4 * 1024, 16 * 1024, 64 * 1024)
FUNCTIONS, CALLS, LITERALS, CONSTANTS = 65_000, 2, 2, 3 * MIB
LOCAL = 0.7
"""The share of calls that go to a function near by."""
ORIGIN = 0x0800_0000


class Pair(NamedTuple):
    """A payload before and after a change."""

    name: str
    old: bytes
    new: bytes


class Counting:
    """A server's file that counts bytes and requests; it has ranges, as Debian's web servers do."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.stop = data, 0, len(data)
        self.bytes = self.requests = 0
        self.sends_all = False

    def aim(self, start: int, stop: int | None) -> None:
        """Begin a request."""
        self.at, self.stop = start, len(self.data) if stop is None else stop
        self.requests += 1

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        found = self.data[self.at : min(self.stop, self.at + size)]
        self.at += len(found)
        self.bytes += len(found)
        return found


def main() -> None:
    """Measure, and print the table."""
    if "--sizes" in sys.argv[1:]:
        by_size()
        return
    quick = "--quick" in sys.argv[1:]
    print("| change of 10 MB | blocks of | fetched | requests | list | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="fwsign-blocks-") as name:
        scratch = Path(name)
        for pair in pairs(quick=quick):
            for size in SIZES:
                fetched, requests, listed, seconds = measure(pair, size, scratch)
                first = f"{pair.name}, {len(pair.new)} bytes"
                print(
                    f"| {first} | {size // 1024} KiB | {fetched} | {requests} | {listed} "
                    f"| {seconds:.2f} |"
                )
            for peer, found in peers(pair, scratch):
                print(f"| {pair.name} | {peer} | {found} | | | |")


def measure(pair: Pair, size: int, scratch: Path) -> tuple[int, int, int, float]:
    """Return the bytes, requests and bytes of the list of an install, and its seconds."""
    folder = scratch / "versions"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "app").write_bytes(pair.old)
    new = pair.new
    digests = b"".join(
        hashlib.sha256(new[at : at + size]).digest() for at in range(0, len(new), size)
    )
    blocks = Blocks(size, digests)
    component = Component(
        (b"file", b"app"), Digest(-16, hashlib.sha256(new).digest()), len(new), "app"
    )
    server, sink = Counting(new), io.BytesIO()
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    begin = time.perf_counter()
    try:
        with reusing(server, component, blocks, 0, (handle,)) as source:
            if source is None:
                raise SystemExit("bench: error: no source")
            receive(component, source, sink, blocks)
    finally:
        os.close(handle)
    seconds = time.perf_counter() - begin
    if sink.getvalue() != new:
        raise SystemExit("bench: error: another payload")
    return server.bytes, server.requests, len(encode_blocks(blocks)), seconds


def by_size() -> None:
    """Measure payloads of several sizes; print bytes fetched, the list, and both together."""
    print("| payload | blocks of | fetched | list | together | |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="fwsign-blocks-") as name:
        for size in (MIB + 1, 10 * MIB, 100 * MIB, 1024 * MIB):
            pieces = random.Random(1)  # noqa: S311 - the same payload each time
            steps = range(0, size, MIB)
            old = b"".join(pieces.randbytes(min(MIB, size - at)) for at in steps)
            # What comes in moves the rest by whole records, as in an archive.
            pair = Pair("", old, old[: size // 3] + bytes(512) + old[size // 3 :])
            usual = usual_block_size(size)
            for block in sorted({usual // 4, usual // 2, usual, 2 * usual, 64 * 1024} - {2048}):
                fetched, _, listed, _ = measure(pair, block, Path(name))
                mark = "usual" if block == usual else ""
                print(
                    f"| {size // MIB} MiB | {block // 1024} KiB | {fetched} | {listed} "
                    f"| {fetched + listed} | {mark} |",
                    flush=True,
                )


# --- payloads -------------------------------------------------------------------------------------


def pairs(*, quick: bool) -> Iterator[Pair]:
    """Yield the payloads."""
    old = archive({})
    text = Path(random.__file__).read_text(encoding="utf-8")
    constant = text.replace("2.0", "3.0", 1)
    lines = text.replace('"""Random', '"""' + "A line of a function.\n" * 20 + "Random", 1)
    yield Pair("tar, a constant", old, archive({"random.py": constant}))
    yield Pair("tar, 20 lines more in a file", old, archive({"random.py": lines}))
    if not quick:
        image = firmware()
        yield Pair("firmware, a constant", image, firmware(constant=9))
        yield Pair("firmware, 28 bytes more in a function", image, firmware(28))


def archive(changed: dict[str, str]) -> bytes:
    """Return a tar archive of Python's own library, 10 MiB of it, with changed files."""
    library, out = Path(random.__file__).parent, io.BytesIO()
    paths = [one for one in sorted(library.rglob("*.py")) if "site-packages" not in str(one)]
    paths.remove(Path(random.__file__))
    sizes = list(accumulate(one.stat().st_size for one in paths))
    paths.insert(bisect(sizes, SIZE // 2), Path(random.__file__))
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in paths[: bisect(sizes, SIZE)]:
            name = str(path.relative_to(library))
            data = changed[name].encode() if name in changed else path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def firmware(grown: int = 0, constant: int = 0) -> bytes:
    """Lay out a firmware as a linker does: functions that call each other, then constants.

    A call has the distance to its target, and a literal pool has addresses, as in code for
    Cortex-M. Calls go to neighbours mostly. So an insertion changes what comes after it, and each
    call across.

    Args:
        grown: bytes that come into a function in the middle of the code.
        constant: a number in that function.
    """
    generator = random.Random(1)  # noqa: S311 - the same firmware each time
    bodies = [_body(generator) for _ in range(FUNCTIONS)]
    changed = FUNCTIONS // 3
    bodies[changed] = struct.pack("<I", constant) + bytes(range(grown)) + bodies[changed]
    starts = list(accumulate((len(one) + 4 * (CALLS + LITERALS) for one in bodies), initial=0))
    image = bytearray()
    for number, body in enumerate(bodies):
        image += body
        for _ in range(CALLS):
            near = number + int(generator.gauss(0, 300))
            target = near if generator.random() < LOCAL else generator.randrange(FUNCTIONS)
            distance = starts[target % FUNCTIONS] - len(image)
            image += struct.pack("<I", (0xF000 << 16 | (distance >> 1)) & 0xFFFFFFFF)
        for _ in range(LITERALS):
            image += struct.pack("<I", ORIGIN + starts[-1] + generator.randrange(CONSTANTS))
    return bytes(image) + generator.randbytes(CONSTANTS)


def _body(generator: random.Random) -> bytes:
    """Return the instructions of a function, without calls and literals."""
    return generator.randbytes(4 * min(200, 4 + int(generator.expovariate(1 / 20))))


# --- other programs -------------------------------------------------------------------------------


def peers(pair: Pair, scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield the bytes that other programs transfer, those that are installed."""
    old, new = scratch / "old", scratch / "new"
    old.write_bytes(pair.old)
    new.write_bytes(pair.new)
    if shutil.which("xdelta3"):
        delta = scratch / "delta"
        _run("xdelta3", "-e", "-9", "-f", "-s", old, new, delta)
        yield "xdelta3 -9", str(delta.stat().st_size)
    if shutil.which("rdiff"):
        for size in SIZES:
            sums, delta = scratch / "sums", scratch / "rdelta"
            for path in (sums, delta):
                path.unlink(missing_ok=True)
            _run("rdiff", "-b", str(size), "signature", old, sums)
            _run("rdiff", "-b", str(size), "delta", sums, new, delta)
            yield f"rdiff, {size // 1024} KiB", str(delta.stat().st_size)
    if shutil.which("casync"):
        for average in SIZES:
            yield (
                f"casync, {average // 1024} KiB on average",
                str(_chunks(scratch, old, new, average)),
            )


def _chunks(scratch: Path, old: Path, new: Path, average: int) -> int:
    """Return the bytes that casync adds for a new file: compressed chunks, and the index."""
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    chunk = f"--chunk-size={average}"
    sizes = []
    for path in (old, new):
        index = path.with_suffix(".caibx")
        _run("casync", "make", chunk, f"--store={store}", index, path)
        sizes.append(sum(one.stat().st_size for one in store.rglob("*.cacnk")))
    return sizes[1] - sizes[0] + new.with_suffix(".caibx").stat().st_size


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
