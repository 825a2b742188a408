# SPDX-License-Identifier: Apache-2.0
"""Options of several commands, with the same words in each."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.keys import ALGORITHMS, KDFS, TLS_ALGORITHMS
from fwsign.nearest import did_you_mean


def algorithm(value: str | None) -> str | None:
    """Refuse an option's value that is not a key algorithm."""
    if value is not None and value not in ALGORITHMS:
        choice = f"choose from {', '.join(ALGORITHMS)}"
        ui.usage(f'"{value}" is not an algorithm', did_you_mean(value, ALGORITHMS) or choice)
    return value


def tls_algorithm(value: str | None) -> str | None:
    """Refuse an option's value that is no algorithm of a TLS server's or client's key."""
    return value if value in TLS_ALGORITHMS else algorithm(value)


def derivation(value: str | None) -> str | None:
    """Refuse an option's value that is not a key derivation."""
    if value is not None and value not in KDFS:
        ui.usage(f'"{value}" is not a key derivation', f"choose from {', '.join(KDFS)}")
    return value


def refuse_kdf(kdf: str | None, *, none: bool) -> None:
    """Refuse a derivation for a key that no passphrase protects."""
    if kdf and none:
        ui.usage("--kdf and --no-passphrase exclude each other")


def named(check: str) -> Callable[[Any], Any]:
    """Return the callback of an option whose value is a name: a wrong one is a usage error.

    Args:
        check: the function of `fwsign.names` that checks the name.
    """

    def callback(value: Any) -> Any:
        from fwsign import names  # only if such an option is given
        from fwsign.errors import Failed

        for text in [value] if isinstance(value, str) else value or ():
            try:
                getattr(names, check)(text)
            except Failed as error:
                ui.usage(error.message)
        return value

    return callback


def digest(value: str | None) -> str | None:
    """Refuse an option's value that is not a head: the digest of a record's last line."""
    if value is not None and (len(value) != 64 or set(value) - set("0123456789abcdef")):
        ui.usage(f'"{value}" is not a head', "64 hex digits, as they were printed before")
    return value


_SRC = "env:NAME, file:PATH or fd:N; asked for if there is a terminal"

ORG: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ORG",
        callback=named("organisation"),
        help="Your organisation; it is in every certificate's subject.",
    ),
]
VENDOR_OF_PKI: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="DOMAIN",
        callback=named("vendor_domain"),
        help="Your domain; the signers of this PKI can sign for it and those below it only.",
    ),
]
PRODUCT_OF_DEVICE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        callback=named("product_name"),
        help="This device's product; needs a vendor. Default: that of fwsign.toml.",
    ),
]
ALG: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ALG", callback=algorithm, help=f"Kind of new keys: {', '.join(ALGORITHMS)}."
    ),
]
PASS: TypeAlias = Annotated[
    str | None,
    typer.Option("--pass", metavar="SRC", help=f"Passphrase for new keys: {_SRC}."),
]
KEY_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option("--pass", metavar="SRC", help=f"Passphrase of the key, if it has one: {_SRC}."),
]
P12_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option("--pass", metavar="SRC", help=f"Passphrase of PKCS#12: {_SRC}."),
]
CA_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ca-pass", metavar="SRC", help=f"Passphrase of the CA's key, if it has one: {_SRC}."
    ),
]
CA_PASSES: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--ca-pass",
        metavar="[NAME=]SRC",
        help="Passphrase of the keys of CAs, or of the one called NAME; repeat for several. SRC "
        f"is {_SRC}.",
    ),
]
ROOT_PASS: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--root-pass",
        metavar="SRC",
        help="Passphrase of the root's key, where it is another one. Written as for --pass.",
    ),
]
NO_PASSPHRASE: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-passphrase", help="Leave new keys unencrypted: whoever reads the file can use them."
    ),
]
# readable=False: Typer would call a file that may not be read a usage error.
PKI: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--pki",
        readable=False,
        metavar="DIR",
        help="The PKI's directory. Default: that of fwsign.toml.",
    ),
]
CRLS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--crl", readable=False, metavar="PEM", help="More CRLs, in PEM or DER; repeat for several."
    ),
]
TSA_ANCHORS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--tsa-anchor",
        readable=False,
        metavar="PEM",
        help="Whose time stamps to believe: roots of time-stamping authorities; repeat for "
        "several.",
    ),
]
ALLOW_EXAMPLE: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-example-keys",
        help="Accept the published keys of keys.example, which prove nothing.",
    ),
]
JSON: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, also where it is refused.")
]
HEAD: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HEX",
        callback=digest,
        help="A head that was printed before: nothing up to it may be missing or changed.",
    ),
]

KDF: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--kdf",
        metavar="KDF",
        callback=derivation,
        help="How the passphrase protects the new key: scrypt, or pbkdf2, which more programs read."
        " Default: pbkdf2 for TLS servers and clients, else scrypt.",
    ),
]
KEY_WITHOUT_PKI: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URI", help="The key, where there is no PKI: a path or another URI."),
]
CHAIN_OF_KEY: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="The key's certificates: its own first, the root last.",
    ),
]
OUTPUT_OF_ENVELOPE: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        readable=False,
        metavar="FILE",
        help="Where the result goes, - to standard output; not replaced. Default: into ENVELOPE.",
    ),
]
