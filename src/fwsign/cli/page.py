# SPDX-License-Identifier: Apache-2.0
"""The layout of a help page: as wide as the terminal, with breaks only between words."""

import shutil
from typing import Any, Final

import typer

_NARROWEST: Final = 30  # columns
_WIDEST: Final = 100  # wider lines are hard to read
_HYPHEN: Final = "\u2011"  # a non-breaking hyphen, used during the layout
_Formatter: Any = typer.Context.__mro__[1].formatter_class  # type: ignore[attr-defined]


class _Page(_Formatter):  # type: ignore[misc]
    """Keeps words such as --min-sequence and ml-dsa-65 whole."""

    def write(self, string: str) -> None:
        super().write(string.replace(_HYPHEN, "-"))

    def write_text(self, text: str) -> None:
        super().write_text(_whole(text))

    def write_dl(self, rows: Any, *more: Any, **extra: Any) -> None:
        super().write_dl([(first, _whole(second)) for first, second in rows], *more, **extra)


def _whole(text: str) -> str:
    return text.replace("-", _HYPHEN)


def render(command: Any, context: Any) -> str:
    """Return the help page of a command or group."""
    columns = max(min(shutil.get_terminal_size().columns, _WIDEST) - 2, _NARROWEST)
    page = _Page(width=columns)
    command.format_help(context, page)
    return str(page.getvalue()).rstrip("\n")
