# SPDX-License-Identifier: Apache-2.0
"""The Typer application: every error becomes a message, a hint and an exit status here."""

import contextlib
import functools
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
import typer.main

from fwsign import __version__
from fwsign.cli import answer, stops, ui
from fwsign.cli.command import Group
from fwsign.errors import FwsignError

_ClickUsageError: Any = typer.BadParameter.__mro__[1]

_HAPPY_PATH = """\
fwsign init --org Acme --vendor acme.example    make a PKI and fwsign.toml, once
fwsign sign build.bin                           write build.bin.suit
fwsign verify build.bin.suit                    check signature, path, payload
fwsign flash build.bin.suit --port PORT         write it to a board, and read it back
fwsign show build.bin.suit                      see what is inside; any key or image too
fwsign COMMAND --help                           everything else"""


COMMANDS: Final = {
    "init": "fwsign.cli.init",
    "sign": "fwsign.cli.sign.command",
    "cosign": "fwsign.cli.cosign.command",
    "digest": "fwsign.cli.digest.command",
    "attach": "fwsign.cli.attach.command",
    "verify": "fwsign.cli.verify.command",
    "flash": "fwsign.cli.flash.command",
    "ports": "fwsign.cli.flash.ports",
    "board": "fwsign.cli.flash.board",
    "device": "fwsign.cli.device.group",
    "install": "fwsign.cli.device.install",
    "follow": "fwsign.cli.device.follow",
    "watch": "fwsign.cli.device.watch",
    "hint": "fwsign.cli.device.hint",
    "channel": "fwsign.cli.channel.command",
    "rollout": "fwsign.cli.rollout.command",
    "publish": "fwsign.cli.publish.command",
    "permit": "fwsign.cli.permit.command",
    "adapter": "fwsign.cli.device.adapter",
    "trust": "fwsign.cli.trust.command",
    "receipts": "fwsign.cli.receipts.command",
    "report": "fwsign.cli.device.report",
    "collect": "fwsign.cli.collect",
    "fleet": "fwsign.cli.fleet.command",
    "show": "fwsign.cli.show.command",
    "staple": "fwsign.cli.sign.staple",
    "rewrap": "fwsign.cli.sign.rewrap",
    "pki": "fwsign.cli.pki.group",
    "log": "fwsign.cli.log.command",
    "key": "fwsign.cli.key.command",
    "completion": "fwsign.cli.completion",
    "version": "fwsign.cli.version",
    "help": "fwsign.cli.help",
}
"""The commands in the order of help, with the modules whose attribute `command` they are."""


@functools.cache
def _command(module: str) -> Any:
    return typer.main.get_command(importlib.import_module(module).command)


class Root(Group):
    """Import a command only when it is used, since imports take most of the start-up time.

    `main` never raises, not even under a test runner.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "name": "fwsign"})
        self.commands = dict.fromkeys(COMMANDS, self)  # the names; get_command has the values

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command and return it; None if there is none with that name."""
        del ctx
        return _command(COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run a command line and exit with its status."""
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        sys.exit(run(lambda: super(Root, self).main(args, *more, **extra), given))


def run(command: Any, arguments: Sequence[str]) -> int:
    """Run `command` and return the exit status of its result or error."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    ui.Console.reset()
    try:
        if "\0" in "".join(arguments):
            ui.usage("an argument has a NUL byte in it")
        status = command()
        if status == answer.INTERRUPTED:  # Typer turns Ctrl-C into this
            raise KeyboardInterrupt
        ui.flush()
    except (ui.ReaderGone, SystemExit):  # a reader such as head(1) is gone; the second is Typer's
        status = 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort
        ui.Console.colour &= "--no-color" not in before_dashes  # even if parsing failed
        status, refusal = _judge(error)
        with contextlib.suppress(
            ui.ReaderGone, FwsignError
        ):  # if no stream is left, the status still tells
            if isinstance(error, ui.BareGroup):
                ui.tell_page(error.page)
            ui.complain(refusal["message"], refusal["hint"])
            if "--json" in before_dashes and not ui.Console.json_told:
                ui.print_json(refusal)
    ui.settle()
    return status if isinstance(status, int) else 0


def _judge(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Return the exit status for an exception, and the message about it."""
    if isinstance(error, OSError):  # from an inaccessible path, or from --help
        from fwsign.files import io_error

        named = error.filename is not None
        place = str(error.filename) if named else "standard output"
        error = io_error(error, place, "read" if named else "write")
    if isinstance(error, (ui.UsageFailure, _ClickUsageError)):
        return answer.USAGE, _usage(error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        ui.end_line()
        return stops.status(), answer.refused("interrupted", "interrupted")
    if not isinstance(error, FwsignError):
        from fwsign.cli.libraries import blame  # only for errors

        error = blame(error) or error
    if isinstance(error, FwsignError):
        return answer.exit_status(error), answer.refusal(error)
    if os.environ.get("FWSIGN_DEBUG"):
        traceback.print_exception(error)
    message = f"internal error: {type(error).__name__}: {error}"
    hint = "please report this; FWSIGN_DEBUG=1 shows where it came from"
    return answer.INTERNAL, answer.refused("internal", message, hint=hint)


def _usage(error: Any) -> dict[str, Any]:
    """Return the message about an invalid command line, in our style."""
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else " ".join(("fwsign", *ui.Console.command))
    message, hint = str(error), getattr(error, "hint", None)
    if context and hasattr(error, "possibilities"):  # only an unknown option has these
        from fwsign.cli.hints import guess_option  # only for errors

        known = [name for one in context.command.params for name in one.opts]
        group = hasattr(context.command, "commands")
        message = f"{path} has no option {error.option_name}"
        hint = guess_option(error.option_name, known, path, group=group)
    elif isinstance(error, _ClickUsageError):
        message = _reworded(error.format_message().rstrip("."))
        if context and message.startswith("missing") and (line := _example(context.command)):
            hint = f"as in: {line}"
    return answer.refused("usage", message, hint=hint or f"{path} --help shows how")


_WORDS: Final = (
    (r"not a valid int(eger)?( range)?", "not a whole number"),
    (r"not in the range (\S+)<=x<=(\S+)", r"not in the range \1 to \2"),
    (r"not in the range x>=(\S+)", r"less than \1"),
    (r"^(missing (?:argument|option)|option) '(.*?)'", r"\1 \2"),
    (r"^invalid value for '(.*?)': ", r"\1: "),
    (r"^got unexpected extra arguments?(?:\(s\))? \((.*)\)", r"nothing is expected after \1"),
    (r"'(.*?)'", r'"\1"'),
)
"""Typer's words, and ours."""


def _reworded(message: str) -> str:
    message = message[:1].lower() + message[1:]
    for theirs, ours in _WORDS:
        message = re.sub(theirs, ours, message)
    return message


def _example(command: Any) -> str | None:
    """Return the first example of a command's help page, if it is one line."""
    lines = re.findall(r"^ *(fwsign .*)$", command.epilog or "", re.MULTILINE)
    return lines[0] if lines and not lines[0].endswith("\\") else None


app = typer.Typer(
    cls=Root,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        ui.out(f"fwsign {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def fwsign(
    context: typer.Context,
    *,
    version: Annotated[
        bool,
        typer.Option("-V", "--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", help="Print results and errors only; after the command, too."
        ),
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="Never use colour; after the command, too.")
    ] = False,
) -> None:
    """Sign firmware and updates once; every hop after that checks the same signature."""
    del version
    ui.Console.quiet, ui.Console.colour, ui.Console.json_told = quiet, not no_color, False
    if context.invoked_subcommand is None:
        for line in _HAPPY_PATH.splitlines():
            ui.out(line)
