# SPDX-License-Identifier: Apache-2.0
"""Flash the boards at a gateway with the verified payloads of a release."""

import contextlib
import functools
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from fwsign.gateway.config import Device
from fwsign.gateway.stage import Staged, reading

if TYPE_CHECKING:
    from fwsign.flash.outcome import Outcome
    from fwsign.verify.policy import DevicePolicy
    from fwsign.x509.anchor import Anchor


def flash(
    device: Device,
    envelope: bytes,
    trust: "tuple[Sequence[Anchor], DevicePolicy]",
    at: datetime,
    staged: Sequence[Staged],
) -> "list[tuple[str, Outcome]]":
    """Write the components for flash to the boards at this gateway, and verify them there.

    Each board has its own floor in the memory, and judges the release anew.

    Args:
        device: the device with the ports.
        envelope: the release's envelope.
        trust: anchors and policy, from device.toml and trust updates.
        at: the clock's time.
        staged: the verified payloads.

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
    from fwsign.flash.verify_per_board import Given, Judging

    anchors, policy = trust
    waived = ("revocation",) if policy.revocation == "off" else ()
    given = Given(envelope, anchors, policy, at, waived, device.state, remember=True)
    judging = Judging(given)
    components = judging.release.components
    with contextlib.ExitStack() as files:
        handles = {one.component.name: one.handle for one in staged}
        others = {one.name for one in components if one.flash is None}
        chips = judging.hold(lambda one: files.enter_context(reading(handles[one.name])), others)
    jobs = []
    ports = dict.fromkeys(device.ports[chip] for chip in chips)
    here = [] if all(port.startswith(SCHEME) for port in ports) else find()
    for port in ports:
        own = [chip for chip in chips if device.ports[chip] == port]
        how = ConnectOptions(kind_for(port, own, vendor_of(port, here)))
        # The other components are for files, commands or another port, not for this board.
        elsewhere = {
            one.name for one in components if one.flash is None or one.flash.chip not in own
        }
        judge = functools.partial(judging.judge, elsewhere=elsewhere)
        jobs.append(Job(port, functools.partial(attached, port, how), judge))
    found = Station(jobs, Options())
    return [(job.port, what) for job, what in found if isinstance(what, Outcome)]
