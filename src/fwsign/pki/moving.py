# SPDX-License-Identifier: Apache-2.0
"""Say where the key of an entry lives from now on, as after it was moved into a token.

The key stays the same, so no certificate changes. Nothing is removed: the old file is left to its
owner, who knows whether there is a copy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography import x509

from fwsign.files import exclusive, io_error
from fwsign.keys import is_file, key_file
from fwsign.keys.stand_in import private_key
from fwsign.pki.authority import refuse_foreign_key
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import unbind_key
from fwsign.pki.key_uris import uri_of, write_uri
from fwsign.pki.profiles import signature_hash, wrong_signature

if TYPE_CHECKING:
    from pathlib import Path

    from fwsign.keys.held import HeldKey


def move_key(pki_dir: str | os.PathLike[str], name: str, held: HeldKey) -> Path | None:
    """Record where the key of an entry lives; return the key file that is no longer used, if any.

    Args:
        pki_dir: the PKI.
        name: the entry.
        held: the key, opened where it lives now; it makes a signature, to show that it can.

    Raises:
        Failed: `key.mismatch`: it is another key; `key.failed`: its signature is wrong;
            `state.pki`, `key.*`, `io.*`.
    """
    pki = Pki(pki_dir)
    refuse_foreign_key(pki.certificate(name), held.public_key, held.place)
    _try(held)
    with exclusive(pki.directory):
        unbind_key(pki, name, pki.key_path(name))
        plain, record = pki.key_file(name), pki.uri_file(name)
        if is_file(held.place) and _same(key_file(held.place), plain):
            try:
                record.unlink(missing_ok=True)
            except OSError as error:
                raise io_error(error, record, "write") from error
            return None
        write_uri(record, uri_of(held), overwrite=True)
    return plain if plain.exists() else None


def _try(held: HeldKey) -> None:
    """Let a key sign a request, since a token may list one that it cannot use."""
    key = private_key(held)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if not builder.sign(key, signature_hash(key)).is_signature_valid:
        raise wrong_signature("request")


def _same(one: str, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
