# SPDX-License-Identifier: Apache-2.0
"""The beginning of a trial: whether a release can be tried, and its first record."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fwsign.errors import Failed, FwsignError
from fwsign.format.kinds import FlashPlace
from fwsign.gateway.config.device import Device
from fwsign.gateway.config.trial_rules import TrialRules
from fwsign.gateway.run.open_gateway import OpenGateway
from fwsign.gateway.run.session import INSTALLED, INTENT
from fwsign.gateway.run.verb_commands import number_of
from fwsign.gateway.target import programs, release_record
from fwsign.gateway.target.delivery import Delivery
from fwsign.gateway.target.kept import KeptReleases
from fwsign.gateway.target.release_record import ReleaseRecord
from fwsign.gateway.trial.judged_again import judge_again
from fwsign.gateway.trial.record import TrialRecord, read_trial
from fwsign.memory.state import State


def in_place(state: State) -> ReleaseRecord | None:
    """Return the record of the release in place: the installed one, or a failed one that stays."""
    record = read_trial(state)
    if record is not None and record.phase == "stays":
        return record.release
    return release_record.read(state, INSTALLED)


def before_of(state: State, manifest: str) -> ReleaseRecord | None:
    """Return the release to go back to from one with a manifest's digest."""
    record = read_trial(state)
    if record is not None and record.release.manifest == manifest:
        return record.before  # it failed, stays, and is tried again
    return in_place(state)


def why_no_trial(gateway: OpenGateway, manifest: str, wanted: Sequence[Delivery]) -> str | None:
    """Return the reason why a release cannot be tried; None if it can.

    Args:
        gateway: the gateway at work.
        manifest: the digest of its manifest, in hex.
        wanted: its components with their destinations.
    """
    for one in wanted:
        if one.component.name in gateway.device.hooks and one.to == "exec":
            return f"{one.component.name} goes forward only"
    intent = release_record.read(gateway.state, INTENT)
    if intent is not None:
        return f"release {intent.sequence} was begun, and goes forward only"
    before, current = before_of(gateway.state, manifest), in_place(gateway.state)
    names = gateway.target.current()
    if names != (current.directory or names if current else None):  # without files it left the link
        return "the files in `current` are not of the release that the memory names"
    if before is None:
        return None
    if KeptReleases(gateway.target).envelope(before.manifest) is None:
        return f"release {before.sequence} was installed without [trial], so it was not kept"
    lost = _not_kept(gateway, before, wanted)
    return f"{lost} of release {before.sequence} was not kept" if lost else None


def refuse_unjudgeable(device: Device, rules: TrialRules) -> None:
    """Refuse to begin a trial if the health command cannot be started: each release would fail.

    A command among the installed files may come with the release.

    Raises:
        Failed: `io.hook`.
    """
    program = Path(rules.health[0])
    if not program.is_relative_to(device.target_dir):
        try:
            programs.refuse_unstartable(str(program), rules.user)
        except Failed as error:
            hint = "correct [trial] in device.toml; each release would fail its trial"
            raise error.with_hint(hint) from None


def _not_kept(
    gateway: OpenGateway, before: ReleaseRecord, wanted: Sequence[Delivery]
) -> str | None:
    """Return a component that going back would need, and that was not kept."""
    try:
        release = judge_again(gateway, before, revoked_returns=True).release
    except FwsignError:
        return None  # it would not come back at all
    there = KeptReleases(gateway.target).payloads(before.manifest)
    names = {one.component.name for one in wanted if one.to == "exec"}
    ports = {_port(gateway, one.component.flash) for one in wanted if one.to == "flash"}
    for one in release.components:
        needed = _port(gateway, one.flash) in ports if one.flash else one.name in names
        if needed and one.name not in before.files and number_of(release, one.name) not in there:
            return one.name
    return None


def _port(gateway: OpenGateway, place: FlashPlace | None) -> str | None:
    return gateway.device.ports.get(place.chip) if place else None


def first_record(
    gateway: OpenGateway,
    rules: TrialRules,
    release: ReleaseRecord,
    commands: Sequence[str],
    boards: Mapping[str, str],
) -> TrialRecord:
    """Return the record of a trial that begins now; nothing is written.

    Args:
        gateway: the gateway at work.
        rules: the rules of device.toml.
        release: the release to try.
        commands: its components for commands with three verbs.
        boards: port -> nothing yet, for each board that it is for.
    """
    now, before = gateway.request.uptime(), before_of(gateway.state, release.manifest)
    if before is not None and before.directory is None:
        before = before._replace(directory=gateway.target.current())  # of an older release
    return TrialRecord(
        release,
        before,
        "activating",
        rules.deadline,
        rules.boots,
        now.boot,
        now.seconds,
        now.seconds,
        commands=tuple(commands),
        boards=dict(boards),
    )
