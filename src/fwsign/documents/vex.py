# SPDX-License-Identifier: Apache-2.0
"""Statements about vulnerabilities: OpenVEX and CSAF."""

from typing import Any, Final

from fwsign.documents.document import Document, Subject, mapping, mappings, subject

_CONTEXT: Final = "https://openvex.dev/ns"


def openvex(content: dict[str, Any]) -> Document | None:
    """OpenVEX: the subjects are the products of its statements, where they have hashes."""
    context = content.get("@context")
    if not isinstance(context, str) or not context.startswith(_CONTEXT):
        return None
    subjects: set[Subject] = set()
    for statement in mappings(content.get("statements")):
        for product in mappings(statement.get("products")):
            for algorithm, digest in mapping(product.get("hashes")).items():
                subjects.update(subject(algorithm, digest))
    return Document("application/openvex+json", "VEX, OpenVEX", frozenset(subjects))


def csaf(content: dict[str, Any]) -> Document | None:
    """CSAF, whose tree of products is not searched for subjects."""
    document = mapping(content.get("document"))
    version = document.get("csaf_version")
    if not isinstance(version, str) or "category" not in document:
        return None
    return Document("application/csaf+json", f"{document['category']!s:.40}, CSAF {version:.10}")
