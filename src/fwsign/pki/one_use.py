# SPDX-License-Identifier: Apache-2.0
"""One use for each key: that of a group is on every device, and that of channels in daily use.

So a group's key must not sign, and whoever rolls out must not sign firmware. Certificates keep that
apart only as long as no key has two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.keys import is_file
from fwsign.pki.certificates import common_name, is_ca
from fwsign.pki.key_uris import uri_of
from fwsign.pki.leaves import leaf_of
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from fwsign.keys import PublicKey
    from fwsign.keys.held import HeldKey
    from fwsign.pki.directory import Pki

ALONE: Final = {
    "signer": "signs releases",
    "channel": "signs channels",
    "encryption": "is that of a group of devices",
    "CA": "issues certificates",
}
"""What keys do that do nothing else."""


def uses_of(pki: Pki, kind: str) -> Mapping[str, tuple[str, str]]:
    """Return the keys that must not get a certificate of a kind.

    Args:
        pki: the PKI, whose every certificate is read.
        kind: a kind of `fwsign.pki.leaves.KINDS`.

    Returns:
        The kind and the name of a certificate, by the `key_digest` of its key; none where the key
        may have other uses.
    """
    if kind not in ALONE:
        return {}
    every = [*pki.held(), *map(pki.certificate, pki.roots())]
    uses = ((one, _use(one)) for one in every)
    return {
        key_digest(one.public_key()): (use, common_name(one))
        for one, use in uses
        if use in ALONE and use != kind
    }


def refuse_other_use(key: PublicKey, what: str, uses: Mapping[str, tuple[str, str]]) -> None:
    """Refuse a key that does something else.

    Args:
        key: the key.
        what: its holder, for the refusal.
        uses: from `uses_of`.

    Raises:
        Failed: `key.mismatch`.
    """
    if (known := uses.get(key_digest(key))) is None:
        return
    use, name = known
    raise Failed(
        "key.mismatch",
        f'the key of {what} is that of "{name}", which {ALONE[use]}: it must do nothing else',
        expected="another key",
        found=f'the key of "{name}"',
        hint="make another key: fwsign key new",
    )


def refuse_token(key: HeldKey, name: str) -> None:
    """Refuse a group's key that is in no file: nothing that is encrypted to it could be opened.

    Raises:
        Failed: `key.unsupported`.
    """
    if is_file(place := uri_of(key)):
        return
    raise Failed(
        "key.unsupported",
        f'the key of "{name}" is not in a file, but {place}: payloads to it could not be opened',
        expected="a key in a file",
        found=place,
    )


def _use(certificate: x509.Certificate) -> str:
    if is_ca(certificate):
        return "CA"
    leaf = leaf_of(certificate)
    return leaf.kind if leaf is not None else ""
