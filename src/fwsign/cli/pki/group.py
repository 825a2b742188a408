# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki`: the group; each command is imported when it is used."""

import importlib
from typing import Any, Final

import typer
import typer.main

from fwsign.cli.command import Group

COMMANDS: Final = {
    "init": "init",
    "issue": "issue",
    "renew": "renew",
    "revoke": "revoke",
    "crl": "crl",
    "expire": "expire",
    "show": "show",
    "key": "key",
    "log": "log",
    "lint": "lint",
    "verify": "verify",
    "import": "import_",
    "export": "export",
    "csr": "offline",
    "sign-ca": "offline",
    "accept": "offline",
    "serve": "serve",
    "invite": "enrol",
    "requests": "enrol",
    "approve": "enrol",
    "deny": "enrol",
    "standby": "rotate",
    "rotate": "rotate",
}
"""The commands in the order of help, with the modules whose `register` adds them."""
OLD: Final = {"log"}
"""Older names of other commands, which work and are not shown."""


class _Group(Group):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(COMMANDS, self)  # the names; get_command has the values

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [name for name in COMMANDS if name not in OLD]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"fwsign.cli.pki.{COMMANDS[cmd_name]}")
        part = typer.Typer(rich_markup_mode=None, add_completion=False)
        module.register(part)
        return typer.main.get_group(part).commands[cmd_name]


command = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Make and keep a PKI: CAs, certificates, CRLs.",
)


@command.callback()
def pki() -> None:
    """Make and keep a PKI: CAs, certificates, CRLs."""
