# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki key`: where the key of an entry lives."""

from typing import Annotated, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.held_keys import open_one
from fwsign.cli.options import KEY_PASS, PKI
from fwsign.cli.passphrases import Passphrases
from fwsign.errors import Failed


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "key",
        cls=Command,
        epilog=examples(
            "fwsign pki key release",
            "fwsign pki key issuing 'pkcs11:token=acme;object=issuing' --pass env:PIN",
            "fwsign pki key issuing pki/private/issuing.key",
        ),
    )(key)


_NAME: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="An entry of the PKI.")]
_URI: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[URI]",
        show_default=False,
        help="Where its key lives from now on: a path, or pkcs11:, openbao:, vault:, awskms: and "
        "others. Default: say where it lives.",
    ),
]


def key(name: _NAME, uri: _URI = None, *, pki: PKI = None, pass_: KEY_PASS = None) -> None:
    """Say where a key lives, or change it after the key was moved.

    The key at URI must be the one that the certificate is for, and it must sign. private/NAME.uri
    has the URI then, and nothing else changes. The old file is left to you: keep it offline, as a
    copy, or destroy it.
    """
    from fwsign.pki.directory import Pki
    from fwsign.pki.moving import move_key

    found = Pki(find_pki(pki))
    found.certificate(name)
    if uri is None:
        if not found.has_key(name):
            path = found.key_path(name)
            raise Failed(
                "state.pki",
                f'the key of "{name}" is not here: {path} is missing',
                expected=path,
                found="none",
                hint=f"if it lives elsewhere: fwsign pki key {name} URI",
            )
        ui.out(found.key_uri(name))
        return
    ask = Passphrases().existing(pass_, f"the key {uri}", uri=lambda: uri)
    left = move_key(found.directory, name, open_one(uri, ask))
    ui.out(found.key_uri(name))
    if left is not None:
        ui.note(f"{left} is no longer used: keep it offline as a copy, or destroy it")
