# SPDX-License-Identifier: Apache-2.0
"""Show an offer: the release that `fwsign follow` or `fwsign install --check` found."""

from typing import TYPE_CHECKING, Any

from fwsign.cli import answer, ui

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device
    from fwsign.gateway.follow.polling import Polled


def show_polled(device: "Device", polled: "Polled", *, as_json: bool, line: bool = False) -> None:
    """Print the result of a poll, for people or as JSON; `line` puts the JSON on one line."""
    if as_json:
        facts = _as_json(device, polled)
        ui.print_json_line(facts) if line else ui.print_json(facts)
    else:
        _show(polled)


def _as_json(device: "Device", polled: "Polled") -> dict[str, Any]:
    from fwsign.receipts.chain import waivers  # after the gateway

    return answer.accepted(
        polled.verdict,
        polled.installed.release.unchecked if polled.installed else (),
        polled.offer.as_json() if polled.offer else None,
        would_install=polled.verdict == "offered",
        obstacles=[one._asdict() for one in polled.obstacles],
        to_fetch=polled.to_fetch,
        place=polled.place,
        waived=list(waivers(device.policy)),
        notes=list(polled.notes),
        channel=polled.choice.as_json() if polled.choice else None,
    )


def _show(polled: "Polled") -> None:
    from fwsign.receipts.facts import notice_words  # after the gateway

    colour = "yellow" if polled.obstacles else "green"
    offer = polled.offer
    ui.painted(polled.verdict, colour, offer.name if offer else _nothing(polled))
    if offer is not None and polled.verdict != "nothing new":
        if words := notice_words(offer.notice):
            ui.out(f"  notice     {words}")
        ui.out(f"  size       {offer.size} bytes, at most {polled.to_fetch} of them to fetch")
    if polled.choice is not None:
        ui.out(f"  channel    {polled.choice.words}")
    for one in polled.obstacles:
        ui.painted("  not now", "yellow", f"  {one.words}")
    for line in polled.notes:
        ui.painted("  note", "yellow", f"     {line}")
    names = {one.name for one in polled.obstacles}
    open_ = polled.verdict in ("waiting", "offered") and "trial" not in names  # else it is refused
    if polled.place is not None and open_:
        ui.next_command("install", polled.place, *(("--retry",) if "failed" in names else ()))


def _nothing(polled: "Polled") -> str:
    """Return the words for a poll that has no offer to show."""
    release = polled.choice.release if polled.choice else None
    failed = any(one.name == "failed" for one in polled.obstacles)
    if release is None or (polled.obstacles and not failed):
        return "no release for this device"
    return f"release {release.sequence_number}{'' if failed else ' is here'}"
