"""The outer shape of certificates and CRLs: whatever no signature covers is held to one form."""

from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from fwsign.format.algorithms import CERTIFICATE_ALGORITHMS
from fwsign.x509 import der
from support import make_ca, make_crl, make_leaf, parts, resign, tlv

ROOT = make_ca()
LEAF = make_leaf(ROOT)
CRL = make_crl(ROOT, [LEAF])
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")


def rebuilt(data: bytes, **changes: bytes) -> bytes:
    """Replace tbs, algorithm or signature (the content of the BIT STRING)."""
    tbs, algorithm, signature = parts(data)
    own: dict[str, Any] = {"tbs": tbs, "algorithm": algorithm, "signature": signature[2:]}
    own.update(changes)
    return tlv(0x30, own["tbs"], own["algorithm"], tlv(3, own["signature"]))


def with_length(data: bytes, length: bytes) -> bytes:
    """Write another length of the outer element, in bytes as given."""
    return data[:1] + length + b"".join(parts(data))


@pytest.mark.parametrize(("data", "crl"), [(LEAF.der, False), (ROOT.der, False), (CRL, True)])
def test_the_three_parts(data: bytes, crl: bool) -> None:
    signed = der.split(data, crl=crl)
    tbs, algorithm, signature = parts(data)
    assert (signed.tbs, signed.algorithm) == (tbs, algorithm)
    assert b"\0" + signed.signature == signature[2:]
    assert algorithm in CERTIFICATE_ALGORITHMS


def test_a_version_1_certificate_can_be_taken_apart() -> None:
    tbs = parts(parts(LEAF.der)[0])
    old = resign(tbs[1:7], ROOT.key)
    assert der.split(old).algorithm == parts(old)[1]


def test_a_crl_of_version_1_is_refused() -> None:
    tbs = parts(parts(CRL)[0])
    with pytest.raises(ValueError, match=r"no element of type 0x02 at byte \d+"):
        der.split(resign(tbs[1:], ROOT.key), crl=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no element of type 0x30 at byte 0"),
        (b"\x30", "no element of type 0x30 at byte 0"),
        (b"\x31\x00", "no element of type 0x30 at byte 0"),
        (b"\x30\x00", "no element of type 0x30 at byte 2"),
        (LEAF.der + b"\0", "bytes after the end"),
        (LEAF.der[:-1], "an element that goes beyond the end at byte 0"),
        (LEAF.der[:3], "not in its shortest form at byte 0"),
        (tlv(0x30, *parts(LEAF.der), tlv(5)), "more than three parts"),
        (tlv(0x30, *parts(LEAF.der)[:2]), "no element of type 0x03"),
        (tlv(0x30, parts(LEAF.der)[0]), "no element of type 0x30"),
        (rebuilt(LEAF.der, signature=b"\1" + b"\0" * 8), "a signature with unused bits"),
        (rebuilt(LEAF.der, signature=b""), "a signature with unused bits"),
        (rebuilt(LEAF.der, algorithm=ECDSA_SHA384), "algorithms inside and outside differ"),
        (rebuilt(LEAF.der, algorithm=tlv(0x31)), "no element of type 0x30"),
        (rebuilt(LEAF.der, tbs=tlv(0x30, tlv(2, b"\1"))), "no element of type 0x30"),
        (rebuilt(LEAF.der, tbs=tlv(0x31)), "no element of type 0x30"),
        (rebuilt(LEAF.der, tbs=tlv(0x30, tlv(4, b"\1"))), "no element of type 0x02"),
    ],
    ids=lambda part: part if isinstance(part, str) else "data",
)
def test_any_other_shape_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        der.split(data)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (b"\x80", "a length of 0 bytes at byte 0"),
        (b"\x84\0\0\0\1", "a length of 4 bytes at byte 0"),
        (b"\xff", "a length of 127 bytes at byte 0"),
        (b"\x83\0", "a length that is not in its shortest form at byte 0"),
        (b"\x81\x7f", "a length that is not in its shortest form at byte 0"),
        (b"\x82\x00\xff", "a length that is not in its shortest form at byte 0"),
        (b"\x83\xff\xff\xff", "an element that goes beyond the end at byte 0"),
    ],
)
def test_lengths_that_are_not_der_are_refused(length: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        der.split(with_length(LEAF.der, length))


def test_a_length_one_byte_longer_than_needed_is_refused() -> None:
    size = len(LEAF.der) - 4
    with pytest.raises(ValueError, match="not in its shortest form"):
        der.split(with_length(LEAF.der, b"\x83" + size.to_bytes(3, "big")))


@given(st.data())
def test_parts_put_together_again_are_the_same_bytes(draw: st.DataObject) -> None:
    data = bytearray(LEAF.der)
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[at // 8] ^= 1 << at % 8
    try:
        signed = der.split(bytes(data))
    except ValueError:
        return
    whole = tlv(0x30, signed.tbs, signed.algorithm, tlv(3, b"\0", signed.signature))
    assert whole == bytes(data)


def test_the_extensions_of_a_certificate() -> None:
    found = dict(der.certificate_fields(der.split(LEAF.der).tbs).extensions)
    assert found.keys() == {extension_oid(one.oid) for one in LEAF.certificate.extensions}
    for one in LEAF.certificate.extensions:
        assert found[extension_oid(one.oid)] == one.value.public_bytes()


def extension_oid(oid: x509.ObjectIdentifier) -> bytes:
    """Return the content of the OID of an extension of RFC 5280, below 2.5.29."""
    return bytes((0x55, 0x1D, int(oid.dotted_string.rpartition(".")[2])))


@pytest.mark.parametrize("days", [(-1, 30), (-1, 366 * 30), (366 * 30, 366 * 31)], ids=str)
def test_the_entries_of_a_crl_are_found_after_times_of_either_form(days: tuple[int, int]) -> None:
    """From 2050 on a time is a GeneralizedTime (RFC 5280 section 5.1.2.4)."""
    none, one, two = (
        len(
            der.crl_fields(
                der.split(make_crl(ROOT, [LEAF] * count, days=days), crl=True).tbs
            ).entries
        )
        for count in range(3)
    )
    assert none == 0
    assert 0 < one == two - one


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no element of type 0x04 at byte 2"),
        (b"\x04", "no element of type 0x04 at byte 2"),
        (b"\x04\x05ab", "an element that goes beyond the end at byte 2"),
        (b"\x04\x82", "a length that is not in its shortest form at byte 2"),
        (b"\x04\x81\x82", "an element that goes beyond the end at byte 2"),
    ],
)
def test_a_reader_inside_an_element_does_not_leave_it(content: bytes, words: str) -> None:
    inside = der.DerReader(tlv(0x30, content) + b"\0\x04\x01ab" * 4).inside(0x30)
    with pytest.raises(ValueError, match=words):
        inside.content(0x04)
    assert not der.DerReader(tlv(0x30) + b"\x04\0").inside(0x30).peek(0x04)


def test_a_reader_inside_an_element_ends_with_it() -> None:
    inside = der.DerReader(tlv(0x30, tlv(4, b"ab")) + tlv(4)).inside(0x30)
    with pytest.raises(ValueError, match="4 bytes too many"):
        inside.end()
    assert inside.content(0x04) == b"ab"
    assert not inside.more
    inside.end()


def test_an_element_that_is_alone() -> None:
    assert der.single(tlv(4, b"ab"), 4) == b"ab"
    with pytest.raises(ValueError, match="2 bytes too many"):
        der.single(tlv(4, b"ab") + tlv(4), 4)
