# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign digest`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.options import CRLS, PKI
from fwsign.cli.sign import options as option

if TYPE_CHECKING:
    from fwsign.signing.request import Form, Request

FILES: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        readable=False,
        metavar="FILE...",
        help="What to sign. With --cosign envelopes or requests; with --show a request and the "
        "files that it is about.",
    ),
]
CHAIN: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="Who shall sign, where there is no PKI: the certificate first, the root last.",
    ),
]
OUTPUT: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        readable=False,
        metavar="FILE",
        help="The request, for all FILEs together; with --show a file for what is to be signed. "
        "Default: FILE.request for each.",
    ),
]


class FormOptions(NamedTuple):
    """Options: what the other machine's tool signs."""

    prehash: Annotated[
        bool,
        typer.Option("--prehash", help="Also write the digest, for tools that do not hash."),
    ] = False
    mu: Annotated[
        bool,
        typer.Option("--mu", help="Also write the mu of ML-DSA, 64 bytes, for tools that take it."),
    ] = False

    @property
    def form(self) -> "Form":
        """The form that was asked for."""
        if self.prehash and self.mu:
            ui.usage("--prehash and --mu exclude each other", "--mu is for ML-DSA")
        return "digest" if self.prehash else "mu" if self.mu else "message"


class AwayOptions(NamedTuple):
    """Options: the signer, whose key is elsewhere."""

    pki: PKI = None
    signer: option.SIGNER = None
    chain: CHAIN = None
    crl: CRLS = None

    def check(self) -> None:
        """Refuse options that have no meaning together."""
        for name, given in (("--pki", self.pki), ("--signer", self.signer)):
            if self.chain and given:
                ui.usage(f"--chain and {name} exclude each other")


class ModeOptions(NamedTuple):
    """Options: another use than new releases."""

    cosign: Annotated[
        bool,
        typer.Option(
            "--cosign",
            help="Ask for one more signature of envelopes, or for another one of requests.",
        ),
    ] = False
    show: Annotated[
        bool,
        typer.Option(
            "--show", help="Print the page of a request, and check the files that are beside it."
        ),
    ] = False


class MadeRequest(NamedTuple):
    """A request that was made: its path, its bytes and its content."""

    path: Path
    data: bytes
    wanted: "Request"
