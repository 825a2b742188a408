# SPDX-License-Identifier: Apache-2.0
"""Commands of device.toml for components: one word list that goes forward only, or three verbs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from fwsign.gateway.config.trial_rules import parse_command
from fwsign.toml import TomlTable

Verb: TypeAlias = Literal["activate", "confirm", "revert"]


class Verbs(NamedTuple):
    """The commands for a component that can go back.

    Args:
        activate: starts to use the payload on standard input.
        confirm: makes it stay; it gets no payload.
        revert: starts to use the payload of the release before again, which it gets on standard
            input; nothing if there was none.
    """

    activate: tuple[str, ...]
    confirm: tuple[str, ...]
    revert: tuple[str, ...]


class Commands(NamedTuple):
    """The table `[exec]`.

    Args:
        forward: component name -> a single command, whose work cannot be undone.
        verbs: component name -> three commands.
    """

    forward: Mapping[str, tuple[str, ...]]
    verbs: Mapping[str, Verbs]


NO_VERBS: Final[Mapping[str, Verbs]] = MappingProxyType({})


def parse_exec(table: TomlTable) -> Commands:
    """Read the table `[exec]`.

    Raises:
        Failed: `io.config`.
    """
    forward: dict[str, tuple[str, ...]] = {}
    verbs: dict[str, Verbs] = {}
    for name in table.keys():  # noqa: SIM118 - not a mapping
        if table.is_table(name):
            own = table.table(name)
            verbs[name] = Verbs(*(parse_command(own, verb) for verb in Verbs._fields))
            own.end()
        else:
            forward[name] = parse_command(table, name)
    return Commands(MappingProxyType(forward), MappingProxyType(verbs))
