# SPDX-License-Identifier: Apache-2.0
"""The rules for a CA and for a leaf, as profile and use demand.

The rules are the same for every use of the leaf; `USES` holds all differences between the uses.
The verifier itself asks for codeSigning, configSigning and timeStamping; receipts and
`fwsign pki verify` also ask for the TLS uses.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fwsign.errors import Code, Malformed, Untrusted
from fwsign.format.algorithms import PATH_KEYS
from fwsign.format.cose import MIN_RSA_BITS, allowed_rsa_size, key_kind, key_name
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate
from fwsign.x509.constraints import check_constraints, host_names

Profile: TypeAlias = Literal["strict", "compat"]
Use: TypeAlias = Literal[
    "codeSigning", "configSigning", "timeStamping", "serverAuth", "clientAuth", "keyAgreement"
]

CONFIG_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.41")
"""id-kp-configSigning of RFC 9809: what a channel says is configuration of devices."""
MIN_CA_RSA_BITS: Final = 2048
"""Old roots have these keys; they retire with the root."""


class UseRules(NamedTuple):
    """The rules that differ between the uses of a leaf.

    Args:
        usage: the extended key usage that the leaf needs, and CAs that limit theirs; None: the
            leaf has none, and so gets nothing from a CA that a limit could withhold.
        words: the use, for people.
        signs: what the leaf signs, for people.
        alone: the leaf has only this extended key usage, critical in either profile.
        critical: extended key usage is critical in leaf and CAs; compat forgives that.
        key_usage: a leaf without key usage is refused.
        rsa_bits: the smallest RSA key of a leaf.
        bare_anchor: the anchor may be a bare key.
        bare_signer: a pinned bare key may sign by itself.
        host: the leaf names a host, in its subject alternative name.
    """

    usage: x509.ObjectIdentifier | None
    words: str
    signs: str
    alone: bool = False
    critical: bool = False
    key_usage: bool = True
    rsa_bits: int = MIN_RSA_BITS
    bare_anchor: bool = True
    bare_signer: bool = False
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
            ExtendedKeyUsageOID.CODE_SIGNING,
            "code signing",
            "releases",
            critical=True,
            bare_signer=True,
        ),
        # Alone: the person who rolls out cannot sign firmware. A bare key says nothing of its use,
        # so none that is pinned for releases can sign channels.
        "configSigning": UseRules(
            CONFIG_SIGNING, "channels", "channels", alone=True, critical=True
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
        # A key that opens payloads signs nothing: keyAgreement is all that it has.
        "keyAgreement": UseRules(None, "encryption", "anything"),
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

    Raises: as `fwsign.x509.chain.validate_path`.
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
    if extended is None or rules.usage is None:
        return ()
    if {rules.usage, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}.isdisjoint(extended.value):
        raise Untrusted("untrusted.eku", f'CA "{ca.name}" may not issue for {rules.words}')
    return _check_criticality(ca, extended, profile) if rules.critical else ()


def check_leaf(leaf: Certificate, *, profile: Profile, use: Use) -> tuple[str, ...]:
    """Check that the leaf is for this use and is no CA; return the faults that compat forgives.

    Raises: as `fwsign.x509.chain.validate_path`.
    """
    rules = USES[use]
    check_key(leaf, rules.rsa_bits)
    _check_extensions(leaf)
    basic = leaf.extension(x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        raise Untrusted(
            "untrusted.ca-as-leaf", f'"{leaf.name}" is a CA, it may not sign {rules.signs}'
        )
    if rules.usage is None:
        return _check_group(leaf)
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


_OTHER_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_cert_sign",
    "crl_sign",
)


def _check_group(leaf: Certificate) -> tuple[str, ...]:
    """Check that a leaf's key agrees on keys, and does nothing else."""
    usage = leaf.extension(x509.KeyUsage)
    alone = usage is not None and not any(getattr(usage.value, one) for one in _OTHER_USAGES)
    if usage is None or not usage.value.key_agreement or not alone:
        raise Untrusted(
            "untrusted.key-usage",
            f'key usage of "{leaf.name}" must be keyAgreement and nothing else',
        )
    extended = leaf.extension(x509.ExtendedKeyUsage)
    if extended is not None:
        found = ", ".join(one.dotted_string for one in extended.value)
        raise Untrusted(
            "untrusted.eku",
            f'extended key usage of "{leaf.name}" is {found}, expected none for encryption',
            expected="none",
            found=found,
        )
    return ()


def _check_criticality(
    certificate: Certificate, extended: x509.Extension[x509.ExtendedKeyUsage], profile: Profile
) -> tuple[str, ...]:
    if extended.critical:
        return ()
    return _forgive(f'extended key usage of "{certificate.name}" is not critical', profile)


def check_key(certificate: Certificate | Anchor, least_rsa: int) -> None:
    """Check the kind of a key, and the size in bits if it is RSA.

    Raises:
        Untrusted: `untrusted.algorithm`.
    """
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
