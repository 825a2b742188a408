# SPDX-License-Identifier: Apache-2.0
"""The options of `fwsign collect` about what one certificate may store."""

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from fwsign.collect.quotas import Quotas


class QuotaOptions(NamedTuple):
    """Options: what one certificate may store. Defaults are those of `Quotas`."""

    gateway_boards: Annotated[
        int,
        typer.Option(
            "--gateway-boards",
            metavar="N",
            min=0,
            help="Boards that one gateway may report: whose receipts name a device.",
        ),
    ] = 64
    boards: Annotated[
        int,
        typer.Option("--boards", metavar="N", min=0, help="Boards that one station may report."),
    ] = 1_000_000
    chains: Annotated[
        int,
        typer.Option(
            "--chains",
            metavar="N",
            min=1,
            help="Beginnings of a record, and other breaks, of one certificate.",
        ),
    ] = 10_000
    day_lines: Annotated[
        int,
        typer.Option(
            "--day-lines",
            metavar="N",
            min=1,
            help="New receipts of one certificate in a day of UTC; more wait for the next.",
        ),
    ] = 20_000
    day_size: Annotated[
        int,
        typer.Option("--day-size", metavar="MIB", min=1, help="The size of these, in MiB."),
    ] = 512
    total_size: Annotated[
        int,
        typer.Option(
            "--total-size",
            metavar="MIB",
            min=1,
            help="The size of all receipts of one certificate, in MiB.",
        ),
    ] = 65_536

    def quotas(self) -> "Quotas":
        """Return the limits."""
        from fwsign.collect.quotas import MIB, Quotas  # when the server begins

        sizes = self.day_size * MIB, self.total_size * MIB
        return Quotas(self.gateway_boards, self.boards, self.chains, self.day_lines, *sizes)
