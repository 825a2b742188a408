# SPDX-License-Identifier: Apache-2.0
"""Make a PKI: what `fwsign init` and `fwsign pki init` have in common."""

from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli import inputs, ui

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.pki.extras import Extras


def new_passphrases(
    source: str | None, root_source: str | None, *, none: bool
) -> tuple[bytes | None, bytes | None]:
    """Return the passphrase of the root's key, and that of the other keys."""
    passphrase = inputs.new_passphrase(source, none=none, what="the new keys")
    if not root_source:
        return passphrase, passphrase
    return inputs.new_passphrase(root_source, none=False, what="the root's key"), passphrase


def create_pki(
    directory: Path,
    org: str,
    domains: "Sequence[str]",
    alg: str,
    passphrases: tuple[bytes | None, bytes | None],
    *,
    root_only: bool = False,
    flat: bool = False,
    more: "Extras | None" = None,
) -> None:
    """Make a PKI; the first of the domains is the vendor."""
    from fwsign.pki.authority import create
    from fwsign.pki.extras import NO_EXTRAS

    root_passphrase, passphrase = passphrases
    create(
        directory,
        org=org,
        vendor=domains[0],
        permit=domains[1:],
        root_only=root_only,
        flat=flat,
        more=more or NO_EXTRAS,
        alg=alg,
        root_passphrase=root_passphrase,
        passphrase=passphrase,
        now=inputs.now(),
    )


def say_what_now(
    directory: Path,
    org: str,
    passphrases: tuple[bytes | None, bytes | None],
    *,
    issues: bool = False,
) -> None:
    """Print advice about the parts of a new PKI, in which the root may issue signers itself."""
    ui.note(f'root "{org} Root CA": give {directory / "ca.crt"} to every device')
    what = "issuing needs it, signing does not" if issues else "signing does not need it"
    ui.note(f"keep {directory / 'private' / 'ca.key'} offline; {what}")
    if None in passphrases:
        ui.note(f"warning: keys in {directory / 'private'} have no passphrase")
