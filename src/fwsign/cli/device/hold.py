# SPDX-License-Identifier: Apache-2.0
"""`fwsign device hold` and `fwsign device release`: the owner postpones releases."""

from typing import Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.options import JSON, KEY_PASS

command = typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False)


@command.command(
    "hold",
    cls=Command,
    epilog=examples(
        "fwsign device hold --until 7d --reason 'harvest time'",
        "fwsign device hold",
    ),
)
def hold(
    *,
    config: CONFIG = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Its end: 12h, 7d, or RFC 3339 with a zone. Default: until it is released.",
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; shown in status and receipts.")
    ] = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Keep fwsign follow from installing releases.

    Trust updates and CRLs still come in, a release on trial goes on, and what a person types is
    done: fwsign install works.
    """
    from fwsign.gateway import hold as holds  # after the line was understood

    device, now = load_device(config), inputs.now()
    end = inputs.parse_time(until, now) if until is not None else None
    one = holds.Hold(now, end, reason)
    holds.begin(device, one, device_signer(device.device_key, pass_))
    if as_json:
        ui.print_json({"verdict": "held", "hold": one.as_json()})
        return
    ui.painted("held", "yellow", str(one))
    ui.next_command(
        "device", "release", *(("--config", config) if config else ()), after=" ends it"
    )


@command.command("release", cls=Command, epilog=examples("fwsign device release"))
def release(*, config: CONFIG = None, pass_: KEY_PASS = None, as_json: JSON = False) -> None:
    """End a hold: fwsign follow installs releases again."""
    from fwsign.gateway import hold as holds  # after the line was understood

    device = load_device(config)
    ended = holds.end(device, inputs.now(), device_signer(device.device_key, pass_))
    verdict = "released" if ended is not None else "was not held"
    if as_json:
        ui.print_json({"verdict": verdict, "hold": ended.as_json() if ended else None})
        return
    ui.painted(verdict, "green", f"it was held {ended}" if ended is not None else "nothing to do")
