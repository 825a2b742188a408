"""Documents are recognised by their content, and say which files they are about."""

import base64
import json
from typing import Any

import pytest

from fwsign.documents.document import Subject
from fwsign.documents.recognise import recognise
from support import refused

DIGEST = "ab" * 32
SHA256 = frozenset({Subject("sha256", DIGEST)})
STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "build.bin", "digest": {"sha256": DIGEST}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {},
}
CYCLONEDX = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "metadata": {"component": {"hashes": [{"alg": "SHA-256", "content": DIGEST}]}},
}
SPDX = {
    "spdxVersion": "SPDX-2.3",
    "documentDescribes": ["SPDXRef-a"],
    "packages": [
        {"SPDXID": "SPDXRef-a", "checksums": [{"algorithm": "SHA256", "checksumValue": DIGEST}]},
        {"SPDXID": "SPDXRef-b", "checksums": [{"algorithm": "SHA256", "checksumValue": "cd" * 32}]},
    ],
}
OPENVEX = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "statements": [{"products": [{"@id": "pkg:a", "hashes": {"sha-256": DIGEST}}]}],
}
BOM = (
    '<?xml version="1.0"?>\n<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><metadata><component>'
    f'<name>a</name><hashes><hash alg="SHA-256">{DIGEST}</hash><hash alg="MD5">00</hash></hashes>'
    '</component></metadata><components><component><hashes><hash alg="SHA-256">00</hash></hashes>'
    "</component></components></bom>"
)


def dsse(statement: Any = None, kind: str = "application/vnd.in-toto+json") -> dict[str, Any]:
    payload = base64.b64encode(json.dumps(statement or STATEMENT).encode()).decode()
    return {"payloadType": kind, "payload": payload, "signatures": [{"sig": "AA=="}]}


def bundle(version: str = "application/vnd.dev.sigstore.bundle.v0.3+json") -> dict[str, Any]:
    return {"mediaType": version, "dsseEnvelope": dsse()}


@pytest.mark.parametrize(
    ("content", "media_type", "words", "subjects"),
    [
        (SPDX, "application/spdx+json", "SBOM, SPDX 2.3", SHA256),
        (
            {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []},
            "application/spdx+json",
            "SBOM, SPDX 3",
            frozenset(),
        ),
        (
            "# made by hand\nSPDXVersion: SPDX-2.2\nDataLicense: CC0-1.0\n",
            "text/spdx",
            "SBOM, SPDX 2.2",
            frozenset(),
        ),
        (CYCLONEDX, "application/vnd.cyclonedx+json", "SBOM, CycloneDX 1.6", SHA256),
        (BOM, "application/vnd.cyclonedx+xml", "SBOM, CycloneDX 1.5", SHA256),
        (OPENVEX, "application/openvex+json", "VEX, OpenVEX", SHA256),
        (
            {"document": {"category": "csaf_vex", "csaf_version": "2.0"}},
            "application/csaf+json",
            "csaf_vex, CSAF 2.0",
            frozenset(),
        ),
        (STATEMENT, "application/vnd.in-toto+json", "SLSA provenance", SHA256),
        (
            {**STATEMENT, "predicateType": "https://spdx.dev/Document"},
            "application/vnd.in-toto+json",
            "attestation https://spdx.dev/Document",
            SHA256,
        ),
        (dsse(), "application/vnd.in-toto.provenance+dsse", "SLSA provenance, DSSE", SHA256),
        (
            dsse({**STATEMENT, "predicateType": "https://spdx.dev/Document"}),
            "application/vnd.in-toto+dsse",
            "attestation https://spdx.dev/Document, DSSE",
            SHA256,
        ),
        (
            bundle(),
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            "SLSA provenance, Sigstore bundle",
            SHA256,
        ),
        (
            bundle("application/vnd.dev.sigstore.bundle+json;version=0.2"),
            "application/vnd.dev.sigstore.bundle+json",
            "SLSA provenance, Sigstore bundle",
            SHA256,
        ),
    ],
)
def test_what_it_is(
    content: Any, media_type: str, words: str, subjects: frozenset[Subject]
) -> None:
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode(), b"\n " + text.encode()):
        found = recognise(data)
        assert found is not None
        assert (found.media_type, found.words, found.subjects) == (media_type, words, subjects)
        assert found.binding == ("in-toto" in media_type or "sigstore" in media_type)


def test_attestations_with_a_line_each() -> None:
    """As GitHub's program writes those of one file."""
    other = {**STATEMENT, "subject": [{"digest": {"sha512": "EF" * 64}}]}
    lines = b"\n".join(json.dumps(one).encode() for one in (bundle(), dsse(other)))
    found = recognise(lines)
    assert found is not None
    assert (found.media_type, found.words) == ("application/vnd.in-toto.bundle", "2 attestations")
    assert found.subjects == SHA256 | {Subject("sha512", "ef" * 64)}
    assert recognise(lines + b"\n[]\n") is None
    assert recognise(lines + b"\n{}\n") is None
    assert recognise(lines + b"\n{\n") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\1",
        b"just words",
        b"{}",
        b"[]",
        b'"SPDXVersion"',
        b"{",
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": 1' + b"0" * 10_000 + b"}",
        b'{"a": "\xff"}',
        b'{"spdxVersion": 2}',
        b'{"spdxVersion": "2.3"}',
        b'{"@context": ["https://spdx.org/rdf/3.0.1/"], "@graph": []}',
        b'{"@context": "https://spdx.org/rdf/3.0.1/", "@graph": {}}',
        b'{"@context": "https://other.example/ns"}',
        b'{"bomFormat": "cyclonedx"}',
        b'{"document": []}',
        b'{"document": {"csaf_version": "2.0"}}',
        b'{"document": {"csaf_version": 2, "category": "x"}}',
        b'{"_type": 1}',
        b'{"_type": "https://other.example/Statement/v1"}',
        b'{"payloadType": "text/plain", "payload": "", "signatures": []}',
        b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}',
        b'{"mediaType": "application/vnd.oci.image.manifest.v1+json"}',
        b"<bom/>",
        b'<bom xmlns="http://other.example/bom"/>',
        b'<a xmlns="http://cyclonedx.org/schema/bom/1.5"/>',
        b'<bom xmlns="http://cyclonedx.org/schema/bom/1.5">',
        b"<html>",
        b"<",
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
    ],
)
def test_other_things_are_none(content: bytes) -> None:
    assert recognise(content) is None


@pytest.mark.parametrize(
    "entity", ['<!ENTITY a "b">', '<!ENTITY a SYSTEM "file:///etc/passwd">', ""]
)
def test_a_document_type_is_refused_before_anything_is_expanded(entity: str) -> None:
    body = BOM.partition("\n")[2].replace("<name>a", "<name>&a;" if entity else "<name>a")
    assert recognise(f"<!DOCTYPE bom [{entity}]>{body}".encode()) is None


def test_deep_xml_is_refused() -> None:
    assert recognise(BOM.replace("<name>", "<x>" * 100_000).encode()) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"spdxVersion": "SPDX-2.3", "spdxVersion": "SPDX-2.2"}', "the key 'spdxVersion' twice"),
        (b'{"bomFormat": "CycloneDX", "metadata": {"a": 1, "a": 2}}', "the key 'a' twice"),
        (b'{"a": 1, "a": 2}\n{}', "the key 'a' twice"),
        (json.dumps({**dsse(), "payload": "!"}).encode(), "whose payload is no in-toto statement"),
        (json.dumps({**dsse(), "payload": 1}).encode(), "whose payload is no in-toto statement"),
        (json.dumps(dsse({"_type": "x"})).encode(), "whose payload is no in-toto statement"),
        (json.dumps(dsse([1])).encode(), "whose payload is no in-toto statement"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(content: bytes, words: str) -> None:
    with refused("malformed.document", words):
        recognise(content)


@pytest.mark.parametrize(
    "hashes", [None, {}, [1], [{}], [{"alg": "MD5", "content": "00"}], [{"alg": 1, "content": 2}]]
)
def test_without_a_known_hash_there_is_no_subject(hashes: Any) -> None:
    content = {**CYCLONEDX, "metadata": {"component": {"hashes": hashes}}}
    found = recognise(json.dumps(content).encode())
    assert found is not None
    assert (found.subjects, found.binding) == (frozenset(), False)


@pytest.mark.parametrize("spelling", ["SHA256", "SHA-256", "sha256", "sha-256"])
def test_hashes_are_spelled_in_many_ways(spelling: str) -> None:
    hashes = [{"alg": spelling, "content": DIGEST.upper()}]
    content = {**CYCLONEDX, "metadata": {"component": {"hashes": hashes}}}
    found = recognise(json.dumps(content).encode())
    assert found is not None
    assert found.subjects == SHA256


def test_both_alphabets_of_base64_are_read() -> None:
    statement = {**STATEMENT, "note": "~~~???"}
    plain = dsse(statement)["payload"]
    assert "+" in plain or "/" in plain
    for payload in (plain, plain.translate(str.maketrans("+/", "-_"))):
        found = recognise(json.dumps({**dsse(), "payload": payload}).encode())
        assert found is not None
        assert found.subjects == SHA256


def test_what_spdx_describes_by_a_relationship() -> None:
    relation = {"relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-a"}
    content = {**SPDX, "documentDescribes": None, "relationships": [relation, {}, 1]}
    found = recognise(json.dumps(content).encode())
    assert found is not None
    assert found.subjects == SHA256
