# SPDX-License-Identifier: Apache-2.0
"""`fwsign rollout`: what a staged rollout does to a fleet, before it is signed."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.channel.options import name as check_name
from fwsign.cli.channel.options import share
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.options import JSON
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.format.channel import ChannelRelease
    from fwsign.rollout.simulate import Curve, Pollster, RolloutStep

command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="See what a staged rollout does to a fleet, before it is signed.",
)
USUAL: Final = 100_000
_IDS_LIMIT: Final = 512 * 1024 * 1024
_LONGEST: Final = timedelta(days=3650)


_CHANNEL: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        readable=False,
        metavar="[CHANNEL]",
        help="A .channel file: its newest release's salt, cohorts and window count, and its "
        "share without --plan. It is not verified.",
    ),
]
_DEVICES: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="So many devices, made up. Default: 100000."),
]
_IDS: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE",
        help="The devices: an id a line, then its cohorts, with commas between them.",
    ),
]
_PLAN: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="STEPS",
        help="Shares with the times from which on they hold, as in 1%:0h,10%:24h,100%:72h.",
    ),
]
_EVERY: TypeAlias = Annotated[
    str, typer.Option(metavar="TIME", help="How often each device polls: 15min, 1h.")
]
_PAUSE: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Sign a hold after so long, and count who has the release then."
    ),
]
_SVG: TypeAlias = Annotated[
    Path | None,
    typer.Option("--svg", readable=False, metavar="FILE", help="Draw it into this file, too."),
]


@command.callback()
def _group() -> None:
    """Keep this a group: it has one command so far."""


@command.command(
    "simulate",
    cls=Command,
    epilog=examples(
        'fwsign rollout simulate --plan "1%:0h,10%:24h,100%:72h"',
        "fwsign rollout simulate stable.channel --ids devices.txt --every 15min",
        'fwsign rollout simulate --plan "1%:0h,50%:1d" --pause 30h --svg rollout.svg',
    ),
)
def simulate(
    channel: _CHANNEL = None,
    *,
    devices: _DEVICES = None,
    ids: _IDS = None,
    plan: _PLAN = None,
    every: _EVERY = "1h",
    pause: _PAUSE = None,
    svg: _SVG = None,
    as_json: JSON = False,
) -> None:
    """Simulate who gets a release when, by the rule of real devices.

    Each device polls at its own offset, and takes the release at its first poll after its share is
    there. Without CHANNEL the salt is all zeros, so that the same question has the same answer.
    """
    from fwsign.format.rollout import SALT_SIZE, Rollout
    from fwsign.rollout.simulate import MAX_DEVICES, numbered
    from fwsign.rollout.simulate import simulate as run

    if devices is not None and ids is not None:
        ui.usage("--devices and --ids exclude each other")
    if devices is not None and devices > MAX_DEVICES:
        ui.usage(f"--devices {devices}, at most {MAX_DEVICES} are simulated")
    release = _newest(channel) if channel else None
    rollout = release.rollout if release else Rollout(bytes(SALT_SIZE))
    if plan is None and release is None:
        ui.usage("neither a plan nor a channel", "as in: --plan 1%:0h,10%:24h,100%:72h")
    steps = _steps(plan if plan is not None else f"{rollout.share / 100:g}%:0h")
    curve = run(
        rollout,
        steps,
        _devices(ids) if ids else numbered(devices or USUAL),
        every=_seconds("--every", every, 60),
        begin=int(inputs.now().timestamp()),
        pause=_seconds("--pause", pause, 60) if pause else None,
        any_cohort=ids is None,
    )
    if not curve.devices:
        raise Failed("io.empty", f"{ids} names no device", expected="an id a line", found="none")
    _draw(curve, svg)
    if as_json:
        ui.print_json(_as_json(curve, svg))
    else:
        _show(curve, rollout.cohorts if ids is None else ())
    if svg is not None:
        ui.note(f"wrote {svg}")


def _newest(path: Path) -> "ChannelRelease":
    from fwsign.format.channel import read_channel
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope

    with inputs.expecting_envelope(path, ".channel"):
        found = read_channel(decode_envelope(inputs.read(path, MAX_ENVELOPE_SIZE)))
    if not found.releases:
        ui.usage(f"{path} names no release")
    if found.hold is not None:
        ui.note(f"the channel is on hold, which is left out here: {found.hold}")
    return found.releases[-1]


def _steps(text: str) -> "list[RolloutStep]":
    from fwsign.rollout.simulate import RolloutStep

    steps: list[RolloutStep] = []
    for part in text.split(","):
        size, colon, span = part.strip().partition(":")
        if not colon:
            ui.usage(f'"{part}" is no step of a plan', "write 10%:24h")
        step = RolloutStep(share(size.strip()), _seconds("--plan", span.strip(), 0))
        if steps and (step.at <= steps[-1].at or step.share < steps[-1].share):
            ui.usage(
                f'the step "{part.strip()}" is before the last, or smaller',
                "times grow, and shares do, too; a pause is --pause",
            )
        steps.append(step)
    return steps


def _seconds(option: str, text: str, least: int) -> int:
    span = inputs.parse_span(text)
    if not least <= span.total_seconds() <= _LONGEST.total_seconds():
        ui.usage(f"{option} {text} is out of range", "from a minute to ten years")
    return int(span.total_seconds())


def _devices(path: Path) -> "Iterator[Pollster]":
    """Read devices, a line each."""
    from fwsign.rollout.simulate import Pollster

    try:
        text = inputs.read(path, _IDS_LIMIT).decode("utf-8-sig")  # spreadsheets begin so
    except UnicodeDecodeError:
        raise Failed("io.format", f"{path} is not text in UTF-8", expected="UTF-8") from None
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        device, *cohorts = (one.strip() for one in line.split(","))
        if not device:
            continue
        if device in seen:
            raise Failed(
                "io.format",
                f'{path}, line {number}: "{device[:80]}" is there twice',
                expected="each device once",
                found=device[:80],
            )
        seen.add(device)
        yield Pollster(device, tuple(check_name(one) for one in cohorts if one))


def _draw(curve: "Curve", svg: Path | None) -> None:
    if svg is None:
        return
    from fwsign.files import write_atomic
    from fwsign.rollout.svg import draw

    write_atomic(svg, draw(curve, "Simulated rollout").encode(), overwrite=True)


def _as_json(curve: "Curve", svg: Path | None) -> dict[str, Any]:
    from fwsign.rollout.picture import times

    return {
        "devices": curve.devices,
        "in_cohorts": curve.members,
        "taken": len(curve.taken),
        "every": curve.every,
        "plan": [{"at": one.at, "share": one.share} for one in curve.steps],
        "pause": curve.pause,
        "spared": curve.spared,
        "polls_per_second": round(curve.devices / curve.every, 3),
        "peak_per_minute": curve.peak,
        "curve": [{"at": one, "taken": curve.by(one)} for one in times(curve, 64)],
        "svg": str(svg) if svg else None,
    }


def _show(curve: "Curve", cohorts: Sequence[str]) -> None:
    from fwsign.rollout import picture

    fleet = f"{curve.devices:,} devices, a poll every {picture.shown(curve.every)}"
    ui.painted("simulated", "green", fleet)
    for line in picture.lines(curve):
        ui.out(line)
    ui.out(f"  taken      {len(curve.taken):,} of {curve.devices:,} devices")
    if curve.pause is not None:
        ui.out(
            f"  paused     after {picture.shown(curve.pause)}: {len(curve.taken):,} have it, "
            f"{curve.spared:,} were spared"
        )
    ui.out(f"  load       {curve.devices / curve.every:,.1f} polls a second")
    ui.out(f"             {curve.peak:,} downloads a minute at most")
    if cohorts:
        ui.note(f"made-up devices count as in the cohorts {', '.join(cohorts)}: --ids names others")
