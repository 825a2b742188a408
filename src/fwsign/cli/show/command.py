# SPDX-License-Identifier: Apache-2.0
"""`fwsign show`: recognise and describe a file by its content."""

import io
import stat
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import JSON
from fwsign.cli.policies import POLICY
from fwsign.errors import Failed, FwsignError
from fwsign.format.suit_labels import ENVELOPE_HEAD

if TYPE_CHECKING:
    from fwsign.cli.show import raw
    from fwsign.format.component import Component
    from fwsign.format.envelope import Envelope
    from fwsign.format.native import StatedNative
    from fwsign.format.suit import Manifest
    from fwsign.format.text import Text
    from fwsign.keys.items import FileItem

CRLS_SHOWN: Final = 4 * 1024 * 1024
"""Bytes of CRLs in an envelope that are parsed, counted by `crl.reading`."""
ENTRIES_SHOWN: Final = 20
"""Entries to show of each CRL in an envelope; a single CRL is shown whole."""
_HEAD: Final = 4096  # bytes that suffice to recognise a file

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign show build.bin.suit",
        "fwsign show pki/ca.crt --all",
        "fwsign show pki/ca.crt --hex",
        "fwsign show firmware.bin --json",
    ),
)
def show(
    file: Annotated[
        Path,
        typer.Argument(
            readable=False,
            metavar="FILE",
            help="An envelope; a certificate, request, key or CRL in PEM, DER or JSON, PKCS#12, "
            "PKCS#7 or OpenSSH's forms; a firmware image (ESP, UF2, MCUboot); or anything else. - "
            "is standard input.",
        ),
    ],
    *,
    every: Annotated[
        bool,
        typer.Option("--all", help="Show the SHA-1 and MD5 fingerprints of certificates, too."),
    ] = False,
    as_pem: Annotated[
        bool,
        typer.Option(
            "--pem",
            help="Print the certificates, requests, CRLs and public keys themselves, in PEM: of a "
            "private key its public half, of an envelope what its signatures carry.",
        ),
    ] = False,
    as_hex: Annotated[
        bool, typer.Option("--hex", help="Print the same things as their bytes, in DER.")
    ] = False,
    policy: POLICY = None,
    as_json: JSON = False,
) -> None:
    """Show what a file is, by its content.

    Nothing is verified here, and no passphrase is asked for: of an encrypted key it says how it is
    encrypted, and whether that is strong. Only the signers of an envelope are judged, if there is a
    policy about them: it says which parts they meet, and what is missing.
    """
    given = [f"--{name}" for name, on in (("all", every), ("pem", as_pem), ("hex", as_hex)) if on]
    if len(given) > 1:
        ui.usage(f"{given[0]} and {given[1]} exclude each other")
    opened = _opened(file)
    if as_pem or as_hex:
        _print_raw(file, opened, "pem" if as_pem else "hex", as_json=as_json)
    else:
        print_cards(file, _cards(file, opened, policy, every=every), as_json=as_json)


def _print_raw(file: Path, opened: BinaryIO, form: "raw.Form", *, as_json: bool) -> None:
    from fwsign.cli.show import raw
    from fwsign.files import io_error

    try:
        with opened:
            found = _recognised(file, opened)
    except OSError as error:
        raise io_error(error, file) from error
    if found is None:
        raise raw.refusal(file)
    raw.show(file, raw.things_in(found, file), form, as_json=as_json)


def _opened(file: Path) -> BinaryIO:
    """Open a regular file, or read standard input."""
    from fwsign.files import io_error

    if file == inputs.STREAM:
        from fwsign.format.envelope import MAX_ENVELOPE_SIZE

        return io.BytesIO(inputs.read(file, MAX_ENVELOPE_SIZE))
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Failed("io.format", f"{file} is not a regular file", found="a pipe or device")
        return file.open("rb")
    except OSError as error:
        raise io_error(error, file) from error


def print_cards(file: Path | str, found: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print a file's content, as one JSON object or as indented trees."""
    if as_json:
        ui.print_json({"file": str(file), "content": found})
        return
    from fwsign.cli.show import tree  # for people alone

    for one in found:
        for line in tree.lines(one):
            ui.out(line)


def _cards(
    file: Path, opened: BinaryIO, policy: Path | None, *, every: bool
) -> list[dict[str, Any]]:
    from fwsign.cli.show import any_file
    from fwsign.files import io_error

    try:
        with opened:
            if (alone := any_file.card(opened)) is not None:
                return [alone]
            found = _recognised(file, opened)
            if isinstance(found, bytes):
                from fwsign.cli.show.policy import card as judged

                return [{**_envelope(file, found, every=every), **judged(found, policy)}]
            if policy is not None:
                ui.usage(f"--policy is for envelopes, and {file} is none")
            if found is not None:
                from fwsign.cli.show import cards

                return [cards.card(one, every=every) for one in found]
            from fwsign.cli.show import images as image_card  # only images need it

            size = opened.seek(0, io.SEEK_END)
            opened.seek(0)
            return [image_card.card(opened, opened.read(_HEAD), size)]
    except OSError as error:
        raise io_error(error, file) from error


def _recognised(file: Path, opened: BinaryIO) -> "bytes | tuple[FileItem, ...] | None":
    """Return an envelope whole, or the keys and certificates in a file; None for anything else."""
    from fwsign.keys import named

    head = opened.read(_HEAD)
    size = opened.seek(0, io.SEEK_END)
    if head.startswith(ENVELOPE_HEAD):
        return _all(file, opened, size)
    # Images may carry PEM too, but text has no NUL and DER begins as it does.
    text = b"\0" not in head
    pem = text and b"-----BEGIN " in head
    known = text or head[:1] == b"\x30" or named.foreign(head) is not None
    if not pem and not (known and size <= inputs.PEM_LIMIT):
        return None
    return _keys_and_certificates(file, _all(file, opened, size), damage_matters=pem) or None


def _all(file: Path, opened: BinaryIO, size: int) -> bytes:
    """Read a whole file, up to the size limit of an envelope or of PEM."""
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    opened.seek(0)
    limit = MAX_ENVELOPE_SIZE if opened.read(2) == ENVELOPE_HEAD else inputs.PEM_LIMIT
    if size > limit:
        raise Failed(
            "io.format",
            f"{file} is larger than {limit} bytes",
            expected=f"at most {limit} bytes",
            found="more",
        )
    opened.seek(0)
    return opened.read()


def _keys_and_certificates(
    file: Path, data: bytes, *, damage_matters: bool
) -> "tuple[FileItem, ...]":
    from fwsign.cli.show import cards
    from fwsign.keys.formats import read_any

    try:
        found = read_any(data, name=file)
        if not damage_matters:  # an image may begin as DER does
            _ = [cards.card(one) for one in found]
    except FwsignError:
        if damage_matters:
            raise
        return ()
    return found


def _envelope(file: Path, data: bytes, *, every: bool) -> dict[str, Any]:
    from fwsign.cli.request_page import kind_of
    from fwsign.cli.show import diagnostic
    from fwsign.format import cbor
    from fwsign.format.envelope import decode_envelope
    from fwsign.signing.release import DEVICE_DATA

    envelope = decode_envelope(data)
    found: dict[str, Any] = {"kind": kind_of(data), "size": len(data)}
    found |= _manifest(file, envelope)
    if (policy := envelope.integrated.get(f"#{DEVICE_DATA}")) is not None:
        from fwsign.cli.show.device_policy import card  # few releases have one

        found["device data"] = card(policy)
    found["blocks"] = _blocks(envelope.blocks, every=every)
    found["payloads inside"] = {name: len(value) for name, value in envelope.integrated.items()}
    found["diagnostic"] = "\n".join(diagnostic.lines(cbor.decode(data)))
    return found


def _manifest(file: Path, envelope: "Envelope") -> dict[str, Any]:
    from fwsign.format import suit
    from fwsign.format.channel import read_channel
    from fwsign.format.text import decode_text
    from fwsign.receipts.facts import attachment_facts, channel_facts

    try:
        if suit.kind_in(envelope.manifest) == "channel":
            facts = channel_facts(read_channel(envelope))
            return {"channel": {name.replace("_", " "): one for name, one in facts.items()}}
        manifest = suit.decode_manifest(envelope.manifest)
        text = decode_text(envelope.text, manifest) if envelope.text is not None else None
    except FwsignError as error:
        return {"manifest": str(error)}
    return {
        "vendor": text.vendor if text else manifest.vendor_id.hex(),
        "product": text.product if text else manifest.class_id.hex(),
        "version": text.version if text else manifest.version,
        "description": text.description if text else None,
        **{name.replace("_", " "): one for name, one in _notice(text).items()},
        "sequence number": manifest.sequence_number,
        "use before": manifest.use_before,
        "components": [
            {
                "name": component.name,
                "size": component.size,
                "digest": component.digest.value.hex(),
                "payload": component.uri,
                **_encrypted(envelope, manifest, component),
                **_native(file, envelope, component, one),
            }
            for component, one in zip_longest(manifest.components, text.native if text else ())
        ],
        "attachments": [
            {**attachment_facts(one), "inside": one.uri in envelope.integrated}
            for one in (text.attachments if text else ())
        ],
    }


def _encrypted(
    envelope: "Envelope", manifest: "Manifest", component: "Component"
) -> dict[str, Any]:
    """Return the ciphertext of a component, and the groups that it is for; nothing if plain."""
    if component.encrypted is None:
        return {}
    from fwsign.cli.show import encrypted  # few releases are

    return {"encrypted": encrypted.card(envelope, manifest, component)}


def _native(
    file: Path, envelope: "Envelope", component: "Component", stated: "StatedNative | None"
) -> dict[str, Any]:
    """Return what a text states of the native signature of a component; nothing if nothing."""
    if stated is None:
        return {}
    from fwsign.cli.show import native  # few releases state one

    return {"native signature": native.card(file, envelope, component, stated)}


def _notice(text: "Text | None") -> dict[str, Any]:
    """Return what the notice of a text says; nothing if it says nothing."""
    return {name: one for name, one in text.notice.as_json().items() if one} if text else {}


def _blocks(encoded: Iterable[bytes], *, every: bool) -> list[dict[str, Any]]:
    """Describe blocks, with at most `CRLS_SHOWN` bytes of CRLs, in the order of the blocks."""
    left, blocks = CRLS_SHOWN, []
    for data in encoded:
        block, size = _block(data, left, every=every)
        left -= size
        blocks.append(block)
    return blocks


def _block(data: bytes, room: int, *, every: bool) -> tuple[dict[str, Any], int]:
    from fwsign.cli.show import cards
    from fwsign.format.algorithms import ALGORITHMS
    from fwsign.format.cose import decode_block
    from fwsign.x509.crl import reading

    try:
        block = decode_block(data)
        known = ALGORITHMS.get(block.algorithm)
        crls, size = [], 0
        for crl in block.crls:
            size += reading(crl)
            fits = size <= room
            crls.append(cards.crl_card(crl, ENTRIES_SHOWN) if fits else _too_much(crl))
        told = {
            "algorithm": known.name if known else block.algorithm,
            "certificates": [cards.certificate_card(one, every) for one in block.chain],
            "crls": crls,
            "time stamp": None if block.token is None else cards.token_card(block.token),
        }
    except FwsignError as error:
        return {"not decodable": str(error)}, 0
    return told, size


def _too_much(crl: bytes) -> dict[str, Any]:
    words = f"the envelope has more than {CRLS_SHOWN} bytes of CRLs"
    return {"kind": "CRL", "size": len(crl), "not shown": words}
