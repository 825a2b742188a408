# SPDX-License-Identifier: Apache-2.0
"""The common behaviour of all commands and of all groups of commands."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

from fwsign.cli import ui


class Command(TyperCommand):
    """A command that also takes --quiet and --no-color, and writes FILE, not {FILE}, in help."""

    def __init__(self, *more: Any, **settings: Any) -> None:
        super().__init__(*more, **settings)
        self.params += [_flag(["-q", "--quiet"], _quieten), _flag(["--no-color"], _fade)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line; from now on errors belong to this command."""
        ui.Console.command = tuple(ctx.command_path.split()[1:])
        ui.Console.options = frozenset(name for one in self.params for name in one.opts)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def get_help(self, ctx: Any) -> str:
        """Return the help page."""
        from fwsign.cli.page import render  # for help alone

        return render(self, ctx)


def _flag(names: list[str], callback: Any) -> TyperOption:
    """Return an option that only the page of fwsign itself shows."""
    hidden = {"expose_value": False, "hidden": True, "callback": callback}
    return TyperOption(param_decls=names, is_flag=True, default=False, **hidden)


def _quieten(_context: Any, _option: Any, given: bool) -> None:
    ui.Console.quiet |= given


def _fade(_context: Any, _option: Any, given: bool) -> None:
    ui.Console.colour &= not given


class Group(TyperGroup):
    """A group of commands, which shows its page if no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line as far as the command."""
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            raise ui.BareGroup(ctx.command_path, self.get_help(ctx))
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """Return the help page."""
        from fwsign.cli.page import render  # for help alone

        return render(self, ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, whose descriptions are never cut."""
        found: Any = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(1000)) for name, one in found])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the named command, or refuse the name and suggest another."""
        if self.get_command(ctx, args[0]) is None and args[0][:1] != "-":
            from fwsign.cli.hints import guess_command  # for errors alone

            hint = guess_command(ctx, args[0])
            ui.usage(f'{ctx.command_path} has no command "{args[0]}"', hint)
        return super().resolve_command(ctx, args)


def examples(*lines: str) -> str:
    """Return the end of a help page, which is not wrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose options are declared in groups, which several commands may share.

    A parameter whose type is a NamedTuple stands for that tuple's fields: each of them is an option
    in its place.
    """
    signature = inspect.signature(function)
    groups = {one.name: one.annotation for one in signature.parameters.values() if _is_group(one)}
    parameters = [field for one in signature.parameters.values() for field in _fields(one)]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        made = {
            name: group(**{field: given.pop(field) for field in group._fields})
            for name, group in groups.items()
        }
        function(**given, **made)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _is_group(parameter: inspect.Parameter) -> bool:
    return hasattr(parameter.annotation, "_fields")


def _fields(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    if not _is_group(parameter):
        yield parameter
        return
    group = parameter.annotation
    for name, kind in group.__annotations__.items():
        default = group._field_defaults.get(name, inspect.Parameter.empty)
        yield inspect.Parameter(name, parameter.kind, default=default, annotation=kind)
