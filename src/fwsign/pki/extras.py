# SPDX-License-Identifier: Apache-2.0
"""Extensions that an operator adds: where CRLs and CAs are found, and those of other standards.

The verifier fetches nothing, and reads no extension that it does not know: they are for others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from fwsign.errors import Failed
from fwsign.keys import asn1
from fwsign.names import web_address
from fwsign.pki.certificates import issuer_among

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fwsign.pki.directory import Pki
    from fwsign.pki.profiles import Extensions

EXTENSION_LIMIT: Final = 8 * 1024
"""Octets of one added extension: devices read certificates into small memories."""
EXTRAS_LIMIT: Final = 16
"""Added extensions, and addresses of one kind, of one certificate."""
DEPTH_LIMIT: Final = 16
"""Elements within elements of an added extension."""

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,38})){1,31}")
_OWN: Final = {
    ExtensionOID.BASIC_CONSTRAINTS: "basicConstraints",
    ExtensionOID.KEY_USAGE: "keyUsage",
    ExtensionOID.EXTENDED_KEY_USAGE: "extendedKeyUsage",
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: "subjectAltName",
    ExtensionOID.NAME_CONSTRAINTS: "nameConstraints",
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: "subjectKeyIdentifier",
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: "authorityKeyIdentifier",
    ExtensionOID.CRL_DISTRIBUTION_POINTS: "cRLDistributionPoints",
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: "authorityInfoAccess",
}
"""Those that fwsign sets itself."""
_FORMS: Final = {
    0x01: re.compile(rb"\x00|\xff"),
    0x02: re.compile(rb"[\x00-\xff]|\x00[\x80-\xff].*|\xff[\x00-\x7f].*|[^\x00\xff].+", re.DOTALL),
    0x05: re.compile(rb""),
}
"""The contents of BOOLEAN, INTEGER and NULL (X.690 s.8.2, s.8.3, s.8.8, s.11.1)."""
_NEVER_KEPT: Final = ("1.3.6.1.4.1.11129.2.4.", "2.16.840.1.113730.")
"""Beginnings of extensions that belong to one certificate alone: Google's CT, Netscape's."""


class Custom(NamedTuple):
    """An extension by its number; the value is DER, checked by `custom`."""

    oid: str
    value: bytes
    critical: bool = False


class Extras(NamedTuple):
    """The added extensions of a certificate; {ca} in an address stands for the issuer's name."""

    crl_urls: tuple[str, ...] = ()
    ca_issuers_urls: tuple[str, ...] = ()
    custom: tuple[Custom, ...] = ()

    def at(self, ca: str) -> Extras:
        """Return the same with the name of the issuer's entry in each address."""
        return self._replace(
            crl_urls=tuple(url.replace("{ca}", ca) for url in self.crl_urls),
            ca_issuers_urls=tuple(url.replace("{ca}", ca) for url in self.ca_issuers_urls),
        )

    def extensions(self) -> Extensions:
        """Return the extensions of a certificate."""
        found: list[tuple[x509.ExtensionType, bool]] = []
        if names := _addresses(self.crl_urls):
            # Several names of one point are places of the same CRL (RFC 5280 s.4.2.1.13).
            point = x509.DistributionPoint(names, None, None, None)
            found.append((x509.CRLDistributionPoints([point]), False))
        if names := _addresses(self.ca_issuers_urls):
            method = AuthorityInformationAccessOID.CA_ISSUERS
            each = [x509.AccessDescription(method, name) for name in names]
            found.append((x509.AuthorityInformationAccess(each), False))
        for one in self.custom:
            oid = x509.ObjectIdentifier(one.oid)
            found.append((x509.UnrecognizedExtension(oid, one.value), one.critical))
        return tuple(found)


NO_EXTRAS: Final = Extras()


def extras(
    *,
    crl_urls: Iterable[str] = (),
    ca_issuers_urls: Iterable[str] = (),
    custom: Sequence[Custom] = (),
) -> Extras:
    """Return checked extras.

    Raises:
        Failed: `state.policy`: an address that no certificate can have, an extension twice, or
            more than `EXTRAS_LIMIT`.
    """
    found = Extras(
        tuple(dict.fromkeys(map(web_address, crl_urls))),
        tuple(dict.fromkeys(map(web_address, ca_issuers_urls))),
        tuple(custom),
    )
    for number, one in enumerate(found.custom):
        if one.oid in {other.oid for other in found.custom[:number]}:
            raise Failed(
                "state.policy",
                f"extension {one.oid} is given twice",
                expected="each extension once",
                found=one.oid,
            )
    words = ("addresses of CRLs", "addresses of CAs", "extensions")
    for what, count in zip(words, found, strict=True):
        if len(count) > EXTRAS_LIMIT:
            raise Failed(
                "state.policy",
                f"{len(count)} {what}, at most {EXTRAS_LIMIT} are allowed",
                expected=f"at most {EXTRAS_LIMIT}",
                found=len(count),
            )
    return found


def custom(oid: str, value: bytes, what: str, *, critical: bool) -> Custom:
    """Return an added extension after checking it.

    Args:
        oid: its number, dotted.
        value: the content of extnValue, in DER.
        what: the value's source, for refusals.
        critical: whether who does not know it must refuse the certificate.

    Raises:
        Failed: `state.policy`: not a number, or one that fwsign sets itself; `io.format`: not
            DER, too large, or not what the number stands for.
    """
    check_oid(oid)
    if (name := _OWN.get(x509.ObjectIdentifier(oid))) is not None:
        raise Failed(
            "state.policy",
            f"extension {oid} is {name}, which fwsign sets itself",
            expected="another extension",
            found=name,
        )
    if fault := _fault(oid, value):
        raise Failed(
            "io.format",
            f"{what} is no value of extension {oid}: {fault}",
            expected=f"one element in DER, at most {EXTENSION_LIMIT} bytes",
            found=fault,
        )
    return Custom(oid, value, critical)


def carried(pki: Pki, old: x509.Certificate, ca: str, more: Extras) -> Extras:
    """Return the added extensions of a new certificate, by the CA of that name.

    Raises:
        Failed: `state.pki`: the old one names the CRL or certificate of another CA.
    """
    kept = extras_of(old)
    added = {one.oid: one for one in (*kept.custom, *more.custom)}
    found = Extras(
        more.crl_urls or kept.crl_urls,
        more.ca_issuers_urls or kept.ca_issuers_urls,
        tuple(added.values()),
    )
    stale = {
        "--crl-url": (more.crl_urls, kept.crl_urls),
        "--ca-issuers-url": (more.ca_issuers_urls, kept.ca_issuers_urls),
    }
    before = issuer_among(old, ((one, pki.certificate(one)) for one in pki.authorities()))
    for option, (new, urls) in stale.items():
        if before != ca and urls and not new:
            raise Failed(
                "state.pki",
                f'the certificate names {urls[0]}, of the CA that issued it; "{ca}" issues now',
                expected=f'an address of "{ca}"',
                found=urls[0],
                hint=f"{option} gives another one; {{ca}} in it stands for the CA's name",
            )
    return found.at(ca)


def check_oid(text: str) -> str:
    """Return `text` if it is an object identifier in dotted form.

    Raises:
        Failed: `state.policy`.
    """
    if _OID.fullmatch(text) and _is_oid(text):
        return text
    raise Failed(
        "state.policy",
        f'"{text[:80]}" is not an object identifier such as 1.3.6.1.4.1.99999.1',
        expected="numbers with dots between",
        found=text[:80],
    )


def extras_of(certificate: x509.Certificate) -> Extras:
    """Return the added extensions of a certificate, for the next one of the same holder."""
    crls: list[str] = []
    issuers: list[str] = []
    added: list[Custom] = []
    for one in certificate.extensions:
        value, oid = one.value, one.oid.dotted_string
        if isinstance(value, x509.CRLDistributionPoints):
            names = [name for point in value for name in point.full_name or ()]
            crls += _uris(names)
        elif isinstance(value, x509.AuthorityInformationAccess):
            method = AuthorityInformationAccessOID.CA_ISSUERS
            issuers += _uris(each.access_location for each in value if each.access_method == method)
        elif one.oid not in _OWN and not oid.startswith(_NEVER_KEPT):
            added.append(Custom(oid, value.public_bytes(), one.critical))
    return Extras(tuple(crls), tuple(issuers), tuple(added))


def _uris(names: Iterable[x509.GeneralName]) -> list[str]:
    return [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]


def _addresses(urls: Iterable[str]) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(url) for url in urls]


def _is_oid(text: str) -> bool:
    try:
        x509.ObjectIdentifier(text)
    except ValueError:
        return False
    return True


def _fault(oid: str, value: bytes) -> str:
    """Return the reason why bytes are not the value of an extension; empty if they are."""
    if len(value) > EXTENSION_LIMIT:
        return f"it has {len(value)} bytes, at most {EXTENSION_LIMIT} are allowed"
    if value[:5] == b"-----" or not value:
        return "it is PEM, not DER" if value else "it is empty"
    try:
        if _count(value, DEPTH_LIMIT) != 1:
            return "it is more than one element"
        _read_back(oid, value)
    except (ValueError, TypeError, OverflowError) as error:
        return str(error)[:200]
    return ""


def _count(data: bytes, depth: int) -> int:
    """Count the elements in DER, after checking their lengths, and those of the inner ones."""
    if depth == 0:
        raise ValueError(f"more than {DEPTH_LIMIT} elements within each other")
    found = asn1.elements(data)
    for one in found:
        if one.whole != asn1.tlv(one.tag, one.content):
            raise ValueError("a length that is not the shortest: BER, not DER")
        if one.tag & 0x1F == 0x1F or one.tag == 0:
            raise ValueError("a tag that extensions do not have")
        if one.tag & 0x20:
            _count(one.content, depth - 1)
        elif one.tag in _FORMS and not _FORMS[one.tag].fullmatch(one.content):
            raise ValueError("a BOOLEAN, INTEGER or NULL that is not in DER")
    return len(found)


def _read_back(oid: str, value: bytes) -> None:
    """Refuse what cryptography cannot read: such a certificate would make the PKI unreadable."""
    key = ec.generate_private_key(ec.SECP256R1())  # for a request that nobody sees
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    made = builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())
    try:
        _ = made.extensions
    except ValueError:  # its words are for programmers
        raise ValueError("it is not what that number stands for") from None
