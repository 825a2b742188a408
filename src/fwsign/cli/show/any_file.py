# SPDX-License-Identifier: Apache-2.0
"""What `fwsign show` says of signatures on files that are no release. Nothing is verified here."""

import io
from typing import Any, BinaryIO

from fwsign.errors import FwsignError
from fwsign.format.suit_labels import HASH_ENVELOPE_HEAD, MINISIG_HEAD


def card(opened: BinaryIO) -> dict[str, Any] | None:
    """Return the facts of a hash envelope, or of a signature or key of minisign.

    Args:
        opened: the file; its position is at its start again afterwards.

    Returns:
        None if it is something else.
    """
    head = opened.read(len(MINISIG_HEAD))
    opened.seek(0)
    if not head.startswith((HASH_ENVELOPE_HEAD, MINISIG_HEAD)):
        return None
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE  # few files begin so

    data = opened.read(MAX_ENVELOPE_SIZE + 1)
    opened.seek(0, io.SEEK_SET)
    facts = _hash_envelope if head.startswith(HASH_ENVELOPE_HEAD) else _minisign
    try:
        return facts(data)
    except FwsignError:  # an image may begin as one does
        return None


def _hash_envelope(data: bytes) -> dict[str, Any]:
    from fwsign.format import hash_envelope
    from fwsign.format.algorithms import ALGORITHMS, DIGESTS
    from fwsign.x509.anchor import Anchor

    found = hash_envelope.decode(data)
    known = ALGORITHMS.get(found.block.algorithm)
    names = []
    for certificate in found.block.chain:
        try:
            names.append(Anchor.from_certificate(certificate).name)
        except FwsignError as error:
            names.append(str(error))
    return {
        "kind": "COSE hash envelope, not verified here",
        "size": len(data),
        "file": found.name,
        "content type": found.content_type,
        "digest": f"{DIGESTS[found.algorithm].name} {found.value.hex()}",
        "algorithm": known.name if known else str(found.block.algorithm),
        "certificates": names,
        "CRLs": len(found.block.crls),
    }


def _minisign(data: bytes) -> dict[str, Any]:
    from fwsign.format import minisig

    if data.count(b"\n") < 3:
        key = minisig.decode_key(data)
        return {"kind": "public key of minisign", "key": key.key_id[::-1].hex().upper()}
    found = minisig.decode(data)
    return {
        "kind": "signature of minisign, not verified here",
        "size": len(data),
        "file": found.name,
        "trusted comment": found.comment,
        "key": found.key_id[::-1].hex().upper(),
        "signs": "the file's BLAKE2b-512" if found.prehashed else "the file itself",
    }
