# SPDX-License-Identifier: Apache-2.0
"""The lines of `fwsign device status`."""

from typing import Any

from fwsign.cli import ui


def print_status(found: dict[str, Any]) -> None:
    """Print the facts about a device, as `fwsign.gateway.enrol.status` returns them."""
    ui.out(f"device      {found['vendor']} {found['product']}")
    ui.out(f"id          {_or_none(found['id'])}")
    ui.out(f"config      {found['config']}")
    ui.out(f"memory      {found['state']}")
    ui.out(f"files       {found['target_dir']}/current")
    for one in found["anchors"]:
        limits = ", ".join(one["vendors"]) or "any vendor"
        roles = "+".join(one["roles"])
        ui.out(f"anchor      {one['name']}, {roles}, {limits}, key {one['key'][:16]}")
    hours = found["allow_stale_hours"]
    stale = f", stale for {hours} hours" if hours else ""
    profile = f", profile {found['profile']}" if found["profile"] != "strict" else ""
    policy = f"require {found['require']}, revocation {found['revocation']}{stale}{profile}"
    ui.out(f"policy      {policy}")
    if found["waived"]:
        ui.painted("waived", "yellow", f"    {', '.join(found['waived'])}")
    ui.out(f"floor       {_or_none(found['floor'])}")
    ui.out(f"time floor  {_or_none(found['time_floor'])}")
    for one in found["crls"]:
        ui.out(f"crl         {one['issuer']}, number {_or_none(one['number'])}")
    ui.out(f"installed   {_release(found['installed'])}")
    _print_in_place(found["in_place"], found["trial"])
    if previous := found["previous"]:
        kept = "kept" if previous["kept"] else "removed"
        ui.out(f"before      {_release({**previous, 'no_trial': None})}, {kept}")
    if found["unfinished"]:
        ui.painted(
            "unfinished", "yellow", f"{_release(found['unfinished'])}: fwsign install --resume"
        )
    if tried := found["trial"]:
        ui.painted("on trial", "yellow", f"  {_trial(tried)}")
    for one in found["failed"]:
        why = one["reason"] or f"interrupted {one['interrupted']} times"
        ui.out(f"failed      sequence {one['sequence']}, {one['manifest'][:16]}: {why}")
    if offer := found["offer"]:
        number, version = offer["sequence_number"], offer["version"] or "without a version"
        ui.painted("offered", "yellow", f"   sequence {number}, {version}: fwsign follow --check")
    if channel := found["channel"]:
        _print_channel(channel)
    if hold := found["hold"]:
        end = f"until {hold['until']}" if hold["until"] else "until fwsign device release"
        ui.painted("held", "yellow", f"      {end}{_because(hold['reason'])}")
    ui.out(f"receipts    {found['receipts']}, head {found['head']}")
    for line in found["warnings"]:
        ui.note(f"warning: {line}")


def _print_channel(found: dict[str, Any]) -> None:
    """Print what the channel said last, and what it means for this device now."""
    until = f"{'expired' if found['expired'] else 'until'} {found['expires']}"
    ui.out(f"channel     {found['name']}, number {found['number']}, {until}")
    if found["hold"]:
        ui.painted("on hold", "yellow", f"   the channel is held: {found['hold']}")
    for one in found["releases"]:
        verdict = one["why_not"] or "for this device"
        ui.out(f"release     sequence {one['sequence_number']}: {verdict}")


def _trial(value: dict[str, Any]) -> str:
    """Return the state of a release on trial, as a line of the status."""
    release = _release(value["release"])
    if value["phase"] != "running":
        return f"{release}, {value['phase']}: {value['reason'] or 'fwsign device trial'}"
    starts = value["most_boots"] - value["boots"]
    return f"{release}, {value['seconds_left']} more seconds, {starts} more starts"


def _print_in_place(found: dict[str, Any], tried: dict[str, Any] | None) -> None:
    verdict, faults = found["verdict"], found["faults"]
    whose = ""
    if tried and found["current"] and found["current"] == tried["release"]["directory"]:
        whose = ", those of the release on trial"
    if faults or found["advice"]:
        ui.painted("files are", "yellow", f" {'; '.join((verdict, *faults))}")
        if found["advice"]:
            ui.note(found["advice"])
    elif verdict in ("in place", "no files"):
        ui.out(f"files are   {verdict}{', every byte' if found['checked'] else ''}{whose}")


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _or_none(value: object) -> object:
    return "none" if value is None else value


def _release(value: dict[str, Any] | None) -> str:
    if not value:
        return "none"
    version = f"version {value['version']}, " if value["version"] else ""
    files = f": {', '.join(value['files'])}" if value["files"] else ""
    untried = f", no trial: {value['no_trial']}" if value.get("no_trial") else ""
    return f"sequence {value['sequence']}, {version}{value['manifest'][:16]}{files}{untried}"
