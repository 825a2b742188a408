# SPDX-License-Identifier: Apache-2.0
"""A gateway at work: the request with the open memory, the locked target and the receipts."""

from typing import NamedTuple

from fwsign.gateway.config.device import Device
from fwsign.gateway.run.log import Log
from fwsign.gateway.run.session import InstallRequest
from fwsign.gateway.target.directory import Target
from fwsign.memory.state import State


class OpenGateway(NamedTuple):
    """The parts of one run.

    Args:
        request: the device, the time, and the options.
        state: the open memory.
        target: the open and locked target directory.
        log: writes receipts into the memory.
    """

    request: InstallRequest
    state: State
    target: Target
    log: Log

    @property
    def device(self) -> Device:
        """The device."""
        return self.request.device


def at_work(request: InstallRequest, state: State, target: Target) -> OpenGateway:
    """Return a gateway at work, with receipts that the request's key signs."""
    log = Log(state, request.device, request.at, request.signer)
    return OpenGateway(request, state, target, log)
