# SPDX-License-Identifier: Apache-2.0
"""Read the content of a TOML file strictly: each key once, of its type, and no unknown keys."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fwsign.errors import Failed
from fwsign.nearest import did_you_mean

T = TypeVar("T")


class TomlTable:
    """A TOML table from which each key is taken once; `end` refuses the keys that are left."""

    def __init__(self, path: Path, name: str, content: Mapping[str, Any]) -> None:
        self._path, self._name, self._left = path, name, dict(content)
        self._known: set[str] = set()

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return a value of a type; a key without a default is required."""
        self._known.add(key)
        value = self._left.pop(key, default)
        if type(value) is not kind or (isinstance(value, str) and not _is_text(value)):
            raise self.wrong(key, kind.__name__, value)
        return value

    def maybe(self, key: str) -> str | None:
        """Return a text, or None if there is none."""
        self._known.add(key)
        return self.take(key, str) if key in self._left else None

    def number(self, key: str, default: int, most: int) -> int:
        """Return a whole number from 1 to `most`."""
        value = self.take(key, int, default)
        if not 1 <= value <= most:
            raise self.wrong(key, f"a number of 1 to {most}", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty if there is none."""
        value = self.take(key, list, [])
        if not all(isinstance(one, str) and _is_text(one) for one in value):
            raise self.wrong(key, "a list of texts", value)
        return tuple(value)

    def one_or_more(self, key: str) -> tuple[str, ...]:
        """Return a text, or each of a list of texts; empty if there is none."""
        self._known.add(key)
        return (self.take(key, str),) if isinstance(self._left.get(key), str) else self.texts(key)

    def place(self, key: str, default: Path | None = None) -> Path:
        """Return an absolute path."""
        text = self.take(key, str, str(default) if default else None)
        if not text.startswith("/"):
            raise self.wrong(key, "an absolute path", text)
        return Path(text)

    def maybe_place(self, key: str) -> Path | None:
        """Return an absolute path, or None if there is none."""
        self._known.add(key)
        return self.place(key) if key in self._left else None

    def maybe_number(self, key: str, most: int) -> int | None:
        """Return a whole number from 1 to `most`, or None if there is none."""
        self._known.add(key)
        return self.number(key, 1, most) if key in self._left else None

    def table(self, key: str) -> "TomlTable":
        """Return a table inside this one; empty if there is none."""
        return TomlTable(self._path, f"{self._name}{key}.", self.take(key, dict, {}))

    def is_table(self, key: str) -> bool:
        """Tell whether a key is a table inside this one."""
        return isinstance(self._left.get(key), dict)

    def tables(self, key: str) -> Iterator["TomlTable"]:
        """Yield the tables of an array."""
        for number, one in enumerate(self.take(key, list, []), 1):
            if not isinstance(one, dict):
                raise self.wrong(key, "a table for each", one)
            yield TomlTable(self._path, f"{self._name}{key} {number}: ", one)

    def keys(self) -> list[str]:
        """Return the keys that were not taken yet."""
        return list(self._left)

    def end(self) -> None:
        """Refuse keys that were not taken."""
        for key in self._left:
            known = ", ".join(sorted(self._known))
            above = "; keys without a table stand above the first [table]" if self._name else ""
            raise Failed(
                "io.config",
                f'{self._path} has the unknown key "{self._name}{key}"',
                expected=known,
                found=key,
                hint=did_you_mean(key, self._known) or f"known here are: {known}{above}",
            )

    def wrong(self, key: str, expected: str, found: object) -> Failed:
        """Return the error for an impossible value."""
        known = {"str": "a text in quotes", "int": "a whole number", "bool": "true or false"}
        known |= {"list": "a list in [brackets]", "dict": "a table"}
        words = known.get(expected, expected)
        what = "is missing" if found is None else f"is not {words}"
        message = f'{self._path}: "{self._name}{key}" {what}'
        return Failed("io.config", message, expected=words, found=_shown(found))


def _is_text(text: str) -> bool:
    return bool(text) and text.replace("\n", "").isprintable()


def _shown(value: object) -> str | None:
    """Return a value for an error; Python writes no integer of thousands of digits."""
    try:
        return None if value is None else str(value)
    except ValueError:
        return "a number of thousands of digits"
