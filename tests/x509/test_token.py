"""Time-stamp tokens taken apart: what is refused, and why."""

import contextlib
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fwsign.errors import FwsignError, Malformed
from fwsign.x509 import der
from fwsign.x509.anchor import Anchor
from fwsign.x509.token import check_imprint, check_signature, parse_token
from mutation import Dice
from support import NOW, make_ca, make_leaf, make_pki, new_key, refused, tlv, with_serial
from tsa_kit import (
    NULL,
    SHA2,
    Tsa,
    attribute,
    by_sha1,
    ess_v1,
    hash_identifier,
    imprint,
    integer,
    make_token,
    make_tsa,
    make_tsa_leaf,
    octets,
    oid,
    sequence,
    signed_attributes,
    time,
    tst_info,
)

SIGNATURE = bytes(range(64))
TSA = make_tsa()
SHA1 = sequence(bytes.fromhex("06052b0e03021a"))
INFO = tst_info(SIGNATURE, NOW, "sha256")
ATTRIBUTES = signed_attributes(INFO, TSA.leaf.der, "sha256")
EXTENSION = [oid("policy"), octets(b"")]
ONE = hashlib.sha1(TSA.leaf.der, usedforsecurity=False).digest()
"""The digest of the authority's certificate by which old tokens name it."""


def token(**more: Any) -> bytes:
    return TSA.stamp(SIGNATURE, **more)


# --- what is taken --------------------------------------------------------------------------


@pytest.mark.parametrize("digest", SHA2)
@pytest.mark.parametrize("alg", ["p256", "p384", "p521", "rsa3072", "ed25519"])
def test_algorithms(alg: str, digest: str) -> None:
    tsa = make_tsa(alg)
    found = parse_token(tsa.stamp(SIGNATURE, digest=digest))
    check_imprint(found, SIGNATURE)
    check_signature(found, tsa.leaf.key.public_key())
    assert (found.gen_time, found.nonce) == (NOW, None)
    assert found.certificates == (tsa.leaf.der,)


@pytest.mark.parametrize("digest", SHA2)
def test_rsa_encryption_means_the_hash_of_the_digest_algorithm(digest: str) -> None:
    tsa = make_tsa("rsa3072")
    plain = bytes.fromhex("300d06092a864886f70d0101010500")
    found = parse_token(tsa.stamp(SIGNATURE, digest=digest, signature_algorithm=plain))
    check_signature(found, tsa.leaf.key.public_key())


@pytest.mark.parametrize(
    "more",
    [
        {"accuracy": sequence(integer(1), tlv(0x80, b"\x01"))},
        {"ordering": b"\x01\x01\xff"},
        {"nonce": integer(7)},
        {"tsa_name": tlv(0xA0, tlv(0x82, b"tsa.example"))},
        {"extensions": tlv(0xA1, sequence(*EXTENSION))},
        {"imprint": imprint(SIGNATURE, tail=NULL)},
        {"digests": tlv(0x31, hash_identifier("sha256", NULL))},
        {"digest_algorithm": hash_identifier("sha256", NULL)},
        {"attributes": [*ATTRIBUTES, attribute("data", NULL)]},
    ],
    ids="-".join,
)
def test_what_is_not_interpreted(more: dict[str, Any]) -> None:
    assert parse_token(token(**more)).gen_time == NOW


def test_the_nonce_is_told() -> None:
    assert parse_token(token(nonce=integer(1 << 63))).nonce == 1 << 63


@pytest.mark.parametrize("fraction", ["", ".5", ".000001"])
def test_fractions_of_a_second_are_cut_off(fraction: str) -> None:
    found = parse_token(token(gen_time=f"19700101000000{fraction}Z"))
    assert found.gen_time == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_signer_named_by_its_key() -> None:
    found = TSA.leaf.anchor.certificate
    assert found is not None
    assert found.subject_key is not None
    named = {"signer_version": integer(3), "sid": tlv(0x80, found.subject_key)}
    assert parse_token(token(**named)).certificates == (TSA.leaf.der,)


@pytest.mark.parametrize("digest", SHA2)
@pytest.mark.parametrize("more", [(), (sequence(octets(b"next")),)])
def test_a_certificate_named_by_any_sha2_digest(digest: str, more: tuple[bytes, ...]) -> None:
    hashed = octets(hashlib.new(digest, TSA.leaf.der).digest())
    names = sequence(sequence(hash_identifier(digest), hashed), *more)
    ess = attribute("signing certificate v2", sequence(names))
    assert parse_token(token(attributes=[*ATTRIBUTES[:3], ess])).gen_time == NOW


V1 = {
    "alone": [*ATTRIBUTES[:3], by_sha1(TSA)],
    "with v2": [*ATTRIBUTES, by_sha1(TSA)],
    "with issuer": [*ATTRIBUTES[:3], ess_v1(ONE, sequence(sequence(), integer(1)))],
    "with more certificates": [
        *ATTRIBUTES[:3],
        attribute(
            "signing certificate",
            sequence(sequence(sequence(octets(ONE)), sequence(octets(bytes(20))))),
        ),
    ],
    "with policies": [
        *ATTRIBUTES[:3],
        attribute(
            "signing certificate",
            sequence(sequence(sequence(octets(ONE))), sequence(sequence(oid("policy")))),
        ),
    ],
}


@pytest.mark.parametrize("form", V1)
def test_a_certificate_named_by_sha_1_alone(form: str) -> None:
    """SHA-1 finds the certificate; its path, and its key's signature, prove it."""
    found = parse_token(token(attributes=V1[form]))
    assert found.certificates == (TSA.leaf.der,)
    check_imprint(found, SIGNATURE)
    check_signature(found, TSA.leaf.key.public_key())


def test_a_certificate_named_by_sha_1_has_to_have_signed() -> None:
    other = make_tsa()
    given = [TSA.leaf.der, other.leaf.der]
    attributes = [*ATTRIBUTES[:3], by_sha1(other)]
    with refused("malformed.token", "its signer is not the certificate that it names"):
        parse_token(make_token(SIGNATURE, TSA.leaf, given, info=INFO, attributes=attributes))
    found = parse_token(
        make_token(SIGNATURE, other.leaf, given, key=TSA.leaf.key, info=INFO, attributes=attributes)
    )
    assert found.certificates == (other.leaf.der,)
    with refused("tampered.token", "own signature does not verify"):
        check_signature(found, other.leaf.key.public_key())


def test_two_attributes_that_name_two_certificates() -> None:
    given = [TSA.leaf.der, (other := make_tsa()).leaf.der]
    attributes = [*ATTRIBUTES, by_sha1(other)]
    words = "signingCertificate and signingCertificateV2 name two certificates"
    with refused("malformed.token", words):
        parse_token(make_token(SIGNATURE, TSA.leaf, given, info=INFO, attributes=attributes))


@pytest.mark.parametrize("choice", [0xA0, 0xA1, 0xA2, 0xA3])
@pytest.mark.parametrize("first", [False, True])
def test_attribute_certificates_are_passed_over(choice: int, *, first: bool) -> None:
    other = tlv(choice, b"nobody reads this")
    given = tlv(0xA0, *((other, TSA.leaf.der) if first else (TSA.leaf.der, other)))
    for version in {3, {0xA2: 4, 0xA3: 5}.get(choice, 3)}:  # RFC 5652 section 5.1
        found = parse_token(token(certificate_set=given, version=integer(version)))
        assert found.certificates == (TSA.leaf.der,)


def test_attribute_certificates_count_against_the_limit() -> None:
    given = tlv(0xA0, TSA.leaf.der, *[tlv(0xA2)] * 6)
    with refused("malformed.size", "more certificates in a time-stamp token"):
        parse_token(token(certificate_set=given))


def test_a_root_with_serial_number_0_beside_the_path_is_left_out() -> None:
    for root in (with_serial(TSA.root, b"\0"), with_serial(TSA.root, b"\xff")):
        found = parse_token(make_token(SIGNATURE, TSA.leaf, [root, TSA.leaf.der]))
        assert found.certificates == (TSA.leaf.der,)


def test_an_authority_with_serial_number_0_is_refused() -> None:
    zero = with_serial(TSA.leaf, b"\0", TSA.root)
    names = sequence(der.issuer_and_serial(der.split(zero).tbs))
    ess = sequence(sequence(sequence(octets(hashlib.sha256(zero).digest()))))
    attributes = [*ATTRIBUTES[:3], attribute("signing certificate v2", ess)]
    with refused("untrusted.serial", "serial number 0 is not a positive number"):
        parse_token(
            make_token(SIGNATURE, TSA.leaf, [zero], info=INFO, attributes=attributes, sid=names)
        )


def test_certificates_are_put_in_order_and_strangers_left_out() -> None:
    root = make_ca("TSA Root")
    middle = make_ca("TSA Issuing", root)
    same_name = make_ca("TSA Issuing", root)
    leaf = make_tsa_leaf(middle)
    given = [root.der, same_name.der, make_ca("Else").der, middle.der, leaf.der]
    found = parse_token(make_token(SIGNATURE, leaf, given))
    assert found.certificates == (leaf.der, middle.der, root.der)


# --- what is not ----------------------------------------------------------------------------

MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "version 1": ({"version": integer(1)}, "SignedData is not of version 3"),
    "version in long form": ({"version": b"\x02\x02\0\x03"}, "not in its shortest form"),
    "no digest algorithm": ({"digests": tlv(0x31)}, "no element of type 0x30"),
    "two digest algorithms": (
        {"digests": tlv(0x31, hash_identifier("sha256"), hash_identifier("sha384"))},
        "more than one digest algorithm",
    ),
    "another digest algorithm": (
        {"digests": tlv(0x31, hash_identifier("sha384"))},
        "two digest algorithms",
    ),
    "other content": (
        {"content": sequence(oid("data"), tlv(0xA0, octets(INFO)))},
        "what is signed is not a TSTInfo",
    ),
    "detached content": ({"content": sequence(oid("tst info"))}, "no element of type 0xa0"),
    "constructed content": (
        {"content": sequence(oid("tst info"), tlv(0xA0, tlv(0x24, octets(INFO))))},
        "no element of type 0x04",
    ),
    "two contents": (
        {"content": sequence(oid("tst info"), tlv(0xA0, octets(INFO), octets(INFO)))},
        "bytes too many",
    ),
    "more beside the content": (
        {"content": sequence(oid("tst info"), tlv(0xA0, octets(INFO)), NULL)},
        "2 bytes too many",
    ),
    "no certificates": ({"certificate_set": b""}, "no certificate with the digest"),
    "no certificate but an attribute certificate": (
        {"certificate_set": tlv(0xA0, tlv(0xA2))},
        "no certificate with the digest",
    ),
    "something else among the certificates": (
        {"certificate_set": tlv(0xA0, TSA.leaf.der, tlv(0xA4))},
        "of type 0x30",
    ),
    "an attribute certificate that is cut": (
        {"certificate_set": tlv(0xA0, TSA.leaf.der, b"\xa2\x01")},
        "goes beyond the end",
    ),
    "version 4 without an attribute certificate": (
        {"version": integer(4)},
        "SignedData is not of version 3",
    ),
    "version 5 with an attribute certificate": (
        {"version": integer(5), "certificate_set": tlv(0xA0, TSA.leaf.der, tlv(0xA2))},
        "SignedData is not of version 3",
    ),
    "crls": ({"crls": tlv(0xA1)}, "no element of type 0x31"),
    "no signer": ({"signers": tlv(0x31)}, "no element of type 0x30"),
    "two signers": ({"signers": tlv(0x31, sequence(), sequence())}, "more than one signer"),
    "more in SignedData": ({"cms_more": NULL}, "2 bytes too many"),
    "signer of version 3": ({"signer_version": integer(3)}, "a signer of the wrong version"),
    "signer of version 1": ({"sid": tlv(0x80, b"1")}, "a signer of the wrong version"),
    "another signer": ({"sid": sequence()}, "not the certificate that it names"),
    "another key": (
        {"signer_version": integer(3), "sid": tlv(0x80, b"1")},
        "not the certificate that it names",
    ),
    "no attributes": ({"attributes": []}, "no signed attribute contentType"),
    "no digest": ({"attributes": ATTRIBUTES[:1]}, "no signed attribute messageDigest"),
    "no certificate named": (
        {"attributes": ATTRIBUTES[:3]},
        "no signed attribute signingCertificateV2 or signingCertificate",
    ),
    "another certificate named by SHA-1": (
        {"attributes": [*ATTRIBUTES[:3], by_sha1(make_tsa())]},
        "no certificate with the digest",
    ),
    "another certificate named by SHA-1 beside": (
        {"attributes": [*ATTRIBUTES, by_sha1(make_tsa())]},
        "no certificate with the digest",
    ),
    "SHA-256 where SHA-1 belongs": (
        {"attributes": [*ATTRIBUTES[:3], ess_v1(hashlib.sha256(TSA.leaf.der).digest())]},
        "no certificate with the digest",
    ),
    "SHA-1 where SHA-256 belongs": (
        {
            "attributes": [
                *ATTRIBUTES[:3],
                attribute("signing certificate v2", sequence(sequence(sequence(octets(ONE))))),
            ]
        },
        "no certificate with the digest",
    ),
    "no digest of the certificate": (
        {"attributes": [*ATTRIBUTES[:3], attribute("signing certificate", sequence(sequence()))]},
        "no element of type 0x30",
    ),
    "an algorithm where there is none": (
        {
            "attributes": [
                *ATTRIBUTES[:3],
                attribute("signing certificate", sequence(sequence(sequence(SHA1, octets(ONE))))),
            ]
        },
        "no element of type 0x04",
    ),
    "more behind the issuer's name": (
        {"attributes": [*ATTRIBUTES[:3], ess_v1(ONE, sequence(), NULL)]},
        "2 bytes too many",
    ),
    "more behind the policies": (
        {
            "attributes": [
                *ATTRIBUTES[:3],
                attribute(
                    "signing certificate",
                    sequence(sequence(sequence(octets(ONE))), sequence(), NULL),
                ),
            ]
        },
        "2 bytes too many",
    ),
    "two values of signingCertificate": (
        {"attributes": [*ATTRIBUTES[:3], attribute("signing certificate", *[sequence()] * 2)]},
        "2 bytes too many",
    ),
    "signingCertificate twice": (
        {"attributes": [*ATTRIBUTES[:3], by_sha1(TSA), by_sha1(TSA)]},
        "attribute twice",
    ),
    "an attribute twice": ({"attributes": [*ATTRIBUTES, ATTRIBUTES[0]]}, "attribute twice"),
    "an attribute with two values": (
        {"attributes": [attribute("content type", *[oid("tst info")] * 2), *ATTRIBUTES[1:]]},
        "bytes too many",
    ),
    "an attribute with more": (
        {"attributes": [*ATTRIBUTES, sequence(oid("data"), tlv(0x31), NULL)]},
        "2 bytes too many",
    ),
    "attributes out of order": (
        {
            "attributes": sorted(ATTRIBUTES, reverse=True),
            "in_order": False,
        },
        "not in the order of DER",
    ),
    "another content type": (
        {"attributes": [attribute("content type", oid("data")), *ATTRIBUTES[1:]]},
        "contentType is not TSTInfo",
    ),
    "unsigned attributes": ({"unsigned": tlv(0xA1)}, "2 bytes too many"),
    "TSTInfo of version 2": ({"info_version": integer(2)}, "TSTInfo is not of version 1"),
    "more in the imprint": (
        {"imprint": sequence(hash_identifier("sha256"), octets(b""), NULL)},
        "2 bytes too many",
    ),
    "a serial number in long form": ({"serial": b"\x02\x02\0\x01"}, "not in its shortest form"),
    "a serial number of no bytes": ({"serial": b"\x02\0"}, "not in its shortest form"),
    "ordering false": ({"ordering": b"\x01\x01\0"}, "ordering is neither true nor absent"),
    "ordering by BER": ({"ordering": b"\x01\x01\x01"}, "ordering is neither true nor absent"),
    "a nonce in long form": ({"nonce": b"\x02\x02\0\x01"}, "not in its shortest form"),
    "more in TSTInfo": ({"info_more": NULL}, "2 bytes too many"),
    "more behind TSTInfo": ({"info": INFO + NULL}, "2 bytes too many"),
    "more in an extension": (
        {"extensions": tlv(0xA1, sequence(*EXTENSION, NULL))},
        "2 bytes too many",
    ),
}


@pytest.mark.parametrize("wrong", MALFORMED)
def test_structure_that_is_wrong(wrong: str) -> None:
    more, words = MALFORMED[wrong]
    with refused("malformed.token", "time-stamp token: ", words):
        parse_token(token(**more))


@pytest.mark.parametrize(
    "text",
    [
        "20261122120000",  # local time
        "20261122120000+0000",
        "20261122120000.0Z",
        "20261122120000.50Z",
        "20261122120000,5Z",
        "20261122120000.Z",
        "202611221200Z",
        "20261322120000Z",
        "20261122120060Z",
        "00001122120000Z",
        "2026112212000\u0663Z",
        "",
    ],
)
def test_times_that_are_not_der_or_cannot_be(text: str) -> None:
    with refused("malformed.token"):
        parse_token(token(gen_time=text))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\0",
        lambda data: b"\x30\x80" + data[4:] + b"\0\0",
        lambda data: b"\x30\x83\0" + data[2:],
        lambda data: sequence(oid("data"), data[4:]),
        lambda data: sequence(*inside(data), NULL),
        lambda data: sequence(
            inside(data)[0], tlv(0xA0, der.DerReader(inside(data)[1]).content(0xA0), NULL)
        ),
        lambda _: b"",
        lambda _: NULL,
        lambda _: b"token",
    ],
)
def test_a_frame_that_is_wrong(change: Callable[[bytes], bytes]) -> None:
    with refused("malformed.token"):
        parse_token(change(token()))


def inside(data: bytes) -> tuple[bytes, bytes]:
    reader = der.DerReader(der.DerReader(data).content(der.SEQUENCE))
    return reader.whole(6), reader.whole(0xA0)


def test_a_critical_extension_is_not_known() -> None:
    wrong = sequence(EXTENSION[0], b"\x01\x01\xff", EXTENSION[1])
    with refused("untrusted.extension", "critical extension"):
        parse_token(token(extensions=tlv(0xA1, wrong)))


@pytest.mark.parametrize(
    "more",
    [
        {"imprint": sequence(SHA1, octets(bytes(20)))},
        {"digests": tlv(0x31, SHA1)},
        {"digest_algorithm": SHA1},
        {
            "attributes": [
                *ATTRIBUTES[:3],
                attribute(
                    "signing certificate v2",
                    sequence(sequence(sequence(SHA1, octets(bytes(20))))),
                ),
            ]
        },
    ],
    ids=["imprint", "digests", "signer", "certificate"],
)
def test_sha_1_is_not_allowed(more: dict[str, Any]) -> None:
    with refused("untrusted.algorithm", "of a time-stamp token is not allowed"):
        parse_token(token(**more))


def test_seven_certificates_are_too_many() -> None:
    many = [TSA.leaf.der, *[TSA.root.der] * 6]
    with refused("malformed.size", "more certificates in a time-stamp token"):
        parse_token(make_token(SIGNATURE, TSA.leaf, many))


def test_a_certificate_that_is_none() -> None:
    with refused("malformed.certificate"):
        parse_token(make_token(SIGNATURE, TSA.leaf, [TSA.leaf.der, sequence()]))


def test_content_that_was_not_signed() -> None:
    with refused("tampered.token", "content is not the signed one"):
        parse_token(token(attributes=ATTRIBUTES, gen_time="20200101000000Z"))


def test_the_head_of_the_signature_counts() -> None:
    bare = sequence(hash_identifier("sha256"), octets(hashlib.sha256(SIGNATURE).digest()))
    found = parse_token(token(imprint=bare))
    with refused("tampered.token", "of another signature", hashlib.sha256(SIGNATURE).hexdigest()):
        check_imprint(found, SIGNATURE)


def test_an_empty_imprint_is_of_another_signature() -> None:
    empty = sequence(hash_identifier("sha256"), octets(b""))
    with refused("tampered.token"):
        check_imprint(parse_token(token(imprint=empty)), SIGNATURE)


def test_another_key_did_not_sign() -> None:
    with refused("tampered.token", "own signature does not verify"):
        check_signature(parse_token(token()), new_key().public_key())


@pytest.mark.parametrize(
    "identifier",
    [
        sequence(bytes.fromhex("06072a8648ce3d0401")),  # ecdsa-with-SHA1
        bytes.fromhex("300d06092a864886f70d01010a3000"),  # RSASSA-PSS
        bytes.fromhex("300c06082a8648ce3d0403020500"),  # ECDSA with NULL
    ],
)
def test_signature_algorithms_outside_the_list(identifier: bytes) -> None:
    found = parse_token(token(signature_algorithm=identifier))
    with refused("untrusted.algorithm", "is not allowed"):
        check_signature(found, TSA.leaf.key.public_key())


def test_a_signer_for_code_makes_no_token_of_its_own_kind() -> None:
    # The form is right: what the certificate is for, its path says.
    pki = make_pki()
    odd = Tsa(pki.root, make_leaf(pki.issuing), (pki.issuing,))
    assert parse_token(odd.stamp(SIGNATURE)).certificates == (odd.leaf.der, pki.issuing.der)


# One of each form that is taken.
FORMS: dict[str, Callable[[], bytes]] = {
    "v2": token,
    "v1": lambda: token(attributes=V1["alone"]),
    "both": lambda: token(attributes=V1["with v2"]),
    "by key": lambda: token(signer_version=integer(3), sid=tlv(0x80, subject_key(TSA.leaf.anchor))),
    "attribute certificate": lambda: token(
        version=integer(4), certificate_set=tlv(0xA0, TSA.leaf.der, tlv(0xA2, bytes(9)))
    ),
    "with its root": lambda: make_token(SIGNATURE, TSA.leaf, [TSA.leaf.der, TSA.root.der]),
}


def subject_key(anchor: Anchor) -> bytes:
    assert anchor.certificate is not None
    return anchor.certificate.subject_key or b""


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_of_every_form_is_signed_or_without_weight(form: str) -> None:
    """No change of a byte gives another time, another signature's token or another signer."""
    good, dice = FORMS[form](), Dice(form)
    taken = 0
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1 << dice.below(8)
        with contextlib.suppress(FwsignError):
            found = parse_token(bytes(changed))
            check_imprint(found, SIGNATURE)
            check_signature(found, TSA.leaf.key.public_key())
            assert (found.gen_time, found.certificates[0]) == (NOW, TSA.leaf.der), at
            taken += 1
    # An attribute certificate, and a root that nothing needs, are not looked at.
    assert taken == 0 or form in ("attribute certificate", "with its root")


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_of_every_form_is_malformed(form: str) -> None:
    good = FORMS[form]()
    for size in range(len(good)):
        with pytest.raises(Malformed):
            parse_token(good[:size])


@pytest.mark.parametrize("form", FORMS)
def test_nothing_but_refusals_leaves_the_parser(form: str) -> None:
    good, dice = FORMS[form](), Dice(f"token {form}")
    for _ in range(1000):
        data = bytearray(good)
        for _ in range(1 + dice.below(3)):
            match dice.below(3):
                case 0:
                    data[dice.below(len(data))] = dice.below(256)
                case 1:
                    del data[dice.below(len(data))]
                case _:
                    data.insert(dice.below(len(data)), dice.below(256))
        with contextlib.suppress(FwsignError):
            parse_token(bytes(data))


# --- DER ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, -1, -128, -129, 1 << 64])
def test_numbers(value: int) -> None:
    size = (value + (value < 0)).bit_length() // 8 + 1
    content = value.to_bytes(size, "big", signed=True)
    assert der.number(content) == value
    with pytest.raises(ValueError, match="shortest form"):
        der.number((b"\xff" if value < 0 else b"\0") + content)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 70000])
def test_elements_are_read_one_behind_the_other(size: int) -> None:
    reader = der.DerReader(tlv(4, bytes(size)) + NULL)
    assert reader.optional(0x31) is None
    assert reader.content(4) == bytes(size)
    with pytest.raises(ValueError, match="2 bytes too many"):
        reader.end()
    assert (reader.more, reader.whole(5), reader.more) == (True, NULL, False)
    reader.end()


def test_time_is_in_utc() -> None:
    assert der.generalized_time(time(NOW)[2:]) == NOW
