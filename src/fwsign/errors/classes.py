# SPDX-License-Identifier: Apache-2.0
"""One error root, and six classes cut by what the caller does next."""

from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from fwsign.errors.codes import Code
else:
    Code = str  # building the type takes long, and only the showing of codes needs their table


class FwsignError(Exception):
    """The root of everything that a public function of fwsign raises.

    Args:
        code: a key of `CODES`.
        message: lower case, no full stop, with the expected and the found value.
        step: number of the verification step (docs/format.md), if one applies.
        expected: the expected value, in words.
        found: the found value, in words.
        hint: the next action, if the raising code knows it better than `fwsign.cli.hints`.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        step: int | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.step = step
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy all fields: by default an exception is made from its message alone."""
        return type(self), (self.code, self.message), self.__dict__

    def with_hint(self, hint: str) -> Self:
        """Return the same refusal with another hint."""
        return self._again(self.message, hint)

    def with_more(self, *more: str) -> Self:
        """Return the same refusal with more in its message."""
        return self._again("; ".join((self.message, *more)), self.hint)

    def about(self, place: str) -> Self:
        """Return the same refusal, with the place that it is about before its message."""
        named = place in self.message
        return self._again(self.message if named else f"{place}: {self.message}", self.hint)

    def _again(self, message: str, hint: str | None) -> Self:
        return type(self)(
            self.code,
            message,
            step=self.step,
            expected=self.expected,
            found=self.found,
            hint=hint,
        )


class Malformed(FwsignError):
    """The input is not what it claims to be. Do not use it."""

    prefixes = ("malformed",)


class Tampered(FwsignError):
    """A digest or a signature does not match. Do not use it; an attack is possible."""

    prefixes = ("tampered",)


class Untrusted(FwsignError):
    """Well formed and intact, but not from someone this verifier trusts for it."""

    prefixes = ("untrusted",)


class Stale(FwsignError):
    """Expired, not valid yet, or without fresh revocation data. A newer one may be fine."""

    prefixes = ("stale",)


class Unsuitable(FwsignError):
    """Genuine, but not for this device: other vendor, product or chip, or older than allowed."""

    prefixes = ("unsuitable",)


class Failed(FwsignError):
    """Nothing is known about the input: a file, key, state or device did not do its part."""

    prefixes = ("io", "key", "state", "device")


def check_limit(found: int, limit: int, words: str) -> None:
    """Refuse a size or count above a named limit.

    Args:
        found: the size or count.
        limit: the most that is allowed.
        words: the thing found, as in "envelope of 12 bytes".

    Raises:
        Malformed: `malformed.size`.
    """
    if found > limit:
        raise Malformed(
            "malformed.size",
            f"{words}, at most {limit} are allowed",
            expected=limit,
            found=found,
        )
