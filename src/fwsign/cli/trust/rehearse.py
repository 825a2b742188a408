# SPDX-License-Identifier: Apache-2.0
"""`fwsign trust rehearse`: judge an update by the memories of saved devices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import examples
from fwsign.cli.options import JSON
from fwsign.cli.verify.demands import AT

if TYPE_CHECKING:
    from fwsign.gateway.rehearse import DeviceVerdict

EXAMPLES: Final = examples(
    "fwsign trust rehearse fleet/ 2.trust",
    "fwsign trust rehearse fleet/ 2.trust build.bin.suit --revocation require --json",
)


_DIRECTORY: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="DIR",
        help="Copies of devices' memories: NAME.db, with NAME.toml or device.toml beside.",
    ),
]
_CANDIDATES: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        readable=False,
        metavar="FILE...",
        help="Trust updates and releases, which each device meets in this order.",
    ),
]
_REQUIRE: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=8,
        help="How many distinct signers devices without a device.toml demand.",
    ),
]
_REVOCATION: TypeAlias = Annotated[
    str,
    typer.Option(metavar="require|off", help="How devices without a device.toml judge revocation."),
]


def rehearse(
    directory: _DIRECTORY,
    candidates: _CANDIDATES,
    *,
    require: _REQUIRE = 1,
    revocation: _REVOCATION = "require",
    at: AT = None,
    as_json: JSON = False,
) -> None:
    """Say which devices an update would strand, before it is published.

    Each candidate is judged as each device would; the memories are not changed. The exit status is
    3 where a device refuses that the candidate is meant for. Payloads are not looked at.
    """
    from fwsign.files import read_bytes
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.gateway.rehearse import rehearse as judge
    from fwsign.verify.policy import DevicePolicy

    if revocation not in ("require", "off"):
        ui.usage(f'--revocation "{revocation}"', "choose require or off")
    policy = DevicePolicy(threshold=require, revocation="off" if revocation == "off" else "require")
    now = inputs.now()
    time = inputs.parse_time(at, now) if at else now
    given = [read_bytes(path, MAX_ENVELOPE_SIZE) for path in candidates]
    found = list(judge(directory, given, policy, time))
    stranded = [one for one in found if one.verdict == "stranded"]
    if as_json:
        verdict = "stranded" if stranded else "accepted"
        ui.print_json({"verdict": verdict, "devices": list(map(_device_as_json, found))})
    else:
        for one in found:
            _print_device(one)
        ui.out(f"{len(stranded)} of {len(found)} devices would be stranded")
    if stranded:
        raise typer.Exit(answer.STALE)


def _device_as_json(one: "DeviceVerdict") -> dict[str, Any]:
    return {
        "state": str(one.state),
        "verdict": one.verdict,
        "trust_list": one.trust_list,
        "code": one.refusal.code if one.refusal else None,
        "message": one.refusal.message if one.refusal else None,
    }


def _print_device(one: "DeviceVerdict") -> None:
    colour = {"accepts": "green", "other": "yellow"}.get(one.verdict, "red")
    reason = f": {one.refusal.message}" if one.refusal else ""
    has = f" (list {one.trust_list})" if one.trust_list is not None else ""
    ui.painted(one.verdict, colour, f"{one.state}{has}{reason}")
