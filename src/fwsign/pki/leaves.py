# SPDX-License-Identifier: Apache-2.0
"""The certificates below the CAs (RFC 5280): signers, channels, time stampers, TLS, devices."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from fwsign.errors import Failed
from fwsign.format.algorithms import BLOCK_KEYS
from fwsign.format.cose import MIN_RSA_BITS, allowed_rsa_size, key_kind, key_name, kind_of
from fwsign.format.key_wrap import CURVES, curve_of
from fwsign.keys import DEFAULT_ALGORITHM, asn1
from fwsign.keys.published import refuse_published
from fwsign.pki.certificates import common_name, is_ca
from fwsign.pki.entry_names import TLS
from fwsign.pki.extras import NO_EXTRAS, Extras, extras_of
from fwsign.pki.profiles import NO_END, NO_USAGE, build_certificate, key_identifiers
from fwsign.pki.subjects import organisation_of, subject_name
from fwsign.pki.view.entry import is_group
from fwsign.x509.roles import CONFIG_SIGNING, MIN_CA_RSA_BITS

if TYPE_CHECKING:
    from datetime import datetime

    from fwsign.keys import PublicKey
    from fwsign.pki.profiles import Authority

Address = IPv4Address | IPv6Address

HARDWARE_MODULE: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4")
"""id-on-hardwareModuleName (RFC 4108 s.5)."""
_MIN_EXPONENT = 65537  # FIPS 186-5 A.1.1: greater than 2^16
_LEAF_USAGE: Final = x509.KeyUsage(**{**NO_USAGE, "digital_signature": True})
_GROUP_USAGE: Final = x509.KeyUsage(**{**NO_USAGE, "key_agreement": True})
_RSA_SERVER_USAGE: Final = x509.KeyUsage(
    **{**NO_USAGE, "digital_signature": True, "key_encipherment": True}
)


class LeafKind(NamedTuple):
    """The purpose of a certificate, and its extended key usage; None: it has none."""

    usage: x509.ObjectIdentifier | None
    critical: bool  # not for TLS: some stacks refuse it
    lifetime: timedelta


ENDLESS: Final = timedelta.max
"""The lifetime of a certificate without an end date."""
KINDS: Final = {
    "signer": LeafKind(
        ExtendedKeyUsageOID.CODE_SIGNING, critical=True, lifetime=timedelta(days=730)
    ),
    # RFC 9809: what a channel says is configuration. Its key is in daily use, so it lives shorter.
    "channel": LeafKind(CONFIG_SIGNING, critical=True, lifetime=timedelta(days=365)),
    # The key of a group of devices, to which payloads are encrypted: it agrees, and signs nothing.
    "encryption": LeafKind(None, critical=False, lifetime=timedelta(days=730)),
    # RFC 3161 s.2.3: timeStamping alone, and critical. Tokens must outlast many signers.
    "tsa": LeafKind(
        ExtendedKeyUsageOID.TIME_STAMPING, critical=True, lifetime=timedelta(days=1826)
    ),
    # Browsers and phones accept at most 398 days from a server.
    "server": LeafKind(
        ExtendedKeyUsageOID.SERVER_AUTH, critical=False, lifetime=timedelta(days=397)
    ),
    "client": LeafKind(
        ExtendedKeyUsageOID.CLIENT_AUTH, critical=False, lifetime=timedelta(days=730)
    ),
    # IEEE 802.1AR-2018 s.8: a device is born with it, and it has no end date.
    "idevid": LeafKind(ExtendedKeyUsageOID.CLIENT_AUTH, critical=False, lifetime=ENDLESS),
}
"""The kinds of leaf certificates by their names on the command line."""
SIGNER: Final = KINDS["signer"]


class DeviceIdentity(NamedTuple):
    """The identity of a device (IEEE 802.1AR): its serial number, and its hardware module.

    The module is the type, an OID, and the serial number of RFC 4108 s.5; None if it has none.
    """

    serial_number: str
    hardware: tuple[str, bytes] | None = None


class Leaf(NamedTuple):
    """The content of a leaf's certificate: kind, CN, and the subject alternative name.

    Domains come from `fwsign.names.vendor_domain`: they are the vendors of a signer or channel, or
    a server's hosts.
    """

    kind: str
    name: str
    domains: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    subject: x509.Name | None = None
    """The subject of a renewed certificate, which stays; None: the issuer's O, and the name."""
    peer: bool = False
    """Whether a server is a client, too, as easy-rsa's type serverClient is."""
    device: DeviceIdentity | None = None
    more: Extras = NO_EXTRAS


def leaf_certificate(
    leaf: Leaf, public_key: PublicKey, period: tuple[datetime, datetime], issuer: Authority
) -> x509.Certificate:
    """Make the certificate of a leaf.

    Args:
        leaf: its content.
        public_key: the leaf's public key.
        period: notBefore and notAfter.
        issuer: the CA; a new leaf gets its O.

    Source: RFC 5280 s.4.2.1.3, s.4.2.1.6, s.4.2.1.12; RFC 3161 s.2.3.
    """
    profile = KINDS[leaf.kind]
    # TLS 1.2 may encrypt to a server's RSA key (RFC 5246 s.7.4.2).
    encrypts = leaf.kind == "server" and isinstance(public_key, rsa.RSAPublicKey)
    usages = [profile.usage, KINDS["client"].usage] if leaf.peer else [profile.usage]
    usage = _RSA_SERVER_USAGE if encrypts else _LEAF_USAGE
    if profile.usage is None:
        refuse_other_curve(leaf, public_key)
        usage = _GROUP_USAGE
    extended = [one for one in usages if one is not None]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        *([(x509.ExtendedKeyUsage(extended), profile.critical)] if extended else []),
    ]
    alternative = [
        *(x509.DNSName(domain) for domain in leaf.domains),
        *(x509.IPAddress(address) for address in leaf.addresses),
        *_hardware_names(leaf.device),
    ]
    if alternative:
        extensions.append((x509.SubjectAlternativeName(alternative), False))
    serial_number = leaf.device.serial_number if leaf.device else None
    return build_certificate(
        leaf.subject or subject_name(organisation_of(issuer.certificate), leaf.name, serial_number),
        public_key,
        period,
        (issuer.certificate.subject, issuer.key),
        (*extensions, *key_identifiers(public_key, issuer), *leaf.more.extensions()),
    )


def refuse_other_curve(leaf: Leaf, public_key: PublicKey) -> None:
    """Refuse a group's key to which no payload is encrypted.

    Raises:
        Failed: `key.unsupported`.
    """
    if curve_of(public_key) is None:
        found = key_name(public_key)
        raise Failed(
            "key.unsupported",
            f'the key of "{leaf.name}" is {found}, payloads are encrypted to {CURVES}',
            expected=CURVES,
            found=found,
        )


def _hardware_names(device: DeviceIdentity | None) -> list[x509.OtherName]:
    if device is None or device.hardware is None:
        return []
    kind, serial = device.hardware
    oid = asn1.object_identifier(kind)
    return [x509.OtherName(HARDWARE_MODULE, asn1.sequence(oid, asn1.octets(serial)))]


def device_of(thing: x509.Certificate | x509.CertificateSigningRequest) -> DeviceIdentity | None:
    """Return the identity of a device in a certificate or request; None without serial number.

    Raises:
        ValueError: its hardware module name is not that of RFC 4108.
    """
    found = thing.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    if len(found) != 1:
        return None
    return DeviceIdentity(str(found[0].value), _hardware_of(thing.extensions))


def _hardware_of(extensions: x509.Extensions) -> tuple[str, bytes] | None:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    for name in names.get_values_for_type(x509.OtherName):
        if name.type_id == HARDWARE_MODULE:
            kind, serial = asn1.sequence_parts(name.value)
            if serial.tag != asn1.OCTETS:
                raise ValueError("a hardware module name without its serial number")
            return kind.oid(), serial.content
    return None


def leaf_of(certificate: x509.Certificate) -> Leaf | None:
    """Return the content of a certificate; None for a CA's, or for one of another kind."""
    if is_ca(certificate):
        return None
    try:
        usages = [*certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]
    except x509.ExtensionNotFound:
        if not is_for_group(certificate):
            return None
        usages = []
    peer = set(usages) == {KINDS[kind].usage for kind in TLS}
    usage = usages[0] if len(usages) == 1 else None
    kinds = [kind for kind, one in KINDS.items() if len(usages) < 2 and one.usage == usage]
    if not kinds and not peer:
        return None
    domains, addresses = alternative_names(certificate.extensions)
    leaf = Leaf(
        kinds[0] if kinds else "server",
        common_name(certificate),
        tuple(domain.lower() for domain in domains),
        addresses,
        certificate.subject,
        peer,
        more=extras_of(certificate),
    )
    if leaf.kind == "client" and certificate.not_valid_after_utc == NO_END:
        with suppress(ValueError):
            if (device := device_of(certificate)) is not None:
                return leaf._replace(kind="idevid", device=device)
    return leaf


def is_for_group(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is a group's; see `fwsign.pki.view.entry.is_group`."""
    found = {one.oid: one.value for one in certificate.extensions}
    usage = found.get(ExtensionOID.KEY_USAGE)
    agrees = isinstance(usage, x509.KeyUsage) and is_group(usage, ())
    return agrees and ExtensionOID.EXTENDED_KEY_USAGE not in found


def alternative_names(
    extensions: x509.Extensions,
) -> tuple[tuple[str, ...], tuple[Address, ...]]:
    """Return the domains and addresses in the extensions of a certificate or request."""
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (
        tuple(found.get_values_for_type(x509.DNSName)),
        tuple(one for one in addresses if isinstance(one, (IPv4Address, IPv6Address))),
    )


def check_public_key(
    key: object, what: str, *, compat: bool | None = None, other: str = ""
) -> PublicKey:
    """Return a public key if it is of a kind and strength that fwsign certifies, and no one else's.

    Args:
        key: a key from a request or a key file.
        what: the key's source, for the refusal.
        compat: True accepts RSA of 2048 bits, which the verifier accepts from TLS servers and
            clients; False names the option in a refusal; None: there is none.
        other: the way to another key, for the hint.

    Raises:
        Failed: `key.unsupported`.
        Untrusted: `untrusted.example-key`: its private half is published.
    """
    found: PublicKey = key  # type: ignore[assignment]
    refuse_published(key, what, other or "make another key: fwsign key new")
    weak = isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e < _MIN_EXPONENT
    least = MIN_CA_RSA_BITS if compat else MIN_RSA_BITS
    known = key_kind(found) in BLOCK_KEYS and not weak
    if known and allowed_rsa_size(found, least):
        return found
    expected = f"{', '.join(BLOCK_KEYS)}; RSA of {least} to 8192 bits, e >= 65537"
    name = key_name(found) + (" with a small exponent" if weak else "")
    helps = compat is False and known and allowed_rsa_size(found, MIN_CA_RSA_BITS)
    ways = ["--compat certifies it, for a peer that makes no other"] if helps else []
    raise Failed(
        "key.unsupported",
        f"the key of {what} is {name}, expected {expected}",
        expected=expected,
        found=name,
        hint="; ".join([*ways, *([other] if other else [])]) or None,
    )


def below_strength(key: PublicKey) -> bool:
    """Tell whether only `compat` certifies a key."""
    return not allowed_rsa_size(key)


def default_kdf(kind: str) -> str:
    """Return the derivation that protects a new key of a kind, one of `fwsign.keys.KDFS`.

    GnuTLS and wolfSSL read no scrypt.
    """
    return "pbkdf2" if kind in TLS else "scrypt"


def default_algorithm(issuer: x509.Certificate) -> str:
    """Return the kind of key below an issuer: `p256`, or ML-DSA below ML-DSA.

    A path is as strong as its weakest key, so that another kind would waste the issuer's.
    """
    name = _ml_dsa(issuer)
    return name or DEFAULT_ALGORITHM


def renewed_algorithm(old: x509.Certificate, issuer: x509.Certificate) -> str:
    """Return the kind of a new key in place of an old one: the old kind if it is good enough."""
    name = None if is_for_group(old) else _ml_dsa(old) or _ml_dsa(issuer)
    if name is not None:
        return name
    return _alike(old) or DEFAULT_ALGORITHM


def _ml_dsa(certificate: x509.Certificate) -> str | None:
    kind = kind_of(certificate.public_key())
    return _alike(certificate) if kind and kind.family == "ML-DSA" else None


def _alike(certificate: x509.Certificate) -> str | None:
    """Return the name of a new key like a certificate's, as large if there is such a size."""
    key: Any = certificate.public_key()
    kind = kind_of(key)
    made = [one for one in kind.new if not one.tls_alone] if kind else []
    enough = [one for one in made if not one.bits or one.bits >= key.key_size]
    return next((one.alg for one in (*enough, *reversed(made))), None)
