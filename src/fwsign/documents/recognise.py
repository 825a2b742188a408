# SPDX-License-Identifier: Apache-2.0
"""Recognise a document by its content; its name says nothing."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from fwsign.documents import attestation, bill, vex, xml
from fwsign.documents.document import Document
from fwsign.errors import Malformed

KNOWN: Final = (
    "SPDX (JSON, tag-value), CycloneDX (JSON, XML), OpenVEX, CSAF, in-toto statements, DSSE "
    "envelopes, Sigstore bundles"
)
"""The documents that are recognised, in words."""
_TAG_VALUE: Final = b"SPDXVersion: SPDX-"
_KINDS: Final[tuple[Callable[[dict[str, Any]], Document | None], ...]] = (
    bill.spdx,
    bill.spdx_graph,
    bill.cyclonedx,
    vex.openvex,
    vex.csaf,
    attestation.statement,
    attestation.envelope,
    attestation.bundle,
)


def recognise(data: bytes) -> Document | None:
    """Return what a document is; None if it is none that is known.

    Args:
        data: its bytes, of a size that the caller has limited.

    Raises:
        Malformed: `malformed.document`: it is of a known kind, but its statements contradict each
            other or cannot be read.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if text.startswith(b"{"):
        return _json(text)
    if text.startswith(b"<"):
        return xml.cyclonedx(text)
    if any(line.startswith(_TAG_VALUE) for line in text[:4096].splitlines()):
        return bill.tag_value(text)
    return None


def _json(text: bytes) -> Document | None:
    try:
        content = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return _lines(text)
    return next(filter(None, (kind(content) for kind in _KINDS)), None)


def _lines(text: bytes) -> Document | None:
    """Recognise attestations of which each has a line, as `gh attestation download` writes them."""
    found = []
    for line in text.splitlines():
        try:
            content = json.loads(line.decode(), object_pairs_hook=_once)
        except (ValueError, RecursionError):
            return None
        if not isinstance(content, dict):
            return None
        found.append(attestation.envelope(content) or attestation.bundle(content))
    return attestation.together(found) if len(found) > 1 else None


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; a key that is there twice may be read as either."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Malformed("malformed.document", f"a document with the key {key!r:.60} twice")
        found[key] = value
    return found
