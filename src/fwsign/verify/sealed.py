# SPDX-License-Identifier: Apache-2.0
"""Results that only verification makes: they have no constructor, and they do not change."""

from typing import Any, ClassVar, TypeVar

_Made = TypeVar("_Made", bound="Sealed")


class Sealed:
    """A result of verification. A class that names its makers has no subclasses."""

    __slots__ = ()
    _made_by: ClassVar[str | None] = None

    def __new__(cls) -> "Sealed":
        """Refuse: only verification makes one."""
        raise TypeError(f"only {cls._made_by} can make a {cls.__name__}")

    def __init_subclass__(cls, *, made_by: str | None = None) -> None:
        """Refuse an instance of a subclass, which would pass as verified."""
        if cls._made_by is not None:
            raise TypeError(f"a {cls.__mro__[1].__name__} has no subclasses")
        cls._made_by = made_by

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change: {name}")


def make(kind: type[_Made], **facts: Any) -> _Made:
    """Make a result; layer tests check who calls this."""
    made = object.__new__(kind)
    for name, fact in facts.items():
        object.__setattr__(made, name, fact)
    return made
