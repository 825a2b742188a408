# SPDX-License-Identifier: Apache-2.0
"""Find out whether an unexpected error comes from a library that is missing or too old."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fwsign.errors import Failed

CRYPTOGRAPHY: Final = 50
"""The oldest major version of cryptography that works; pyproject.toml says the same."""
_PACKAGES: Final = {"cryptography": "cryptography", "nacl": "pynacl"}


def blame(error: BaseException) -> Failed | None:
    """Return the refusal for a library that explains an error; None if none does.

    It runs only after an error: a check at every start would make the start slower.
    """
    if isinstance(error, ModuleNotFoundError):
        package = _PACKAGES.get((error.name or "").partition(".")[0])
        if package is not None and _found(package) is None:
            return _refusal(package, "nothing")
    found = _found("cryptography")
    if found is None or int(found.partition(".")[0]) >= CRYPTOGRAPHY:
        return None
    return _refusal("cryptography", found)


def _found(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _refusal(package: str, found: str) -> Failed:
    needed = f" {CRYPTOGRAPHY} or newer" if package == "cryptography" else ""
    return Failed(
        "state.library",
        f"fwsign needs {package}{needed}, found {found}",
        expected=f"{package}{needed}",
        found=found,
        hint=f"pip install --upgrade {package}",
    )
