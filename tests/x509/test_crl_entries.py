"""What a revocation list says: extensions, entries, reasons and their times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from fwsign.x509.chain import validate_path
from fwsign.x509.revocation import CrlReader
from fwsign.x509.roles import Profile
from support import (
    DAY,
    NOW,
    Entity,
    certify,
    der,
    leaf_extensions,
    make_crl,
    make_pki,
    name,
    new_key,
    parts,
    refused,
    resign,
    signing_hash,
    tlv,
)

PKI = make_pki()
PATH = validate_path([PKI.leaf.der, PKI.issuing.der], [PKI.root.anchor])
ROOT_CRL, ISSUING_CRL = make_crl(PKI.root), make_crl(PKI.issuing)
Reason = x509.ReasonFlags
HARMLESS = (Reason.superseded, Reason.cessation_of_operation, Reason.affiliation_changed)
SECOND = timedelta(seconds=1)
REVOKED = NOW - DAY


def judge(
    *crls: bytes,
    profile: Profile = "strict",
    signed_at: datetime | None = None,
    chain: Sequence[bytes] = (),
) -> None:
    """Judge the path, or another below the same root, by these CRLs."""
    path = validate_path(chain, [PKI.root.anchor]) if chain else PATH
    reader = CrlReader(profile)
    reader.check(reader.collect(path, crls).issued, NOW, signed_at)


def issuing_crl(
    *revoked: Entity,
    reason: x509.ReasonFlags | None = Reason.key_compromise,
    extensions: list[tuple[x509.ExtensionType, bool]] | None = None,
) -> bytes:
    return make_crl(PKI.issuing, revoked, reason=reason, extensions=extensions or ())


def entry_crl(*extensions: tuple[x509.ExtensionType, bool], serial: int | None = None) -> bytes:
    """Make a CRL with one entry, of the leaf unless a serial number is given."""
    entry = x509.RevokedCertificateBuilder().revocation_date(REVOKED)
    entry = entry.serial_number(serial or PKI.leaf.certificate.serial_number)
    for extension, critical in extensions:
        entry = entry.add_extension(extension, critical)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(PKI.issuing.certificate.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_revoked_certificate(entry.build())
    )
    return der(builder.sign(PKI.issuing.key, signing_hash(PKI.issuing.key)))


# --- extensions -----------------------------------------------------------------------------

POINT = x509.IssuingDistributionPoint(
    full_name=[x509.UniformResourceIdentifier("http://acme.example/crl")],
    relative_name=None,
    only_contains_user_certs=False,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")


@pytest.mark.parametrize("profile", ["strict", "compat"])
@pytest.mark.parametrize(
    ("extension", "critical"),
    [
        (x509.DeltaCRLIndicator(1), True),
        (x509.DeltaCRLIndicator(1), False),
        (UNKNOWN, True),
    ],
    ids=["delta", "delta not critical", "unknown"],
)
def test_partial_crls_and_critical_extensions_are_refused(
    extension: x509.ExtensionType, critical: bool, profile: Profile
) -> None:
    oid = extension.oid.dotted_string
    words = f'CRL of "Issuing" has the extension {oid}: only complete CRLs'
    with refused("untrusted.crl", words) as caught:
        judge(issuing_crl(extensions=[(extension, critical)]), ROOT_CRL, profile=profile)
    assert caught.value.found == oid


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("profile", ["strict", "compat"])
def test_a_crl_that_says_where_it_is_found_is_complete(*, critical: bool, profile: Profile) -> None:
    """As step-ca writes it, with a certificate that names no distribution point."""
    for point in (POINT, replace(full_name=[x509.DirectoryName(name("Issuing"))])):
        judge(issuing_crl(extensions=[(point, critical)]), ROOT_CRL, profile=profile)
        with refused("untrusted.revoked", 'certificate "release" revoked'):
            judge(issuing_crl(PKI.leaf, extensions=[(point, critical)]), ROOT_CRL, profile=profile)


def replace(**changes: Any) -> x509.IssuingDistributionPoint:
    """Make an issuing distribution point as above, with something changed."""
    names = (
        "full_name",
        "relative_name",
        "only_contains_user_certs",
        "only_contains_ca_certs",
        "only_some_reasons",
        "indirect_crl",
        "only_contains_attribute_certs",
    )
    found = {name: getattr(POINT, name) for name in names}
    return x509.IssuingDistributionPoint(**{**found, **changes})


RELATIVE = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "crl")])
PARTIAL: dict[str, dict[str, Any]] = {
    "certificates that are no CAs": {"only_contains_user_certs": True},
    "CA certificates": {"only_contains_ca_certs": True},
    "attribute certificates": {"only_contains_attribute_certs": True},
    "some reasons": {"only_some_reasons": frozenset({Reason.key_compromise})},
    "other issuers' certificates": {"indirect_crl": True},
    "a place without a full name": {"full_name": None, "relative_name": RELATIVE},
}


@pytest.mark.parametrize("limit", PARTIAL)
@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("profile", ["strict", "compat"])
def test_partial_crls_are_refused(limit: str, *, critical: bool, profile: Profile) -> None:
    points = [replace(**PARTIAL[limit])]
    if limit != "a place without a full name":
        points.append(replace(**{"full_name": None, **PARTIAL[limit]}))
    words = f'CRL of "Issuing" is for {limit} alone: only complete CRLs are used'
    for point in points:
        lists = (
            issuing_crl(extensions=[(point, critical)]),
            make_crl(PKI.root, extensions=[(point, critical)]),
        )
        with refused("untrusted.crl", words) as caught:
            judge(lists[0], ROOT_CRL, profile=profile)
        assert (caught.value.expected, caught.value.found) == ("a complete CRL", limit)
        with refused("untrusted.crl", 'CRL of "Root" is for'):
            judge(ISSUING_CRL, lists[1], profile=profile)


def test_an_issuing_distribution_point_that_cannot_be_read() -> None:
    for value in (b"", b"\x30\0", b"\x30\x80", b"\x30\3\x81\1\1", b"\5\0"):
        odd = x509.UnrecognizedExtension(POINT.oid, value)
        with refused("malformed.crl", "not a CRL"):
            judge(issuing_crl(extensions=[(odd, True)]), ROOT_CRL)


# --- distribution points --------------------------------------------------------------------

HERE = x509.UniformResourceIdentifier("http://acme.example/crl")
ELSEWHERE = x509.UniformResourceIdentifier("http://acme.example/crl/2")


def named(*points: x509.DistributionPoint) -> list[Any]:
    """Make a path whose leaf names distribution points."""
    extension = (x509.CRLDistributionPoints(points), False)
    leaf = certify(new_key(), name("release"), PKI.issuing, [*leaf_extensions(), extension])
    return [leaf.der, PKI.issuing.der]


def point(*names: Any, **more: Any) -> x509.DistributionPoint:
    fields = {"relative_name": None, "reasons": None, "crl_issuer": None, **more}
    return x509.DistributionPoint(full_name=list(names) or None, **fields)


@pytest.mark.parametrize(
    "points",
    [(point(HERE),), (point(ELSEWHERE, HERE),), (point(ELSEWHERE), point(HERE))],
    ids=["it", "a name of it", "one of two"],
)
def test_a_crl_of_the_certificates_own_distribution_point(points: Any) -> None:
    judge(issuing_crl(extensions=[(POINT, True)]), ROOT_CRL, chain=named(*points))
    # A CRL that names no place is the whole list, wherever it was found.
    judge(ISSUING_CRL, ROOT_CRL, chain=named(*points))


@pytest.mark.parametrize(
    ("points", "shown"),
    [
        ((point(ELSEWHERE),), "http://acme.example/crl/2"),
        ((point(HERE, reasons=frozenset({Reason.key_compromise})),), "no distribution point"),
        (
            (point(HERE, crl_issuer=[x509.DirectoryName(name("Other"))]),),
            "no distribution point",
        ),
        ((point(relative_name=RELATIVE),), "no distribution point"),
    ],
    ids=["another", "of some reasons", "of another issuer", "without a full name"],
)
def test_a_part_of_a_split_list_does_not_hide_a_revocation_in_another(
    points: Any, shown: str
) -> None:
    """The CRL of one distribution point says nothing of certificates that name another one."""
    words = (
        f'CRL of "Issuing" is that of http://acme.example/crl, certificate "release" names {shown}'
    )
    with refused("untrusted.crl", words) as caught:
        judge(issuing_crl(extensions=[(POINT, True)]), ROOT_CRL, chain=named(*points))
    assert (caught.value.expected, caught.value.found) == (shown, HERE.value)


def test_an_unknown_extension_that_is_not_critical_is_ignored() -> None:
    judge(issuing_crl(extensions=[(UNKNOWN, False)]), ROOT_CRL)


@pytest.mark.parametrize("serial", [None, 7], ids=["the leaf's", "another"])
def test_an_entry_with_a_critical_extension_spoils_the_list(serial: int | None) -> None:
    with refused("untrusted.crl", 'CRL of "Issuing" has an entry with a critical extension'):
        judge(entry_crl((UNKNOWN, True), serial=serial), ROOT_CRL)


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("serial", [None, 7], ids=["the leaf's", "another"])
def test_an_entry_of_another_issuer_spoils_the_list(serial: int | None, critical: bool) -> None:
    """An indirect CRL; its names are many objects, which would also be slow to read."""
    indirect = x509.CertificateIssuer([x509.DirectoryName(name("Other"))])
    words = 'CRL of "Issuing" has entries of other issuers (certificateIssuer): only complete CRLs'
    with refused("untrusted.crl", words):
        judge(entry_crl((indirect, critical), serial=serial), ROOT_CRL)


# --- entries --------------------------------------------------------------------------------


def test_an_entry_extension_that_is_not_critical_is_ignored() -> None:
    with refused("untrusted.revoked", "(superseded)"):
        judge(entry_crl((UNKNOWN, False), (x509.CRLReason(Reason.superseded), False)), ROOT_CRL)
    judge(entry_crl((UNKNOWN, False), serial=7), ROOT_CRL)


def test_a_revoked_leaf_is_refused() -> None:
    words = 'certificate "release" revoked 2026-11-21 (key compromise)'
    with refused("untrusted.revoked", words) as caught:
        judge(issuing_crl(PKI.leaf), ROOT_CRL)
    assert caught.value.found == f"revoked {REVOKED.isoformat()}, keyCompromise"


def test_a_revoked_intermediate_is_refused() -> None:
    with refused("untrusted.revoked", 'certificate "Issuing" revoked 2026-11-21'):
        judge(issuing_crl(), make_crl(PKI.root, [PKI.issuing]))


def test_a_serial_number_of_another_issuer_is_not_revoked() -> None:
    judge(issuing_crl(), make_crl(PKI.root, [PKI.leaf]))


def test_an_entry_without_reason_is_unspecified() -> None:
    with refused("untrusted.revoked", "(unspecified)"):
        judge(issuing_crl(PKI.leaf, reason=None), ROOT_CRL)


def test_a_certificate_on_hold_is_revoked() -> None:
    with refused("untrusted.revoked", "(certificate hold)"):
        judge(issuing_crl(PKI.leaf, reason=Reason.certificate_hold), ROOT_CRL)


@pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.unspecified])
def test_any_reason_revokes_what_has_no_signing_time(reason: x509.ReasonFlags) -> None:
    with refused("untrusted.revoked"):
        judge(issuing_crl(PKI.leaf, reason=reason), ROOT_CRL)


@pytest.mark.parametrize("reason", HARMLESS)
def test_harmless_reasons_leave_what_was_signed_before(reason: x509.ReasonFlags) -> None:
    crls = issuing_crl(PKI.leaf, reason=reason), ROOT_CRL
    judge(*crls, signed_at=REVOKED - SECOND)
    for later in (REVOKED, REVOKED + SECOND):
        with refused("untrusted.revoked"):
            judge(*crls, signed_at=later)


@pytest.mark.parametrize("reason", sorted(set(Reason) - set(HARMLESS), key=str))
def test_other_reasons_revoke_whenever_the_signature_was_made(reason: x509.ReasonFlags) -> None:
    given = None if reason is Reason.unspecified else reason
    with refused("untrusted.revoked"):
        judge(issuing_crl(PKI.leaf, reason=given), ROOT_CRL, signed_at=REVOKED - 9 * DAY)


def dated(reason: x509.ReasonFlags, invalid: datetime) -> bytes:
    since = x509.InvalidityDate(invalid.astimezone(UTC).replace(tzinfo=None))
    return entry_crl((x509.CRLReason(reason), False), (since, False))


def test_the_invalidity_date_counts_where_it_is_earlier() -> None:
    crls = dated(Reason.superseded, REVOKED - 3 * DAY), ROOT_CRL
    judge(*crls, signed_at=REVOKED - 4 * DAY)
    with refused("untrusted.revoked", 'certificate "release" revoked 2026-11-18 (superseded)'):
        judge(*crls, signed_at=REVOKED - 2 * DAY)


def test_a_later_invalidity_date_does_not_help() -> None:
    crls = dated(Reason.superseded, REVOKED + 3 * DAY), ROOT_CRL
    with refused("untrusted.revoked", "revoked 2026-11-21"):
        judge(*crls, signed_at=REVOKED + DAY)


def test_of_two_entries_of_one_certificate_the_worse_counts() -> None:
    harmless = parts(parts(issuing_crl(PKI.leaf, reason=Reason.superseded))[0])
    worse = parts(parts(issuing_crl(PKI.leaf))[0])
    for entries in ((harmless, worse), (worse, harmless)):
        both = [entry for tbs in entries for entry in parts(tbs[5])]
        crl = resign([*harmless[:5], tlv(0x30, *both), harmless[6]], PKI.issuing.key)
        with refused("untrusted.revoked", "(key compromise)"):
            judge(crl, ROOT_CRL, signed_at=REVOKED - DAY)
