# SPDX-License-Identifier: Apache-2.0
"""`fwsign device`: the group; each command is imported when it is used."""

import importlib
from typing import Any, Final

import typer
import typer.main

from fwsign.cli.command import Group

COMMANDS: Final = {
    "init": "command",
    "status": "command",
    "trial": "trial",
    "confirm": "trial",
    "rollback": "trial",
    "hold": "hold",
    "release": "hold",
    "units": "units",
    "reset": "command",
}
"""The commands in the order of help, with the modules whose `command` has them."""


class _Group(Group):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(COMMANDS, self)  # the names; get_command has the values

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"fwsign.cli.device.{COMMANDS[cmd_name]}")
        return typer.main.get_group(module.command).commands[cmd_name]


command = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Enrol this gateway, and show what it remembers.",
)


@command.callback()
def device() -> None:
    """Enrol this gateway, and show what it remembers."""
