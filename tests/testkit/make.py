"""Write the vectors: `python -m testkit.make DIRECTORY [ARCHIVE]`, with tests on PYTHONPATH.

The same bytes each time; `make vectors` writes vectors/ and build/fwsign-vectors.tar.gz.
"""

import gzip
import io
import shutil
import sys
import tarfile
from pathlib import Path

from testkit import fixed

TOP = "fwsign-vectors"
"""The folder in the archive."""
FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
"""Goes along in the archive."""


def make(directory: Path) -> list[Path]:
    """Write one file for each vector, and those that they share; return the paths.

    What is in the way goes, so that a vector that is no longer made is no longer there.
    """
    fixed.install()  # before the modules below take what they need from `support`
    from testkit import written
    from testkit.every import CHANNELS, PERMITS, RELEASES, UPDATES

    writer = written.Writer(files := written.shared_files())
    texts = {
        **{f"release/{one.name}.json": writer.release(one) for one in RELEASES},
        **{f"channel/{one.name}.json": writer.channel(one) for one in CHANNELS},
        **{f"permit/{one.name}.json": writer.permit(one) for one in PERMITS},
        **{f"trust/{one.name}.json": writer.trust(one) for one in UPDATES},
    }
    texts["codes.json"] = written.codes(texts.values())
    contents = {**files, **{name: text.encode() for name, text in texts.items()}}
    for folder in ("release", "channel", "permit", "trust", "shared"):
        shutil.rmtree(directory / folder, ignore_errors=True)
        (directory / folder).mkdir(parents=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [directory / name for name in contents]


def pack(directory: Path, archive: Path) -> None:
    """Pack the vectors, their README and the format: the same files give the same archive."""
    found = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*")}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted({**found, FORMAT.name: FORMAT}.items()):
            if path.is_file():
                entry = tarfile.TarInfo(f"{TOP}/{name}")
                entry.size, entry.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    tar.addfile(entry, file)
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def main(directory: str, archive: str | None = None) -> None:
    """Write the vectors, and pack them if an archive is named."""
    made = make(Path(directory))
    sys.stdout.write(f"{len(made)} files in {directory}\n")
    if archive is not None:
        pack(Path(directory), Path(archive))
        sys.stdout.write(f"{archive}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
