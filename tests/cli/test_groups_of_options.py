"""Options that are declared in groups arrive as the values that they were declared as."""

import inspect
from typing import Annotated, Any, NamedTuple

import typer
from typer.testing import CliRunner

from fwsign.cli.command import Command, grouped


class Size(NamedTuple):
    """Options: a size."""

    width: Annotated[int, typer.Option("--width", help="Columns.")]
    height: Annotated[int, typer.Option("--height", help="Rows.")] = 3


class Ink(NamedTuple):
    """Options: how it is drawn."""

    colour: Annotated[str | None, typer.Option("--ink")] = None
    dashed: Annotated[bool, typer.Option("--dashed")] = False


def application(seen: list[Any]) -> typer.Typer:
    """Return an application with one command, which notes its arguments."""
    found = typer.Typer(rich_markup_mode=None, add_completion=False)

    @found.command(cls=Command)
    @grouped
    def draw(
        file: str,
        *,
        first: Annotated[bool, typer.Option("--first")] = False,
        size: Size,
        ink: Ink,
        last: Annotated[bool, typer.Option("--last")] = False,
    ) -> None:
        """Draw."""
        seen.append((file, first, size, ink, last))

    return found


def test_each_group_arrives_as_one_value() -> None:
    seen: list[Any] = []
    words = ["box", "--width", "4", "--ink", "red", "--last"]
    assert CliRunner().invoke(application(seen), words).exit_code == 0
    assert seen == [("box", False, Size(4, 3), Ink("red", False), True)]


def test_an_option_of_a_group_can_be_required() -> None:
    seen: list[Any] = []
    assert CliRunner().invoke(application(seen), ["box"]).exit_code == 2
    assert seen == []


def test_options_stand_in_the_place_of_their_group() -> None:
    @grouped
    def draw(file: str, *, first: bool = False, size: Size, ink: Ink, last: bool = False) -> None:
        """Draw."""
        del file, first, size, ink, last

    names = list(inspect.signature(draw).parameters)
    assert names == ["file", "first", "width", "height", "colour", "dashed", "last"]
    assert (draw.__name__, draw.__doc__) == ("draw", "Draw.")
