# SPDX-License-Identifier: Apache-2.0
"""`fwsign ports`: list the ports that may have boards, and their kinds."""

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import JSON

_WORDS = {
    "esp": "write, compare, read back",
    "pico-uart": "write, compare, read back, with its serial boot loader",
    "pico-uf2": "write; read back with pyusb",
    "smp": "write, with MCUboot's serial recovery",
}

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(cls=Command, epilog=examples("fwsign ports", "fwsign ports --json"))
def ports(*, as_json: JSON = False) -> None:
    """List serial ports and drives, and which boards may be there.

    No board is asked, for that would reset it: what is said comes from USB identities. The names
    stay with the USB socket where the system has such names.
    """
    from fwsign.flash.ports import find

    found = find()
    if as_json:
        ui.print_json({"ports": [{**one._asdict(), "kinds": list(one.kinds)} for one in found]})
        return
    for one in found:
        ui.out(one.port)
        ui.out(f"  what    {one.words}" + (f", serial number {one.serial}" if one.serial else ""))
        if one.device != one.port:
            ui.out(f"  device  {one.device}")
        for kind in one.kinds:
            ui.out(f"  {kind:9} {_WORDS[kind]}")
    if not found:
        ui.note("no serial port; boards that are simulated need none: --port sim:esp32c3")
