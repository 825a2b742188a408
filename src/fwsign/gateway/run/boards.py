# SPDX-License-Identifier: Apache-2.0
"""Flash the boards at a gateway with the verified payloads of a release."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed
from fwsign.format.payload import PayloadSource
from fwsign.gateway.config.device import Device
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import demands
from fwsign.gateway.target.stage import Staged, reading
from fwsign.receipts.chain import waivers
from fwsign.verify.verified import VerifiedRelease

if TYPE_CHECKING:
    from fwsign.flash.boards.board import BoardInfo
    from fwsign.flash.outcome import Judge, Judged, Outcome
    from fwsign.flash.verify_per_board import Given
    from fwsign.format.component import Component

_ANY: Final[Mapping[str, str]] = MappingProxyType({})


def flash(
    device: Device, given: "Given", staged: Sequence[Staged], known: Mapping[str, str] = _ANY
) -> "list[tuple[str, Outcome]]":
    """Write the components for flash to the boards at this gateway, and verify them there.

    Each board has its own floor in the memory, and judges the release anew.

    Args:
        device: the device with the ports.
        given: the release, and what each board judges it by.
        staged: the verified payloads; components without one are for another place.
        known: port -> the identity that its board must have; empty for any.

    Returns:
        The outcome at each port; a failure at one port does not stop the others.

    Raises:
        FwsignError: the release is refused.
    """
    from fwsign.flash.backends import ConnectOptions, attached, kind_for  # few gateways have boards
    from fwsign.flash.outcome import Options, Outcome
    from fwsign.flash.ports import find, vendor_of
    from fwsign.flash.simulate import SCHEME
    from fwsign.flash.station import Job, Station
    from fwsign.flash.verify_per_board import Judging

    judging = Judging(given)
    handles = {one.component.name: one.handle for one in staged}
    here = {one.name for one in judging.release.components if one.name in handles}
    others = {one.name for one in judging.release.components}.difference(here)
    with contextlib.ExitStack() as files:

        def staged_bytes(one: "Component") -> PayloadSource:
            return files.enter_context(reading(handles[one.name]))

        chips = judging.hold(staged_bytes, others, decrypted=True)
    jobs = []
    ports = dict.fromkeys(device.ports[chip] for chip in chips)
    found_ports = [] if all(port.startswith(SCHEME) for port in ports) else find()
    for port in ports:
        own = [chip for chip in chips if device.ports[chip] == port]
        how = ConnectOptions(kind_for(port, own, vendor_of(port, found_ports)))
        # The other components are for files, commands or another port, not for this board.
        elsewhere = {
            one.name
            for one in judging.release.components
            if one.name in others or one.flash is None or one.flash.chip not in own
        }
        judge: Judge = functools.partial(judging.judge, elsewhere=elsewhere)
        if known.get(port):
            judge = functools.partial(_judge_known, port, known[port], judge)
        jobs.append(Job(port, functools.partial(attached, port, how), judge))
    found = Station(jobs, Options())
    return [(job.port, what) for job, what in found if isinstance(what, Outcome)]


class BoardsDone(NamedTuple):
    """The boards that were flashed: port -> identity, empty if it has none; and notes."""

    identities: Mapping[str, str]
    notes: tuple[str, ...] = ()


def flash_release(
    gateway: OpenGateway,
    release: VerifiedRelease,
    envelope: bytes,
    staged: Sequence[Staged],
    *,
    on_trial: bool = False,
) -> BoardsDone:
    """Flash a release's boards, with a receipt of each.

    Args:
        gateway: the gateway at work.
        release: the verified release.
        envelope: its envelope.
        staged: its verified payloads.
        on_trial: leave the floors of the boards as they are.

    Raises:
        FwsignError: the first failure of a board; the others were flashed all the same.
    """
    payloads = [one for one in staged if one.to == "flash"]
    if not payloads:
        return BoardsDone({})
    from fwsign.flash.verify_per_board import Given  # few gateways have boards

    device = gateway.device
    anchors, policy = demands(device, gateway.state)
    waived = ("revocation",) if policy.revocation == "off" else ()
    given = Given(
        envelope,
        anchors,
        policy,
        gateway.request.at,
        waived,
        device.state,
        remember=not on_trial,
    )
    found = flash(device, given, payloads)
    for port, outcome in found:
        record(gateway, release, port, outcome)
    for _, outcome in found:
        if outcome.error is not None:
            raise outcome.error
    identities = {port: (one.info.floor_key if one.info else None) or "" for port, one in found}
    notes = tuple(f"{port}: {note}" for port, one in found for note in one.notes)
    return BoardsDone(identities, notes)


def record(gateway: OpenGateway, release: VerifiedRelease, port: str, outcome: "Outcome") -> None:
    """Write a receipt of a board that was flashed, and tell it.

    Raises:
        Failed: `state.*`, `io.*`, `key.*`.
    """
    from fwsign.flash.receipt import Told, describe  # few gateways have boards

    told = Told(port, gateway.request.at, release, waivers(gateway.device.policy))
    gateway.log.write(describe(outcome, told))
    gateway.request.tell(f"{port}: {outcome.status}")


def ports_of(device: Device, staged: Sequence[Staged]) -> tuple[str, ...]:
    """Return the ports of the boards that staged payloads are for."""
    places = [one.component.flash for one in staged if one.to == "flash"]
    return tuple(dict.fromkeys(device.ports[one.chip] for one in places if one is not None))


def _judge_known(port: str, identity: str, judge: "Judge", info: "BoardInfo") -> "Judged":
    """Judge for the board that was there before, and for no other."""
    found = info.floor_key or ""
    if found != identity:
        raise Failed(
            "device.changed",
            f"at {port} is another board than the one that was flashed there",
            expected=identity,
            found=found,
        )
    return judge(info)
