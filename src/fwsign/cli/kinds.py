# SPDX-License-Identifier: Apache-2.0
"""A refusal of a file of another kind: what it is, and which command takes it.

A channel's signer may not sign releases, so that a channel is refused as a release long before its
content is looked at. The code says why; the hint says that another file was meant.
"""

import contextlib
from pathlib import Path
from typing import Final

from fwsign.cli import quoting
from fwsign.cli.ui import Console
from fwsign.errors import Failed, FwsignError, Tampered
from fwsign.files import open_plain
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.statement import kind_in
from fwsign.format.suit import Kind, words_of
from fwsign.format.suit_labels import ENVELOPE_HEAD

_STREAM: Final = "-"
BY_ENDING: Final[dict[str, Kind]] = {
    ".suit": "release",
    ".channel": "channel",
    ".permit": "permit",
    ".trust": "trust-update",
}
_TAKERS: Final[dict[Kind, tuple[tuple[str, str], ...]]] = {
    "release": (
        ("publish", "fwsign publish {} --to PLACE"),
        ("install", "fwsign install {}"),
        ("trust", "fwsign install {}"),
        ("", "fwsign verify {}"),
    ),
    "channel": (
        ("publish", "fwsign publish --channel {} --to PLACE"),
        ("", "fwsign channel verify {}"),
    ),
    "permit": (
        ("install", "fwsign install ENVELOPE --permit {}"),
        ("", "fwsign permit show {}"),
    ),
    "trust-update": (
        ("install", "fwsign trust apply {}"),
        ("", "fwsign trust show {}"),
    ),
}
"""The commands that take each kind: beside some running command, and else."""


def explained(error: FwsignError, path: Path, ending: str, data: bytes | None) -> FwsignError:
    """Return the refusal of an envelope, with a hint at what was probably meant.

    Args:
        error: the refusal.
        path: the file, or standard input.
        ending: how the name of what is expected ends.
        data: its bytes, where they were read before.
    """
    if isinstance(error, Failed):
        return error
    read = _beginning(path) if data is None else data
    wanted, found = BY_ENDING.get(ending), kind_in(read)
    if wanted is not None and found is not None and found != wanted:
        return error.with_hint(_named(path, found, wanted))
    if isinstance(error, Tampered):
        from fwsign.cli.request_page import told  # few are requests

        return told(error, path)
    if error.code not in ("malformed.cbor", "malformed.envelope") or str(path) == _STREAM:
        return error
    if not path.is_file() or read.startswith(ENVELOPE_HEAD):
        return error
    meant = Path(f"{path}{ending}")
    question = f"did you mean {quoting.quoted(meant)}?"
    what = f"{path} is not an envelope; fwsign show {quoting.quoted(path)} tells what it is"
    return error.with_hint(question if meant.is_file() else what)


def _beginning(path: Path) -> bytes:
    """Return a file's bytes, as many as an envelope has; none of a pipe, which is read once."""
    with contextlib.suppress(FwsignError, OSError), open_plain(path, "files") as file:
        return file.read(MAX_ENVELOPE_SIZE)
    return b""


def _named(path: Path, kind: Kind, wanted: Kind) -> str:
    """Return the hint: what a file is, and which command takes it."""
    running = Console.command[:1]
    taker = next(line for name, line in _TAKERS[kind] if name in ("", *running))
    named = taker.format("FILE" if str(path) == _STREAM else quoting.quoted(path))
    return f"it is {words_of(kind)}, and no {wanted.replace('-', ' ')}: {named}"
