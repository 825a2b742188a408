# SPDX-License-Identifier: Apache-2.0
"""Certification paths: linear and strict (RFC 5280 section 6.1, RFC 5937).

The path is the x5chain in its order; nothing is searched. `fwsign pki` writes `strict` paths.
`compat` forgives three habits of older tools and names each in the result: basicConstraints or
extended key usage that is not critical, a CA without key usage, a CRL without number.

The rules depart from RFC 5280 in four points, and each is stricter: self-issued certificates count
for the path length and are subject to name constraints; names are compared as they are, without
case folding, except in name constraints; a constraint on anything but DNS and directory names
refuses the path; policy extensions are not processed, so a critical one refuses the path.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fwsign.errors import Stale, Tampered, Untrusted
from fwsign.format.algorithms import Strength
from fwsign.format.cose import kind_of
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate, display_name, parse_certificate, signature_valid
from fwsign.x509.constraints import check_vendors, dns_names, is_domain
from fwsign.x509.roles import (
    MIN_CA_RSA_BITS,
    USES,
    Profile,
    Use,
    check_ca,
    check_key,
    check_leaf,
)


class CertificationPath(NamedTuple):
    """A validated path: certificates from the leaf up, the anchor, and the faults forgiven.

    A pinned bare key that signed by itself is a path without certificates.
    """

    certificates: tuple[Certificate, ...]
    anchor: Anchor
    forgiven: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The SPKI digests from the leaf's to the anchor's."""
        return (*(certificate.spki for certificate in self.certificates), self.anchor.spki)

    @property
    def strength(self) -> Strength:
        """Whether signatures of the leaf's key withstand quantum computers."""
        kind = kind_of(self.certificates[0].key if self.certificates else self.anchor.key)
        return kind.strength if kind else "classic"

    @property
    def name(self) -> str:
        """The signer for people."""
        return self.certificates[0].name if self.certificates else self.anchor.name

    @property
    def vendors(self) -> tuple[str, ...]:
        """The vendors whose manifests the leaf may sign: its dNSNames, without wildcards."""
        names = dns_names(self.certificates[0]) if self.certificates else ()
        return tuple(name for name in names if is_domain(name))


def validate_path(
    chain: Sequence[bytes],
    anchors: Sequence[Anchor],
    *,
    profile: Profile = "strict",
    use: Use = "codeSigning",
) -> CertificationPath:
    """Validate a path from a leaf to an anchor, except dates and revocation.

    Args:
        chain: DER certificates, leaf first; the path ends at the first that an anchor issued,
            and later ones are ignored.
        anchors: the verifier's anchors; the first that fits is taken.
        profile: `strict` or `compat`.
        use: what the leaf is used for.

    Raises:
        Malformed: `malformed.certificate`.
        Tampered: `tampered.certificate`, only if the path names an anchor as its end.
        Untrusted: `untrusted.*`.
    """
    bare = USES[use].bare_anchor
    fitting = [one for one in anchors if bare or one.certificate is not None]
    certificates, anchor = _find_anchor(chain, fitting)
    issuers = (*certificates[1:], anchor.certificate or anchor)
    for certificate, issuer in zip(certificates, issuers, strict=True):
        check_link(certificate, issuer)
    forgiven: tuple[str, ...] = ()
    for below, issuer in enumerate(issuers, 1):
        if isinstance(issuer, Certificate):
            forgiven += check_ca(issuer, certificates[:below], profile=profile, use=use)
    if anchor.vendors:
        check_vendors(anchor.name, anchor.vendors, certificates[0])
    forgiven += check_leaf(certificates[0], profile=profile, use=use)
    return CertificationPath(certificates, anchor, forgiven)


def check_dates(
    path: CertificationPath, at: datetime, *, not_before: bool = True, when: str = "it is"
) -> None:
    """Check that every certificate of a path is valid; an anchor's own dates do not count.

    Args:
        path: the path.
        at: the time at which certificates must be valid, with a zone.
        not_before: check the beginning too; False if the clock is known to be wrong.
        when: the words before the time in a message.

    Raises:
        Stale: `stale.certificate`, `stale.not-yet-valid`.
    """
    for certificate in path.certificates:
        first, last = certificate.not_before, certificate.not_after
        if at > last:
            # A certificate of hours may end on the day on which it is judged.
            form = "%Y-%m-%d" if at.date() != last.date() else "%Y-%m-%d %H:%M:%S"
            raise Stale(
                "stale.certificate",
                f'certificate "{certificate.name}" expired {last:{form}}, {when} {at:{form}}',
                expected=f"a time until {last.isoformat()}",
                found=at.isoformat(),
            )
        if not_before and at < first:
            raise Stale(
                "stale.not-yet-valid",
                f'certificate "{certificate.name}" is valid from {first.isoformat()}, '
                f"{when} {at.isoformat()}",
                expected=f"a time from {first.isoformat()}",
                found=at.isoformat(),
            )


def _find_anchor(
    chain: Sequence[bytes], anchors: Sequence[Anchor]
) -> tuple[tuple[Certificate, ...], Anchor]:
    """Follow the issuers' names up to the first certificate that names an anchor as issuer.

    Raises: as `validate_path`.
    """
    certificates: list[Certificate] = []
    for data in chain:
        certificate = parse_certificate(data)
        if certificates and certificates[-1].issuer != certificate.subject:
            last = certificates[-1]
            raise Untrusted(
                "untrusted.issuer",
                f'certificate "{last.name}" was issued by "{display_name(last.issuer)}", '
                f'but "{certificate.name}" follows it',
                expected=display_name(last.issuer),
                found=certificate.name,
            )
        if any(certificate.signed == other.signed for other in certificates):
            raise Untrusted(
                "untrusted.duplicate", f'certificate "{certificate.name}" is in the path twice'
            )
        certificates.append(certificate)
        for anchor in anchors:
            if _claims(certificate, anchor):
                return tuple(certificates), anchor
    issuer = display_name(certificates[-1].issuer)
    known = ", ".join(f'"{anchor.name}"' for anchor in anchors)
    words = f"the anchors are {known}" if known else "and no anchor is a certificate"
    raise Untrusted(
        "untrusted.no-anchor",
        f'the path ends at issuer "{issuer}", {words}',
        expected=known or "a certificate as anchor",
        found=issuer,
    )


def _claims(certificate: Certificate, anchor: Anchor) -> bool:
    """Tell whether a certificate names an anchor as its issuer; the proof comes later."""
    if anchor.certificate is None:  # a bare key has no name to claim: only the signature tells
        return signature_valid(certificate.signed, anchor.key)
    if certificate.issuer != anchor.certificate.subject:
        return False
    # Two roots may share a name; their key identifiers differ.
    wanted, there = certificate.authority_key, anchor.certificate.subject_key
    return wanted is None or there is None or wanted == there


def check_link(certificate: Certificate, issuer: Certificate | Anchor) -> None:
    """Check that an issuer, or a bare key as anchor, signed a certificate.

    Raises: as `validate_path`.
    """
    wanted = certificate.authority_key
    there = issuer.subject_key if isinstance(issuer, Certificate) else wanted
    if wanted is None or wanted != there:
        named, found = (key.hex() if key else "none" for key in (wanted, there))
        raise Untrusted(
            "untrusted.key-identifier",
            f'certificate "{certificate.name}" names issuer key {named}, the issuer has {found}',
            expected=named,
            found=found,
        )
    check_key(issuer, MIN_CA_RSA_BITS)
    if not signature_valid(certificate.signed, issuer.key):
        raise Tampered(
            "tampered.certificate",
            f'the signature of certificate "{certificate.name}" does not verify under '
            f'the key of "{issuer.name}"',
        )
