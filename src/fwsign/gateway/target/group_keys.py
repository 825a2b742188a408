# SPDX-License-Identifier: Apache-2.0
"""Open the keys of the groups that a device belongs to, when a payload is encrypted."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from cryptography import x509

from fwsign.errors import Failed
from fwsign.files import read_bytes, read_owned
from fwsign.format.key_wrap import AgreementKey, key_id
from fwsign.format.library import PARSE_ERRORS
from fwsign.gateway.config.decrypt_rules import DecryptKey
from fwsign.keys.agreement import open_agreement

_MAX_CERTIFICATE = 64 * 1024


def open_keys(rules: Sequence[DecryptKey]) -> tuple[AgreementKey, ...]:
    """Open the keys of `[[decrypt]]`.

    Raises:
        Failed: `io.config`: others can read a key; `key.*`: it cannot be used; `io.*`.
    """
    return tuple(map(_open, rules))


def _open(rule: DecryptKey) -> AgreementKey:
    mode = _mode(rule.key)
    if mode & 0o077:
        raise Failed(
            "io.config",
            f"decrypt.key {rule.key} can be read by other users: mode {mode:04o}",
            expected="mode 0600",
            found=f"mode {mode:04o}",
            hint=f"chmod 600 {rule.key}",
        )
    found = open_agreement(f"file:{rule.key}", partial(_ask_nobody, rule.key))
    if rule.certificate is not None:
        certified = _certified(rule.certificate)
        if certified != (own := key_id(found.public_key).hex()):
            raise Failed(
                "key.mismatch",
                f"decrypt.certificate {rule.certificate} is for key {certified}, decrypt.key "
                f"{rule.key} is {own}",
                expected=own,
                found=certified,
            )
    return found


def _ask_nobody(path: Path) -> NoReturn:
    """Refuse a key with a passphrase: the option --pass is for the device's own key."""
    raise Failed(
        "key.passphrase-missing",
        f"decrypt.key {path} has a passphrase, and nobody is there to type it",
        expected="a key without a passphrase",
        found="an encrypted key",
        hint=f"fwsign key passwd {path} --no-passphrase",
    )


def _mode(path: Path) -> int:
    """Return the mode of a key's file that no other user can write or exchange."""
    read_owned(path, _MAX_CERTIFICATE)
    return path.stat().st_mode & 0o777


def _certified(path: Path) -> str:
    """Return the key id of a certificate, in PEM."""
    from fwsign.x509.certificate import key_digest  # with a certificate alone

    try:
        return key_digest(
            x509.load_pem_x509_certificate(read_bytes(path, _MAX_CERTIFICATE)).public_key()
        )
    except PARSE_ERRORS as error:
        raise Failed(
            "io.config",
            f"decrypt.certificate {path} is not a certificate in PEM: {error}",
            expected="a certificate",
            found=str(error),
        ) from None
