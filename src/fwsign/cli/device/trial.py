# SPDX-License-Identifier: Apache-2.0
"""`fwsign device trial`, `confirm` and `rollback`: the release on trial stays, or goes."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.device.command import CONFIG, device_signer, load_device
from fwsign.cli.device.report import reporting
from fwsign.cli.options import JSON, KEY_PASS

if TYPE_CHECKING:
    from pathlib import Path

    from fwsign.gateway.run.session import InstallRequest
    from fwsign.gateway.trial.status import TrialStatus

command = typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False)


@command.command(
    "trial", cls=Command, epilog=examples("fwsign device trial", "fwsign device trial --json")
)
def trial(*, config: CONFIG = None, pass_: KEY_PASS = None, as_json: JSON = False) -> None:
    """Judge the release on trial now: it stays, goes on, or the one before comes back.

    For the boot, for timers and for people. It counts the starts of the machine, ends a trial whose
    time is over, and runs the health command that device.toml names. Without a release on trial
    it does nothing. Exit 4: the release failed.
    """
    from fwsign.gateway.trial import ends as gateway  # after the line was understood

    request = _request(config, pass_)
    with reporting(request.device):
        _show(gateway.trial(request), as_json=as_json)


@command.command(
    "confirm",
    cls=Command,
    epilog=examples("fwsign device confirm", "fwsign device confirm --sequence 1795339738"),
)
def confirm(
    *,
    config: CONFIG = None,
    sequence: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=0, help="Confirm only the release with this sequence number."
        ),
    ] = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Say, as the application, that the release on trial works.

    With confirm = "application" in device.toml a release stays only after this. It stays at once
    if its health is known already, and else when the health command has passed.
    """
    from fwsign.gateway.trial import ends as gateway  # after the line was understood

    request = _request(config, pass_)
    with reporting(request.device):
        _show(gateway.confirm(request, sequence), as_json=as_json)


@command.command("rollback", cls=Command, epilog=examples("fwsign device rollback"))
def rollback(*, config: CONFIG = None, pass_: KEY_PASS = None, as_json: JSON = False) -> None:
    """Go back to the release before, within what the floor allows.

    A release on trial ends as one that failed. A release that was committed has raised the floor:
    then the release before is installed like any other, and refused if it is below the floor.
    """
    from fwsign.cli.device.install import show  # after the line was understood
    from fwsign.gateway.rollback import rollback as go_back
    from fwsign.gateway.trial.status import TrialStatus

    request = _request(config, pass_)
    with reporting(request.device):
        done = go_back(request)
        if not isinstance(done, TrialStatus):
            show(request.device, done, as_json=as_json)
        elif done.verdict == "stays":
            raise done.refusal()
        elif as_json:
            ui.print_json(_as_json(done))
        else:
            ui.painted(done.verdict, "green", _line(done))


def _request(config: "Path | None", pass_: str | None) -> "InstallRequest":
    from fwsign.gateway.run.session import InstallRequest  # after the line was understood

    device = load_device(config)
    return InstallRequest(
        device, inputs.now(), device_signer(device.device_key, pass_), tell=ui.note
    )


def _show(found: "TrialStatus", *, as_json: bool) -> None:
    """Print how a trial is.

    Raises:
        Unsuitable: `unsuitable.trial`: it failed.
    """
    if found.ended_badly:
        raise found.refusal()
    if as_json:
        ui.print_json(_as_json(found))
        return
    ui.painted(found.verdict, "yellow" if found.verdict == "on trial" else "green", _line(found))


def _line(found: "TrialStatus") -> str:
    record = found.record
    if record is None:
        return "nothing is on trial"
    number = f"release {record.release.sequence}"
    if found.verdict == "fell back":
        back = "nothing is installed, as before"
        if record.before:
            back = f"release {record.before.sequence} is in place again"
        return "; ".join((f"{number}: {found.reason}", *found.notes, back))
    if found.verdict != "on trial":
        return f"{number}: {found.reason}"
    starts = record.most_boots - record.boots
    limits = f"at most {record.left} more seconds of uptime, and {starts} more starts"
    return f"{number}: {found.reason}; {limits}"


def _as_json(found: "TrialStatus") -> dict[str, Any]:
    record = found.record
    return {
        "verdict": found.verdict,
        "reason": found.reason or None,
        "notes": list(found.notes),
        "trial": {**record.as_json(), "seconds_left": record.left} if record else None,
    }
