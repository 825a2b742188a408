# SPDX-License-Identifier: Apache-2.0
"""Tell a server of hawkBit's device API what came of its deployment, after each poll."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from fwsign.errors import FwsignError
from fwsign.gateway.follow.hawkbit import DeploymentOutcome, HawkbitDevice, facts_of, outcome_of
from fwsign.gateway.follow.known import FollowRequest
from fwsign.gateway.follow_memory import read_seen
from fwsign.gateway.offer import Obstacle, Offer
from fwsign.gateway.run.session import INSTALLED, fetch_rules, opened
from fwsign.gateway.target import release_record
from fwsign.gateway.trial.record import failed_of, read_failed, read_trial


class _Result(Protocol):
    """The result of a poll."""

    @property
    def offer(self) -> Offer | None: ...
    @property
    def obstacles(self) -> Sequence[Obstacle]: ...


R = TypeVar("R", bound=_Result)


def reported(request: FollowRequest, poll: Callable[[FollowRequest], R]) -> R:
    """Poll, and tell the server what came of it. A server that does not hear changes nothing.

    Args:
        request: the poll.
        poll: makes it.

    Raises:
        FwsignError: as `poll`.
    """
    try:
        result = poll(request)
    except FwsignError as error:
        _tell(request, outcome_of(error))
        raise
    _tell(request, _outcome(request, result) if result.offer is not None else None)
    return result


def _tell(request: FollowRequest, outcome: DeploymentOutcome | None) -> None:
    try:
        with opened(request.device) as state:
            rules = fetch_rules(request.device, state)
            known, seen = release_record.read(state, INSTALLED), read_seen(state)
        version = (known.version or str(known.sequence)) if known is not None else ""
        server = HawkbitDevice.at(request.address, rules, request.tell)
        tag = seen.tag if seen is not None and seen.address == request.address else None
        server.tell_server(outcome, facts_of(request.device, version), tag)
    except FwsignError as error:  # it hears it after the next poll
        request.tell(f"the server could not be told: {error.message}")


def _outcome(request: FollowRequest, result: _Result) -> DeploymentOutcome | None:
    """Return what became of the release that the server offered, by the memory."""
    offer = result.offer
    if offer is None:
        return None
    with opened(request.device) as state:
        tried, failed = read_trial(state), failed_of(read_failed(state), offer.manifest)
        known = release_record.read(state, INSTALLED)
    name = offer.name
    if failed is not None and failed.reason is not None:
        return DeploymentOutcome(
            "closed", "failure", (f"unsuitable.trial: {name}: {failed.reason}",)
        )
    if tried is not None and tried.release.manifest == offer.manifest:
        if tried.phase == "stays":
            return DeploymentOutcome(
                "closed", "failure", (f"unsuitable.trial: {name} failed, and stays",)
            )
        return DeploymentOutcome("proceeding", "none", (f"{name} is on trial",))
    if known is not None and known.manifest == offer.manifest:
        return DeploymentOutcome("closed", "success", (f"{name} is installed",))
    words = tuple(one.words for one in result.obstacles)
    return DeploymentOutcome("scheduled", "none", words or (f"{name} waits",))
