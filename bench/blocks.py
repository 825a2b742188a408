# SPDX-License-Identifier: Apache-2.0
"""Measure the bytes that a gateway fetches for a small change of a 10 MB payload.

usage: blocks.py [--quick]        prints a table in Markdown

Payloads: an application as a tar archive, of Python's own library; a firmware of many functions,
made by a cross compiler (arm-none-eabi-gcc) if there is one. Changes: a constant, some more lines
in one function. fwsign's part is measured with what installs, and a server that counts bytes. The
others are asked if they are installed: xdelta3 (a delta made for these two files, which somebody
must make for each pair), rdiff (literal bytes of blocks found at any offset, as by zsync), casync
(chunks cut by content).
"""

import hashlib
import io
import os
import random
import shutil
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

MIB = 1024 * 1024
SIZE = 10 * MIB
SIZES = (4 * 1024, 16 * 1024, 64 * 1024)
FUNCTIONS, UNITS = 1200, 40
COMPILER = "arm-none-eabi-gcc"


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
    quick = "--quick" in sys.argv[1:]
    print("| change of 10 MB | blocks of | fetched | requests | list | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="fwsign-blocks-") as name:
        scratch = Path(name)
        for pair in pairs(scratch, quick=quick):
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


# --- payloads -------------------------------------------------------------------------------------


def pairs(scratch: Path, *, quick: bool) -> Iterator[Pair]:
    """Yield the payloads."""
    old = archive({})
    text = Path(random.__file__).read_text(encoding="utf-8")
    constant = text.replace("2.0", "3.0", 1)
    lines = text.replace('"""Random', '"""' + "A line of a function.\n" * 20 + "Random", 1)
    yield Pair("tar, a constant", old, archive({"random.py": constant}))
    yield Pair("tar, 20 lines more in a file", old, archive({"random.py": lines}))
    if shutil.which(COMPILER) is not None and not quick:
        image = firmware(scratch, "x = x * 13 + 7;")
        yield Pair("firmware, a constant", image, firmware(scratch, "x = x * 13 + 9;"))
        more = "x = x * 13 + 7; for (int i = 0; i < x; i++) table[i & 255] ^= other(x, i);"
        yield Pair("firmware, a loop more in a function", image, firmware(scratch, more))


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


def firmware(scratch: Path, statement: str) -> bytes:
    """Compile a firmware of many functions, which call each other, and have constants."""
    generator = random.Random(1)  # noqa: S311 - the same firmware each time
    objects = []
    for unit in range(UNITS):
        source = "\n".join(_unit(generator, unit, statement if unit == UNITS // 3 else None))
        name = hashlib.sha256(source.encode()).hexdigest()[:16]
        made = scratch / f"{name}.o"
        if not made.exists():
            path = scratch / f"{name}.c"
            path.write_text(source, encoding="utf-8")
            _run(COMPILER, "-Os", "-mthumb", "-mcpu=cortex-m4", "-c", path, "-o", made)
        objects.append(made)
    linked, image = scratch / "image.elf", scratch / "image.bin"
    script = scratch / "image.ld"
    script.write_text(
        "SECTIONS { . = 0x8000000; .text : { *(.text*) *(.rodata*) } "
        ".data : { *(.data*) *(.bss*) } }",
        encoding="utf-8",
    )
    _run(
        COMPILER,
        "-nostdlib",
        "-Wl,--no-warn-rwx-segments",
        "-Wl,-e,f_0_0",
        "-T",
        script,
        *objects,
        "-o",
        linked,
    )
    _run("arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", linked, image)
    return image.read_bytes()


def _unit(generator: random.Random, unit: int, statement: str | None) -> Iterator[str]:
    """Yield the lines of a file: functions that do sums, call others and read tables."""
    numbers = ", ".join(str(generator.getrandbits(32)) for _ in range(20000))
    called = [(generator.randrange(UNITS), generator.randrange(FUNCTIONS)) for _ in range(200)]
    yield "extern int other(int, int);" if unit else "int other(int a, int b) { return a ^ b; }"
    yield "static int table[256];"
    yield f"static const unsigned data[] = {{{numbers}}};"
    yield from (f"int f_{file}_{number}(int);" for file, number in sorted(set(called)))
    for number in range(FUNCTIONS):
        a, b, c = (generator.getrandbits(16) for _ in range(3))
        callee = "f_{}_{}".format(*generator.choice(called))
        more = statement if statement is not None and number == FUNCTIONS // 2 else ""
        yield (
            f"int f_{unit}_{number}(int x) {{ {more} x = x * {a} + {b}; "
            f"if (x & {1 << generator.randrange(16)}) x ^= data[x % 20000] + {c}; "
            f'if (x % {1 + a % 50}) x += other(x, (int)"text {a} {b} of {number}"[x & 7]); '
            f"table[x & 255] += x; return x ? {callee}(x - 1) : {c}; }}"
        )


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
    if shutil.which("bsdiff"):
        _run("bsdiff", old, new, scratch / "patch")
        yield "bsdiff", str((scratch / "patch").stat().st_size)
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
