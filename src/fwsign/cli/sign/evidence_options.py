# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign sign` about what goes with the signatures: CRLs and time stamps."""

from typing import Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.options import CRLS, TSA_ANCHORS

TSA: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Have a time-stamping authority (RFC 3161) prove when each signature was made; "
        "--crl gives the CRLs of its issuers.",
    ),
]


class EvidenceOptions(NamedTuple):
    """Options: what goes with the signatures."""

    crl: CRLS = None
    tsa: TSA = None
    tsa_anchor: TSA_ANCHORS = None

    def check(self) -> None:
        """Refuse options that have no meaning together."""
        if self.tsa_anchor and self.tsa is None:
            ui.usage("--tsa-anchor without --tsa")
