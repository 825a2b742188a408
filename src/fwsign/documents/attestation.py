# SPDX-License-Identifier: Apache-2.0
"""Attestations: in-toto statements, alone, in DSSE envelopes and in Sigstore bundles.

Their own signatures are not verified: whoever attaches one answers for it. Their subjects are
compared, since a provenance of other files says nothing.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from fwsign.documents.document import Document, Subject, mapping, mappings, subject
from fwsign.errors import Malformed
from fwsign.format.attachments import is_media_type

IN_TOTO: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/"
_PROVENANCE: Final = "https://slsa.dev/provenance/"
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle"


def statement(content: dict[str, Any]) -> Document | None:
    """Return a statement of in-toto, of which SLSA's provenance is one."""
    kind = content.get("_type")
    if not isinstance(kind, str) or not kind.startswith(_STATEMENT):
        return None
    subjects: set[Subject] = set()
    for one in mappings(content.get("subject")):
        for algorithm, digest in mapping(one.get("digest")).items():
            subjects.update(subject(algorithm, digest))
    predicate = content.get("predicateType")
    provenance = isinstance(predicate, str) and predicate.startswith(_PROVENANCE)
    words = "SLSA provenance" if provenance else f"attestation {predicate!s:.80}"
    return Document(IN_TOTO, words, frozenset(subjects), binding=True)


def envelope(content: dict[str, Any]) -> Document | None:
    """Return a DSSE envelope with a statement."""
    if not {"payload", "payloadType", "signatures"} <= content.keys():
        return None
    if content["payloadType"] != IN_TOTO:
        return None
    inner = _payload(content["payload"])
    kind = "provenance+dsse" if inner.words == "SLSA provenance" else "in-toto+dsse"
    media_type = f"application/vnd.in-toto.{kind}".replace("in-toto.in-toto", "in-toto")
    return inner._replace(media_type=media_type, words=f"{inner.words}, DSSE")


def bundle(content: dict[str, Any]) -> Document | None:
    """Return a bundle of Sigstore with a DSSE envelope."""
    media_type = content.get("mediaType")
    if not isinstance(media_type, str) or not media_type.startswith(_BUNDLE):
        return None
    inner = envelope(mapping(content.get("dsseEnvelope")))
    # Its first versions have a parameter: `application/vnd.dev.sigstore.bundle+json;version=0.1`.
    plain = media_type.partition(";")[0]
    if inner is None or not is_media_type(plain):
        return None
    return inner._replace(media_type=plain, words=inner.words.replace("DSSE", "Sigstore bundle"))


def together(found: Sequence[Document | None]) -> Document | None:
    """Return several attestations as one document; None if one of them is none."""
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    subjects = frozenset(one for document in known for one in document.subjects)
    return Document(
        "application/vnd.in-toto.bundle", f"{len(known)} attestations", subjects, binding=True
    )


def _payload(encoded: Any) -> Document:
    """Read the statement of an envelope."""
    try:
        # DSSE allows both alphabets; padding is there in either.
        data = base64.b64decode(str(encoded).translate(str.maketrans("-_", "+/")), validate=True)
        content = json.loads(data.decode())
    except (ValueError, RecursionError):
        content = None
    found = statement(mapping(content))
    if found is None:
        message = "a DSSE envelope whose payload is no in-toto statement, though it says so"
        raise Malformed("malformed.document", message, expected=IN_TOTO, found="something else")
    return found
