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
    from fwsign.flash.rehearse import BoardVerdict
    from fwsign.gateway.rehearse import DeviceVerdict

EXAMPLES: Final = examples(
    "fwsign trust rehearse fleet/ 2.trust",
    "fwsign trust rehearse fleet/ 2.trust build.bin.suit --revocation require --json",
    "fwsign trust rehearse --boards receipts.jsonl bridge.bin.suit build.bin.suit",
)


_FIRST: TypeAlias = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="DIR",
        help="Copies of devices' memories: NAME.db, with NAME.toml or device.toml beside; to be "
        "left out where --boards alone are judged.",
    ),
]
_CANDIDATES: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        readable=False,
        metavar="FILE...",
        help="Trust updates and releases, which each device meets in this order.",
    ),
]
_BOARDS: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False,
        metavar="FILE",
        help="Boards and the keys that they know: receipts, or what ports --probe --json printed; "
        "may be repeated.",
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
    first: _FIRST,
    candidates: _CANDIDATES = None,
    *,
    boards: _BOARDS = None,
    require: _REQUIRE = 1,
    revocation: _REVOCATION = "require",
    at: AT = None,
    as_json: JSON = False,
) -> None:
    """Say which devices and boards an update would strand, before it is published.

    Each candidate is judged as each device would; the memories are not changed. Payloads are not
    looked at. Boards are judged by the keys in their chips and the native signatures that a release
    states. The exit status is 3 where a device refuses that the candidate is meant for, or where
    that of a board cannot be told.
    """
    from fwsign.files import read_bytes
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE
    from fwsign.gateway.rehearse import rehearse as judge_devices
    from fwsign.verify.policy import DevicePolicy

    if revocation not in ("require", "off"):
        ui.usage(f'--revocation "{revocation}"', "choose require or off")
    policy = DevicePolicy(threshold=require, revocation="off" if revocation == "off" else "require")
    now = inputs.now()
    time = inputs.parse_time(at, now) if at else now
    directory = first if not boards or first.is_dir() else None
    paths = [*([] if directory else [first]), *(candidates or [])]
    if not paths:
        ui.usage("no file to rehearse", "name a trust update or a release")
    given = [read_bytes(path, MAX_ENVELOPE_SIZE) for path in paths]
    devices = list(judge_devices(directory, given, policy, time)) if directory else []
    found = _judge_boards(boards, given) if boards else []
    stranded = [one for one in devices if one.verdict == "stranded"]
    unsure = [one for one in found if one.verdict in ("stranded", "unknown")]
    if as_json:
        verdict = "stranded" if stranded or unsure else "accepted"
        answer_json = {"verdict": verdict, "devices": list(map(_device_as_json, devices))}
        if boards:
            answer_json["boards"] = [_board_as_json(one, paths) for one in found]
        ui.print_json(answer_json)
    else:
        _print_all(devices, found, paths)
    if stranded or unsure:
        raise typer.Exit(answer.STALE)


def _judge_boards(files: list[Path], given: list[bytes]) -> "list[BoardVerdict]":
    """Let the boards of all files meet the releases; trust updates are for devices alone."""
    from fwsign.files import read_bytes
    from fwsign.flash.rehearse import MAX_FILE, read_boards
    from fwsign.flash.rehearse import rehearse as judge
    from fwsign.trust.envelope import is_update

    known = [one for file in files for one in read_boards(read_bytes(file, MAX_FILE), file)]
    latest = {one.name: one for one in known}
    places = [number for number, data in enumerate(given) if not is_update(data)]
    if not places:
        ui.usage(
            "no release among the files", "boards meet releases; trust updates are for devices"
        )
    found = judge(latest.values(), [given[number] for number in places])
    return [one._replace(release=places[one.release]) for one in found]


def _print_all(
    devices: "list[DeviceVerdict]", boards: "list[BoardVerdict]", paths: list[Path]
) -> None:
    for device in devices:
        _print_device(device)
    for board in boards:
        _print_board(board, paths)
    if devices or not boards:
        count = sum(one.verdict == "stranded" for one in devices)
        ui.out(f"{count} of {len(devices)} devices would be stranded")
    if boards:
        count = sum(one.verdict == "stranded" for one in boards)
        unknown = sum(one.verdict == "unknown" for one in boards)
        more = f", {unknown} cannot be told" if unknown else ""
        ui.out(f"{count} of {len(boards)} boards would be stranded{more}")


def _board_as_json(one: "BoardVerdict", paths: list[Path]) -> dict[str, Any]:
    refusal = one.refusal
    return {
        "board": one.board.name,
        "chip": one.board.chip,
        "verdict": one.verdict,
        "release": str(paths[one.release]) if refusal and one.verdict != "other" else None,
        "code": refusal.code if refusal else None,
        "message": refusal.message if refusal else None,
    }


def _print_board(one: "BoardVerdict", paths: list[Path]) -> None:
    colour = {"accepts": "green", "stranded": "red"}.get(one.verdict, "yellow")
    chip = f" ({one.board.chip})" if one.board.chip else ""
    reason = f": {one.refusal.message}" if one.refusal else ""
    by = f" by {paths[one.release]}" if one.verdict == "stranded" and len(paths) > 1 else ""
    ui.painted(one.verdict, colour, f"{one.board.name}{chip}{by}{reason}")


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
