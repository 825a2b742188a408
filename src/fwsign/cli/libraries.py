# SPDX-License-Identifier: Apache-2.0
"""Find out whether an unexpected error comes from a library that is missing or too old."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fwsign.errors import Failed

OLDEST: Final = 38
"""The oldest major version of cryptography that works; pyproject.toml says the same."""
COMPLETE: Final = 48
"""The oldest that can do everything; what needs it says so before it begins, but for oversights."""
_LACKING: Final = (ImportError, AttributeError, TypeError)
"""Errors for what an old version does not have."""


def blame(error: BaseException) -> Failed | None:
    """Return the refusal for a library that explains an error; None if none does.

    It runs only after an error: a check at every start would make the start slower.
    """
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0] == "cryptography"
        if missing and _found("cryptography") is None:
            return _refusal("nothing")
    found = _found("cryptography")
    if found is None:
        return None
    major = int(found.partition(".")[0])
    if major < OLDEST or (major < COMPLETE and isinstance(error, _LACKING)):
        return _refusal(found, OLDEST if major < OLDEST else COMPLETE)
    return None


def _found(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _refusal(found: str, oldest: int = OLDEST) -> Failed:
    needed = f"cryptography {oldest} or newer"
    return Failed(
        "state.library",
        f"{'this' if oldest > OLDEST else 'fwsign'} needs {needed}, found {found}",
        expected=needed,
        found=found,
        hint="apt install python3-cryptography, or pip install --upgrade cryptography",
    )
