# SPDX-License-Identifier: Apache-2.0
"""The values of extensions as text for people."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from fwsign.format.library import utc
from fwsign.keys import asn1
from fwsign.pki.view.lenient import name_text
from fwsign.pki.view.words import attempt, oid_name, shown_serial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fwsign.pki.view.extensions import Extension, Extensions

_EXPIRED_CERTS: Final = "2.5.29.60"  # X.509 s.9.5.2.8
_USAGES: Final = (
    ("digital_signature", "digital signature"),
    ("content_commitment", "content commitment"),
    ("key_encipherment", "key encipherment"),
    ("data_encipherment", "data encipherment"),
    ("key_agreement", "key agreement"),
    ("key_cert_sign", "certificate sign"),
    ("crl_sign", "CRL sign"),
    ("encipher_only", "encipher only"),
    ("decipher_only", "decipher only"),
)
_NAMES: Final = {"2.5.29.17", "2.5.29.18"}  # alternative names of subject and issuer
_SUBJECT_NAMES: Final = "2.5.29.17"
_STRINGS: Final = {0x0C, 0x13, 0x14, 0x16, 0x1A}
_TAGS: Final = {0x81: "email", 0x82: "DNS", 0x86: "URI"}


def extension_name(oid: x509.ObjectIdentifier) -> str:
    """Return the name of an extension."""
    return "expiredCertsOnCRL" if oid.dotted_string == _EXPIRED_CERTS else oid_name(oid)


def value_text(found: Extension) -> Any:
    """Return the value of an extension: a text, number, list or dict of them."""
    if found.fault is None:
        return attempt(lambda: _value(found.value))
    told = f"cannot be read: {found.fault}"
    if found.oid.dotted_string in _NAMES and (read := _raw_names(found)):
        return ", ".join(read)
    return f"{told} ({found.content.hex()})"


def _raw_names(found: Extension) -> tuple[str, ...]:
    try:
        return tuple(_raw_name(one) for one in asn1.sequence_parts(found.content))
    except ValueError:
        return ()


def _raw_name(element: asn1.Element) -> str:
    """Return a GeneralName that cryptography does not read."""
    if element.tag in _TAGS:
        text = element.content.decode("utf-8", "backslashreplace")
        return f"{_TAGS[element.tag]}:{text}"
    if element.tag == 0x87:
        size = len(element.content)
        if size not in (4, 16):
            return f"IP:cannot be read: {size} bytes ({element.content.hex()})"
        return f"IP:{ip_address(element.content)}"
    if element.tag == 0xA4:
        return f"directory:{attempt(lambda: name_text(element.parts()[0]))}"
    words = {0xA0: "other", 0xA3: "x400Address", 0xA5: "ediPartyName", 0x88: "RID"}
    return f"{words.get(element.tag, f'type {element.tag:02x}')}:{element.content.hex()}"


def _value(value: Any) -> Any:  # noqa: C901 - one line for each kind
    match value:
        case x509.BasicConstraints():
            length = "" if value.path_length is None else f", path length {value.path_length}"
            return f"CA {value.ca}{length}"
        case x509.KeyUsage():
            return ", ".join(used_for(value))
        case x509.ExtendedKeyUsage():
            return ", ".join(map(oid_name, value))
        case x509.SubjectAlternativeName() | x509.IssuerAlternativeName():
            return names_text(value)
        case x509.CertificateIssuer():
            return names_text(value)
        case x509.SubjectKeyIdentifier():
            return value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            return _authority(value)
        case x509.NameConstraints():
            subtrees = (value.permitted_subtrees, value.excluded_subtrees)
            return {
                word: names_text(names)
                for word, names in zip(("permitted", "excluded"), subtrees, strict=True)
                if names
            }
        case x509.AuthorityInformationAccess() | x509.SubjectInformationAccess():
            return [
                f"{oid_name(one.access_method)} {general_name(one.access_location)}"
                for one in value
            ]
        case x509.CRLDistributionPoints() | x509.FreshestCRL():
            return [_point(one) for one in value]
        case x509.IssuingDistributionPoint():
            return _issuing_point(value)
        case x509.CertificatePolicies():
            return [_policy(one) for one in value]
    return _small_value(value)


def _small_value(value: Any) -> Any:
    match value:
        case x509.CRLNumber() | x509.DeltaCRLIndicator():
            return value.crl_number
        case x509.CRLReason():
            return value.reason.value
        case x509.InvalidityDate():
            return utc(value, "invalidity_date").isoformat()
        case x509.PrecertificateSignedCertificateTimestamps() | x509.SignedCertificateTimestamps():
            return [_timestamp(one) for one in value]
        case x509.PolicyConstraints():
            return _pairs(
                ("explicit policy after", value.require_explicit_policy),
                ("no mapping after", value.inhibit_policy_mapping),
            )
        case x509.InhibitAnyPolicy():
            return f"after {value.skip_certs}"
        case x509.TLSFeature():
            return ", ".join(one.name.replace("_", " ") for one in value)
        case x509.PrecertPoison() | x509.OCSPNoCheck():
            return "present"
        case x509.UnrecognizedExtension():
            return _other(value.oid, value.value)
    return _late_value(value)


def _late_value(value: Any) -> Any:
    """Return the value of an extension whose type not all versions of cryptography have."""
    match type(value).__name__:
        case "PrivateKeyUsagePeriod":
            return _pairs(("from", value.not_before), ("until", value.not_after))
        case "MSCertificateTemplate":
            return _pairs(
                (value.template_id.dotted_string, value.major_version),
                ("minor", value.minor_version),
            )
        case "Admissions":
            return [
                ", ".join(info.profession_items)
                for admission in value
                for info in admission.profession_infos
            ]
    content: bytes = value.public_bytes()  # a kind that cryptography learnt later
    return content.hex()


def _pairs(*pairs: tuple[str, object]) -> str:
    return ", ".join(f"{word} {value}" for word, value in pairs if value is not None)


def used_for(usage: x509.KeyUsage) -> tuple[str, ...]:
    """Return the words for a key usage."""
    # cryptography raises for the last two where there is no key agreement.
    known = _USAGES if usage.key_agreement else _USAGES[:-2]
    return tuple(word for name, word in known if getattr(usage, name))


def general_name(name: x509.GeneralName) -> str:
    """Return a name with its type, as in "DNS:acme.example"."""
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.DirectoryName():
            return f"directory:{name.value.rfc4514_string()}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.RegisteredID():
            return f"RID:{name.value.dotted_string}"
        case x509.OtherName():
            return f"other:{name.type_id.dotted_string} {_plain(name.value)}"
    return f"name of another type:{name.value}"


def _plain(value: bytes) -> str:
    """Return a string in DER as text, other DER in hex."""
    try:
        (one,) = asn1.elements(value)
        text = one.content.decode() if one.tag in _STRINGS else ""
    except (ValueError, UnicodeDecodeError):
        text = ""
    return text if text.isprintable() and text else value.hex()


def subtrees(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    """Return the names for a list that is mostly of domains, which need no type there."""
    return tuple(map(_untyped, map(general_name, names)))


def _untyped(name: str) -> str:
    bare = name.removeprefix("DNS:")
    return name if ":" in bare else bare  # what looks like a type keeps its own


def names_of(extensions: Extensions) -> tuple[str, ...]:
    """Return the alternative names of a certificate, as `subtrees` has them."""
    for one in extensions.each:
        if one.oid.dotted_string == _SUBJECT_NAMES:
            if one.fault is None:
                return subtrees(one.value)
            return tuple(map(_untyped, _raw_names(one)))
    return ()


def names_text(names: Iterable[x509.GeneralName]) -> str:
    """Return general names in one line, each with its type."""
    return ", ".join(map(general_name, names))


def _authority(value: x509.AuthorityKeyIdentifier) -> str:
    key = value.key_identifier
    found = [key.hex()] if key is not None else ["by name"]
    if value.authority_cert_issuer:
        found.append(f"issuer {names_text(value.authority_cert_issuer)}")
    if value.authority_cert_serial_number is not None:
        found.append(f"serial {shown_serial(value.authority_cert_serial_number)}")
    return ", ".join(found)


def _reasons(reasons: Iterable[x509.ReasonFlags] | None) -> str:
    return f" for {', '.join(sorted(one.value for one in reasons))}" if reasons else ""


def _point(point: x509.DistributionPoint) -> str:
    found = names_text(point.full_name or ())
    if point.relative_name is not None:
        found = f"relative {point.relative_name.rfc4514_string()}"
    by = f" by {names_text(point.crl_issuer)}" if point.crl_issuer else ""
    return f"{found}{_reasons(point.reasons)}{by}".strip()


def _issuing_point(point: x509.IssuingDistributionPoint) -> str:
    found = [names_text(point.full_name)] if point.full_name else []
    if point.relative_name is not None:
        found.append(f"relative {point.relative_name.rfc4514_string()}")
    if point.only_some_reasons:
        found.append(f"only{_reasons(point.only_some_reasons)}")
    flags = (
        (point.only_contains_user_certs, "only user certificates"),
        (point.only_contains_ca_certs, "only CA certificates"),
        (point.only_contains_attribute_certs, "only attribute certificates"),
        (point.indirect_crl, "indirect"),
    )
    return ", ".join([*found, *(text for given, text in flags if given)])


def _policy(policy: x509.PolicyInformation) -> str:
    found = [oid_name(policy.policy_identifier)]
    for one in policy.policy_qualifiers or ():
        if isinstance(one, str):
            found.append(f"CPS {one}")
            continue
        found += [f'notice "{one.explicit_text}"'] if one.explicit_text else []
        if one.notice_reference:
            numbers = ", ".join(map(str, one.notice_reference.notice_numbers))
            found.append(f"notice {numbers} of {one.notice_reference.organization}")
    return ", ".join(found)


def _timestamp(one: Any) -> str:
    at = attempt(one.timestamp.isoformat)
    kind = attempt(lambda: one.entry_type.name.lower().replace("_", " "))
    return f"log {one.log_id.hex()}, {at}, {kind}"


def _other(oid: x509.ObjectIdentifier, value: bytes) -> str:
    if oid.dotted_string == _EXPIRED_CERTS:  # a GeneralizedTime
        return value[2:].decode("ascii", "backslashreplace")
    return value.hex()
