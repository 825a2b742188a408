# SPDX-License-Identifier: Apache-2.0
"""The way of each component: from its source, to a file, a command or a board."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from fwsign.errors import Unsuitable
from fwsign.format.component import Component
from fwsign.format.key_wrap import AgreementKey
from fwsign.format.payload import PayloadSource
from fwsign.format.streams import no_cipher
from fwsign.gateway.config.device import Device
from fwsign.gateway.target.sources import Sources

Destination: TypeAlias = Literal["file", "exec", "flash"]
"""A file of the version, a command, or a board."""


class Delivery(NamedTuple):
    """A component with its destination and its source.

    Args:
        component: the component.
        to: its destination.
        name: its file's name while it is staged.
        open: opens its payload at an offset; None if it is in the envelope.
        keys: opens the device's keys, if the payload is encrypted.
    """

    component: Component
    to: Destination
    name: str
    open: Callable[[int], AbstractContextManager[PayloadSource | None]]
    keys: Callable[[], Sequence[AgreementKey]] = tuple


def deliveries(device: Device, components: Sequence[Component], sources: Sources) -> list[Delivery]:
    """Return the way of each component of a release.

    Raises:
        Unsuitable: `unsuitable.target`: device.toml has no place for one.
    """
    found = []
    for number, one in enumerate(components):
        to = destination(device, one)
        name = one.name if to == "file" else str(number)
        keys = partial(_keys, device, one) if one.encrypted else tuple
        found.append(Delivery(one, to, name, partial(sources.open, one), keys))
    return found


def _keys(device: Device, component: Component) -> Sequence[AgreementKey]:
    """Open the device's keys.

    Raises:
        Unsuitable: `unsuitable.recipient`: it has none.
        Failed: as `fwsign.gateway.target.group_keys.open_keys`.
    """
    if not device.decrypt:
        raise no_cipher(component)
    from fwsign.gateway.target.group_keys import open_keys  # where a payload is encrypted

    return open_keys(device.decrypt)


def destination(device: Device, component: Component) -> Destination:
    """Return the destination of a component.

    Raises:
        Unsuitable: `unsuitable.target`: device.toml has no place for it.
    """
    if component.kind.installer == "gateway":
        has_command = component.name in device.hooks or component.name in device.verbs
        return "exec" if has_command else "file"
    place = component.flash
    if place is None:
        raise Unsuitable(
            "unsuitable.target",
            f'"{component.name}" is {component.kind.words}, which no gateway installs',
            expected="a file, or flash of a board",
            found=component.kind.words,
        )
    if place.chip in device.ports:
        return "flash"
    known = ", ".join(device.ports) or "none"
    raise Unsuitable(
        "unsuitable.target",
        f'"{component.name}" is for a board with {place.chip}, this gateway has {known}',
        expected=f"a port for {place.chip} in device.toml",
        found=known,
    )
