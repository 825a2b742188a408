# SPDX-License-Identifier: Apache-2.0
"""The user interface: messages, results, colour, usage errors."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, NoReturn

import typer

from fwsign.cli.quoting import quoted

_SPOOL: Final = 1024 * 1024
"""Bytes of a long answer that stay in memory until it is whole."""


class Console:
    """The options that all commands share, and the running command; each run resets them."""

    quiet: ClassVar[bool] = False
    colour: ClassVar[bool] = True
    json_told: ClassVar[bool] = False
    """Whether the JSON was printed already: a later error then only gets a message."""
    command: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def reset(cls) -> None:
        """Begin a run."""
        cls.quiet, cls.colour, cls.json_told = False, True, False
        cls.command, cls.options = (), frozenset()


def clean(text: object) -> str:
    """Escape characters that could deceive a reader or a terminal: control and bidi."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def out(text: str = "") -> None:
    """Print a line of the result to standard output."""
    _write(clean(text))


def note(text: str) -> None:
    """Print a line for people to standard error, unless --quiet."""
    if not Console.quiet:
        _tell(f"fwsign: {clean(text)}")


def next_command(*words: object, after: str = "") -> None:
    """Print the next command, quoted for a shell, unless --quiet.

    Args:
        words: the words after `fwsign`.
        after: a remark about it.
    """
    note(f"next: {' '.join(map(quoted, ('fwsign', *words)))}{after}")


def paint(text: str, colour: str, stream: Any = None) -> str:
    """Clean a text, and colour it if the stream (by default standard output) is a terminal."""
    text = clean(text)
    return typer.style(text, fg=colour, bold=True) if _shows_colour(stream or sys.stdout) else text


def painted(word: str, colour: str, text: str) -> None:
    """Print a line of the result that begins with a coloured word."""
    _write(f"{paint(word, colour)}  {clean(text)}")


def painted_parts(word: str, colour: str, parts: Iterable[str]) -> None:
    """Print a line of the result in parts; on a terminal too narrow for all, in several lines."""
    lines, room = [""], columns()
    taken = len(word)
    for part in filter(None, parts):
        shown = clean(part)
        if room is not None and lines[-1] and taken + 2 + len(shown) > room:
            lines.append(f"  {shown}")
            taken = len(lines[-1])
        else:
            lines[-1] += f"  {shown}"
            taken += 2 + len(shown)
    _write("\n".join([f"{paint(word, colour)}{lines[0]}", *lines[1:]]))


def columns() -> int | None:
    """Return the width of the terminal that standard output is; None for another output."""
    if not is_terminal(sys.stdout):
        return None
    return shutil.get_terminal_size().columns


def pieces(parts: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Print a line of the result in parts, each cleaned, and styled where a terminal shows it."""
    if not _shows_colour(sys.stdout):
        out("".join(text for text, _ in parts).rstrip())
    else:
        _write("".join(typer.style(clean(text), **style) for text, style in parts))


def _shows_colour(stream: Any) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not Console.colour
    return not plain and is_terminal(stream)


def is_terminal(stream: Any) -> bool:
    """Tell whether a stream is a terminal; a closed one (None) is not."""
    return stream is not None and stream.isatty()


def print_json(value: object) -> None:
    """Print exactly one JSON object to standard output."""
    import json  # most runs print none

    _write(json.dumps(value, ensure_ascii=True, indent=2))


def print_json_list(
    name: str, items: Iterable[object], rest: Callable[[], Mapping[str, object]]
) -> None:
    """Print an object as `print_json`, whose first member is a long list; all items come first.

    Args:
        name: the list's name.
        items: the items, which may raise: then nothing is printed.
        rest: returns the other members, after the last item.
    """
    import json  # most runs print none
    import tempfile

    with tempfile.SpooledTemporaryFile(_SPOOL, "w+", encoding="ascii") as text:
        text.write(f'{{\n  "{name}": [')
        separator, end = "\n    ", "]"
        for item in items:
            whole = json.dumps(item, ensure_ascii=True, indent=2).replace("\n", "\n    ")
            text.write(f"{separator}{whole}")
            separator, end = ",\n    ", "\n  ]"
        others = json.dumps(rest(), ensure_ascii=True, indent=2)
        text.write(f"{end},{others[1:]}\n")
        text.seek(0)
        for line in text:
            _write(line, newline=False)


def print_json_line(value: object) -> None:
    """Print a JSON object on one line of standard output."""
    import json  # most runs print none

    _write(json.dumps(value, ensure_ascii=True))


def end_line() -> None:
    """Leave the line that a prompt or a progress bar has begun."""
    if is_terminal(sys.stderr):
        _tell("")


def flush() -> None:
    """Flush standard output.

    Raises:
        Failed: `io.*`: there is no room for it.
        ReaderGone: nobody reads it.
    """
    if sys.stdout is not None:
        with _output():
            sys.stdout.flush()


def settle() -> None:
    """Let the interpreter end without messages about unwritable streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError):  # a test's stream has no number
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_bytes(data: bytes) -> None:
    """Write bytes, which are the result, to standard output."""
    with _output():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)


def _write(text: str, *, newline: bool = True) -> None:
    with _output():
        typer.echo(text, nl=newline)


def _tell(text: str) -> None:
    # A command's work never depends on a reader of its messages.
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


@contextlib.contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # not left to Typer, which would exit with 1
        raise ReaderGone from None
    except OSError as error:
        from fwsign.files import io_error

        raise io_error(error, "standard output", "write") from error


def usage(message: str, hint: str | None = None) -> NoReturn:
    """Refuse a command line: exit status 2."""
    raise UsageFailure(message, hint)


class UsageFailure(Exception):
    """An invalid command line; never leaves the command-line interface."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class BareGroup(UsageFailure):
    """A group of commands without the command.

    Args:
        path: the words that call the group.
        page: its help.
    """

    def __init__(self, path: str, page: str) -> None:
        super().__init__(f"{path} needs a command", f"{path} COMMAND --help shows how")
        self.page = page


class ReaderGone(Exception):
    """Standard output has no reader any more; never leaves the command-line interface."""


def complain(message: object, hint: str | None = None) -> None:
    """Print an error, and a hint below it, to standard error."""
    _tell(f"{paint('fwsign: error:', 'red', sys.stderr)} {clean(message)}")
    if hint:
        _tell(f"fwsign: hint: {clean(hint)}")


def tell_page(page: str) -> None:
    """Print an unrequested help page to standard error."""
    _tell(f"{page}\n")


def out_page(page: str) -> None:
    """Print a text of several lines, which fwsign made itself, to standard output."""
    _write(page)
