"""Make the vectors: `python -m testkit.make DIRECTORY`, with src and tests on PYTHONPATH."""

import sys
from pathlib import Path

from testkit import (
    blocks_vectors,
    bytes_vectors,
    content_vectors,
    device_vectors,
    path_vectors,
    signer_vectors,
    time_vectors,
    token_vectors,
)
from testkit.vector import Vector, to_json

VECTORS: tuple[Vector, ...] = (
    *bytes_vectors.VECTORS,
    *content_vectors.VECTORS,
    *blocks_vectors.VECTORS,
    *path_vectors.VECTORS,
    *time_vectors.VECTORS,
    *token_vectors.VECTORS,
    *signer_vectors.VECTORS,
    *device_vectors.VECTORS,
)


def make(directory: Path) -> list[Path]:
    """Write one file for each vector, with fresh keys; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for vector in VECTORS:
        path = directory / f"{vector.name}.json"
        path.write_text(to_json(vector), encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    sys.stdout.write(f"{len(made)} vectors in {sys.argv[1]}\n")
