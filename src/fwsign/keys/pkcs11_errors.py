# SPDX-License-Identifier: Apache-2.0
"""What the return values of PKCS#11 mean for those who hold a key there."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from fwsign.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fwsign.errors.codes import Code

_Meaning: TypeAlias = "tuple[Code, str]"

_PIN: Final[_Meaning] = ("key.passphrase", "wrong PIN")
_NONE: Final[_Meaning] = ("key.passphrase-missing", "no PIN was entered")
_GONE: Final[_Meaning] = ("key.unreachable", "it is gone, or has ended the login")
_NO_KEY: Final[_Meaning] = ("key.unreachable", "the key is there no more")
_CANNOT: Final[_Meaning] = ("key.unsupported", "it has no such mechanism, or not for this key")

MEANINGS: Final[Mapping[str, _Meaning]] = MappingProxyType(
    {
        "PinIncorrect": _PIN,
        "PinInvalid": _PIN,
        "PinLenRange": _PIN,
        "FunctionCancelled": _NONE,
        "FunctionRejected": _NONE,
        "PinLocked": ("key.locked", "too many wrong PINs"),
        "PinExpired": ("key.locked", "its PIN has expired and must be changed"),
        "UserPinNotInitialized": ("key.locked", "its user has no PIN yet"),
        "TokenNotPresent": _GONE,
        "TokenNotRecognised": _GONE,
        "SlotIDInvalid": _GONE,
        "DeviceRemoved": _GONE,
        "DeviceError": _GONE,
        "SessionClosed": _GONE,
        "SessionHandleInvalid": _GONE,
        "UserNotLoggedIn": _GONE,
        "OperationActive": ("key.unreachable", "an operation before has not ended"),
        "ObjectHandleInvalid": _NO_KEY,
        "KeyHandleInvalid": _NO_KEY,
        "MechanismInvalid": _CANNOT,
        "MechanismParamInvalid": _CANNOT,
        "KeyTypeInconsistent": _CANNOT,
        "KeySizeRange": _CANNOT,
        "FunctionNotSupported": _CANNOT,
    }
)
"""Our code and words for python-pkcs11's exceptions; all others are `key.failed`."""

_SPELLED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "FunctionCancelled": "CKR_FUNCTION_CANCELED",
        "SlotIDInvalid": "CKR_SLOT_ID_INVALID",
        "TokenNotRecognised": "CKR_TOKEN_NOT_RECOGNIZED",
    }
)
"""The values whose names do not follow from python-pkcs11's."""


def explained(error: Exception, where: str, doing: str, otherwise: Code = "key.failed") -> Failed:
    """Return the refusal for an error of the library.

    Args:
        error: the error.
        where: the token or library, as in 'the token "release"'.
        doing: what it was to do, after "cannot".
        otherwise: the code for errors that have none of their own.
    """
    name = type(error).__name__
    plain = f"CKR_{re.sub('(?<=[a-z])(?=[A-Z])', '_', name).upper()}"
    value = _SPELLED.get(name, plain)
    code, why = MEANINGS.get(name, (otherwise, ""))
    said = f"{why} ({value})" if why else str(error)[:200] or value
    return Failed(
        code, f"{where} cannot {doing}: {said}", expected="CKR_OK", found=value if why else said
    )
