# SPDX-License-Identifier: Apache-2.0
"""Name constraints on DNS and directory names (RFC 5280 section 4.2.1.10)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cryptography import x509

from fwsign.certificate import Certificate
from fwsign.errors import Untrusted

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
    """Return the dNSNames of the subject alternative name, as they stand there."""
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
            DNS nor directory names, and for a DNS constraint that is not a domain.
    """
    found = ca.extension(x509.NameConstraints)
    if found is None:
        return
    # Not parsed, but RFC 5280 forbids them: minimum and maximum, which would narrow a subtree.
    if found.value.public_bytes() not in ca.signed.tbs:
        raise Untrusted(
            "untrusted.name-constraint",
            f'CA "{ca.name}" has name constraints with a minimum or maximum',
        )
    permitted = [_supported(base, ca) for base in found.value.permitted_subtrees or ()]
    excluded = [_supported(base, ca) for base in found.value.excluded_subtrees or ()]
    for certificate in below:
        for kind, names in (
            (x509.DNSName, dns_names(certificate)),
            (x509.DirectoryName, _directory_names(certificate)),
        ):
            _check(
                f'CA "{ca.name}"',
                [base.value for base in permitted if isinstance(base, kind)],
                [base.value for base in excluded if isinstance(base, kind)],
                names,
                certificate,
            )


def check_vendors(anchor: str, vendors: Sequence[str], leaf: Certificate) -> None:
    """Hold a leaf to the vendor domains that an anchor was enrolled with (RFC 5937 section 2).

    Raises:
        Untrusted: `untrusted.name-constraint`.
    """
    _check(f'anchor "{anchor}"', vendors, (), dns_names(leaf), leaf)


def within_domain(name: str, domain: str) -> bool:
    """Tell whether a DNS name is a domain or below it; the empty domain holds all."""
    name, domain = name.lower(), domain.lower()
    return domain in ("", name) or name.endswith("." + domain)


def _check(
    who: str,
    permitted: Sequence[Any],
    excluded: Sequence[Any],
    names: Iterable[Any],
    certificate: Certificate,
) -> None:
    for name in names:
        inside = not permitted or any(_within(name, base) for base in permitted)
        if inside and not any(_within(name, base) for base in excluded):
            continue
        allowed = ", ".join(map(_show, permitted)) or "other names"
        raise Untrusted(
            "untrusted.name-constraint",
            f'{who} permits {allowed}, certificate "{certificate.name}" is for {_show(name)}',
            expected=allowed,
            found=_show(name),
        )


def _supported(base: x509.GeneralName, ca: Certificate) -> x509.GeneralName:
    if isinstance(base, x509.DirectoryName) or (
        isinstance(base, x509.DNSName) and not base.value.startswith(".")
    ):
        return base
    raise Untrusted(
        "untrusted.name-constraint",
        f'CA "{ca.name}" has a name constraint that is not supported: {base!r}',
        expected="a domain or a directory name",
        found=repr(base),
    )


def _within(name: Any, base: Any) -> bool:
    if isinstance(name, str):
        return within_domain(name, base)
    wanted, there = _folded(base), _folded(name)
    return there[: len(wanted)] == wanted


def _folded(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    # RFC 5280 section 7.1: letter case and runs of spaces do not tell names apart.
    return [
        frozenset(
            (attribute.oid.dotted_string, " ".join(str(attribute.value).casefold().split()))
            for attribute in rdn
        )
        for rdn in name.rdns
    ]


def _directory_names(certificate: Certificate) -> list[x509.Name]:
    subject = certificate.parsed.subject
    return [*([subject] if subject.rdns else []), *_alternative(certificate, x509.DirectoryName)]


def _alternative(certificate: Certificate, kind: Any) -> list[Any]:
    found = certificate.extension(x509.SubjectAlternativeName)
    return list(found.value.get_values_for_type(kind)) if found else []


def _show(name: Any) -> str:
    return f'"{name if isinstance(name, str) else name.rfc4514_string()}"'
