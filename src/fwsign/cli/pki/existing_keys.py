# SPDX-License-Identifier: Apache-2.0
"""Keys that exist already, to be certified: of a request, or at a URI."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli import ui
from fwsign.cli.held_keys import open_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from fwsign.cli.pki.options import PassphraseOptions
    from fwsign.keys import Passphrase
    from fwsign.keys.held import HeldKey
    from fwsign.pki.request import CertificateRequest


def read_request(file: Path, *, compat: bool) -> "CertificateRequest":
    """Read a request; raise like `fwsign.pki.request.parse_request`."""
    from fwsign.files import read_bytes
    from fwsign.pki.request import REQUEST_LIMIT, parse_request

    return parse_request(read_bytes(file, REQUEST_LIMIT), str(file), compat=compat)


def opens(uri: str, source: "Passphrase") -> "Callable[[], HeldKey]":
    """Return a function that opens a key, wherever it lives."""
    return partial(open_one, uri, source)


def refuse_clash(
    csr: Path | None, from_key: str | None, *, alg: str | None, protection: "PassphraseOptions"
) -> None:
    """Refuse options that have no meaning together."""
    if csr and from_key:
        ui.usage("--csr and --key exclude each other")
    given = "--csr" if csr else "--key" if from_key else None
    without = {
        "--alg": alg,
        "--kdf": protection.kdf,
        "--no-passphrase": protection.no_passphrase,
        "--pass": csr and protection.pass_,
    }
    for option, value in without.items():
        if given and value:
            ui.usage(f"{given} and {option} exclude each other", f"{option} is for a new key")
