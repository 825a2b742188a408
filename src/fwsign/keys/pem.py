# SPDX-License-Identifier: Apache-2.0
"""Read and write PEM (RFC 7468), with the headers of old encrypted keys (RFC 1421)."""

import base64
import codecs
import contextlib
import re
from typing import NamedTuple

from fwsign.errors import Failed

_MARK = re.compile(rb"-----(BEGIN|END) ([A-Z0-9# ]{1,64})-----")


class PemBlock(NamedTuple):
    """The content between a BEGIN and its END."""

    label: str
    content: bytes
    headers: bytes
    """Header lines such as `DEK-Info: ...`; usually none."""
    text: bytes
    """The whole block, with BEGIN and END."""


def as_utf8(data: bytes) -> bytes:
    """Convert UTF-16 text with a byte order mark to UTF-8; return other data unchanged."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-16").removeprefix("\ufeff").encode()
    return data


def blocks(data: bytes, name: object) -> list[PemBlock]:
    """Return all blocks of a PEM file; text around them is skipped (RFC 7468 s.2).

    Args:
        data: the file's content.
        name: what to call the file in an error.

    Raises:
        Failed: `io.format` for a block without its end, or one that is not base64.
    """
    data = as_utf8(data)
    found: list[PemBlock] = []
    begin: re.Match[bytes] | None = None
    for mark in _MARK.finditer(data):
        if mark[1] == b"BEGIN":
            if begin is not None:
                break
            begin = mark
            continue
        if begin is None or begin[2] != mark[2]:
            raise _damaged(name, f"END {mark[2].decode()} without its BEGIN")
        body, headers = data[begin.end() : mark.start()], b""
        if b":" in body:
            headers, _, body = body.replace(b"\r\n", b"\n").partition(b"\n\n")
        try:
            content = base64.b64decode(b"".join(body.split()), validate=True)
        except ValueError:
            written = (
                "whose line ends are written as \\n" if rb"\n" in body else "that is not base64"
            )
            raise _damaged(name, f"{mark[2].decode()} {written}") from None
        text = data[begin.start() : mark.end()] + b"\n"
        found.append(PemBlock(mark[2].decode(), content, headers.strip(), text))
        begin = None
    if begin is not None:
        raise _damaged(name, f"BEGIN {begin[2].decode()} without its END")
    return found


def encode(label: str, der: bytes) -> bytes:
    """Return DER as a PEM block."""
    text = base64.b64encode(der).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def _damaged(name: object, what: str) -> Failed:
    return Failed("io.format", f"{name} is damaged PEM: {what}", expected="whole PEM", found=what)
