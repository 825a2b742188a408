# SPDX-License-Identifier: Apache-2.0
"""What command lines name: times, passphrases, PEM files."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import typer

from fwsign.atomic import io_error, read_bytes
from fwsign.cli import ui
from fwsign.errors import Failed

PEM_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a file with certificates or CRLs."""
PASSPHRASE_LIMIT: Final = 4096
_SPAN = re.compile(r"(\d{1,5})([hdwy])")
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(1), "w": timedelta(7), "y": timedelta(365)}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----")


def parse_span(text: str) -> timedelta:
    """Parse a span of time such as 12h, 90d, 4w or 2y."""
    match = _SPAN.fullmatch(text)
    if not match:
        ui.usage(f'"{text}" is not a span of time', "write 12h, 90d, 4w or 2y")
    return int(match[1]) * _UNITS[match[2]]


def parse_time(text: str, now: datetime) -> datetime:
    """Parse RFC 3339 with a zone, or a span counted from `now`."""
    if _SPAN.fullmatch(text):
        return now + parse_span(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        ui.usage(f'"{text}" is not a time', "write 2026-11-22T12:00:00Z, or 90d from now")
    if time.tzinfo is None:
        ui.usage(f'"{text}" has no time zone', f"write {text}Z if it is UTC")
    return time.astimezone(UTC)


def now() -> datetime:
    """Return the clock's time, without fractions of a second."""
    return datetime.now(UTC).replace(microsecond=0)


# --- passphrases ----------------------------------------------------------------------------


def passphrase_source(source: str | None, what: str) -> Callable[[], bytes | None]:
    """Return a function that gets the passphrase of an existing key when it is needed.

    Args:
        source: env:NAME, file:PATH or fd:N; None for a prompt.
        what: the key, as in 'the key "release"'.
    """
    known: list[bytes] = []

    def get() -> bytes:
        if not known:
            known.append(_from(source) if source else _prompt(what, confirm=False))
        return known[0]

    if source:
        _check_source(source)
    return get


def new_passphrase(source: str | None, *, none: bool, what: str) -> bytes | None:
    """Return the passphrase for a new key; None for a key without one."""
    if source and none:
        ui.usage("--pass and --no-passphrase exclude each other")
    if none:
        return None
    passphrase = _from(source) if source else _prompt(what, confirm=True)
    if not passphrase:
        ui.usage(f"the passphrase of {what} is empty", "--no-passphrase leaves the key unencrypted")
    return passphrase


def _check_source(source: str) -> tuple[str, str]:
    kind, _, rest = source.partition(":")
    if kind not in ("env", "file", "fd") or not rest or (kind == "fd" and not rest.isdecimal()):
        ui.usage(
            "a passphrase is given as env:NAME, file:PATH or fd:N",
            "never on the command line itself, where other users can see it",
        )
    return kind, rest


def _from(source: str) -> bytes:
    kind, rest = _check_source(source)
    if kind == "env":
        value = os.environ.get(rest)
        if value is None:
            ui.usage(f"the environment has no variable {rest}")
        return value.encode()
    if kind == "file":
        return read_bytes(Path(rest), PASSPHRASE_LIMIT).rstrip(b"\r\n")
    try:
        with os.fdopen(int(rest), "rb", closefd=False) as file:
            return file.read(PASSPHRASE_LIMIT).rstrip(b"\r\n")
    except OSError as error:
        raise io_error(error, source) from error


def _prompt(what: str, *, confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        ui.usage(
            f"no passphrase for {what}, and no terminal to ask",
            "give it with --pass env:NAME, file:PATH or fd:N"
            + (", or use --no-passphrase" if confirm else ""),
        )
    text: str = typer.prompt(
        f"Passphrase of {what}", hide_input=True, confirmation_prompt=confirm, err=True
    )
    return text.encode()


# --- PEM ------------------------------------------------------------------------------------


def pem_blocks(data: bytes) -> list[tuple[str, bytes]]:
    """Return the labels and contents of a PEM file; text around them is skipped."""
    from base64 import b64decode  # noqa: PLC0415 - not every command reads PEM

    return [
        (match[1].decode(), b64decode(match[2], validate=False)) for match in _PEM.finditer(data)
    ]


def read_pem(path: Path) -> bytes:
    """Read a file of PEM or DER."""
    return read_bytes(path, PEM_LIMIT)


def load_pem(paths: Iterable[Path], label: str, what: str) -> list[bytes]:
    """Return the DER of everything of a label in files of PEM, or that are DER."""
    return [found for path in paths for found in select(path, read_pem(path), label, what)]


def select(path: Path, data: bytes, label: str, what: str) -> list[bytes]:
    """Return the DER of everything of a label in one file's content.

    Raises:
        Failed: `io.format` where there is none.
    """
    blocks = pem_blocks(data)
    found = [content for name, content in blocks if name == label]
    if not blocks and data[:1] == b"\x30":
        found = [data]
    if not found:
        labels = ", ".join(sorted({name for name, _ in blocks})) or "no PEM"
        raise Failed(
            "io.format",
            f"{path} has no {what}, it has {labels}",
            expected=f"a PEM file with {label}",
            found=labels,
        )
    return found
