# SPDX-License-Identifier: Apache-2.0
"""`fwsign channel show`: what a file says, of whatever quality; nothing is verified."""

from pathlib import Path
from typing import Any

from fwsign.cli import ui
from fwsign.cli.channel import words
from fwsign.errors import FwsignError, Unsuitable
from fwsign.format.channel import Channel, read_channel
from fwsign.format.cose import decode_block
from fwsign.format.envelope import decode_envelope
from fwsign.receipts.facts import channel_facts
from fwsign.x509.certificate import parse_certificate

_UNREAD = "cannot be read: "


def facts(data: bytes) -> dict[str, Any]:
    """Return what a channel says, and who claims to have signed it.

    Raises:
        Malformed: it is no envelope. Unsuitable: it is a release, or of another kind.
    """
    envelope = decode_envelope(data)
    try:
        said: Any = channel_facts(read_channel(envelope))
    except Unsuitable:
        raise
    except FwsignError as error:
        said = f"{_UNREAD}{error.message}"
    return {"channel": said, "signers": [_signer(block) for block in envelope.blocks]}


def _signer(block: bytes) -> str:
    try:
        chain = decode_block(block).chain
        return " < ".join(parse_certificate(one).name for one in chain) or "a bare key"
    except FwsignError as error:
        return f"{_UNREAD}{error.message}"


def show(file: Path, data: bytes, found: dict[str, Any]) -> None:
    """Print the same for people."""
    said = found["channel"]
    if isinstance(said, str):
        ui.painted("unreadable", "yellow", f"{file}, {said}")
    else:
        channel: Channel = read_channel(decode_envelope(data))
        ui.painted("channel", "yellow", f"{channel.name}, number {channel.number}")
        for line in words.lines(channel):
            ui.out(line)
    for one in found["signers"]:
        ui.out(f"  claims     signed by {one}")
    ui.note("nothing was verified: fwsign channel verify does that")
