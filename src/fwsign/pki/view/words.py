# SPDX-License-Identifier: Apache-2.0
"""The words for parts of certificates, and for parts that cannot be read."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from fwsign.x509.roles import CONFIG_SIGNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    IndexError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Errors of cryptography for undecodable input, on loading and long after."""

_PARSER: Final = re.compile(r"(?:error parsing asn1 value: )?ParseError \{ kind: (\w+)")
_PLACES: Final = re.compile(r'"([^"]+)"')
_KINDS: Final = {
    "EncodedDefault": "a default value that is written out",
    "ExtraData": "bytes after the end",
    "IntegerOverflow": "a number that is too large",
    "InvalidLength": "a length that is not in its shortest form",
    "InvalidSetOrdering": "a set that is not in order",
    "InvalidSize": "a wrong number of elements",
    "InvalidTag": "an impossible type",
    "InvalidValue": "a value that is not allowed",
    "OidTooLong": "an object identifier that is too long",
    "ShortData": "it is cut off",
    "UnexpectedTag": "another type than expected",
    "UnknownDefinedBy": "an unknown kind",
}
_UNREAD_KEY: Final = "Could not deserialize key data"


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the warnings of cryptography about certificates that break rules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def oid_name(oid: x509.ObjectIdentifier) -> str:
    """Return the name of an object identifier, or its number if it has none."""
    if oid == CONFIG_SIGNING:  # RFC 9809; the library has no name for it
        return "configSigning"
    name: str = oid._name  # noqa: SLF001 - the library has no public way to the name
    return oid.dotted_string if name == "Unknown OID" else name


def shown_serial(serial: int) -> str:
    """Return a serial number in hex, whole bytes as other programs write them."""
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + digits.rjust(len(digits) + len(digits) % 2, "0")


def error_words(error: object) -> str:
    """Return the words of an error without the inner names of a parser."""
    text = str(error)
    found = _PARSER.search(text)
    if not found:
        return "a form that is not supported" if text.startswith(_UNREAD_KEY) else text
    places = [one.rpartition("::")[2] for one in _PLACES.findall(text)]
    where = f", in {places[-1]}" if places else ""
    return f"{_KINDS.get(found[1], 'wrong DER')}{where}"


def unread(error: object) -> str:
    """Return the words for a part that cannot be read."""
    return f"cannot be read: {error_words(error)}"


def attempt(read: Callable[[], Any]) -> Any:
    """Return what `read` returns; the words for a part that cannot be read if it fails."""
    try:
        return read()
    except UNREADABLE as error:
        return unread(error)
