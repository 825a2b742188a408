# SPDX-License-Identifier: Apache-2.0
"""Open payload files for `fwsign.reading`, with a progress bar."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Final

import typer

from fwsign.cli import ui
from fwsign.cli.inputs import STREAM
from fwsign.files import Accept, io_error, open_plain
from fwsign.format.component import Component
from fwsign.format.payload import Blocks, PayloadSource
from fwsign.reading import BlockCheck, Counted

_LARGE: Final = 32 * 1024 * 1024  # bytes; smaller files are done before a bar is seen


@contextmanager
def opened(path: Path, accept: Accept = "streams") -> Iterator[PayloadSource]:
    """Open a payload for reading.

    Args:
        path: the payload; `-` is standard input.
        accept: as for `open_plain`.

    Raises:
        Failed: `io.*`.
    """
    with _file(path, accept) as file:
        size = os.fstat(file.fileno()).st_size
        with _bar(path.name, size) as bar:
            yield file if bar is None else Counted(file, bar.update)


def check_blocks(path: Path, component: Component, blocks: Blocks, accept: Accept) -> None:
    """Check a file by only its block list, hashing on every core.

    Args:
        path: the payload; `-` is standard input.
        component: the component.
        blocks: its block list.
        accept: as for `open_plain`.

    Raises:
        Tampered: `tampered.block`, `tampered.payload-size`.
        Failed: `io.*`.
    """
    with _file(path, accept) as file, _bar(path.name, component.size) as bar:
        BlockCheck(file, component, blocks, None if bar is None else bar.update).run()


@contextmanager
def _file(path: Path, accept: Accept) -> Iterator[FileIO]:
    try:
        file = FileIO(os.dup(0)) if path == STREAM else open_plain(path, accept)
    except OSError as error:
        raise io_error(error, path) from error
    with file:
        yield file


@contextmanager
def _bar(name: str, size: int) -> Iterator[Any]:
    if size < _LARGE or ui.Console.quiet or not ui.is_terminal(sys.stderr):
        yield None
        return
    with typer.progressbar(length=size, label=ui.clean(name), file=sys.stderr) as bar:
        yield bar
