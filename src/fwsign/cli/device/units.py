# SPDX-License-Identifier: Apache-2.0
"""`fwsign device units`: systemd units for this gateway."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.device.command import CONFIG, load_device
from fwsign.cli.options import JSON

command = typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False)


@command.command(
    "units",
    cls=Command,
    epilog=examples(
        "fwsign device units --output /etc/systemd/system",
        "fwsign device units --output units --writable /var/lib/app",
    ),
)
def units(
    *,
    config: CONFIG = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", readable=False, metavar="DIR", help="Where the files go; it is there."
        ),
    ],
    writable: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            metavar="PATH",
            help="What commands of device.toml write, besides target_dir; repeat for several.",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Write systemd units: one that follows or watches, and one for trials at each boot.

    They are hardened, as far as the boards and commands in device.toml allow. Files that exist are
    not replaced. systemd has to be told: systemctl daemon-reload.
    """
    from fwsign.gateway.follow.units import UnitWishes, render_units, write_units  # after the line

    device = load_device(config)
    if device.follow.address is None:
        hint = 'put address = "https://..." into [follow]'
        ui.usage(f"{device.path} has no address to follow", hint)
    wishes = UnitWishes(_program(), [one.absolute() for one in writable or ()])
    device = device._replace(path=device.path.absolute())
    found = render_units(device, wishes)
    write_units(output, found)
    if as_json:
        ui.print_json({"verdict": "written", "files": [str(output / name) for name in found]})
        return
    for name in found:
        ui.painted("written", "green", str(output / name))
    started = (".timer", "watch.service")
    timers = " ".join(name for name in found if name.endswith(started))
    ui.note("next: systemctl daemon-reload")
    ui.note(f"next: systemctl enable --now fwsign-trial.service {timers}")


def _program() -> list[str]:
    """Return the words that run this fwsign from anywhere."""
    from zipfile import is_zipfile  # after the line was understood

    own = Path(sys.argv[0]).absolute()
    if own.is_file() and os.access(own, os.X_OK) and own.suffix != ".py":
        return [str(own)]
    if own.is_file() and is_zipfile(own):  # python3 fwsign.pyz, without the mode of a program
        return [sys.executable, str(own)]
    return [sys.executable, "-m", "fwsign"]
