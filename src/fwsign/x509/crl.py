# SPDX-License-Identifier: Apache-2.0
"""One revocation list: parse it, check its form, and judge its entries (RFC 5280 section 5).

Only complete CRLs of the issuer itself are used; indirect, delta and partial ones are refused. A
CRL that names its distribution point is complete for certificates that name no other point.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple, Protocol, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from fwsign.errors import Malformed, Untrusted
from fwsign.format.library import PARSE_ERRORS, utc
from fwsign.x509 import der
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate, display_name
from fwsign.x509.form import check_form
from fwsign.x509.roles import Profile

HARMLESS: Final = frozenset(
    {
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.affiliation_changed,
    }
)
"""After these reasons, signatures made before the revocation stay valid."""
MAX_NUMBER_BITS: Final = 159
"""RFC 5280 section 5.2.3: at most 20 octets, and not negative."""
SMALL: Final = 2048
"""Bytes of a CRL whose cost is not worth a look; 64 of them stay within what is read."""
HEAD_WEIGHT: Final = 100
"""A byte of names and extensions takes this many times longer to parse than one of entries."""
_KEEPS_EXPIRED: Final = x509.ObjectIdentifier("2.5.29.60")  # expiredCertsOnCRL, ITU-T X.509


class Crl(NamedTuple):
    """A parsed CRL; `number` is absent in the CRLs of some older tools.

    If `keeps_since` is set, certificates that expired at that time or later stay listed. `places`
    is the full name in its issuingDistributionPoint.
    """

    data: bytes
    parsed: x509.CertificateRevocationList
    signed: der.Signed
    issuer: x509.Name
    number: int | None
    authority_key: bytes | None
    this_update: datetime
    next_update: datetime
    keeps_since: datetime | None = None
    places: tuple[x509.GeneralName, ...] = ()

    @property
    def name(self) -> str:
        """The CRL for people."""
        return f'CRL of "{display_name(self.issuer)}"'

    def is_by_issuer_of(self, certificate: Certificate) -> bool:
        """Tell whether the CRL names a certificate's issuer; the proof is its signature."""
        if self.issuer != certificate.issuer:
            return False
        # Two issuers may share a name; their key identifiers differ.
        return self.authority_key is None or self.authority_key == certificate.authority_key


class HeldCrl(NamedTuple):
    """A CRL in a device's memory: its issuer's SPKI SHA-256, in hex, and its DER."""

    key: str
    data: bytes


class _Dated(Protocol):
    """The fields that order CRLs by age."""

    @property
    def number(self) -> int | None: ...

    @property
    def this_update(self) -> datetime: ...


_AnyCrl = TypeVar("_AnyCrl", bound=_Dated)


def newest(crls: Iterable[_AnyCrl]) -> tuple[_AnyCrl, ...]:
    """Return those of one issuer's CRLs that no other replaces; this is the only order of CRLs.

    A higher number replaces a lower one. CRLs with the same number all count: a certificate
    that any of them revokes is revoked. A later CRL without number (compat) replaces an earlier
    one. If both kinds remain, those count whose latest CRL is newer.
    """
    crls = tuple(crls)
    highest = max((crl.number for crl in crls if crl.number is not None), default=None)
    latest = max((crl.this_update for crl in crls if crl.number is None), default=None)
    numbered = [crl for crl in crls if crl.number is not None and crl.number == highest]
    others = [crl for crl in crls if crl.number is None and crl.this_update == latest]
    groups = [group for group in (numbered, others) if group]
    times = [max(crl.this_update for crl in group) for group in groups]
    counting = (group for group, time in zip(groups, times, strict=True) if time == max(times))
    return tuple(crl for group in counting for crl in group)


def reading(data: bytes) -> int:
    """Return the cost of parsing a CRL, in bytes of entries; names and extensions count more.

    Raises:
        Malformed: `malformed.crl`.
    """
    if len(data) <= SMALL:  # all of it counts as a head: too little to look for entries
        return len(data) * (HEAD_WEIGHT + 1)
    try:
        signed = der.split(data, crl=True).tbs
        return len(data) + HEAD_WEIGHT * (len(signed) - len(der.crl_fields(signed).entries))
    except ValueError as error:
        raise Malformed("malformed.crl", f"not a CRL: {error}") from None


def parse_crl(data: bytes) -> Crl:
    """Parse a CRL, in DER.

    Raises:
        Malformed: `malformed.crl`.
    """
    try:
        signed = der.split(data, crl=True)
        parsed = x509.load_der_x509_crl(data)
        # cryptography parses on demand: read all now, so that nothing can fail later. Entries
        # wait for the signature, since a megabyte of them costs a tenth of a second.
        extensions = {found.oid: found.value for found in parsed.extensions}
        number = extensions.get(ExtensionOID.CRL_NUMBER)
        authority = extensions.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
        keeps_since = _keeps_since(extensions.get(_KEEPS_EXPIRED))
        point = extensions.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT)
        issuer = parsed.issuer
        this_update, next_update = utc(parsed, "last_update"), utc(parsed, "next_update")
        check_form(der.crl_fields(signed.tbs))
    except PARSE_ERRORS as error:
        raise Malformed("malformed.crl", f"not a CRL: {error}") from None
    if next_update is None:
        raise Malformed("malformed.crl", "a CRL without the time of its next update")
    ordinal = number.crl_number if isinstance(number, x509.CRLNumber) else None
    if ordinal is not None and not 0 <= ordinal < 1 << MAX_NUMBER_BITS:
        raise Malformed("malformed.crl", f"CRL number {ordinal:x}, expected at most 20 bytes")
    return Crl(
        data,
        parsed,
        signed,
        issuer,
        ordinal,
        authority.key_identifier if isinstance(authority, x509.AuthorityKeyIdentifier) else None,
        this_update,
        next_update,
        keeps_since,
        tuple(point.full_name or ()) if isinstance(point, x509.IssuingDistributionPoint) else (),
    )


def _keeps_since(found: x509.ExtensionType | None) -> datetime | None:
    if not isinstance(found, x509.UnrecognizedExtension):
        return None
    reader = der.DerReader(found.value)
    since = der.generalized_time(reader.content(der.GENERALIZED_TIME))
    reader.end()
    return since


def check_crl(crl: Crl, issuer: Certificate | Anchor, profile: Profile) -> tuple[str, ...]:
    """Check that a CRL is of a usable kind, after its signature was verified.

    Returns:
        The faults that `compat` forgives.

    Raises:
        Untrusted: `untrusted.crl`, `untrusted.key-usage`.
    """
    usage = issuer.extension(x509.KeyUsage) if isinstance(issuer, Certificate) else None
    if usage is not None and not usage.value.crl_sign:
        raise Untrusted("untrusted.key-usage", f'key usage of CA "{issuer.name}" lacks cRLSign')
    for found in crl.parsed.extensions:
        if isinstance(found.value, x509.IssuingDistributionPoint):
            limits = limited_to(found.value)
            if limits is None:
                continue
            words = f"{crl.name} is for {limits} alone: only complete CRLs are used"
            raise Untrusted("untrusted.crl", words, expected="a complete CRL", found=limits)
        if found.critical or found.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            raise Untrusted(
                "untrusted.crl",
                f"{crl.name} has the extension {found.oid.dotted_string}: only complete CRLs "
                "without critical extensions are used",
                found=found.oid.dotted_string,
            )
    if crl.number is not None:
        return ()
    what = f"{crl.name} has no number"
    if profile == "strict":
        raise Untrusted("untrusted.crl", f"{what}, so an old one cannot be told from a new one")
    return (what,)


def limited_to(point: x509.IssuingDistributionPoint) -> str | None:
    """Return the limits that this extension sets on a CRL, in words; None for a complete CRL.

    The extension of a complete CRL has a full name of its place and nothing else (RFC 5280 5.2.5).
    """
    limits = {
        "certificates that are no CAs": point.only_contains_user_certs,
        "CA certificates": point.only_contains_ca_certs,
        "attribute certificates": point.only_contains_attribute_certs,
        "some reasons": point.only_some_reasons,
        "other issuers' certificates": point.indirect_crl,
        "a place without a full name": not point.full_name,
    }
    return next((words for words, limited in limits.items() if limited), None)


def covers(crl: Crl, certificate: Certificate) -> bool:
    """Tell whether a CRL covers a certificate's distribution points (RFC 5280 6.3.3 (b) (2)).

    An issuer that splits its list names the part in both the CRL and the certificate. If either
    names none, there is one list: step-ca names it only in CRLs, easy-rsa in neither.
    """
    named = certificate.extension(x509.CRLDistributionPoints)
    return named is None or not crl.places or not set(crl.places).isdisjoint(places_of(certificate))


def places_of(certificate: Certificate) -> list[x509.GeneralName]:
    """Return the places of its issuer's complete CRLs that a certificate names."""
    named = certificate.extension(x509.CRLDistributionPoints)
    return [
        name
        for point in (named.value if named else ())
        if not point.reasons and not point.crl_issuer  # only partial and indirect CRLs have these
        for name in point.full_name or ()
    ]


def show_places(names: Iterable[x509.GeneralName]) -> str:
    """Return places for people."""
    return ", ".join(str(name.value) for name in names) or "no distribution point"


def check_entry(
    entry: x509.RevokedCertificate, certificate: Certificate, signed_at: datetime | None
) -> None:
    """Refuse a certificate by its entry, unless the reason spares earlier signatures.

    Raises:
        Untrusted: `untrusted.revoked`.
    """
    reason, since = x509.ReasonFlags.unspecified, utc(entry, "revocation_date")
    for found in entry.extensions:
        if isinstance(found.value, x509.CRLReason):
            reason = found.value.reason
        elif isinstance(found.value, x509.InvalidityDate):
            since = min(since, utc(found.value, "invalidity_date"))
    if signed_at is not None and reason in HARMLESS and signed_at < since:
        return
    raise Untrusted(
        "untrusted.revoked",
        f'certificate "{certificate.name}" revoked {since:%Y-%m-%d} ({_words(reason.value)})',
        expected="a certificate that is not revoked",
        found=f"revoked {since.isoformat()}, {reason.value}",
    )


def _words(reason: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in reason)
