# SPDX-License-Identifier: Apache-2.0
"""`fwsign follow`: look for releases at a fixed address, and install what policy allows."""

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.device.offers import show_polled
from fwsign.cli.device.report import report_quietly, reporting
from fwsign.cli.options import JSON, KEY_PASS

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device
    from fwsign.gateway.follow.known import FollowRequest

FIRST: Final = 60
"""Seconds before the first poll at most, at random."""

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign follow https://updates.acme.example/x1/stable.channel",
        "fwsign follow --once",
        "fwsign follow /media/usb --check --json",
    ),
)
def follow(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|DIR]",
            help="An https address or the path of a .channel, an https address of an envelope, or "
            "a directory with *.suit files. Default: the address in [follow] of device.toml.",
        ),
    ] = None,
    *,
    config: CONFIG = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, for timers: 0 if nothing is new.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Tell what is offered, and whether it would be installed."),
    ] = False,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Look at an address for releases, and install what policy allows.

    The highest release that verifies counts; of a channel, the highest whose rollout takes this
    device in. [follow] in device.toml says how often, in which
    hours, and which classes are installed by themselves; fwsign device hold postpones all. A
    release that failed is tried again later and later. POSIX only.
    """
    from fwsign.gateway.follow import polling as follows  # after the line was understood
    from fwsign.gateway.follow.known import FollowRequest

    if once and check:
        ui.usage("--once and --check exclude each other", "--check alone looks once")
    device = load_device(config)
    place = _address(address, device)
    signer = None if check else device_signer(device.device_key, pass_)
    request = FollowRequest(device, place, inputs.now, signer, tell=ui.note)
    if check:
        show_polled(device, follows.check(request), as_json=as_json)
    elif once:
        with reporting(device):
            show_polled(device, follows.poll(request), as_json=as_json)
    else:
        _for_ever(request, address, config, as_json=as_json)


def _address(typed: str | None, device: "Device") -> str:
    from fwsign.format.component import is_url
    from fwsign.gateway.config.follow_rules import is_place

    if typed is None:
        if device.follow.address is None:
            hint = 'name it: fwsign follow URL; or put address = "https://..." into [follow]'
            ui.usage(f"{device.path} has no address to follow", hint)
        return device.follow.address
    place = typed if is_url(typed) else str(Path(typed).absolute())
    if not is_place(place):
        hint = "name an https address of a channel or an envelope, or a directory"
        ui.usage(f'"{typed}" is not https', hint)
    return place


def _for_ever(
    request: "FollowRequest", typed: str | None, config: Path | None, as_json: bool
) -> None:
    """Poll until a signal ends this; failures make the pauses longer."""
    from fwsign.errors import FwsignError
    from fwsign.gateway.follow.known import pause
    from fwsign.gateway.follow.polling import poll

    failures = 0
    ui.Console.json_told = as_json  # one object for each poll, and none for the end
    # A site whose power comes back must not come to its server all at once.
    time.sleep(random.random() * FIRST)  # noqa: S311 - no secret
    while True:
        try:
            device = load_device(config)  # device.toml may have changed meanwhile
            request = request._replace(device=device, address=_address(typed, device))
            show_polled(device, poll(request), as_json=as_json, line=True)
            failures = 0
        except FwsignError as error:
            failures += 1
            refusal = answer.refusal(error)
            ui.complain(refusal["message"], refusal["hint"])
            if as_json:
                ui.print_json_line(refusal)
        report_quietly(request.device)
        ui.flush()
        time.sleep(pause(request, failures, random.random()))  # noqa: S311 - no secret
