# SPDX-License-Identifier: Apache-2.0
"""The kinds of components: the form of their identifiers, their names, and who installs them.

A new kind is a row of `KINDS`. Whoever installs components asks for their kind, and refuses all
kinds that are not its own.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from fwsign.errors import Malformed

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_CHIP = re.compile(r"[a-z][a-z0-9-]{1,15}")
_TARGET = re.compile(r"([a-z][a-z0-9-]+)@(0x[0-9a-fA-F]{1,8}|\d{1,10})")

Installer: TypeAlias = Literal["gateway", "flasher"]


class FlashPlace(NamedTuple):
    """A place in the flash of a chip: the chip's name, and an offset in bytes."""

    chip: str
    offset: int

    def __str__(self) -> str:
        """Return the place for people, as in `esp32c3@0x10000`."""
        return f"{self.chip}@0x{self.offset:x}"


class Kind(NamedTuple):
    """A kind of component.

    Args:
        form: its identifiers, for people.
        target: how people write its place.
        example: a place that is written so; "" if it needs none.
        words: a component of this kind, for people.
        installer: the one that installs it.
        takes: tells whether the parts after the kind have the right number and types; raises
            `malformed.component` for a value that is not allowed.
        name: names a component for people, by these parts.
        parse: returns the parts for a place as people write it, None for a place of another kind.
            The file name is not checked, since another one may take its place.
    """

    form: str
    target: str
    example: str
    words: str
    installer: Installer
    takes: Callable[[tuple[Any, ...]], bool]
    name: Callable[..., str]
    parse: Callable[[str, bytes], tuple[bytes, ...] | None]


def _is_file(parts: tuple[Any, ...]) -> bool:
    match parts:
        case (bytes(name),):
            check_name(name.decode(errors="replace"))
            return True
    return False


def _is_flash(parts: tuple[Any, ...]) -> bool:
    match parts:
        case (bytes(chip), bytes(offset)) if len(offset) == 4:
            _check_chip(chip.decode(errors="replace"))
            return True
    return False


def _flash_place(chip: bytes, offset: bytes) -> FlashPlace:
    return FlashPlace(chip.decode(), int.from_bytes(offset, "big"))


def _parse_flash(text: str, file: bytes) -> tuple[bytes, ...] | None:
    del file
    if (found := _TARGET.fullmatch(text)) is None:
        return None
    return flash_identifier(found[1], int(found[2], 16 if found[2][:2] == "0x" else 10))[1:]


FILE: Final = b"file"
FLASH: Final = b"flash"
KINDS: Final[Mapping[bytes, Kind]] = MappingProxyType(
    {
        FILE: Kind(
            form="['file', NAME]",
            target="file",
            example="",
            words="a file",
            installer="gateway",
            takes=_is_file,
            name=bytes.decode,
            parse=lambda text, file: (file,) if text == "file" else None,
        ),
        FLASH: Kind(
            form="['flash', CHIP, OFFSET]",
            target="CHIP@OFFSET",
            example="esp32c3@0x10000",
            words="flash of a board",
            installer="flasher",
            takes=_is_flash,
            name=lambda *parts: str(_flash_place(*parts)),
            parse=_parse_flash,
        ),
    }
)
"""The closed list of kinds, by the first part of their identifiers."""


def name_of(identifier: tuple[bytes, ...]) -> str:
    """Return the name for people of the component with this identifier."""
    kind, *parts = identifier
    return KINDS[kind].name(*parts)


def flash_place(identifier: tuple[bytes, ...]) -> FlashPlace | None:
    """Return the place in flash that an identifier has; None for another kind, or none."""
    return _flash_place(*identifier[1:]) if identifier[:1] == (FLASH,) else None


def file_identifier(name: str) -> tuple[bytes, ...]:
    """Return the identifier of a file component.

    Args:
        name: 1 to 100 of A-Z a-z 0-9 . _ + -, as `check_name` has it.

    Raises:
        Malformed: `malformed.component`.
    """
    return check_identifier((FILE, name.encode()))


def flash_identifier(chip: str, offset: int) -> tuple[bytes, ...]:
    """Return the identifier of a flash region.

    Args:
        chip: such as "esp32c3".
        offset: bytes from the start of the flash, at most 32 bits.

    Raises:
        Malformed: `malformed.component`.
    """
    if not 0 <= offset < 1 << 32:
        raise refused(f"offset 0x{offset:x}", "an offset of at most 32 bits")
    return check_identifier((FLASH, chip.encode(), offset.to_bytes(4, "big")))


def target_identifier(text: str, file: bytes) -> tuple[bytes, ...] | None:
    """Return the identifier for a place as people write it; None if it is none.

    Args:
        text: the place, in the `target` form of a kind.
        file: the name of the file that goes there; it is not checked.

    Raises:
        Malformed: `malformed.component`: the place is not allowed.
    """
    for kind, one in KINDS.items():
        if (parts := one.parse(text, file)) is not None:
            return (kind, *parts)
    return None


def check_identifier(identifier: Any) -> tuple[bytes, ...]:
    """Check a component identifier: one of the forms of `KINDS`.

    Raises:
        Malformed: `malformed.component`.
    """
    match identifier:
        case (bytes(kind), *parts) if kind in KINDS and KINDS[kind].takes(tuple(parts)):
            return cast(tuple[bytes, ...], identifier)
        case (b"blocks", bytes()):
            raise refused("a block list", "block lists after all components")
    raise refused(repr(identifier)[:80], " or ".join(one.form for one in KINDS.values()))


def _check_chip(chip: str) -> None:
    if not _CHIP.fullmatch(chip):
        raise refused(f"chip {chip!r}", "lower-case letters, digits and hyphens")


def check_name(name: str) -> str:
    """Check that a payload's file name is safe on every system and is no path.

    Raises:
        Malformed: `malformed.component`.
    """
    if not _NAME.fullmatch(name):
        raise refused(f"name {name!r}", "1 to 100 of A-Z a-z 0-9 . _ + -, not . + or - first")
    if _RESERVED.fullmatch(name) or name.endswith("."):
        raise refused(f"name {name!r}", "a name that Windows can have too")
    return name


def refused(found: str, expected: str) -> Malformed:
    """Return the refusal of a component, or of a part of one."""
    return Malformed(
        "malformed.component",
        f"component: {found} is not allowed, expected {expected}",
        expected=expected,
        found=found,
    )
