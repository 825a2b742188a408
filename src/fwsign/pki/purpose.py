# SPDX-License-Identifier: Apache-2.0
"""Would a certificate be accepted for a purpose: code signing, time stamps, TLS?

For code signing this is the verify path itself: `chain.validate_path`, dates, CRLs. For the other
purposes the path is held to the same rules of linking, signatures, CAs, name constraints, dates
and CRLs, and then put to cryptography's own verifier. Where they differ from code signing:

- extended key usage of the leaf is the purpose's; for time stamps it is critical and alone (RFC
  3161 section 2.3), for TLS it need not be critical;
- a CA with extended key usage must have the purpose's, or any;
- for a TLS server the leaf needs a subject alternative name, and the verifier is asked for its
  first one; which name a client asks for, nobody knows here;
- an anchor is a certificate, never a bare key, and its dates count where cryptography judges;
- cryptography's verifier takes no Ed25519 CA: then it is not asked, and the result notes that.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy

from fwsign.certificate import PARSE_ERRORS, Certificate, parse_certificate
from fwsign.chain import (
    Anchor,
    Path,
    Profile,
    check_ca,
    check_dates,
    check_link,
    find_anchor,
    validate_path,
)
from fwsign.constraints import check_constraints
from fwsign.cose import key_kind
from fwsign.errors import Malformed, Untrusted
from fwsign.pki.known_keys import is_published
from fwsign.revocation import CrlReader, Issued, updates

Purpose: TypeAlias = Literal["codesign", "timestamp", "server", "client"]
PURPOSES: Final[Mapping[Purpose, x509.ObjectIdentifier]] = MappingProxyType(
    {
        "codesign": ExtendedKeyUsageOID.CODE_SIGNING,
        "timestamp": ExtendedKeyUsageOID.TIME_STAMPING,
        "server": ExtendedKeyUsageOID.SERVER_AUTH,
        "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    }
)
_NAMES: Final = {"timestamp": "timeStamping", "server": "serverAuth", "client": "clientAuth"}


class Accepted(NamedTuple):
    """A path that would be accepted, the CRLs that count, and what the reader should know."""

    path: Path
    issued: tuple[Issued, ...]
    now: datetime
    revocation_checked: bool
    notes: tuple[str, ...]


def in_order(leaf: bytes, pool: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return a leaf and the certificates above it that are in a pool, nearest first.

    Raises:
        Malformed: `malformed.certificate`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    rest = [(data, parse_certificate(data)) for data in dict.fromkeys(pool) if data != leaf]
    chain, last = [leaf], parse_certificate(leaf)
    while last.parsed.issuer != last.parsed.subject:
        found = [
            (data, one)
            for data, one in rest
            if one.parsed.subject == last.parsed.issuer and data not in chain
        ]
        # Two CAs of one name are told apart by their keys.
        found.sort(key=lambda item: item[1].subject_key != last.authority_key)
        if not found:
            break
        chain.append(found[0][0])
        last = found[0][1]
    return tuple(chain)


def leaf_of(certificates: Sequence[bytes]) -> bytes:
    """Return the first certificate that has issued none of the others, for bundles in no order.

    Raises:
        Malformed: `malformed.certificate`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    parsed = [parse_certificate(data).parsed for data in certificates]
    issuers = {one.issuer for one in parsed if one.issuer != one.subject}
    both = zip(certificates, parsed, strict=True)
    return next((data for data, one in both if one.subject not in issuers), certificates[0])


def judge(
    chain: Sequence[bytes],
    anchors: Sequence[Anchor],
    *,
    purpose: Purpose,
    at: datetime,
    profile: Profile = "strict",
    crls: Sequence[bytes] = (),
    allow_example_keys: bool = False,
) -> Accepted:
    """Judge a path for a purpose, at a time, with the CRLs given.

    Args:
        chain: DER certificates, leaf first.
        anchors: what is trusted.
        purpose: a key of `PURPOSES`.
        at: an aware time.
        profile: `strict` or `compat`.
        crls: CRLs in DER; where one belongs to an issuer of the path, every issuer needs one.
        allow_example_keys: accept published keys.

    Raises:
        Malformed, Tampered, Untrusted, Stale: as `fwsign.chain` and `fwsign.crl`;
            `untrusted.example-key`: a published key.
    """
    at = at.astimezone(UTC).replace(microsecond=0)
    if purpose == "codesign":
        path = validate_path(chain, anchors, profile=profile)
    else:
        path = _validate(chain, anchors, purpose, profile)
    published = [(key, whose) for key in path.keys if (whose := is_published(key))]
    if published and not allow_example_keys:
        raise Untrusted(
            "untrusted.example-key",
            f'the path of "{path.name}" has {published[0][1]}, which anyone can use',
            found=published[0][0],
        )
    reader = CrlReader(profile, crls)
    issued, forgiven = reader.collect(path)
    now = max([at, *updates(issued)])
    check_dates(path, now, not_before=at >= now)
    if purpose != "codesign":
        forgiven += _ask(path, purpose, now)
    at_hand = any(one.crls for one in issued)
    if at_hand:
        reader.check(issued, now)
    behind = ["freshness unproven: the clock is behind"] if at < now else []
    known = dict.fromkeys(f"the path has {whose}, which anyone can use" for _, whose in published)
    notes = (*behind, *known, *path.forgiven, *forgiven)
    return Accepted(path, issued, now, at_hand or not path.certificates, notes)


def _validate(
    chain: Sequence[bytes], anchors: Sequence[Anchor], purpose: Purpose, profile: Profile
) -> Path:
    """Do for a purpose what `validate_path` does for code signing."""
    roots = [anchor for anchor in anchors if anchor.certificate is not None]
    certificates, anchor = find_anchor(chain, roots)
    forgiven: list[str] = []
    issuers = [one for one in (*certificates[1:], anchor.certificate) if one is not None]
    for below, (one, ca) in enumerate(zip(certificates, issuers, strict=True)):
        check_link(one, ca, anchor)
        check_ca(ca, below, profile, forgiven)
        _check_ca_usage(ca, purpose)
    check_constraints(issuers, certificates)
    _check_leaf(certificates[0], purpose)
    return Path(certificates, anchor, tuple(forgiven))


def _check_ca_usage(ca: Certificate, purpose: Purpose) -> None:
    extended = ca.extension(x509.ExtendedKeyUsage)
    allowed = {PURPOSES[purpose], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and allowed.isdisjoint(extended.value):
        raise Untrusted("untrusted.eku", f'CA "{ca.name}" may not issue for {_NAMES[purpose]}')


def _check_leaf(leaf: Certificate, purpose: Purpose) -> None:
    wanted = _NAMES[purpose]
    basic = leaf.extension(x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        raise Untrusted("untrusted.ca-as-leaf", f'"{leaf.name}" is a CA, expected a leaf')
    usage = leaf.extension(x509.KeyUsage)
    if usage is not None and not usage.value.digital_signature:
        raise Untrusted("untrusted.key-usage", f'key usage of "{leaf.name}" lacks digitalSignature')
    extended = leaf.extension(x509.ExtendedKeyUsage)
    usages = tuple(extended.value) if extended else ()
    if PURPOSES[purpose] not in usages:
        found = ", ".join(one.dotted_string for one in usages) or "none"
        raise Untrusted(
            "untrusted.eku",
            f'extended key usage of "{leaf.name}" is {found}, expected {wanted}',
            expected=wanted,
            found=found,
        )
    if purpose == "timestamp" and extended is not None:
        if len(usages) > 1:
            raise Untrusted("untrusted.eku", f'"{leaf.name}" is not for {wanted} alone')
        if not extended.critical:  # RFC 3161 section 2.3, with no older habit to forgive
            words = f'extended key usage of "{leaf.name}" is not critical'
            raise Untrusted("untrusted.criticality", words)
    if purpose == "server" and not _server_names(leaf):
        raise Untrusted("untrusted.vendor", f'"{leaf.name}" names no DNS name and no IP address')


def _server_names(leaf: Certificate) -> list[x509.DNSName | x509.IPAddress]:
    found = leaf.extension(x509.SubjectAlternativeName)
    names = list(found.value) if found else []
    return [one for one in names if isinstance(one, (x509.DNSName, x509.IPAddress))]


def _ask(path: Path, purpose: Purpose, now: datetime) -> tuple[str, ...]:
    """Put the path to cryptography's verifier; return what should be noted."""
    root = path.anchor.certificate
    if root is None:  # pragma: no cover - only such anchors were taken
        return ()
    if any(key_kind(one.key) == "Ed25519" for one in (*path.certificates[1:], root)):
        return ("an Ed25519 CA, which not every TLS library takes: judged by our own rules only",)
    authorities = ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, Criticality.AGNOSTIC, None
    )
    leaves = ExtensionPolicy.permit_all()
    if purpose == "server":
        leaves = leaves.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    leaf = path.certificates[0]
    try:
        builder = (
            verification.PolicyBuilder()
            .store(verification.Store([root.parsed]))
            .time(now)
            .extension_policies(ca_policy=authorities, ee_policy=leaves)
        )
        above = [one.parsed for one in path.certificates[1:]]
        if purpose == "server":
            name = _server_names(leaf)[0]
            if isinstance(name, x509.DNSName) and name.value.startswith("*."):
                name = x509.DNSName(f"any{name.value[1:]}")
            builder.build_server_verifier(name).verify(leaf.parsed, above)
        else:
            builder.build_client_verifier().verify(leaf.parsed, above)
    except verification.VerificationError as error:
        raise Untrusted(
            "untrusted.issuer", f'the path of "{path.name}" is refused by the TLS rules: {error}'
        ) from None
    except PARSE_ERRORS as error:
        raise Malformed(
            "malformed.certificate", f'certificate "{path.name}" cannot be judged: {error}'
        ) from None
    return ()
