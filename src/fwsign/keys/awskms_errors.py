# SPDX-License-Identifier: Apache-2.0
"""What the errors of AWS KMS and boto3 mean to the owner of a key.

The classes of botocore are known by their names, so that importing this module needs no library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.errors.codes import Code

WORDS_LIMIT: Final = 300
"""Characters of the service's words that are repeated."""
_CREDENTIALS: Final = "the environment, ~/.aws or the machine's role gives them to boto3"

_ANSWERS: Final[dict[str, Code]] = {
    "NotFoundException": "key.missing",
    "InvalidArnException": "key.missing",
    "DisabledException": "key.locked",
    "KMSInvalidStateException": "key.locked",
    "AccessDeniedException": "key.locked",
    "ExpiredTokenException": "key.passphrase",
    "IncompleteSignature": "key.passphrase",
    "InvalidClientTokenId": "key.passphrase",
    "InvalidSignatureException": "key.passphrase",
    "MissingAuthenticationTokenException": "key.passphrase",
    "UnrecognizedClientException": "key.passphrase",
    "InvalidKeyUsageException": "key.unsupported",
    "UnsupportedOperationException": "key.unsupported",
    "DependencyTimeoutException": "key.unreachable",
    "InternalFailure": "key.unreachable",
    "KeyUnavailableException": "key.unreachable",
    "KMSInternalException": "key.unreachable",
    "LimitExceededException": "key.unreachable",
    "ServiceUnavailable": "key.unreachable",
    "ThrottlingException": "key.unreachable",
}
"""Errors that the service answers with."""
_HERE: Final[dict[str, Code]] = {
    "NoCredentialsError": "key.passphrase-missing",
    "PartialCredentialsError": "key.passphrase-missing",
    "ProfileNotFound": "key.passphrase-missing",
    "ConfigNotFound": "key.passphrase-missing",
    "CredentialRetrievalError": "key.passphrase",
    "LoginError": "key.passphrase",
    "SSOError": "key.passphrase",
    "TokenRetrievalError": "key.passphrase",
    "ConnectionError": "key.unreachable",
    "HTTPClientError": "key.unreachable",
    "NoRegionError": "key.unsupported",
    "BotoCoreError": "key.failed",
}
"""Errors of botocore before there is an answer, by a class of theirs or one above it."""


def explained(error: Exception, operation: str, place: str) -> Failed | None:
    """Return the refusal for an error; None if it is not one of AWS.

    Args:
        error: what boto3 has raised.
        operation: GetPublicKey or Sign.
        place: the key's URI.
    """
    answer: Any = getattr(error, "response", None)
    told = answer.get("Error") if isinstance(answer, dict) else None
    if isinstance(told, dict):
        return _of_service(str(told.get("Code")), str(told.get("Message") or ""), operation, place)
    names = [one.__name__ for one in type(error).__mro__]
    code = next((_HERE[name] for name in names if name in _HERE), None)
    if code is None or not type(error).__module__.startswith(("botocore.", "boto3.")):
        return None
    words = _clean(str(error))
    region = "region= in the URI, AWS_REGION or ~/.aws/config names it"
    hints = {"key.passphrase-missing": _CREDENTIALS, "key.unsupported": region}
    return Failed(
        code,
        f"{place} cannot be asked: {words}",
        expected="an answer of AWS KMS",
        found=words,
        hint=hints.get(code),
    )


def _of_service(name: str, words: str, operation: str, place: str) -> Failed:
    code = _ANSWERS.get(name, "key.failed")
    words = _clean(words)
    more = f": {words}" if words else ""
    hint = None
    if name == "AccessDeniedException":
        hint = f"the policy of the key or of this identity needs kms:{operation}"
    elif code == "key.passphrase":
        hint = f"are the credentials right, and not expired? {_CREDENTIALS}"
    return Failed(
        code,
        f"{place} refuses {operation} ({name}){more}",
        expected=f"{operation} allowed",
        found=name,
        hint=hint,
    )


def _clean(text: str) -> str:
    """Return words on one line, printable and not too long."""
    words = " ".join(text.split())[:WORDS_LIMIT]
    return "".join(one if one.isprintable() else "?" for one in words)
