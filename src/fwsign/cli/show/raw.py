# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign show --pem` and `--hex`: certificates, CRLs and public keys as bytes."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from fwsign.cli import quoting, ui

if TYPE_CHECKING:
    from fwsign.keys.items import FileItem

Form = Literal["pem", "hex"]

_ROW: Final = 16  # octets of a line
_LABELS: Final = {
    "certificate": "CERTIFICATE",
    "certificate signing request": "CERTIFICATE REQUEST",
    "CRL": "X509 CRL",
    "public key": "PUBLIC KEY",
}


class RawThing(NamedTuple):
    """One thing, in DER."""

    kind: str
    content: bytes


def things_in(found: "bytes | tuple[FileItem, ...]", file: Path) -> list[RawThing]:
    """Return what can be shown of an envelope, or of the keys and certificates in a file.

    Raises:
        UsageFailure: there is nothing; Malformed: the envelope is damaged.
    """
    return of_envelope(found, file) if isinstance(found, bytes) else of_things(found, file)


def of_things(found: Iterable["FileItem"], file: Path) -> list[RawThing]:
    """Return what can be shown of the things in a file; of a private key its public half.

    Raises:
        UsageFailure: there is nothing, or only what a passphrase hides.
    """
    shown, locked = [], False
    for one in itertools.chain.from_iterable(map(_really, found)):
        if one.kind in _LABELS and one.content:
            shown.append(RawThing(one.kind, one.content))
        elif one.public_key is not None:
            from fwsign.keys.public_keys import spki

            shown.append(RawThing("public key", spki(one.public_key)))
        else:
            locked = locked or one.encryption is not None
    if shown:
        return shown
    if locked:
        name = quoting.quoted(file)
        public = f"its public half: fwsign key convert {name} - --to public"
        ui.usage(f"{file} is encrypted, and shows nothing without its passphrase", public)
    raise refusal(file)


def _really(one: "FileItem") -> "tuple[FileItem, ...]":
    """Return a thing, or the private key that a public label in PEM names wrongly."""
    from fwsign.keys.formats import read_opened
    from fwsign.keys.items import CONTAINER

    if one.kind not in _LABELS or not one.content:
        return (one,)
    content = read_opened(one.content, None, name=f"the {one.kind}")
    secret = any(inner.kind in ("private key", CONTAINER) for inner in content)
    return content if secret else (one,)


def of_envelope(data: bytes, file: Path) -> list[RawThing]:
    """Return the certificates and CRLs in the signatures of an envelope.

    Raises:
        Malformed: it is damaged.
        UsageFailure: there are none.
    """
    from fwsign.format.cose import decode_block
    from fwsign.format.envelope import decode_envelope

    blocks = [decode_block(one) for one in decode_envelope(data).blocks]
    found = [RawThing("certificate", one) for block in blocks for one in block.chain]
    found += [RawThing("CRL", one) for block in blocks for one in block.crls]
    if not found:
        ui.usage(f"{file} is an envelope without certificates and CRLs", _shows(file))
    return found


def refusal(file: Path) -> ui.UsageFailure:
    """Return the refusal of a file that has nothing of the kind, such as a firmware image."""
    words = f"{file} has no certificate, request, CRL or public key to print"
    return ui.UsageFailure(words, f"{_shows(file)}; all its bytes: od -t x1 {quoting.quoted(file)}")


def show(file: Path, found: Iterable[RawThing], form: Form, *, as_json: bool) -> None:
    """Print them one after the other: as PEM, or as a table of their bytes."""
    if as_json:
        content = [{"kind": one.kind, form: _text(one, form)} for one in found]
        ui.print_json({"file": str(file), "content": content})
        return
    for one in found:
        if form == "hex":
            ui.out(f"{one.kind}, {len(one.content)} bytes")
        for line in hex_lines(one.content) if form == "hex" else _text(one, form).splitlines():
            ui.out(line)


def hex_lines(data: bytes) -> Iterator[str]:
    """Lay out bytes as xxd does: their place, 16 of them, and those that are ASCII."""
    for place in range(0, len(data), _ROW):
        row = data[place : place + _ROW]
        text = "".join(chr(one) if 0x20 <= one < 0x7F else "." for one in row)
        yield f"{place:08x}: {row.hex(' ', -2):39}  {text}"


def _text(one: RawThing, form: Form) -> str:
    if form == "hex":
        return one.content.hex()
    from fwsign.keys import pem

    return pem.encode(_LABELS[one.kind], one.content).decode()


def _shows(file: Path) -> str:
    return f"what it is: fwsign show {quoting.quoted(file)}"
