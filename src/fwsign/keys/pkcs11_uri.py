# SPDX-License-Identifier: Apache-2.0
"""`pkcs11:` URIs: which key of which token, in which library (RFC 7512)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NoReturn
from urllib.parse import quote, quote_from_bytes

from fwsign.errors import Failed

VARIABLE: Final = "FWSIGN_PKCS11_MODULE"
"""The environment variable with the path of the library, where a URI names none."""
MAX_URI: Final = 4096
"""Characters; the attributes of a token have at most 64 bytes each."""

TOKEN_ATTRIBUTES: Final = ("token", "manufacturer", "serial", "model")
SLOT_ATTRIBUTES: Final = ("slot-manufacturer", "slot-description", "slot-id")
LIBRARY_ATTRIBUTES: Final = ("library-manufacturer", "library-description", "library-version")
_PATH: Final = (*TOKEN_ATTRIBUTES, *SLOT_ATTRIBUTES, *LIBRARY_ATTRIBUTES, "object", "type", "id")
_QUERY: Final = ("module-path", "module-name", "pin-source", "pin-value")
_TYPES: Final = ("public", "private", "cert", "secret-key", "data")

# RFC 7512 s.2.3: pk11-pchar, and pk11-qchar with the characters that it allows besides.
_CHARACTER: Final = r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=%s]|%%[0-9A-Fa-f]{2})*"
_PATH_VALUE: Final = re.compile(_CHARACTER % "&")
_QUERY_VALUE: Final = re.compile(_CHARACTER % "/?|")


class TokenUri(NamedTuple):
    """A `pkcs11:` URI, read.

    Args:
        path: the attributes that say which key, decoded; id may be any bytes, the others are text.
        query: those that say how to reach it, decoded to text.
    """

    path: dict[str, bytes]
    query: dict[str, str]

    @property
    def place(self) -> str:
        """The URI with what says where the key is: without the source of a PIN."""
        shown = {name: text.encode() for name, text in self.query.items() if name != "pin-source"}
        query = _join(shown, "&", "/")
        return f"pkcs11:{_join(self.path, ';', '')}{'?' if query else ''}{query}"

    def text(self, name: str) -> str | None:
        """Return an attribute of the path as text, None if it is not given."""
        found = self.path.get(name)
        return None if found is None else found.decode()


def parse_uri(uri: str) -> TokenUri:
    """Read a `pkcs11:` URI.

    Raises:
        Failed: `key.unsupported`, never with the value of an attribute that could be a secret.
    """
    if len(uri) > MAX_URI:
        _refuse(f"a URI of {len(uri)} characters", f"at most {MAX_URI}", f"{len(uri)}")
    path, mark, query = uri.partition(":")[2].partition("?")
    found = TokenUri(
        _attributes(path, ";", _PATH, _PATH_VALUE),
        {
            name: _text(name, value)
            for name, value in _attributes(query, "&", _QUERY, _QUERY_VALUE).items()
        },
    )
    if mark and not query:
        _refuse("nothing after the question mark", "attributes such as module-path=", "none")
    for name in found.path:
        if name != "id":
            _text(name, found.path[name])
    _check(found)
    return found


def _attributes(
    text: str, separator: str, known: tuple[str, ...], form: re.Pattern[str]
) -> dict[str, bytes]:
    """Split attributes and decode their values."""
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, mark, value = part.partition("=")
        if name == "pin-value":
            _refuse(
                'the attribute "pin-value", which has the PIN in clear for all to see',
                "pin-source=file:PATH",
                "pin-value",
                hint="take it out, and give the PIN with --pass or pin-source=file:PATH",
            )
        if name not in known:
            proper = re.fullmatch("[a-z0-9-]{1,40}", name) is not None
            what = f'the attribute "{name}"' if proper else "an attribute without a proper name"
            where = "path" if separator == ";" else "query"
            names = ", ".join(one for one in known if one != "pin-value")
            _refuse(f"{what} in its {where}", names, name if proper else "no name")
        if not mark:
            _refuse(f'the attribute "{name}" without a value', f"{name}=VALUE", name)
        if name in found:
            _refuse(f'the attribute "{name}" twice', "each once", name)
        if not form.fullmatch(value):
            odd = re.sub(form, "", value, count=1)[:1]
            _refuse(
                f'{odd!r} in the value of "{name}", where {quote(odd, safe="")} is written',
                "a percent-encoded value",
                odd,
            )
        found[name] = _decoded(value)
    return found


def _decoded(value: str) -> bytes:
    """Decode percent-encoded text; a plus sign is a plus sign."""
    parts = re.split("%([0-9A-Fa-f]{2})", value)
    pairs = zip(parts[::2], (*parts[1::2], ""), strict=True)
    return b"".join(plain.encode() + bytes.fromhex(octet) for plain, octet in pairs)


def _text(name: str, value: bytes) -> str:
    """Return a value that has to be text without control characters."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable() or not text:
        _refuse(f'a value of "{name}" that is not text', "UTF-8", "other bytes or none")
    return text


def _check(found: TokenUri) -> None:
    """Refuse what names no private key, or leaves open which one."""
    if "object" not in found.path and not found.path.get("id"):
        _refuse("neither object nor id", "object=LABEL or id=%01, which names the key", "neither")
    kind = found.text("type") or "private"
    if kind not in _TYPES:
        _refuse(f'type "{kind}"', "type=private, or none", kind)
    if kind != "private":
        _refuse(f"type={kind}, which is no private key", "type=private, or none", kind)
    slot = found.text("slot-id")
    if slot is not None and not (slot.isascii() and slot.isdecimal() and len(slot) < 20):
        _refuse(f'the slot-id "{slot}"', "a number", slot)
    if "module-path" in found.query and "module-name" in found.query:
        _refuse("both module-path and module-name", "one of them", "both")


def _join(values: dict[str, bytes], separator: str, safe: str) -> str:
    return separator.join(f"{name}={_escaped(name, value, safe)}" for name, value in values.items())


def _escaped(name: str, value: bytes, safe: str) -> str:
    if name == "id":  # RFC 7512 s.2.3: its whole value should be encoded
        return "".join(f"%{octet:02X}" for octet in value)
    return quote_from_bytes(value, safe=safe)


def _refuse(what: str, expected: str, found: str, *, hint: str | None = None) -> NoReturn:
    raise Failed(
        "key.unsupported",
        f"the pkcs11: URI has {what}",
        expected=expected,
        found=found,
        hint=hint or "as in pkcs11:token=NAME;object=LABEL?module-path=/usr/lib/LIBRARY.so",
    )
