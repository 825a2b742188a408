# SPDX-License-Identifier: Apache-2.0
"""Read values of the command line: times, passphrases, PEM files."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from fwsign import spans
from fwsign.cli import ui
from fwsign.errors import Failed, FwsignError
from fwsign.files import io_error, read_bytes

if TYPE_CHECKING:
    from fwsign.verify.verified import Verified
    from fwsign.x509.anchor import Anchor

PEM_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a file with certificates or CRLs."""
STREAM: Final = Path("-")
"""Standard input or output; for a file with that name, the user writes a path."""
_KINDS: Final = {"CERTIFICATE": "certificate", "X509 CRL": "CRL"}
_BUNDLES: Final = frozenset({"PKCS7", "CMS", "PKCS12"})


def parse_time(text: str, now: datetime) -> datetime:
    """Parse RFC 3339 with a zone, or a span from `now` on, such as 30min, 12h, 90d or 2y."""
    try:
        if (span := spans.parse_span(text)) is not None:
            return now + span
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            ui.usage(f'"{text}" has no time zone', f"write {time.isoformat()}Z if it is UTC")
        return time.astimezone(UTC)
    except ValueError:
        ui.usage(
            f'"{text}" is not a time', "write 2026-11-22T12:00:00Z, or 30min, 12h, 90d, 4w, 2y"
        )
    except OverflowError:
        ui.usage(f'"{text}" is out of range', "times are in the years 1 to 9999")


def parse_span(text: str) -> timedelta:
    """Parse a span such as 30min, 12h, 90d, 4w or 2y."""
    span = spans.parse_span(text)
    if span is None:
        ui.usage(f'"{text}" is not a span of time', "write 30min, 12h, 90d, 4w, 2y")
    return span


def past_time(text: str | None, option: str) -> datetime | None:
    """Parse RFC 3339 with a zone, or a span before now, such as 12h or 30d."""
    if text is None:
        return None
    try:
        if (span := spans.parse_span(text)) is not None:
            return now() - span
    except OverflowError:
        ui.usage(f'{option} "{text}" is out of range', "times are in the years 1 to 9999")
    return parse_time(text, now())


def now() -> datetime:
    """Return the clock's time, without fractions of a second."""
    return datetime.now(UTC).replace(microsecond=0)


# --- passphrases ----------------------------------------------------------------------------


def passphrase_source(
    source: str | None, what: str, option: str = "--pass"
) -> Callable[[], bytes | None]:
    """Return a function that reads the passphrase of an existing key when needed.

    Args:
        source: env:NAME, file:PATH or fd:N; None for a prompt.
        what: the key, as in 'the key "release"'.
        option: the option that gives the source.
    """
    known: list[bytes] = []

    def get() -> bytes:
        if not known:
            known.append(_from(source) if source else _prompt(what, option, confirm=False))
        return known[0]

    if source:
        _check_source(source)
    return asking(get, asks=source is None)


def asking(get: Callable[[], bytes | None], *, asks: bool) -> Callable[[], bytes | None]:
    """Return a source of a passphrase that tells whether it asks a person.

    Nobody types the token of a service; see `fwsign.keys.asks`.
    """
    vars(get)["asks"] = asks
    return get


def new_passphrase(
    source: str | None, *, none: bool, what: str, option: str = "--pass"
) -> bytes | None:
    """Return the passphrase for a new key; None for a key without one."""
    check_new_passphrase(source, none=none, option=option)
    if none:
        return None
    passphrase = _from(source) if source else _prompt(what, option, confirm=True)
    if not passphrase:
        ui.usage(f"the passphrase of {what} is empty", "--no-passphrase leaves the key unencrypted")
    return passphrase


def check_new_passphrase(source: str | None, *, none: bool, option: str = "--pass") -> None:
    """Refuse options that no new key can have."""
    if source and none:
        ui.usage(f"{option} and --no-passphrase exclude each other")
    if source:
        _check_source(source)


def _check_source(source: str) -> tuple[str, str]:
    kind, _, rest = source.partition(":")
    number = rest.isdecimal() and len(rest) < 10
    if kind not in ("env", "file", "fd") or not rest or (kind == "fd" and not number):
        ui.usage(
            "a passphrase is given as env:NAME, file:PATH or fd:N",
            "never on the command line itself, where other users can see it",
        )
    return kind, rest


def _from(source: str) -> bytes:
    from fwsign.keys.secret_file import SECRET_LIMIT  # not every command has a passphrase

    kind, rest = _check_source(source)
    if kind == "env":
        value = os.environ.get(rest)
        if value is None:
            ui.usage(f"the environment has no variable {rest}", f"set it first: export {rest}=...")
        if not value:
            ui.usage(
                f"the environment's variable {rest} is empty", "a passphrase is expected in it"
            )
        return _first_line(value.encode(errors="surrogateescape"), source)
    if kind == "file":
        return _first_line(read_bytes(Path(rest), SECRET_LIMIT), source)
    try:
        with os.fdopen(int(rest), "rb", closefd=False) as file:
            found = file.read(SECRET_LIMIT + 1)
    except OSError as error:
        raise io_error(error, source) from error
    if len(found) > SECRET_LIMIT:
        raise Failed("io.format", f"{source} gives more than {SECRET_LIMIT} bytes")
    return _first_line(found, source)


def _first_line(data: bytes, source: str) -> bytes:
    from fwsign.keys.secret_file import first_line  # not every command has a passphrase

    line, more = first_line(data)
    if more:
        ui.note(f"{source} has several lines, the first is the passphrase")
    return line


def _prompt(what: str, option: str, *, confirm: bool) -> bytes:
    if not ui.is_terminal(sys.stdin):
        ui.usage(
            f"no passphrase for {what}, and no terminal to ask",
            f"give it with {option} env:NAME, file:PATH or fd:N"
            + (", or use --no-passphrase" if confirm else ""),
        )
    from fwsign.cli import strength  # only at a terminal

    if confirm:
        strength.advise()
    text: str = typer.prompt(
        f"Passphrase of {what}", hide_input=True, confirmation_prompt=confirm, err=True
    )
    if confirm:
        strength.judge(text)
    return text.encode(errors="surrogateescape")


# --- standard input and output ---------------------------------------------------------------


def read(path: Path, limit: int) -> bytes:
    """Read a whole small file or pipe, or standard input if the path is `-`.

    Raises:
        Failed: `io.*`; more than `limit` bytes are `io.format`.
    """
    if path != STREAM:
        return read_bytes(path, limit, "pipes")
    if sys.stdin is None:
        raise Failed("io.missing", "cannot read standard input: it is closed")
    try:
        data: bytes = sys.stdin.buffer.read(limit + 1)
    except OSError as error:
        raise io_error(error, "standard input") from error
    if len(data) > limit:
        raise Failed(
            "io.format",
            f"standard input has more than {limit} bytes",
            expected=f"at most {limit} bytes",
            found="more",
        )
    return data


@contextlib.contextmanager
def expecting_envelope(
    path: Path, ending: str = ".suit", data: bytes | None = None
) -> Iterator[None]:
    """Add to a refusal what is in the file, or the envelope that was probably meant.

    Args:
        path: the file that was named.
        ending: how the name of what is expected ends.
        data: its bytes, where they were read before.
    """
    try:
        yield
    except FwsignError as error:
        from fwsign.cli import kinds  # after a refusal

        other = kinds.explained(error, path, ending, data)
        if other is error:
            raise
        raise other from error


def write_stream(data: bytes) -> None:
    """Write bytes to standard output, unless that is a terminal."""
    if ui.is_terminal(sys.stdout):
        ui.usage("these bytes would garble a terminal", "name a file, or send them to a program")
    ui.write_bytes(data)


# --- PEM ------------------------------------------------------------------------------------


def pem_blocks(path: Path, data: bytes) -> list[tuple[str, bytes]]:
    """Return the labels and contents of a PEM file; see `fwsign.keys.pem.blocks`."""
    from fwsign.keys import pem  # not every command reads PEM

    return [(block.label, block.content) for block in pem.blocks(data, path)]


def read_pem(path: Path) -> bytes:
    """Read a file of PEM or DER, or standard input."""
    return read(path, PEM_LIMIT)


def load_pem(paths: Iterable[Path], label: str, what: str) -> list[bytes]:
    """Return the DER of everything with a label in PEM or DER files."""
    return [found for path in paths for found in select(path, read_pem(path), label, what)]


def load_anchors(paths: Iterable[Path]) -> "list[Anchor]":
    """Return the certificates and public keys to pin in PEM or DER files.

    Raises:
        Failed: `io.format` if there is neither.
    """
    from fwsign.x509.anchor import Anchor

    anchors = []
    for path in paths:
        blocks = pem_blocks(path, data := read_pem(path))
        keys = [content for label, content in blocks if label == "PUBLIC KEY"]
        if data[:1] == b"\x30":
            from fwsign.keys.formats import read_any  # most are PEM

            keys = [one.content for one in read_any(data, name=path) if one.kind == "public key"]
        anchors += [Anchor.from_public_key(key) for key in keys]
        if not keys or len(keys) < len(blocks):
            found = select(path, data, "CERTIFICATE", "certificate or public key")
            anchors += [Anchor.from_certificate(certificate) for certificate in found]
    return anchors


def select(
    path: Path,
    data: bytes,
    label: str,
    what: str,
    passphrase: Callable[[], bytes | None] | None = None,
) -> list[bytes]:
    """Return the DER of everything with a label in one file's content: PEM, DER, PKCS#7.

    Args:
        path: the file, for errors.
        data: the file's content.
        label: CERTIFICATE or X509 CRL.
        what: the same in words.
        passphrase: called for PKCS#12 that is encrypted; None leaves it locked.

    Raises:
        Failed: `io.format` where there is none; `key.passphrase`, `key.passphrase-missing`.
    """
    blocks = pem_blocks(path, data)
    found = [content for name, content in blocks if name == label]
    if found:
        return found
    labels = ", ".join(sorted({name for name, _ in blocks})) or "no PEM"
    if data[:1] == b"\x30" or not _BUNDLES.isdisjoint(name for name, _ in blocks):
        from fwsign.keys.formats import read_opened  # most are plain PEM
        from fwsign.keys.items import TRUSTED  # most are plain PEM

        things = read_opened(data, passphrase, name=path)
        # What is pinned or verified must be DER, and alone: BER and notes are for `show`.
        strict = [one for one in things if one.encoding != "BER" and one.format != TRUSTED]
        found = [one.content for one in strict if one.kind == _KINDS[label]]
        if not things and not blocks:  # the caller's parser will name the fault
            return [data]
        kinds = {one.kind if one in strict else f"{one.kind} in BER" for one in things}
        labels = ", ".join(sorted(kinds)) or labels
    if not found:
        raise Failed(
            "io.format",
            f"{path} has no {what}, it has {labels}",
            expected=f"a PEM file with {label}",
            found=labels,
        )
    return found


def refuse_unused(crls: Sequence[bytes], verified: "Verified") -> None:
    """Refuse a CRL that no device would use: the user must have meant another one."""
    used = {crl.data for one in verified.signers for issued in one.issued for crl in issued.crls}
    if not used.issuperset(crls):
        raise Failed("io.crl-unused", "a CRL given belongs to no issuer in the signer's path")
