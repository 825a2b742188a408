# SPDX-License-Identifier: Apache-2.0
"""Read a permit to show it, without verifying it."""

import contextlib
from pathlib import Path

from fwsign.cli import inputs
from fwsign.errors import FwsignError
from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope
from fwsign.format.opening import decode_blocks
from fwsign.format.permit import Permit, read_permit
from fwsign.x509.certificate import parse_certificate


def read(file: Path) -> tuple[Permit, list[str]]:
    """Return a permit, and the names in the certificates of its blocks.

    Raises:
        FwsignError: it is no permit.
    """
    with inputs.expecting_envelope(file, ".permit"):
        envelope = decode_envelope(inputs.read(file, MAX_ENVELOPE_SIZE))
        permit = read_permit(envelope)
    names = []
    with contextlib.suppress(FwsignError):
        for block in decode_blocks(envelope.blocks):
            chain = block.chain
            names.append(parse_certificate(chain[0]).name if chain else "a bare key")
    return permit, names
