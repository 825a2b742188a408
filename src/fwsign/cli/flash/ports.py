# SPDX-License-Identifier: Apache-2.0
"""`fwsign ports`: list the ports that may have boards, and their kinds."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fwsign.cli import answer, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import JSON
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.flash.ports import PortInfo
    from fwsign.flash.survey import Survey

_WORDS = {
    "esp": "write, compare, read back",
    "pico-uart": "write, compare, read back, with its serial boot loader",
    "pico-uf2": "write; read back with pyusb",
    "smp": "write, with MCUboot's serial recovery",
}
_AT_ONCE: Final = 16  # boards that are asked at the same time

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_PROBE = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="Ask each board that may be there for its chip and programs; this restarts it.",
    ),
]


@command.command(
    cls=Command,
    epilog=examples("fwsign ports", "fwsign ports --json", "fwsign ports --probe"),
)
def ports(*, probe: _PROBE = False, as_json: JSON = False) -> None:
    """List serial ports and drives, and which boards may be there.

    Without --probe no board is asked, since that would restart it; the answers come from USB
    identities. If the system has names that stay with the USB socket, they are listed.
    """
    from fwsign.flash.ports import find

    found = find()
    answers = _ask(found) if probe else [None] * len(found)
    if as_json:
        lines = zip(found, answers, strict=True)
        ui.print_json({"ports": [{**_facts(one), **_answered(said)} for one, said in lines]})
    else:
        for one, said in zip(found, answers, strict=True):
            _tell(one, said, asked=probe)
        if not found:
            ui.note("no serial port; boards that are simulated need none: --port sim:esp32c3")
    failed = [answer.exit_status(one) for one in answers if isinstance(one, FwsignError)]
    if failed:
        raise typer.Exit(answer.worst(failed))


def _ask(found: "Sequence[PortInfo]") -> "list[Survey | FwsignError | None]":
    """Ask the boards that may be at these ports, many at once; no error hides another answer."""
    from concurrent.futures import ThreadPoolExecutor

    from fwsign.flash.backends import ConnectOptions
    from fwsign.flash.survey import ask

    def one(port: "PortInfo") -> "Survey | FwsignError | None":
        try:
            return ask(port.port, ConnectOptions(), port.kinds) if port.kinds else None
        except FwsignError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, found))


def _facts(one: "PortInfo") -> dict[str, Any]:
    return {**one._asdict(), "kinds": list(one.kinds)}


def _answered(said: "Survey | FwsignError | None") -> dict[str, Any]:
    from fwsign.cli.flash.board import facts

    if said is None:
        return {}
    if isinstance(said, FwsignError):
        return {"code": said.code, "message": said.message}
    return {"code": None, "message": None, **facts(said)}


def _tell(one: "PortInfo", said: "Survey | FwsignError | None", *, asked: bool) -> None:
    from fwsign.cli.flash.board import tell

    ui.out(one.port)
    ui.out(f"  what      {one.words}" + (f", serial number {one.serial}" if one.serial else ""))
    if one.device != one.port:
        ui.out(f"  device    {one.device}")
    if isinstance(said, FwsignError):
        ui.painted("  failed   ", "red", said.message)
    elif said is not None:
        tell(said)
    elif asked:
        ui.out("  not asked: its USB identity does not tell; fwsign board PORT asks")
    else:
        for kind in one.kinds:
            ui.out(f"  {kind:9} {_WORDS[kind]}")
