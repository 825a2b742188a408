# SPDX-License-Identifier: Apache-2.0
"""Which keys that exist already may be those of new CAs: each its own, strong, and not leaked."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.pki.leaked import leaked_keys, refuse_leaked
from fwsign.pki.leaves import check_public_key
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fwsign.keys.held import HeldKey
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_keys import EntryKey

NO_KEYS: Final[Mapping[str, HeldKey]] = MappingProxyType({})
"""All keys are made."""


def refuse_unmade(keys: Mapping[str, HeldKey], made: Sequence[str]) -> None:
    """Refuse keys of entries that a new PKI does not have, and keys that no CA should have.

    Args:
        keys: the keys that exist, by the names of entries.
        made: the entries of the new PKI.

    Raises:
        Failed: `state.policy`, `key.mismatch`, `key.unsupported`.
    """
    if unknown := [name for name in keys if name not in made]:
        raise Failed(
            "state.policy",
            f'a new PKI like this has no entry "{unknown[0]}", but {", ".join(made)}',
            expected=", ".join(made),
            found=unknown[0],
        )
    seen: dict[str, str] = {}
    for name, held in keys.items():
        check_public_key(held.public_key, f'"{name}"')
        other = seen.setdefault(key_digest(held.public_key), name)
        if other != name:
            raise Failed(
                "key.mismatch",
                f'"{other}" and "{name}" would have the same key, {held.place}',
                expected="a key for each entry",
                found=held.place,
            )


def refuse_reused(pki: Pki, name: str, key: EntryKey) -> None:
    """Refuse a key that exists as that of a new CA if another entry has it, or it is too weak.

    Raises:
        Failed: `key.mismatch`, `key.unsupported`, and as `refuse_leaked`.
    """
    if not key.uri:
        return
    public = check_public_key(key.key.public_key(), f'"{name}"')
    refuse_leaked(public, f'"{name}"', leaked_keys(pki))
    every = (*pki.roots(), *pki.names())
    if used := [one for one in every if pki.certificate(one).public_key() == public]:
        raise Failed(
            "key.mismatch",
            f'the key {key.uri} is that of "{used[0]}": a new CA has a key of its own',
            expected="another key",
            found=f'the key of "{used[0]}"',
        )
