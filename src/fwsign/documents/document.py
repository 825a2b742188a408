# SPDX-License-Identifier: Apache-2.0
"""The result of recognising a document."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

SUBJECT_ALGORITHMS: Final = ("sha256", "sha384", "sha512")
"""The hashes by which a document's subjects are compared, by their names in hashlib."""
_SPELLINGS: Final = {
    spelling: name
    for name in SUBJECT_ALGORITHMS
    for spelling in (name, name.upper(), name.replace("sha", "sha-"), name.replace("sha", "SHA-"))
}


class Subject(NamedTuple):
    """One digest of a file that a document is about.

    Args:
        algorithm: one of `SUBJECT_ALGORITHMS`.
        digest: in hex, in small letters.
    """

    algorithm: str
    digest: str


class Document(NamedTuple):
    """What a document is.

    Args:
        media_type: such as "application/spdx+json".
        words: for people.
        subjects: the digests of the files that it is about, as far as it states any.
        binding: whether it means nothing for files that it does not name: it is an attestation.
    """

    media_type: str
    words: str
    subjects: frozenset[Subject] = frozenset()
    binding: bool = False


def subject(algorithm: Any, digest: Any) -> Iterable[Subject]:
    """Return a stated digest as none or one; anything else than a known hash is none."""
    if isinstance(algorithm, str) and isinstance(digest, str) and algorithm in _SPELLINGS:
        yield Subject(_SPELLINGS[algorithm], digest.lower())


def mappings(value: Any) -> Iterable[dict[str, Any]]:
    """Return the objects in a JSON array; nothing of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}
