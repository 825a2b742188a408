# SPDX-License-Identifier: Apache-2.0
"""CycloneDX in XML, read as a stream: no tree is built, and no entity is expanded."""

from typing import Any, Final
from xml.parsers import expat

from fwsign.documents.document import Document, Subject, subject

MAX_DEPTH: Final = 64
"""Elements within each other."""
_NAMESPACE: Final = "http://cyclonedx.org/schema/bom/"
_HASH: Final = ("bom", "metadata", "component", "hashes", "hash")
_SEPARATOR: Final = " "


class _Refused(Exception):
    """The document is none of ours; the parser is stopped."""


class _Reader:
    """Takes the parser's calls."""

    def __init__(self) -> None:
        self.version = ""
        self.subjects: set[Subject] = set()
        self._path: list[str] = []
        self._algorithm = ""
        self._text = ""

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """Enter an element."""
        namespace, _, local = name.rpartition(_SEPARATOR)
        if not self._path:
            if local != "bom" or not namespace.startswith(_NAMESPACE):
                raise _Refused
            self.version = namespace.removeprefix(_NAMESPACE)
        if len(self._path) >= MAX_DEPTH:
            raise _Refused
        self._path.append(local)
        self._algorithm, self._text = attributes.get("alg", ""), ""

    def text(self, data: str) -> None:
        """Take text; only that of a hash is kept."""
        if tuple(self._path) == _HASH and len(self._text) < 200:
            self._text += data

    def end(self, _name: str) -> None:
        """Leave an element."""
        if tuple(self._path) == _HASH:
            self.subjects.update(subject(self._algorithm, self._text.strip()))
        self._path.pop()

    @staticmethod
    def refuse(*_: Any) -> None:
        """Refuse a document type: a bill needs no entities."""
        raise _Refused


def cyclonedx(text: bytes) -> Document | None:
    """CycloneDX in XML; None for any other XML, and for one with a document type."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(text, True)
    except (_Refused, expat.ExpatError, ValueError, LookupError):
        return None
    words = f"SBOM, CycloneDX {reader.version:.10}"
    return Document("application/vnd.cyclonedx+xml", words, frozenset(reader.subjects))
