# SPDX-License-Identifier: Apache-2.0
"""Sort the files on a command line into envelopes and their payloads."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.cli import inputs, quoting, ui
from fwsign.errors import FwsignError
from fwsign.format.suit_labels import ENVELOPE_HEAD

_CERTIFICATE_LIMIT: Final = 64 * 1024  # bytes


class Parcel(NamedTuple):
    """An envelope with the payloads named for it.

    Args:
        envelope: as typed.
        data: its content, or the error of reading it.
        payloads: as typed.
    """

    envelope: Path
    data: bytes | FwsignError
    payloads: list[Path]


def split(envelope: Path, others: Sequence[Path]) -> list[Parcel]:
    """Return the named envelopes, each with the payloads after it.

    A file after the first begins another one where it is an envelope itself and no component of
    the one before is called so.

    Args:
        envelope: the first.
        others: the files after it.

    Raises:
        UsageFailure: one is a certificate.
        FwsignError: the only envelope cannot be read.
    """
    parcels = [_opened(envelope)]
    for path in others:
        head = _head(path)
        _refuse_certificate(path, head, "a payload")
        is_one = head.startswith(ENVELOPE_HEAD) or _is_missing(path)
        if is_one and path.name not in _payload_names(parcels[-1]):
            parcels.append(_opened(path))
        else:
            parcels[-1].payloads.append(path)
    if len(parcels) == 1 and isinstance(parcels[0].data, FwsignError):
        raise parcels[0].data
    return parcels


def _opened(path: Path) -> Parcel:
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE  # after the line was understood

    try:
        data = inputs.read(path, MAX_ENVELOPE_SIZE)
    except FwsignError as error:
        return Parcel(path, error, [])
    _refuse_certificate(path, data, "an envelope")
    return Parcel(path, data, [])


def _payload_names(parcel: Parcel) -> set[str]:
    from fwsign.format import suit  # only if a payload looks like an envelope
    from fwsign.format.envelope import decode_envelope

    if isinstance(parcel.data, FwsignError):
        return set()
    try:
        manifest = suit.decode_manifest(decode_envelope(parcel.data).manifest)
    except FwsignError:
        return set()
    return {one.payload_name for one in manifest.components}


def _head(path: Path) -> bytes:
    """Return a small file's content, or a larger one's beginning; nothing of a pipe."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_CERTIFICATE_LIMIT + 1)
    except OSError:  # the real read will report it
        pass
    return b""


def _is_missing(path: Path) -> bool:
    """Tell whether a file with the name of an envelope is missing."""
    return path.suffix == ".suit" and not os.path.lexists(path)


def _refuse_certificate(path: Path, data: bytes, wanted: str) -> None:
    if len(data) > _CERTIFICATE_LIMIT:
        return
    if (b"-----BEGIN CERTIFICATE-----" in data and b"\0" not in data) or _is_certificate(data):
        message = f"{path} is a certificate, not {wanted}"
        ui.usage(message, f"did you mean --anchor {quoting.quoted(path)}?")


def _is_certificate(data: bytes) -> bool:
    if data[:1] != b"\x30":
        return False
    from fwsign.x509.certificate import parse_certificate

    try:
        parse_certificate(data)
    except FwsignError:
        return False
    return True
