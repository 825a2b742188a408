# SPDX-License-Identifier: Apache-2.0
"""Software bills of materials: SPDX 2 and 3, and CycloneDX in JSON."""

from collections.abc import Iterable
from typing import Any, Final

from fwsign.documents.document import Document, Subject, mapping, mappings, subject

SPDX_JSON: Final = "application/spdx+json"
_CONTEXT: Final = "https://spdx.org/rdf/3."


def spdx(content: dict[str, Any]) -> Document | None:
    """SPDX 2: the subjects are the files and packages that the document describes."""
    version = content.get("spdxVersion")
    if not isinstance(version, str) or not version.startswith("SPDX-"):
        return None
    described = {*_described(content)}
    subjects = frozenset(
        found
        for kind in ("packages", "files")
        for one in mappings(content.get(kind))
        if str(one.get("SPDXID")) in described
        for stated in mappings(one.get("checksums"))
        for found in subject(stated.get("algorithm"), stated.get("checksumValue"))
    )
    return Document(SPDX_JSON, f"SBOM, SPDX {version.removeprefix('SPDX-')}", subjects)


def _described(content: dict[str, Any]) -> Iterable[str]:
    stated = content.get("documentDescribes")
    yield from (one for one in (stated if isinstance(stated, list) else ()) if isinstance(one, str))
    for one in mappings(content.get("relationships")):
        related = one.get("relatedSpdxElement")
        if one.get("relationshipType") == "DESCRIBES" and isinstance(related, str):
            yield related


def spdx_graph(content: dict[str, Any]) -> Document | None:
    """SPDX 3, whose graph is not searched for subjects."""
    context = content.get("@context")
    if not isinstance(context, str) or not context.startswith(_CONTEXT):
        return None
    return Document(SPDX_JSON, "SBOM, SPDX 3") if isinstance(content.get("@graph"), list) else None


def tag_value(text: bytes) -> Document:
    """SPDX 2 as lines of tags and values."""
    line = text[text.index(b"SPDXVersion:") :].splitlines()[0].decode("ascii", "replace")
    return Document("text/spdx", f"SBOM, SPDX {line.rpartition('SPDX-')[2].strip()}")


def cyclonedx(content: dict[str, Any]) -> Document | None:
    """CycloneDX: the subject is the component of the metadata."""
    if content.get("bomFormat") != "CycloneDX":
        return None
    component = mapping(mapping(content.get("metadata")).get("component"))
    subjects: set[Subject] = set()
    for stated in mappings(component.get("hashes")):
        subjects.update(subject(stated.get("alg"), stated.get("content")))
    words = f"SBOM, CycloneDX {content.get('specVersion')}"
    return Document("application/vnd.cyclonedx+json", words, frozenset(subjects))
