# SPDX-License-Identifier: Apache-2.0
"""Places of files that commands write, looked at before a key is used for them."""

import contextlib
from pathlib import Path

from fwsign.files import atomic_writer


class _OnlyAsked(Exception):
    """Nothing is written: it was only asked whether it could be."""


def check(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a place where no file could be written; the write itself decides again.

    Raises:
        Failed: as `fwsign.files.atomic_writer`.
    """
    with contextlib.suppress(_OnlyAsked), atomic_writer(path, overwrite=overwrite):
        raise _OnlyAsked
