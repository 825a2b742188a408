# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign show` about the signatures of an envelope."""

from collections.abc import Iterable
from typing import Any, Final

from fwsign.cli.show import cards
from fwsign.errors import FwsignError
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import decode_block
from fwsign.x509.crl import reading

CRLS_SHOWN: Final = 4 * 1024 * 1024
"""Bytes of CRLs in an envelope that are parsed, counted by `crl.reading`."""
ENTRIES_SHOWN: Final = 20
"""Entries to show of each CRL in an envelope; a single CRL is shown whole."""


def describe_blocks(encoded: Iterable[bytes], *, every: bool) -> list[dict[str, Any]]:
    """Describe blocks, with at most `CRLS_SHOWN` bytes of CRLs, in the order of the blocks."""
    left, blocks = CRLS_SHOWN, []
    for data in encoded:
        block, size = _block(data, left, every=every)
        left -= size
        blocks.append(block)
    return blocks


def _block(data: bytes, room: int, *, every: bool) -> tuple[dict[str, Any], int]:
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
