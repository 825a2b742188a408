"""One certificate: the rules that need no path, and whose signature it is."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from fwsign.format.algorithms import CERTIFICATE_ALGORITHMS
from fwsign.x509 import der
from fwsign.x509.certificate import (
    MAX_ALTERNATIVE_NAMES,
    MAX_ATTRIBUTES,
    MAX_SERIAL_BITS,
    Certificate,
    display_name,
    key_digest,
    parse_anchor,
    parse_certificate,
    signature_valid,
)
from support import (
    Entity,
    ca_extensions,
    certify,
    leaf_extensions,
    make_ca,
    make_leaf,
    name,
    new_key,
    parts,
    refused,
    resign,
    tlv,
)

ROOT = make_ca()
LEAF = make_leaf(ROOT)
TBS = parts(parts(LEAF.der)[0])
VERSION, SERIAL, SPKI, EXTENSIONS = 0, 1, 6, 7
ED25519, EC_KEY = "300506032b6570", "301306072a8648ce3d020106082a8648ce3d030107"


def surgery(at: int, *elements: bytes) -> bytes:
    """Replace one element of the leaf's tbs; the root signs it as usual."""
    return resign([*TBS[:at], *elements, *TBS[at + 1 :]], ROOT.key)


def integer(content: bytes) -> bytes:
    return tlv(2, content)


def spki(algorithm: str, bits: bytes) -> bytes:
    return tlv(0x30, bytes.fromhex(algorithm), tlv(3, b"\0", bits))


def test_a_certificate_is_parsed() -> None:
    found = parse_certificate(LEAF.der)
    assert found.name == "release"
    assert found.spki == key_digest(LEAF.key.public_key())
    assert found.authority_key == parse_certificate(ROOT.der).subject_key
    assert found.signed == der.split(LEAF.der)


def test_what_is_kept_is_what_the_certificate_says() -> None:
    found = parsed(LEAF)
    assert (found.subject, found.issuer) == (found.parsed.subject, found.parsed.issuer)
    assert len(found.extensions) > 3
    for one in found.parsed.extensions:
        assert found.extension(type(one.value)) == one
    assert found.extension(x509.PolicyConstraints) is None


def test_key_identifiers_may_be_absent() -> None:
    bare = certify(new_key(), name("bare"), ROOT, leaf_extensions(), identifiers=False)
    found = parse_certificate(bare.der)
    assert (found.subject_key, found.authority_key) == (None, None)
    assert found.extension(x509.NameConstraints) is None


def test_surgery_alone_changes_nothing() -> None:
    assert parse_certificate(surgery(VERSION, TBS[VERSION])).parsed.subject == name("release")


def test_names_without_common_name_are_shown_whole() -> None:
    whole = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme, Inc.")])
    assert (display_name(whole), display_name(name("CA"))) == ("O=Acme\\, Inc.", "CA")


@pytest.mark.parametrize(
    ("serial", "shown"),
    [(b"\0", "0"), (b"\xff", "-1"), (b"\x80" + bytes(19), ""), (b"\0\x80" + bytes(19), "8")],
    ids=["zero", "negative", "negative of 20 bytes", "21 bytes"],
)
def test_serial_numbers_that_rfc5280_forbids_are_refused(serial: bytes, shown: str) -> None:
    words = f"serial number {shown}", "is not a positive number of at most 20 bytes"
    with refused("untrusted.serial", *words):
        parse_certificate(surgery(SERIAL, integer(serial)))


def test_a_pinned_certificate_may_have_the_serial_number_0() -> None:
    zero = surgery(SERIAL, integer(b"\0"))
    assert parse_anchor(zero).parsed.subject == name("release")
    for serial, shown in ((b"\xff", "-1"), (b"\0\x80" + bytes(19), "8")):
        words = f"serial number {shown}", "is not a natural number of at most 20 bytes"
        with refused("untrusted.serial", *words):
            parse_anchor(surgery(SERIAL, integer(serial)))


def test_the_largest_serial_number_is_accepted() -> None:
    largest = b"\x7f" + b"\xff" * 19
    found = parse_certificate(surgery(SERIAL, integer(largest)))
    assert found.parsed.serial_number == (1 << MAX_SERIAL_BITS) - 1


def test_serial_numbers_longer_than_their_value_are_refused() -> None:
    with refused("malformed.certificate", "not a certificate: error parsing asn1 value"):
        parse_certificate(surgery(SERIAL, integer(b"\0\1")))


def test_version_1_certificates_are_refused() -> None:
    old = resign(TBS[1:7], ROOT.key)
    with refused("malformed.certificate", "certificate of version v1, not v3"):
        parse_certificate(old)


@pytest.mark.parametrize("version", [1, 3])
def test_versions_other_than_3_are_refused(version: int) -> None:
    with refused("malformed.certificate", f"{version} is not a valid X509 version"):
        parse_certificate(surgery(VERSION, tlv(0xA0, integer(bytes([version])))))


def test_version_1_that_is_written_is_refused() -> None:
    with refused("malformed.certificate", "not a certificate: "):
        parse_certificate(surgery(VERSION, tlv(0xA0, integer(b"\0"))))


@pytest.mark.parametrize(
    "data",
    [b"", b"firmware", LEAF.der[:-1], LEAF.der + b"\0", tlv(0x30, *parts(LEAF.der)[:2])],
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with refused("malformed.certificate", "not a certificate: "):
        parse_certificate(data)


def test_unused_bits_in_the_signature_are_refused() -> None:
    tbs, algorithm, signature = parts(LEAF.der)
    with refused("malformed.certificate", "a signature with unused bits"):
        parse_certificate(tlv(0x30, tbs, algorithm, tlv(3, b"\1", signature[3:])))


def test_algorithms_that_differ_inside_and_outside_are_refused() -> None:
    tbs, _, signature = parts(LEAF.der)
    other = bytes.fromhex("300a06082a8648ce3d040303")
    with refused("malformed.certificate", "signature algorithms inside and outside differ"):
        parse_certificate(tlv(0x30, tbs, other, signature))


def test_the_same_extension_twice_is_refused() -> None:
    found = parts(parts(TBS[EXTENSIONS])[0])
    twice = tlv(0xA3, tlv(0x30, *found, found[0]))
    with refused("malformed.certificate", "not a certificate: Duplicate"):
        parse_certificate(surgery(EXTENSIONS, twice))


def test_an_extension_that_cannot_be_parsed_is_refused() -> None:
    broken = x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\x03\x02\x07")
    own = [part for part in leaf_extensions() if part[0].oid != broken.oid]
    leaf = make_leaf(ROOT, extensions=[*own, (broken, True)])
    with refused("malformed.certificate", "not a certificate: error parsing asn1 value"):
        parse_certificate(leaf.der)


def test_a_name_of_a_kind_that_cannot_be_parsed_is_refused() -> None:
    x400 = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, tlv(0x30, tlv(0xA3)))
    leaf = make_leaf(ROOT, extensions=[*leaf_extensions(()), (x400, False)])
    with refused("malformed.certificate", "not a certificate: x400Address/EDIPartyName"):
        parse_certificate(leaf.der)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (spki("300706032b65700500", bytes(32)), "malformed.certificate"),
        (spki(ED25519, bytes(31)), "malformed.certificate"),
        (spki(EC_KEY, b"\4" + bytes(64)), "malformed.certificate"),
        (spki(EC_KEY, b"\0"), "malformed.certificate"),
        (spki("300506032b6509", bytes(32)), "untrusted.algorithm"),
        (spki("301306072a8648ce3d020106082a8648ce3d03017f", bytes(33)), "untrusted.algorithm"),
    ],
    ids=["parameters", "short", "off the curve", "at infinity", "unknown kind", "unknown curve"],
)
def test_keys_that_cannot_be_read_are_refused(key: bytes, code: str) -> None:
    words = "a kind of key that is not allowed: " if code[0] == "u" else "not a certificate: "
    with refused(code, words):
        parse_certificate(surgery(SPKI, key))


@pytest.mark.parametrize(
    "alg", ["p256", "p384", "p521", "ed25519", "rsa2048", "ml-dsa-65", "ml-dsa-87"]
)
def test_signatures_of_every_allowed_kind_of_issuer(alg: str) -> None:
    ca, other = make_ca(alg=alg), make_ca(alg="p256")
    signed = parse_certificate(make_leaf(ca).der).signed
    assert signature_valid(signed, ca.key.public_key())
    assert not signature_valid(signed, other.key.public_key())
    assert not signature_valid(signed._replace(tbs=signed.tbs + b"\0"), ca.key.public_key())


@pytest.mark.parametrize("hash_", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
@pytest.mark.parametrize("alg", ["p256", "p384", "rsa2048"])
def test_every_allowed_hash(alg: str, hash_: Any) -> None:
    assert self_signature_valid(alg, hash_)


def self_signature_valid(alg: str, hash_: Any) -> bool:
    own = parse_certificate(self_signed(new_key(alg), hash_).der)
    return signature_valid(own.signed, own.key)


def self_signed(key: Any, algorithm: Any) -> Entity:
    return certify(key, name("self"), None, leaf_extensions(), algorithm=algorithm)


@pytest.mark.parametrize("hash_", [hashes.SHA224(), hashes.SHA3_256()])
def test_other_hashes_are_refused(hash_: Any) -> None:
    words = "signature algorithm 30", "is not allowed"
    with refused("untrusted.algorithm", *words) as caught:
        self_signature_valid("p256", hash_)
    assert str(caught.value.expected).startswith("SHA-256 or longer with ECDSA or RSA")


@pytest.mark.parametrize(
    "algorithm",
    [
        "300906072a8648ce3d0401",  # ecdsa-with-SHA1
        "300d06092a864886f70d0101050500",  # sha1WithRSAEncryption
        "300d06092a864886f70d0101040500",  # md5WithRSAEncryption
        "300b0609608648016503040311",  # ML-DSA-44
        "300506032b6571",  # Ed448
        "300c06082a8648ce3d0403020500",  # ECDSA with parameters
        "300b06092a864886f70d01010b",  # RSA without
        "300b06092a864886f70d01010a",  # RSASSA-PSS
    ],
)
def test_sha1_and_other_algorithms_outside_the_list_are_refused(algorithm: str) -> None:
    signed = der.split(LEAF.der)._replace(algorithm=bytes.fromhex(algorithm))
    with refused("untrusted.algorithm", f"signature algorithm {algorithm} is not allowed"):
        signature_valid(signed, ROOT.key.public_key())


def test_a_certificate_signed_with_sha1_is_refused() -> None:
    sha1 = bytes.fromhex("300906072a8648ce3d0401")
    tbs = tlv(0x30, *TBS[:2], sha1, *TBS[3:])
    found = parse_certificate(tlv(0x30, tbs, sha1, parts(LEAF.der)[2]))
    with refused("untrusted.algorithm", "is not allowed"):
        signature_valid(found.signed, ROOT.key.public_key())


def test_ecdsa_under_a_curve_that_is_not_allowed_is_no_signature() -> None:
    assert not self_signature_valid("secp256k1", hashes.SHA256())


def test_an_algorithm_of_another_kind_of_key_is_no_signature() -> None:
    signed: der.Signed = parsed(LEAF).signed
    for algorithm in CERTIFICATE_ALGORITHMS:
        fits = algorithm == signed.algorithm
        assert signature_valid(signed._replace(algorithm=algorithm), ROOT.key.public_key()) is fits


def parsed(entity: Entity) -> Certificate:
    return parse_certificate(entity.der)


def test_attributes_and_alternative_names_are_counted() -> None:
    """Parsing and comparing them takes longer than checking a signature."""
    kind = NameOID.ORGANIZATIONAL_UNIT_NAME
    units = [x509.NameAttribute(kind, str(number)) for number in range(MAX_ATTRIBUTES + 1)]
    root = make_ca()
    parse_certificate(certify(new_key(), x509.Name(units[1:]), root, leaf_extensions()).der)
    many = certify(new_key(), x509.Name(units), root, ca_extensions())
    for found, words in ((many, "subject"), (make_leaf(many), "issuer")):
        message = f"a certificate whose {words} has {MAX_ATTRIBUTES + 1} attributes, at most"
        with refused("malformed.size", message):
            parse_certificate(found.der)
    domains = [f"a{number}.example" for number in range(MAX_ALTERNATIVE_NAMES + 1)]
    parse_certificate(make_leaf(root, vendors=domains[1:]).der)
    with refused("malformed.size", f"a certificate with {len(domains)} alternative names, at most"):
        parse_certificate(make_leaf(root, vendors=domains).der)
