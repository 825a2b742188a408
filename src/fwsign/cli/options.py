# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, with the same words in each."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.keys import ALGORITHMS


def _algorithm(value: str) -> str:
    if value not in ALGORITHMS:
        ui.usage(f'"{value}" is not an algorithm', f"choose from {', '.join(ALGORITHMS)}")
    return value


ORG: TypeAlias = Annotated[
    str, typer.Option(metavar="ORG", help="The organisation, in every subject.")
]
VENDOR_OF_PKI: TypeAlias = Annotated[
    str,
    typer.Option(metavar="DOMAIN", help="The domain that this PKI's signers are limited to."),
]
ALG: TypeAlias = Annotated[
    str,
    typer.Option(metavar="ALG", callback=_algorithm, help=f"One of {', '.join(ALGORITHMS)}."),
]
_SRC = "env:NAME, file:PATH or fd:N"
PASS: TypeAlias = Annotated[
    str | None,
    typer.Option("--pass", metavar="SRC", help=f"Passphrase of the new key: {_SRC}."),
]
KEY_PASS: TypeAlias = Annotated[
    str | None, typer.Option("--pass", metavar="SRC", help=f"Passphrase of the key: {_SRC}.")
]
CA_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option("--ca-pass", metavar="SRC", help=f"Passphrase of the CA's key: {_SRC}."),
]
ROOT_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option("--root-pass", metavar="SRC", help=f"Passphrase of the root's key: {_SRC}."),
]
NO_PASSPHRASE: TypeAlias = Annotated[
    bool, typer.Option("--no-passphrase", help="Leave new keys unencrypted.")
]
PKI: TypeAlias = Annotated[
    Path | None,
    typer.Option("--pki", metavar="DIR", help="The PKI. Default: that of fwsign.toml."),
]
CRLS: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--crl", metavar="PEM", help="CRLs; may be repeated.")
]
ALLOW_EXAMPLE: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-example-keys", help="Accept the published keys of keys.example."),
]
JSON: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
FORCE: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
