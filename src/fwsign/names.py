# SPDX-License-Identifier: Apache-2.0
"""Names that people choose: vendors, products, signers, organisations."""

import re

from fwsign.errors import Failed

_PRODUCT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PEER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_IN_PRODUCT = re.compile(r"[^a-z0-9._-]+")
_WINDOWS = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_ORGANISATION_LIMIT = 53  # octets: with " Issuing CA" after it, a CN has 64 at most
_SERIAL_NUMBER = re.compile(r"[A-Za-z0-9 '()+,./:=?-]{1,64}")
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")  # RFC 3986 s.2
_URL_LIMIT = 512  # characters; certificates stay small
_ADDRESS = "it is an address, not a name"
_RESERVED = re.compile(r"(?:ca|standby|issuing(?:-tls)?)(?:-[0-9]+)?(?:-by-.*)?")


def vendor_domain(text: str) -> str:
    """Return `text` if it is a domain name in the form for vendors: lower-case A-labels.

    Args:
        text: two labels or more, at most 253 octets; no wildcard, no dot at the end.

    Raises:
        Failed: `state.policy`; it names another spelling, if one would be accepted.

    Source: RFC 5890 s.2.3.1 (LDH and A-labels), RFC 1123 s.2.1 (a last label of digits is
    an address).
    """
    return _domain_name(text, "vendor", "signer")


def host_name(text: str) -> str:
    """Return `text` if it is a host's name: a domain name, or a single label.

    A single label, such as "localhost" or a container's name, is no public name: it means another
    machine in another network. Otherwise the form is that of `vendor_domain`.

    Raises:
        Failed: `state.policy`.
    """
    return _domain_name(text, "host", "server", single=True)


def product_name(text: str) -> str:
    """Return `text` if it is a product name: 1 to 64 of a-z, 0-9, dot, hyphen, underscore.

    Raises:
        Failed: `state.policy`.
    """
    if _PRODUCT.fullmatch(text):
        return text
    raise Failed(
        "state.policy",
        f'product "{text[:80]}" is not a name of 1 to 64 of a-z, 0-9, ".", "_" and "-" '
        "that begins with a letter or digit",
        expected=_PRODUCT.pattern,
        found=text[:80],
    )


def product_from(text: str) -> str:
    """Make a product name from a directory's name: "My Board (v2)" becomes "my-board-v2".

    Raises:
        Failed: `state.policy`: no character of it fits a product name.
    """
    name = _NOT_IN_PRODUCT.sub("-", text.lower()).lstrip("._-")[:64].rstrip("._-")
    if not name:
        raise Failed(
            "state.policy",
            f'no product name can be made of "{text[:80]}": it has no letter a-z and no digit',
            expected="a letter a-z or a digit",
            found=text[:80],
        )
    return product_name(name)


def signer_name(text: str) -> str:
    """Return `text` if it can name a signer; it becomes the CN and the name of its files.

    Raises:
        Failed: `state.policy`.
    """
    return _entry_name(text, "signer", "a-z", _PRODUCT)


def peer_name(text: str) -> str:
    """Return `text` if it can name a TLS server or client; it may have upper-case letters.

    Brokers take a client's CN as its user name, and compare it letter by letter.

    Raises:
        Failed: `state.policy`.
    """
    return _entry_name(text, "server or client", "A-Z, a-z", _PEER)


def organisation(text: str) -> str:
    """Return `text` if certificates can carry it as O: 1 to 53 octets of printable text.

    Raises:
        Failed: `state.policy`.

    Source: RFC 5280 appendix A.1 allows 64 for a common name, which has this name and more.
    """
    if not text.strip() or text != text.strip() or not text.isprintable():
        fault = "it must be printable text without spaces around it"
    elif len(text.encode()) > _ORGANISATION_LIMIT:
        fault = f"it has {len(text.encode())} octets, at most {_ORGANISATION_LIMIT} are allowed"
    else:
        return text
    raise Failed(
        "state.policy",
        f'"{text[:80]}" cannot be the name of an organisation: {fault}',
        expected=f"1 to {_ORGANISATION_LIMIT} octets",
        found=text[:80],
    )


def serial_number(text: str) -> str:
    """Return `text` if it can be a device's serial number in a subject.

    Args:
        text: 1 to 64 characters of PrintableString, without spaces around it.

    Raises:
        Failed: `state.policy`.

    Source: RFC 5280 appendix A.1 (X520SerialNumber), IEEE 802.1AR-2018 s.8.6.
    """
    if _SERIAL_NUMBER.fullmatch(text) and text == text.strip():
        return text
    raise Failed(
        "state.policy",
        f'"{text[:80]}" cannot be the serial number of a device: it is not 1 to 64 of A-Z, a-z, '
        "0-9, space and '()+,-./:=?",
        expected=_SERIAL_NUMBER.pattern,
        found=text[:80],
    )


def web_address(text: str) -> str:
    """Return `text` if certificates can name it as a place to fetch a CRL or a CA from.

    Args:
        text: http://HOST/... or https://HOST/..., ASCII; {ca} stands for the name of the CA.

    Raises:
        Failed: `state.policy`.

    Source: RFC 5280 s.4.2.1.13, s.4.2.2.1: an absolute URI of IA5String.
    """
    fault = _address_fault(text.replace("{ca}", "ca"))
    if not fault:
        return text
    raise Failed(
        "state.policy",
        f'"{text[:80]}" is not a web address such as http://pki.acme.example/ca.crl: {fault}',
        expected="http://HOST/... or https://HOST/..., at most 512 characters",
        found=text[:80],
    )


def _address_fault(text: str) -> str:
    """Return the reason why certificates cannot name an address; empty if they can."""
    from urllib.parse import urlsplit  # not every command has an address

    try:
        parts = urlsplit(text)
        port_is_bad = parts.port == 0
    except ValueError:
        return "it cannot be read"
    if not _URL.fullmatch(text):
        return "it has a character that no address has"
    if len(text) > _URL_LIMIT:
        return f"it has {len(text)} characters, at most {_URL_LIMIT} are allowed"
    if parts.scheme not in ("http", "https"):
        return "it begins with neither http:// nor https://"
    if not parts.hostname or port_is_bad:
        return "it names no host, or no port of one"
    if "@" in parts.netloc or parts.fragment or text.endswith("#"):
        return "it has a user, a password or a fragment"
    return ""


def _entry_name(text: str, holder: str, letters: str, pattern: re.Pattern[str]) -> str:
    """Return `text` if it can be a CN and the name of files."""
    small = text.lower()  # some file systems do not tell "CA" from "ca"
    if _RESERVED.fullmatch(small):
        raise Failed(
            "state.policy",
            f'"{text}" is the name of a CA, a {holder} needs another',
            expected="a name other than those of CAs: ca, issuing, standby, ca-2 and so on",
            found=text,
        )
    if pattern.fullmatch(text) and not _WINDOWS.fullmatch(small):
        return text
    fault = (
        "Windows reserves it"
        if _WINDOWS.fullmatch(small)
        else f'it is not 1 to 64 of {letters}, 0-9, ".", "_" and "-" after a letter or digit'
    )
    raise Failed(
        "state.policy",
        f'"{text[:80]}" cannot name a {holder}: {fault}',
        expected=pattern.pattern,
        found=text[:80],
    )


def _domain_name(text: str, what: str, holder: str, *, single: bool = False) -> str:
    """Return `text` if it is a domain name.

    Args:
        text: the name.
        what: the owner of the name: "vendor" or "host".
        holder: the subject of a certificate with this name: "signer" or "server".
        single: whether one label is enough.
    """
    from fwsign.x509.constraints import MAX_DOMAIN  # slow to import

    if _is_name(text, single=single):
        return text
    if len(text) > MAX_DOMAIN:
        raise Failed(
            "state.policy",
            f"{what} domain has {len(text)} characters, at most {MAX_DOMAIN} are allowed",
            expected=f"at most {MAX_DOMAIN} characters",
            found=len(text),
        )
    fault = _domain_fault(text, holder, single=single)
    other = _other_spelling(text, single=single)
    hint = f'; "{other}" would be accepted' if other else ""
    raise Failed(
        "state.policy",
        f'{what} "{text}" is not a domain name such as "acme.example": {fault}{hint}',
        expected=other
        or "lower-case letters, digits and hyphens" + ("" if single else " in two labels or more"),
        found=text,
        hint=f"give an address with --ip {text}, and choose another NAME"
        if fault == _ADDRESS
        else None,
    )


def _is_name(text: str, *, single: bool) -> bool:
    from fwsign.x509.constraints import is_domain, is_label  # slow to import

    return is_domain(text) or (single and is_label(text) and not text.isdigit())


def _domain_fault(text: str, holder: str, *, single: bool) -> str:
    """Return the reason why a text is not a domain, after `_is_name` said so."""
    from fwsign.x509.constraints import is_label  # slow to import

    labels = text.split(".")
    if "*" in text:
        return f"a wildcard would let a {holder} speak for others"
    if text.endswith("."):
        return "it ends with a dot"
    if len(labels) < 2 and not single:
        return "it has only one label"
    if not text.isascii() or text != text.lower():
        return "it must be written in lower-case ASCII"
    if bad := [label for label in labels if not is_label(label)]:
        return (
            f'label "{bad[0]}" is not 1 to 63 letters, digits and inner hyphens '
            '(third and fourth only after "xn")'
        )
    return _ADDRESS


def _other_spelling(text: str, *, single: bool) -> str | None:
    """Return the spelling that the user probably meant, if it names the same domain."""
    wanted = text.removesuffix(".").lower()
    try:
        guess = wanted.encode("idna").decode("ascii")
        # This codec is IDNA 2003. It turns the German sharp s into "ss", a different domain in
        # today's IDNA; such a guess does not decode to the same text.
        same = guess.encode("ascii").decode("idna") == wanted
    except UnicodeError:
        return None
    return guess if same and _is_name(guess, single=single) else None
