"""Attacks on a verifier's time: envelopes that are small, or within each limit, and slow.

What is counted is work, never seconds: limits that are met, or how often something is done.
"""

import os
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from fwsign.format import cose
from fwsign.x509 import crl, revocation
from fwsign.x509.chain import validate_path
from fwsign.x509.crl import HEAD_WEIGHT, SMALL, HeldCrl, reading
from fwsign.x509.revocation import MAX_READING, CrlReader
from hostile import refused_at, spki
from support import (
    DAY,
    NOW,
    Entity,
    Pki,
    ca_extensions,
    certify,
    der,
    leaf_extensions,
    make_ca,
    make_crl,
    make_envelope,
    make_leaf,
    make_manifest,
    make_pki,
    name,
    new_key,
    refused,
    rsa_key,
    sign_with,
    signing_hash,
    verify,
)

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def pki() -> Pki:
    return make_pki()


def long_crl(
    issuer: Entity, entries: int, *, number: int = 1, odd: bool = False, last: int | None = None
) -> bytes:
    """Make a CRL of many entries.

    Args:
        odd: let a serial number have the bytes of a critical extension's head in it.
        last: serial number of one more entry.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    entry = x509.RevokedCertificateBuilder().revocation_date(NOW - DAY)
    serials = [int.from_bytes(b"\1" + os.urandom(14), "big") for _ in range(entries)]
    serials = [one & ~0xFF for one in serials]  # so that no head is there by chance
    if odd:
        serials[0] = int.from_bytes(bytes.fromhex("110101ff0422"), "big")
    for serial in (*serials, *([last] if last else [])):
        builder = builder.add_revoked_certificate(entry.serial_number(serial).build())
    return der(builder.sign(issuer.key, signing_hash(issuer.key)))


def collected(pki: Pki, *crls: bytes, reader: CrlReader) -> tuple[revocation.Issued, ...]:
    path = validate_path([pki.leaf.der, pki.issuing.der], [pki.root.anchor])
    return reader.collect(path, crls).issued


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Lower the limit, so that the tests are quick, and count heads as entries."""
    monkeypatch.setattr(revocation, "MAX_READING", 100_000)
    monkeypatch.setattr(crl, "HEAD_WEIGHT", 0)
    return 100_000


def test_the_limit_of_reading_leaves_room_for_large_lists() -> None:
    assert MAX_READING >= 8 * 2 * MIB  # eight signers with a list of 1 MiB


def test_many_large_crls_of_strangers_are_refused(pki: Pki, few: int) -> None:
    lists = [long_crl(make_ca("Else"), 900) for _ in range(4)]
    assert few / 4 < len(lists[0]) < few / 3
    with refused_at(5, "malformed.size", " bytes of CRLs, at most 100000 are allowed"):
        verify(sign_with(pki, crls=[*lists, *pki.crls]), [pki.root])
    verify(sign_with(pki, crls=[*lists[:1], *pki.crls]), [pki.root])


def test_crls_of_many_blocks_count_together(few: int) -> None:
    others = [make_pki(common=f"{number} ") for number in range(4)]
    signers = [
        (one.leaf, [one.issuing], [long_crl(one.issuing, 400), make_crl(one.root)])
        for one in others
    ]
    assert few / 8 < len(signers[0][2][0]) < few / 4
    with refused_at(5, "malformed.size"):
        verify(make_envelope(make_manifest(), signers), [one.root for one in others])


@pytest.mark.parametrize(
    "head",
    [
        {"issuer": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")] * 25_000)},
        {"extension": x509.IssuerAlternativeName([x509.DNSName("a")] * 90_000)},
    ],
    ids=["issuer", "extension"],
)
def test_a_crl_of_names_costs_what_names_cost(pki: Pki, head: dict[str, Any]) -> None:
    """Unsigned, beside a genuine block: 1 MiB of names took a second, and 24 of them are legal."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(head.get("issuer", name("Else")))
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
    )
    if "extension" in head:
        builder = builder.add_extension(head["extension"], critical=False)
    data = der(builder.sign(new_key(), hashes.SHA256()))
    assert MAX_READING / 100 < len(data) < MIB
    with refused_at(5, "malformed.size", f" bytes of CRLs, at most {MAX_READING} are allowed"):
        verify(sign_with(pki, crls=[data, *pki.crls]), [pki.root])


def test_neither_entries_nor_signature_are_the_head_of_a_crl(pki: Pki) -> None:
    for issuer in (pki.issuing, make_ca("Post-quantum", alg="ml-dsa-87")):
        for data in (make_crl(issuer), long_crl(issuer, 1000)):
            assert 100 < (reading(data) - len(data)) / HEAD_WEIGHT < 400
    assert 64 * reading(make_crl(issuer)) < MAX_READING  # as many as an envelope may have
    with refused("malformed.crl", "not a CRL: no element of type 0x30 at byte 0"):
        reading(bytes(SMALL + 1))
    assert 64 * reading(bytes(SMALL)) < MAX_READING


def test_looking_for_a_second_entry_of_a_revoked_signer_counts_more(pki: Pki, few: int) -> None:
    """Lists of short entries, each with the signer's own at the end."""
    leaves = [make_leaf(pki.issuing, f"{number}") for number in range(2)]
    top = make_crl(pki.root)
    signers = [
        (
            one,
            [pki.issuing],
            [long_crl(pki.issuing, 100, last=one.certificate.serial_number), top],
        )
        for one in leaves
    ]
    size = len(signers[0][2][0])
    assert few / 36 < size < few / 20
    with refused_at(5, "untrusted.revoked"):
        verify(make_envelope(make_manifest(), signers[:1]), [pki.root])
    with refused_at(5, "malformed.size", " bytes of CRLs"):
        verify(make_envelope(make_manifest(), signers), [pki.root])


def test_an_rsa_key_with_a_long_exponent_is_refused(pki: Pki) -> None:
    """Each signature check then costs as much as signing: 8 ms, and an envelope has a hundred."""
    usual = rsa_key(2048).private_numbers()
    swapped = rsa.RSAPrivateNumbers(  # the two exponents undo each other
        usual.p,
        usual.q,
        65537,
        65537 % (usual.p - 1),
        65537 % (usual.q - 1),
        usual.iqmp,
        rsa.RSAPublicNumbers(usual.d, usual.public_numbers.n),
    ).private_key()
    slow = certify(swapped, name("Slow"), pki.root, ca_extensions())
    bits = usual.d.bit_length()
    with refused_at(
        3,
        "untrusted.algorithm",
        f'the key of "Slow" is RSA-2048 with an exponent of {bits} bits, expected ',
    ):
        verify(sign_with(Pki(pki.root, slow, make_leaf(slow))), [pki.root])
    fine = certify(rsa_key(2048), name("Fine"), pki.root, ca_extensions())
    verify(sign_with(Pki(pki.root, fine, make_leaf(fine))), [pki.root])


def test_a_list_that_several_signers_share_is_read_once(pki: Pki, few: int) -> None:
    crl = long_crl(pki.issuing, 300)
    assert len(crl) > few / 12  # parsed once, and searched for each
    leaves = [make_leaf(pki.issuing, f"{number}") for number in range(7)]
    signers = [(leaf, [pki.issuing], [crl, make_crl(pki.root)]) for leaf in leaves]
    assert len(verify(make_envelope(make_manifest(), signers), [pki.root]).signers) == 7


def test_reading_entry_by_entry_counts_more(pki: Pki, few: int) -> None:
    for odd in (False, True):
        reader = CrlReader("strict")
        issued = collected(
            pki, long_crl(pki.issuing, 300, odd=odd), make_crl(pki.root), reader=reader
        )
        if odd:
            with refused("malformed.size", " bytes of CRLs"):
                reader.check(issued, NOW)
        else:
            reader.check(issued, NOW)
    assert few


def test_an_odd_serial_number_changes_nothing_but_the_work(pki: Pki) -> None:
    crl = long_crl(pki.issuing, 5, odd=True)
    assert verify(sign_with(pki, crls=[crl, make_crl(pki.root)]), [pki.root]).unchecked == ()
    revoking = long_crl(pki.issuing, 5, odd=True, last=pki.leaf.certificate.serial_number)
    with refused_at(5, "untrusted.revoked"):
        verify(sign_with(pki, crls=[revoking, make_crl(pki.root)]), [pki.root])


def test_the_last_of_many_entries_revokes(pki: Pki) -> None:
    revoking = long_crl(pki.issuing, 2000, last=pki.leaf.certificate.serial_number)
    with refused_at(5, "untrusted.revoked", '"release" revoked 2026-11-21 (unspecified)'):
        verify(sign_with(pki, crls=[revoking, make_crl(pki.root)]), [pki.root])


def test_held_crls_of_other_keys_are_not_even_parsed(pki: Pki) -> None:
    """However many a foreigner has brought: they cost nothing."""
    junk = tuple(HeldCrl(spki(new_key()), b"not parsed") for _ in range(1000))
    reader = CrlReader("strict", held=junk)
    reader.check(collected(pki, *pki.crls, reader=reader), NOW, allow_stale=timedelta(0))


def test_certificates_and_tokens_of_all_blocks_count_together(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(pki.leaf.der) + len(pki.issuing.der)
    monkeypatch.setattr("fwsign.format.opening.MAX_PROOFS_SIZE", 2 * size)
    signer = (pki.leaf, [pki.issuing], ())
    verify(make_envelope(make_manifest(), [signer, signer]), [pki.root])
    words = f"certificates and tokens of {3 * size} bytes, at most {2 * size} are allowed"
    with refused_at(1, "malformed.size", words):
        verify(make_envelope(make_manifest(), [signer, signer, signer]), [pki.root])


def test_room_for_certificates_of_the_largest_keys() -> None:
    """Eight signers with ML-DSA-87 at every level."""
    assert cose.MAX_PROOFS_SIZE >= 8 * 3 * 7_500


def test_large_certificates_without_end_are_refused(pki: Pki) -> None:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\4\0" * 7_000)
    own = [*leaf_extensions(), (padding, False)]
    leaf = certify(new_key(), name("release"), pki.issuing, own)
    above = [pki.issuing, *(make_leaf(pki.issuing, extensions=own) for _ in range(4))]
    signers = [(leaf, above, ())] * 4
    with refused_at(1, "malformed.size", "certificates and tokens of"):
        verify(make_envelope(make_manifest(), signers), [pki.root])
