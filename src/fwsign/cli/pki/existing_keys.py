# SPDX-License-Identifier: Apache-2.0
"""Keys that exist already, to be certified: of a request, or in a file."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwsign.cli import ui

if TYPE_CHECKING:
    from collections.abc import Callable

    from fwsign.cli.pki.options import PassphraseOptions
    from fwsign.keys import Passphrase
    from fwsign.pki.request import CertificateRequest


def read_request(file: Path, *, compat: bool) -> "CertificateRequest":
    """Read a request; raise like `fwsign.pki.request.parse_request`."""
    from fwsign.files import read_bytes
    from fwsign.pki.request import REQUEST_LIMIT, parse_request

    return parse_request(read_bytes(file, REQUEST_LIMIT), str(file), compat=compat)


def opens(uri: str, source: "Passphrase", *, compat: bool) -> "Callable[[], Any]":
    """Return a function that opens a key and returns its public half."""
    return partial(_public_key, uri, source, compat=compat)


def refuse_clash(
    csr: Path | None, from_key: str | None, *, alg: str | None, protection: "PassphraseOptions"
) -> None:
    """Refuse options that have no meaning together."""
    if csr and from_key:
        ui.usage("--csr and --from-key exclude each other")
    given = "--csr" if csr else "--from-key" if from_key else None
    without = {
        "--alg": alg,
        "--kdf": protection.kdf,
        "--no-passphrase": protection.no_passphrase,
        "--pass": csr and protection.pass_,
    }
    for option, value in without.items():
        if given and value:
            ui.usage(f"{given} and {option} exclude each other", f"{option} is for a new key")


def _public_key(uri: str, source: "Passphrase", *, compat: bool) -> Any:
    from fwsign.files import read_bytes
    from fwsign.keys import key_file, signer_from_uri
    from fwsign.keys.file import KEY_FILE_LIMIT
    from fwsign.keys.formats import read_private_key

    if not compat:
        return signer_from_uri(uri, source).public_key
    path = Path(key_file(uri))
    return read_private_key(read_bytes(path, KEY_FILE_LIMIT), source, path).public_key()
