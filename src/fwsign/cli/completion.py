# SPDX-License-Identifier: Apache-2.0
"""`fwsign completion`: a script that completes commands and options in a shell.

The script contains all of them, so that completing a word starts no program.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, NamedTuple

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, examples

command = typer.Typer(rich_markup_mode=None, add_completion=False)


class _Place(NamedTuple):
    """A group or command: its words after `fwsign`, and what may follow, with descriptions."""

    words: tuple[str, ...]
    commands: dict[str, str]
    options: dict[str, str]


def _shell(value: str) -> str:
    if value not in _SHELLS:
        ui.usage(f'"{value}" is not a shell that is known here', f"choose {', '.join(_SHELLS)}")
    return value


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign completion bash > ~/.local/share/bash-completion/completions/fwsign",
        "fwsign completion zsh > ~/.zfunc/_fwsign",
        "fwsign completion fish > ~/.config/fish/completions/fwsign.fish",
    ),
)
def completion(
    context: typer.Context,
    shell: Annotated[
        str, typer.Argument(metavar="SHELL", callback=_shell, help="bash, zsh or fish.")
    ],
) -> None:
    """Print a script that completes commands and options in a shell.

    bash takes it from the place below by itself, and fish too; zsh from a folder in fpath.
    """
    places = list(_places(context.find_root(), ()))
    ui.out_page("\n".join(_SHELLS[shell](places)))


def _places(context: Any, words: tuple[str, ...]) -> Iterator[_Place]:
    """Yield a group or command, and all below it."""
    group = context.command
    names = list(group.list_commands(context)) if hasattr(group, "commands") else []
    below = {name: group.get_command(context, name) for name in names}
    options = {
        name: "" if option.hidden else _first(option.help)
        for option in group.get_params(context)
        for name in option.opts
        if name[:2] == "--"
    }
    yield _Place(
        words, {name: one.get_short_help_str(1000) for name, one in below.items()}, options
    )
    for name, one in below.items():
        yield from _places(type(context)(one, info_name=name, parent=context), (*words, name))


def _first(text: str | None) -> str:
    """Return the first sentence or clause of a description."""
    return (text or "").partition(". ")[0].partition(": ")[0].partition("; ")[0].rstrip(".")


def _bash(places: Sequence[_Place]) -> Iterator[str]:
    yield "# Completion of fwsign for bash."
    yield "_fwsign() {"
    yield "    local word path='' here=${COMP_WORDS[COMP_CWORD]} commands='' options=''"
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield '        case "$path $word" in'
    for place in places[1:]:
        yield f"            ' {' '.join(place.words)}') path+=\" $word\" ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$path" in'
    for place in places:
        path = "".join(f" {word}" for word in place.words)
        commands, options = " ".join(place.commands), " ".join(place.options)
        yield f"        '{path}') commands='{commands}' options='{options}' ;;"
    yield "    esac"
    yield '    case "$here" in'
    yield '        -*) COMPREPLY=($(compgen -W "$options" -- "$here")) ;;'
    yield '        *) COMPREPLY=($(compgen -W "$commands" -- "$here")) ;;'
    yield "    esac"
    yield "}"
    yield "complete -o default -F _fwsign fwsign"


def _zsh(places: Sequence[_Place]) -> Iterator[str]:
    yield "#compdef fwsign"
    yield "_fwsign() {"
    yield "    local word where=''"
    yield "    local -a commands options"
    yield '    for word in "${(@)words[2,CURRENT-1]}"; do'
    yield '        case "$where $word" in'
    for place in places[1:]:
        yield f"            (' {' '.join(place.words)}') where+=\" $word\" ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$where" in'
    for place in places:
        path = "".join(f" {word}" for word in place.words)
        commands = " ".join(_zsh_word(*one) for one in place.commands.items())
        options = " ".join(_zsh_word(*one) for one in place.options.items())
        yield f"        ('{path}') commands=({commands}) options=({options}) ;;"
    yield "    esac"
    yield "    if [[ ${words[CURRENT]} == -* ]]; then"
    yield "        _describe -o option options"
    yield "    elif (( $#commands )); then"
    yield "        _describe command commands"
    yield "    else"
    yield "        _files"
    yield "    fi"
    yield "}"
    yield 'if [[ "$funcstack[1]" == _fwsign ]]; then _fwsign "$@"; else compdef _fwsign fwsign; fi'


def _zsh_word(name: str, text: str) -> str:
    escaped = text.replace(":", "\\:")
    return _quote(f"{name}:{escaped}" if text else name)


def _fish(places: Sequence[_Place]) -> Iterator[str]:
    yield "# Completion of fwsign for fish."
    yield "function __fwsign_where"
    yield "    set -l where"
    yield "    for word in (commandline -opc)[2..-1]"
    yield '        switch "$where $word"'
    for place in places[1:]:
        yield f"            case ' {' '.join(place.words)}'"
        yield '                set where "$where $word"'
    yield "        end"
    yield "    end"
    yield '    test "$where" = "$argv[1]"'
    yield "end"
    yield "complete -c fwsign -e"
    for place in places:
        path = "".join(f" {word}" for word in place.words)
        when = f"complete -c fwsign -n {_quote(f'__fwsign_where {_quote(path)}', fish=True)}"
        for name, text in place.commands.items():
            yield f"{when} -f -a {name} -d {_quote(text, fish=True)}"
        for name, text in place.options.items():
            said = f" -d {_quote(text, fish=True)}" if text else ""
            yield f"{when} -l {name[2:]}{said}"


def _quote(text: str, *, fish: bool = False) -> str:
    """Put a text into the single quotes of a shell."""
    if fish:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + text.replace("'", "'\\''") + "'"


_SHELLS: Final = {"bash": _bash, "zsh": _zsh, "fish": _fish}
