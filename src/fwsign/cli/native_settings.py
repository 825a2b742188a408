# SPDX-License-Identifier: Apache-2.0
"""The table [native] of fwsign.toml: the signature for the chip, stated once for all commands."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

from fwsign.errors import Failed
from fwsign.nearest import did_you_mean

TABLE: Final = "native"
_KEYS: Final = ("kind", "keys", "security_version", "key_digests", "options")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}")


class NativeSettings(NamedTuple):
    """What fwsign.toml says of native signatures.

    Args:
        kind: the kind, a key of `fwsign.native.MODULES`; None if it names none.
        keys: the URIs of the keys that sign.
        security_version: the number against rollback that every image has.
        key_digests: the keys that may have signed, as the chip keeps them; empty for any.
        options: further options of the kind, by name.
    """

    kind: str | None = None
    keys: tuple[str, ...] = ()
    security_version: int | None = None
    key_digests: tuple[bytes, ...] = ()
    options: Mapping[str, str] = MappingProxyType({})

    @property
    def demanding(self) -> bool:
        """Whether an image may be refused by it."""
        return self.kind is not None or bool(self.key_digests)


def read(path: Path, value: Any) -> NativeSettings:
    """Check the table and return it.

    Args:
        path: fwsign.toml; paths of key files are counted from its directory.
        value: the table.

    Raises:
        Failed: `io.config`.
    """
    if not isinstance(value, dict):
        _refuse(path, TABLE, "a table: [native]", value)
    for key in value:
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f"the keys of [native] are: {', '.join(_KEYS)}"
            raise Failed(
                "io.config",
                f'{path} has the unknown key "{TABLE}.{key}"',
                expected=", ".join(_KEYS),
                found=key,
                hint=hint,
            )
    return NativeSettings(
        _kind(path, value.get("kind")),
        _uris(path, value.get("keys", [])),
        _version(path, value.get("security_version")),
        _digests(path, value.get("key_digests", [])),
        _options(path, value.get("options", {})),
    )


def _kind(path: Path, value: Any) -> str | None:
    from fwsign.format.native import KINDS  # where there is such a table

    if value is not None and value not in KINDS:
        _refuse(path, f"{TABLE}.kind", f"one of {', '.join(KINDS)}", value)
    return str(value) if value is not None else None


def key_from(path: Path, uri: str) -> str:
    """Return the URI of a key in a file of settings; the path of a key file counts from there."""
    from fwsign import keys  # where a key is named
    from fwsign.keys.written import WrittenUri

    if keys.is_file(uri):
        return str(path.parent / keys.key_file(uri))
    return WrittenUri(uri, path)


def _uris(path: Path, value: Any) -> tuple[str, ...]:
    if not _texts(value):
        _refuse(path, f"{TABLE}.keys", "a list of keys, each a path or URI in quotes", value)
    return tuple(key_from(path, one) for one in value)


def _version(path: Path, value: Any) -> int | None:
    from fwsign.format.native import MAX_SECURITY_VERSION  # where there is such a table

    number = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= value <= MAX_SECURITY_VERSION):
        expected = f"a number from 0 to {MAX_SECURITY_VERSION}"
        _refuse(path, f"{TABLE}.security_version", expected, value)
    return value if number else None


def _digests(path: Path, value: Any) -> tuple[bytes, ...]:
    if not _texts(value) or not all(map(_DIGEST.fullmatch, value)):
        expected = "a list of digests, each in 64, 96 or 128 lower-case hex digits"
        _refuse(path, f"{TABLE}.key_digests", expected, value)
    return tuple(map(bytes.fromhex, value))


def _options(path: Path, value: Any) -> dict[str, str]:
    where = f"{TABLE}.options"
    if not isinstance(value, dict):
        _refuse(path, where, f"a table: [{where}]", value)
    words: dict[str, str] = {}
    for name, one in value.items():
        if not isinstance(one, str | int):
            _refuse(path, f"{where}.{name}", "a text, a number, true or false", one)
        words[name] = str(one).lower() if isinstance(one, bool) else str(one)
    return words


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _refuse(path: Path, where: str, expected: str, found: object) -> NoReturn:
    message = f'{path}: "{where}" is not {expected}'
    raise Failed("io.config", message, expected=expected, found=found)
