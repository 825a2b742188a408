# SPDX-License-Identifier: Apache-2.0
"""Revocation lists: which ones count, and what they say about a path (RFC 5280 section 5).

Only complete CRLs of the issuer itself are used; indirect, delta and partial ones refuse.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from fwsign import der
from fwsign.certificate import PARSE_ERRORS, Certificate, display_name, signature_valid
from fwsign.chain import Anchor, Path, Profile
from fwsign.errors import Malformed, Stale, Tampered, Untrusted

HARMLESS: Final = frozenset(
    {
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.affiliation_changed,
    }
)
"""Reasons that leave what was signed before the revocation as good as it was."""
MAX_NUMBER_BITS: Final = 159
"""RFC 5280 section 5.2.3: at most 20 octets, and not negative."""
_KEEPS_EXPIRED: Final = x509.ObjectIdentifier("2.5.29.60")  # expiredCertsOnCRL, ITU-T X.509
_PARTIAL: Final = (ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.DELTA_CRL_INDICATOR)


class Crl(NamedTuple):
    """A parsed CRL; `number` is absent in the CRLs of some older tools.

    With `keeps_since` a certificate that expired at that time or later stays listed.
    """

    data: bytes
    parsed: x509.CertificateRevocationList
    signed: der.Signed
    number: int | None
    authority_key: bytes | None
    this_update: datetime
    next_update: datetime
    keeps_since: datetime | None = None

    @property
    def name(self) -> str:
        """The CRL for people."""
        return f'CRL of "{display_name(self.parsed.issuer)}"'

    def is_by_issuer_of(self, certificate: Certificate) -> bool:
        """Tell whether the CRL names a certificate's issuer; the proof is its signature."""
        if self.parsed.issuer != certificate.parsed.issuer:
            return False
        # Two issuers of one name are told apart by their keys.
        return self.authority_key is None or self.authority_key == certificate.authority_key


class Issued(NamedTuple):
    """A certificate of the path and the verified CRLs of its issuer."""

    certificate: Certificate
    issuer: Certificate | Anchor
    crls: tuple[Crl, ...]

    @property
    def newest(self) -> tuple[Crl, ...]:
        """The CRLs of the highest number: several where one number was given twice.

        Where one of them has no number (compat), their times order them.
        """
        numbered = all(crl.number is not None for crl in self.crls)
        ranks = [crl.number if numbered else crl.this_update.timestamp() for crl in self.crls]
        top = max((rank or 0 for rank in ranks), default=0)
        return tuple(crl for crl, rank in zip(self.crls, ranks, strict=True) if rank == top)


def parse_crl(data: bytes) -> Crl:
    """Parse a CRL, in DER.

    Raises:
        Malformed: `malformed.crl`.
    """
    try:
        signed = der.split(data, crl=True)
        parsed = x509.load_der_x509_crl(data)
        # Read now what is parsed on demand, so that nothing can fail later; entries wait for
        # the signature, since a megabyte of them costs a tenth of a second.
        extensions = {found.oid: found.value for found in parsed.extensions}
        number = extensions.get(ExtensionOID.CRL_NUMBER)
        authority = extensions.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
        keeps_since = _keeps_since(extensions.get(_KEEPS_EXPIRED))
        _ = parsed.issuer
        this_update, next_update = parsed.last_update_utc, parsed.next_update_utc
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
        ordinal,
        authority.key_identifier if isinstance(authority, x509.AuthorityKeyIdentifier) else None,
        this_update,
        next_update,
        keeps_since,
    )


def _keeps_since(found: x509.ExtensionType | None) -> datetime | None:
    if not isinstance(found, x509.UnrecognizedExtension):
        return None
    reader = der.Reader(found.value)
    since = der.generalized_time(reader.content(der.GENERALIZED_TIME))
    reader.end()
    return since


def collect(
    path: Path, data: Sequence[bytes], profile: Profile, forgiven: list[str]
) -> tuple[Issued, ...]:
    """Find and verify the CRLs of every issuer in a path; CRLs of other issuers are not used.

    Args:
        path: a validated path.
        data: CRLs in DER, stapled, held or given.
        profile: `compat` forgives a CRL without number.
        forgiven: takes the names of what was forgiven.

    Raises:
        Malformed: `malformed.crl`.
        Tampered: `tampered.crl`.
        Untrusted: `untrusted.crl`, `untrusted.key-usage`, `untrusted.algorithm`.
    """
    crls = [parse_crl(item) for item in dict.fromkeys(data)]
    if not path.certificates:  # a pinned bare key signed by itself: nothing was issued
        return ()
    issuers = (*path.certificates[1:], path.anchor.certificate or path.anchor)
    result = []
    for certificate, issuer in zip(path.certificates, issuers, strict=True):
        own = tuple(crl for crl in crls if crl.is_by_issuer_of(certificate))
        for crl in own:
            _check_crl(crl, issuer, profile, forgiven)
        result.append(Issued(certificate, issuer, own))
    return tuple(result)


def updates(issued: Sequence[Issued]) -> tuple[datetime, ...]:
    """Return the times of verified CRLs, all of which have passed."""
    return tuple(crl.this_update for one in issued for crl in one.crls)


def check_revocation(
    issued: Sequence[Issued],
    now: datetime,
    signed_at: datetime | None = None,
    *,
    allow_stale: timedelta = timedelta(0),
) -> tuple[str, ...]:
    """Check that no certificate is revoked, by a fresh CRL of each issuer.

    Args:
        issued: what `collect` found.
        now: the time by which a CRL must be fresh.
        signed_at: when the signature was made, if a time stamp proves it.
        allow_stale: how long past its next update a CRL is still taken.

    Returns:
        A note for each CRL that is past its next update.

    Raises:
        Stale: `stale.crl-missing`, `stale.crl`.
        Untrusted: `untrusted.revoked`, `untrusted.crl`.
    """
    for one in issued:  # revoked outranks stale, in whichever list it stands
        for crl in one.newest:
            _check_entries(crl, one.certificate, signed_at)
    notes = []
    for one in issued:
        if not one.crls:
            raise Stale(
                "stale.crl-missing",
                f'no CRL of "{one.issuer.name}", the issuer of "{one.certificate.name}"',
                expected=f'a CRL of "{one.issuer.name}"',
                found="none",
            )
        for crl in one.newest:
            if now <= crl.next_update:
                continue
            words = f"{crl.name} was to be replaced by {crl.next_update:%Y-%m-%d}"
            if now - crl.next_update > allow_stale:
                raise Stale(
                    "stale.crl",
                    f"{words}, it is {now:%Y-%m-%d}",
                    expected=f"a CRL for {now.isoformat()}",
                    found=f"one until {crl.next_update.isoformat()}",
                )
            notes.append(f"stale revocation: {words}")
    return tuple(notes)


def check_kept(issued: Sequence[Issued], now: datetime) -> None:
    """Check that a certificate that has expired since it was used would still be on its CRL.

    An issuer may forget revoked certificates when they expire (RFC 5280 section 3.3). Unless its
    CRL says that it does not, a time stamp does not extend a certificate past its end.

    Args:
        issued: what `collect` found.
        now: the time by which certificates may have expired.

    Raises:
        Stale: `stale.certificate`.
    """
    for one in issued:
        end = one.certificate.parsed.not_valid_after_utc
        kept = [crl.keeps_since is not None and crl.keeps_since <= end for crl in one.newest]
        if now > end and not (kept and all(kept)):
            raise Stale(
                "stale.certificate",
                f'certificate "{one.certificate.name}" expired {end:%Y-%m-%d}, it is '
                f'{now:%Y-%m-%d}, and no CRL of "{one.issuer.name}" says that it keeps those '
                "that expired",
                expected=f"a time until {end.isoformat()}, or a CRL with expiredCertsOnCRL",
                found=now.isoformat(),
            )


def _check_crl(
    crl: Crl, issuer: Certificate | Anchor, profile: Profile, forgiven: list[str]
) -> None:
    if not signature_valid(crl.signed, issuer.key):
        raise Tampered("tampered.crl", f"the signature of the {crl.name} does not verify")
    try:
        _ = [entry.extensions for entry in crl.parsed]
    except PARSE_ERRORS as error:
        raise Malformed("malformed.crl", f"an entry of the {crl.name}: {error}") from None
    usage = issuer.extension(x509.KeyUsage) if isinstance(issuer, Certificate) else None
    if usage is not None and not usage.value.crl_sign:
        raise Untrusted("untrusted.key-usage", f'key usage of CA "{issuer.name}" lacks cRLSign')
    for found in crl.parsed.extensions:
        if found.critical or found.oid in _PARTIAL:
            raise Untrusted(
                "untrusted.crl",
                f"{crl.name} has the extension {found.oid.dotted_string}: only complete CRLs "
                "without critical extensions are used",
                found=found.oid.dotted_string,
            )
    if crl.number is None:
        what = f"{crl.name} has no number"
        if profile == "strict":
            raise Untrusted("untrusted.crl", f"{what}, so an old one cannot be told from a new one")
        forgiven.append(what)


def _check_entries(crl: Crl, certificate: Certificate, signed_at: datetime | None) -> None:
    for entry in crl.parsed:
        # RFC 5280 section 5.3: an unknown critical extension of any entry spoils the list.
        if any(found.critical for found in entry.extensions):
            raise Untrusted("untrusted.crl", f"{crl.name} has an entry with a critical extension")
        if entry.serial_number == certificate.parsed.serial_number:
            _check_entry(entry, certificate, signed_at)


def _check_entry(
    entry: x509.RevokedCertificate, certificate: Certificate, signed_at: datetime | None
) -> None:
    reason, since = x509.ReasonFlags.unspecified, entry.revocation_date_utc
    for found in entry.extensions:
        if isinstance(found.value, x509.CRLReason):
            reason = found.value.reason
        elif isinstance(found.value, x509.InvalidityDate):
            since = min(since, found.value.invalidity_date_utc)
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
