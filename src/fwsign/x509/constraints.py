# SPDX-License-Identifier: Apache-2.0
"""Name constraints on DNS and directory names (RFC 5280 section 4.2.1.10)."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from cryptography import x509

from fwsign.errors import Untrusted, check_limit
from fwsign.x509 import der
from fwsign.x509.certificate import MAX_ATTRIBUTES, Certificate

MAX_NAMES: Final = 64
"""Alternative names of one certificate under a CA with constraints."""
MAX_SUBTREES: Final = 64
"""Name constraints of one CA."""

_HOST_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_BASE: Final = re.compile(rf"(?=.{{0,253}}$)({_HOST_LABEL}(\.{_HOST_LABEL})*)?")
"""A DNS constraint: a domain, or the empty text, which stands for every domain."""
_HOST: Final = re.compile(rf"(?=.{{1,253}}$)(\*\.)?{_HOST_LABEL}(\.{_HOST_LABEL})*")
"""A dNSName that can be compared; a wildcard stands for one label below a domain."""
_Folded: TypeAlias = tuple[frozenset[tuple[str, str]], ...]
_NAME_CONSTRAINTS: Final = bytes.fromhex("551d1e")
MAX_DOMAIN: Final = 253
"""Octets, so that the wire form fits the 255 of RFC 1035 section 2.3.4."""
_LABEL: Final = re.compile(
    r"(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?|xn--[a-z0-9-]{0,58}[a-z0-9]"
)


def is_label(text: str) -> bool:
    """Tell whether a text is an LDH label in lower case, or an A-label (RFC 5890 section 2.3.1)."""
    return _LABEL.fullmatch(text) is not None


def is_domain(name: str) -> bool:
    """Tell whether a name is a domain of lower-case A-labels, two or more, no wildcard.

    A last label of digits is an address (RFC 1123 section 2.1).
    """
    labels = name.split(".") if len(name) <= MAX_DOMAIN else []
    return len(labels) > 1 and all(map(is_label, labels)) and not labels[-1].isdigit()


def dns_names(certificate: Certificate) -> list[str]:
    """Return the dNSNames of the subject alternative name, unchanged."""
    return _alternative(certificate, x509.DNSName)


def host_names(certificate: Certificate) -> list[x509.DNSName | x509.IPAddress]:
    """Return the DNS names and IP addresses of the subject alternative name, in their order."""
    found = certificate.extension(x509.SubjectAlternativeName)
    names = found.value if found else ()
    return [one for one in names if isinstance(one, (x509.DNSName, x509.IPAddress))]


def check_constraints(ca: Certificate, below: Sequence[Certificate]) -> None:
    """Hold all certificates below a CA to its name constraints.

    Raises:
        Untrusted: `untrusted.name-constraint`; also for a constraint on names that are neither
            DNS nor directory names, for a DNS constraint that is not a domain, and for a name
            that is under a constraint and cannot be compared with it.
        Malformed: `malformed.size`.
    """
    found = ca.extension(x509.NameConstraints)
    if found is None:
        return
    names = [_names_of(certificate) for certificate in below]
    # cryptography drops minimum and maximum, which RFC 5280 forbids: they narrow a subtree.
    written = dict(der.certificate_fields(ca.signed.tbs).extensions)
    if found.value.public_bytes() != written[_NAME_CONSTRAINTS]:
        raise _refused(f'CA "{ca.name}" has name constraints with a minimum or maximum')
    permitted = [_supported(base, ca) for base in found.value.permitted_subtrees or ()]
    excluded = [_supported(base, ca) for base in found.value.excluded_subtrees or ()]
    who, count = f'CA "{ca.name}"', len(permitted) + len(excluded)
    check_limit(count, MAX_SUBTREES, f"{who} has {count} name constraints")
    allowed, refused = (
        {_fold(one, who) for one in _directories(bases)} for bases in (permitted, excluded)
    )
    for one in names:
        _check_domains(who, one.owner, one.dns, _domains(permitted), _domains(excluded))
        _check_directories(who, one, _directories(permitted), allowed, refused)


class _Names(NamedTuple):
    """The names of a certificate that constraints bind; an empty subject does not count."""

    owner: str
    dns: list[str]
    directory: list[x509.Name]


def _names_of(certificate: Certificate) -> _Names:
    subject, owner, dns = certificate.subject, certificate.name, dns_names(certificate)
    more = _alternative(certificate, x509.DirectoryName)
    count = len(dns) + len(more)
    check_limit(count, MAX_NAMES, f'certificate "{owner}" has {count} names under constraints')
    return _Names(owner, dns, [*([subject] if subject.rdns else []), *more])


def _domains(bases: Sequence[x509.GeneralName]) -> list[str]:
    return [base.value for base in bases if isinstance(base, x509.DNSName)]


def _directories(bases: Sequence[x509.GeneralName]) -> list[x509.Name]:
    return [base.value for base in bases if isinstance(base, x509.DirectoryName)]


def check_vendors(anchor: str, vendors: Sequence[str], leaf: Certificate) -> None:
    """Hold a leaf to the vendor domains that an anchor was enrolled with (RFC 5937 section 2).

    Raises:
        Untrusted: `untrusted.name-constraint`.
    """
    _check_domains(f'anchor "{anchor}"', leaf.name, dns_names(leaf), vendors, ())


def permits(ca: Certificate, domain: str) -> bool:
    """Tell whether a CA's name constraints permit a domain; they were checked before."""
    found = ca.extension(x509.NameConstraints)
    if found is None:
        return True
    bases = (found.value.permitted_subtrees or (), found.value.excluded_subtrees or ())
    try:
        _check_domains(ca.name, domain, [domain], *map(_domains, bases))
    except Untrusted:
        return False
    return True


def within_domain(name: str, domain: str) -> bool:
    """Tell whether a DNS name is a domain or below it; the empty domain holds all."""
    name, domain = name.lower(), domain.lower()
    return domain in ("", name) or name.endswith("." + domain)


def _check_domains(
    who: str,
    owner: str,
    names: Iterable[str],
    permitted: Collection[str],
    excluded: Collection[str],
) -> None:
    if not permitted and not excluded:
        return
    allowed, refused = ({base.lower() for base in bases} for bases in (permitted, excluded))
    reached = {f"*.{above}" for base in refused for above in _domains_above(base)[1:]}
    for name in names:
        above = _domains_above(name.lower())
        inside = not permitted or not allowed.isdisjoint(above)
        # A wildcard also covers an excluded name just below its domain. And an odd name must not
        # mean another domain to a program that reads it differently.
        free = refused.isdisjoint(above) and name.lower() not in reached
        if not (inside and free and _HOST.fullmatch(name)):
            raise _outside(who, owner, _quoted(name), map(_quoted, permitted))


def _domains_above(name: str) -> list[str]:
    """Return a name, all domains above it, and the empty domain, which holds all."""
    labels = name[:MAX_DOMAIN].split(".")
    return [*(".".join(labels[begin:]) for begin in range(len(labels))), ""]


def _check_directories(
    who: str,
    names: _Names,
    permitted: Iterable[x509.Name],
    allowed: set[_Folded],
    refused: set[_Folded],
) -> None:
    lengths = {len(base) for base in allowed | refused}
    if not lengths:
        return
    # A name that cannot be compared is refused first, wherever it stands.
    every = [_fold(name, f'certificate "{names.owner}"') for name in names.directory]
    for name, folded in zip(names.directory, every, strict=True):
        above = {folded[:length] for length in lengths}
        inside = not allowed or not allowed.isdisjoint(above)
        if not (inside and refused.isdisjoint(above)):
            shown = [_quoted(base.rfc4514_string()) for base in permitted]
            raise _outside(who, names.owner, _quoted(name.rfc4514_string()), shown)


def _supported(base: x509.GeneralName, ca: Certificate) -> x509.GeneralName:
    if isinstance(base, x509.DirectoryName) or (
        isinstance(base, x509.DNSName) and _BASE.fullmatch(base.value)
    ):
        return base
    raise _refused(
        f'CA "{ca.name}" has a name constraint that is not supported: {base!r}',
        expected="a domain or a directory name",
        found=repr(base),
    )


def _fold(name: x509.Name, whose: str) -> _Folded:
    """Return a directory name in comparable form: RFC 5280 section 7.1, RFC 4518 section 2.

    The form ignores letter case, runs of spaces and compatible forms of letters. Text with
    invisible characters, which some programs skip, and values that are not text are refused.
    """
    count = sum(map(len, name.rdns))
    check_limit(count, MAX_ATTRIBUTES, f"{whose} has a name of {count} attributes")
    return tuple(
        frozenset((one.oid.dotted_string, _prepared(one, whose)) for one in rdn)
        for rdn in name.rdns
    )


def _prepared(attribute: "x509.NameAttribute[Any]", whose: str) -> str:
    value = attribute.value
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return " ".join(value.casefold().split())
    text = value if isinstance(value, str) else ""
    prepared = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not prepared or any(unicodedata.category(one)[0] == "C" for one in prepared):
        raise _refused(
            f"{whose} has a name that cannot be compared: {value!r}",
            expected="printable text",
            found=repr(value),
        )
    return " ".join(prepared.split())


def _outside(who: str, owner: str, name: str, permitted: Iterable[str]) -> Untrusted:
    allowed = ", ".join(permitted) or "other names"
    message = f'{who} permits {allowed}, certificate "{owner}" is for {name}'
    return _refused(message, expected=allowed, found=name)


def _refused(message: str, *, expected: str | None = None, found: str | None = None) -> Untrusted:
    return Untrusted("untrusted.name-constraint", message, expected=expected, found=found)


def _alternative(certificate: Certificate, kind: Any) -> list[Any]:
    found = certificate.extension(x509.SubjectAlternativeName)
    return list(found.value.get_values_for_type(kind)) if found else []


def _quoted(name: str) -> str:
    return f'"{name}"'
