# SPDX-License-Identifier: Apache-2.0
"""`fwsign adapter`: what RAUC and Mender are connected by."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.options import KEY_PASS

ASK_AGAIN: Final = 75
"""The exit status by which a health command says that it cannot tell yet."""

command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Connect this gateway with an installer that exists.",
)


@command.callback()
def adapter() -> None:
    """Connect this gateway with an installer that exists."""


@command.command(
    "rauc",
    cls=Command,
    epilog=examples("fwsign adapter rauc activate < system.raucb", "fwsign adapter rauc started"),
)
def rauc(
    verb: Annotated[
        Literal["activate", "confirm", "revert", "started"],
        typer.Argument(
            metavar="VERB",
            help="activate, confirm or revert, as [exec] of device.toml calls them; or started, "
            "for the health command: 0 if the new system runs, 75 if it has not started yet.",
        ),
    ],
    *,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            readable=False,
            metavar="FILE",
            help="Where it remembers what it activated. Default: /var/lib/fwsign/rauc.json.",
        ),
    ] = None,
) -> None:
    """Let RAUC install a bundle that fwsign has verified, or leave it again.

    device.toml names it for a component whose payload is a RAUC bundle. The bundle comes on
    standard input. The new system runs after the next start of the machine. Linux only.
    """
    from fwsign.adapters.rauc import DEFAULT_RECORD, Rauc  # after the line was understood

    one = Rauc(record or DEFAULT_RECORD, ui.note)
    if verb == "activate":
        one.activate(0)
    elif verb == "confirm":
        one.confirm()
    elif verb == "revert":
        one.revert()
    elif not one.started():
        ui.note("the new system has not started yet")
        raise typer.Exit(ASK_AGAIN)


@command.command(
    "mender",
    cls=Command,
    epilog=examples("fwsign adapter mender ArtifactInstall /var/lib/mender/modules/v3/payloads/0"),
)
def mender(
    state: Annotated[str, typer.Argument(metavar="STATE", help="The state that Mender names.")],
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", readable=False, help="The directory of the payload that Mender names."
        ),
    ],
    *,
    config: CONFIG = None,
    pass_: KEY_PASS = None,
) -> None:
    """Be an Update Module of Mender: Mender brings a release, and fwsign decides.

    The artifact has one envelope, and its payloads beside it. The release is judged as by fwsign
    install; with [trial] in device.toml Mender's commit waits until the trial ends. POSIX only.
    """
    from fwsign.gateway.run.session import InstallRequest, refuse_platform

    refuse_platform()
    from fwsign.adapters.mender import MenderModule  # on POSIX alone

    device = load_device(config)
    signer = device_signer(device.device_key, pass_)
    request = InstallRequest(device, inputs.now(), signer, tell=ui.note)
    MenderModule(request, Path(os.path.abspath(directory)), ui.out).run(state)  # noqa: PTH100
