# SPDX-License-Identifier: Apache-2.0
"""Certification paths: linear and strict (RFC 5280 section 6.1, RFC 5937).

The path is the x5chain in its order; nothing is searched. `fwsign pki` writes `strict` paths.
`compat` forgives three habits of older tools and names each in the result: basicConstraints or
extended key usage that is not critical, a CA without key usage, a CRL without number.

The rules depart from RFC 5280 in four points, and each is stricter: self-issued certificates count
for the path length and are subject to name constraints; names are compared as they are, without
case folding, except in name constraints; a constraint on anything but DNS and directory names
refuses the path; policy extensions are not processed, so a critical one refuses the path.

The rules are the same for every use of the leaf; `USES` holds all differences between the uses.
The verifier itself asks for codeSigning and timeStamping; receipts and `fwsign pki verify` also ask
for the TLS uses.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fwsign.errors import Code, Malformed, Stale, Tampered, Untrusted
from fwsign.format.algorithms import PATH_KEYS
from fwsign.format.cose import MIN_RSA_BITS, allowed_rsa_size, key_kind, key_name
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import (
    Certificate,
    display_name,
    parse_certificate,
    signature_valid,
)
from fwsign.x509.constraints import (
    check_constraints,
    check_vendors,
    dns_names,
    host_names,
    is_domain,
)

Profile: TypeAlias = Literal["strict", "compat"]
Use: TypeAlias = Literal["codeSigning", "timeStamping", "serverAuth", "clientAuth"]

MIN_CA_RSA_BITS: Final = 2048
"""Old roots have these keys; they retire with the root."""


class UseRules(NamedTuple):
    """The rules that differ between the uses of a leaf.

    Args:
        usage: the extended key usage that the leaf needs, and CAs that limit theirs.
        words: the use, for people.
        signs: what the leaf signs, for people.
        alone: the leaf has only this extended key usage, critical in either profile.
        critical: extended key usage is critical in leaf and CAs; compat forgives that.
        key_usage: a leaf without key usage is refused.
        rsa_bits: the smallest RSA key of a leaf.
        bare_anchor: the anchor may be a bare key.
        host: the leaf names a host, in its subject alternative name.
    """

    usage: x509.ObjectIdentifier
    words: str
    signs: str
    alone: bool = False
    critical: bool = False
    key_usage: bool = True
    rsa_bits: int = MIN_RSA_BITS
    bare_anchor: bool = True
    host: bool = False


_TLS: Final = UseRules(
    ExtendedKeyUsageOID.CLIENT_AUTH,
    "TLS clients",
    "TLS handshakes",
    key_usage=False,  # RFC 5280 section 4.2.1.3 leaves it to the CA
    rsa_bits=MIN_CA_RSA_BITS,
    bare_anchor=False,
)
USES: Final[Mapping[Use, UseRules]] = MappingProxyType(
    {
        "codeSigning": UseRules(
            ExtendedKeyUsageOID.CODE_SIGNING, "code signing", "releases", critical=True
        ),
        # RFC 3161 section 2.3: critical and alone in the leaf, so compat forgives nothing here.
        # Public CAs for time stamps leave their own usage uncritical, as RFC 5280 allows.
        "timeStamping": UseRules(
            ExtendedKeyUsageOID.TIME_STAMPING, "time stamping", "time stamps", alone=True
        ),
        "clientAuth": _TLS,
        "serverAuth": _TLS._replace(
            usage=ExtendedKeyUsageOID.SERVER_AUTH, words="TLS servers", host=True
        ),
    }
)
_KNOWN_EXTENSIONS: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
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
    forgiven += _check_leaf(certificates[0], use, profile)
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
        first, last = (
            certificate.parsed.not_valid_before_utc,
            certificate.parsed.not_valid_after_utc,
        )
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
    _check_key(issuer, MIN_CA_RSA_BITS)
    if not signature_valid(certificate.signed, issuer.key):
        raise Tampered(
            "tampered.certificate",
            f'the signature of certificate "{certificate.name}" does not verify under '
            f'the key of "{issuer.name}"',
        )


def check_ca(
    ca: Certificate, below: Sequence[Certificate], *, profile: Profile, use: Use
) -> tuple[str, ...]:
    """Check that a CA, anchor or not, may issue the certificates below it.

    Args:
        ca: the CA.
        below: the certificates below it in the path, leaf first.
        profile: `strict` or `compat`.
        use: what the leaf is used for.

    Returns:
            The faults that compat forgives.

    Raises: as `validate_path`.
    """
    if not ca.subject.rdns:  # RFC 5280 section 4.1.2.6
        raise Untrusted("untrusted.issuer", "a CA without a name has issued a certificate")
    _check_extensions(ca)
    basic = ca.extension(x509.BasicConstraints)
    if basic is None or not basic.value.ca:
        raise Untrusted(
            "untrusted.issuer", f'certificate "{ca.name}" is not a CA, but has issued another'
        )
    forgiven: tuple[str, ...] = ()
    if not basic.critical:
        forgiven += _forgive(f'basicConstraints of CA "{ca.name}" is not critical', profile)
    limit, authorities = basic.value.path_length, len(below) - 1
    if limit is not None and authorities > limit:
        raise Untrusted(
            "untrusted.path-length",
            f'CA "{ca.name}" allows {limit} CAs below it, the path has {authorities}',
            expected=limit,
            found=authorities,
        )
    usage = ca.extension(x509.KeyUsage)
    if usage is None:
        what = f'CA "{ca.name}" has no key usage'
        forgiven += _forgive(what, profile, "untrusted.key-usage")
    elif not usage.value.key_cert_sign:
        raise Untrusted("untrusted.key-usage", f'key usage of CA "{ca.name}" lacks keyCertSign')
    forgiven += _check_ca_usage(ca, USES[use], profile)
    check_constraints(ca, below)
    return forgiven


def _check_ca_usage(ca: Certificate, rules: UseRules, profile: Profile) -> tuple[str, ...]:
    """Check that a CA may issue certificates for a use."""
    extended = ca.extension(x509.ExtendedKeyUsage)
    if extended is None:
        return ()
    if {rules.usage, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}.isdisjoint(extended.value):
        raise Untrusted("untrusted.eku", f'CA "{ca.name}" may not issue for {rules.words}')
    return _check_criticality(ca, extended, profile) if rules.critical else ()


def _check_leaf(leaf: Certificate, use: Use, profile: Profile) -> tuple[str, ...]:
    """Check that the leaf is for this use and is no CA; return the faults forgiven."""
    rules = USES[use]
    _check_key(leaf, rules.rsa_bits)
    _check_extensions(leaf)
    basic = leaf.extension(x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        raise Untrusted(
            "untrusted.ca-as-leaf", f'"{leaf.name}" is a CA, it may not sign {rules.signs}'
        )
    usage = leaf.extension(x509.KeyUsage)
    fine = not rules.key_usage
    if usage is not None:
        fine = usage.value.digital_signature and not usage.value.key_cert_sign
    if not fine:
        raise Untrusted(
            "untrusted.key-usage",
            f'key usage of "{leaf.name}" must have digitalSignature and not keyCertSign',
        )
    if rules.host and not host_names(leaf):
        raise Untrusted("untrusted.vendor", f'"{leaf.name}" names no DNS name and no IP address')
    extended = leaf.extension(x509.ExtendedKeyUsage)
    usages = tuple(extended.value) if extended else ()
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages:
        raise Untrusted("untrusted.eku", f'"{leaf.name}" is for any use, expected {use}')
    if extended is None or rules.usage not in usages or (rules.alone and len(usages) > 1):
        found = ", ".join(usage.dotted_string for usage in usages) or "none"
        wanted = f"{use} alone" if rules.alone else use
        raise Untrusted(
            "untrusted.eku",
            f'extended key usage of "{leaf.name}" is {found}, expected {wanted}',
            expected=wanted,
            found=found,
        )
    if rules.alone:
        return _check_criticality(leaf, extended, "strict")
    return _check_criticality(leaf, extended, profile) if rules.critical else ()


def _check_criticality(
    certificate: Certificate, extended: x509.Extension[x509.ExtendedKeyUsage], profile: Profile
) -> tuple[str, ...]:
    if extended.critical:
        return ()
    return _forgive(f'extended key usage of "{certificate.name}" is not critical', profile)


def _check_key(certificate: Certificate | Anchor, least_rsa: int) -> None:
    if key_kind(certificate.key) in PATH_KEYS and allowed_rsa_size(certificate.key, least_rsa):
        return
    expected = f"{', '.join(PATH_KEYS)}; RSA of {least_rsa} bits or more"
    raise Untrusted(
        "untrusted.algorithm",
        f'the key of "{certificate.name}" is {key_name(certificate.key)}, expected {expected}',
        expected=expected,
        found=key_name(certificate.key),
    )


def _check_extensions(certificate: Certificate) -> None:
    alternative = certificate.extension(x509.SubjectAlternativeName)
    names = certificate.subject.rdns if alternative is None else list(alternative.value)
    if not names:  # RFC 5280 sections 4.1.2.6 and 4.2.1.6
        raise Malformed("malformed.certificate", "a certificate without subject, or with no name")
    for found in certificate.extensions:
        if found.critical and found.oid not in _KNOWN_EXTENSIONS:
            raise Untrusted(
                "untrusted.extension",
                f'certificate "{certificate.name}" has the critical extension '
                f"{found.oid.dotted_string}, which this verifier does not know",
                found=found.oid.dotted_string,
            )


def _forgive(what: str, profile: Profile, code: Code = "untrusted.criticality") -> tuple[str, ...]:
    """Return a fault that compat forgives; strict refuses it."""
    if profile == "strict":
        raise Untrusted(code, what)
    return (what,)
