# SPDX-License-Identifier: Apache-2.0
"""Secrets in files: passphrases, PINs, tokens; one rule for what belongs to them."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.files import read_bytes
from fwsign.keys import pem

if TYPE_CHECKING:
    from pathlib import Path

SECRET_LIMIT: Final = 4096
"""Bytes of a file with a secret."""


def first_line(data: bytes) -> tuple[bytes, bool]:
    """Return a secret in openssl's way, without the additions of editors.

    Encoding marks and line ends do not belong to it. UTF-16 becomes UTF-8.

    Returns:
        The first line, and whether there are more.
    """
    line, end, rest = pem.as_utf8(data).removeprefix(codecs.BOM_UTF8).partition(b"\n")
    return line.rstrip(b"\r"), bool(end and rest.strip())


def read_secret(path: Path, what: str, limit: int = SECRET_LIMIT) -> bytes:
    """Read a secret from the first line of a file.

    Args:
        path: the file.
        what: the secret for errors, as in "the PIN".
        limit: bytes of the file.

    Raises:
        Failed: `key.passphrase-missing` if it is empty; `io.*`.
    """
    secret, _ = first_line(read_bytes(path, limit))
    if not secret:
        raise Failed(
            "key.passphrase-missing",
            f"{path} is empty, {what} is expected in its first line",
            expected=what,
            found="nothing",
        )
    return secret
