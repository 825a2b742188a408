# SPDX-License-Identifier: Apache-2.0
"""`fwsign watch`: follow a channel, and poll at once when a broker says that it has changed."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.device.follow import FIRST, followed, poll_again
from fwsign.cli.options import JSON, KEY_PASS

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device
    from fwsign.gateway.follow.known import FollowRequest
    from fwsign.gateway.follow.watch import Watch

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign watch mqtts://broker.acme.example",
        "fwsign watch --config /etc/fwsign/device.toml --json",
    ),
)
def watch(
    broker: Annotated[
        str | None,
        typer.Argument(
            metavar="[mqtts://HOST[:PORT]]",
            help="The broker. Default: that of [watch] in device.toml.",
        ),
    ] = None,
    *,
    config: CONFIG = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Follow a channel, and poll at once after a broker's hint.

    The channel is that of [follow] in device.toml. Polls come as often as those of fwsign follow,
    whatever the broker does. Its hints only wake them earlier; [watch] in device.toml says how
    often at most. MQTT 5 with TLS; the client certificate is that of [watch], or of [fetch]. POSIX
    only.
    """
    from fwsign.gateway.follow.known import FollowRequest  # after the line was understood
    from fwsign.mqtt.terms import need_library

    need_library()
    device = load_device(config)
    _broker(broker, device)
    place = followed(None, device)
    if not place.partition("?")[0].endswith(".channel"):
        ui.usage(f"{place} is not a channel", "[follow] address in device.toml ends in .channel")
    signer = device_signer(device.device_key, pass_)
    request = FollowRequest(device, place, inputs.now, signer, tell=ui.note)
    _for_ever(request, broker, config, as_json=as_json)


def _broker(typed: str | None, device: "Device") -> str:
    """Return the broker's address."""
    from fwsign.mqtt.address import EXPECTED, read_broker

    found = typed or (device.watch.broker if device.watch else None)
    if found is None:
        hint = 'name it: fwsign watch mqtts://HOST; or put broker = "mqtts://..." into [watch]'
        ui.usage(f"{device.path} has no broker", hint)
    if read_broker(found) is None:
        shown = "the broker's address" if "@" in found else f'the address "{found}"'
        ui.usage(f"{shown} is not that of a broker with TLS", f"expected {EXPECTED}")
    return found


def _for_ever(
    request: "FollowRequest", typed: str | None, config: Path | None, *, as_json: bool
) -> None:
    """Poll and listen until a signal ends this."""
    from fwsign.gateway.follow.known import pause

    ui.Console.json_told = as_json  # one object for each poll, and none for the end
    watch = _watch(request, typed)
    try:
        # A site whose power comes back must not come to its server all at once.
        first = min(FIRST, watch.within) * random.random()  # noqa: S311 - no secret
        woken, failures = watch.wait(first, _known(request)), 0
        while True:
            if woken is not None:
                ui.note(f"a hint says that the channel has number {woken}")
            before = request
            request, fine = poll_again(request, None, config, as_json=as_json)
            failures = 0 if fine else failures + 1
            if _other(before, request):
                watch.close()
                watch = _watch(request, typed)
            seconds = pause(request, failures, random.random())  # noqa: S311 - no secret
            woken = watch.wait(seconds, _known(request), failures)
    finally:
        watch.close()


def _other(before: "FollowRequest", now: "FollowRequest") -> bool:
    """Tell whether device.toml says something else about the broker."""
    old, new = before.device, now.device
    return (before.address, old.watch, old.fetch) != (now.address, new.watch, new.fetch)


def _watch(request: "FollowRequest", typed: str | None) -> "Watch":
    from fwsign.gateway.choice import name_in
    from fwsign.gateway.config.watch_rules import WatchRules
    from fwsign.gateway.follow.watch import Watch, hint_place, listen_at

    device, address = request.device, _broker(typed, request.device)
    place = hint_place(device, name_in(request.address))
    rules = device.watch or WatchRules()
    return Watch(place, rules, lambda: listen_at(device, address, place), ui.note)


def _known(request: "FollowRequest") -> int | None:
    """Return the number of the channel that this gateway took last."""
    from fwsign.errors import FwsignError
    from fwsign.gateway.choice import name_in
    from fwsign.gateway.run.session import opened
    from fwsign.memory.channels import ChannelKey

    trust = request.device.trust
    key = ChannelKey(trust.vendor, trust.product, name_in(request.address))
    try:
        with opened(request.device) as state:
            seen = state.channels().last(key)
    except FwsignError:  # the poll tells of it
        return None
    return seen.number if seen is not None else None
