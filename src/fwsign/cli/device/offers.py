# SPDX-License-Identifier: Apache-2.0
"""Show an offer: the release that `fwsign follow` or `fwsign install --check` found."""

from typing import TYPE_CHECKING, Any

from fwsign.cli import ui

if TYPE_CHECKING:
    from fwsign.gateway.follow import Polled


def offer_facts(polled: "Polled") -> dict[str, Any]:
    """Return the fields of --json that say whether an offer would be installed now."""
    return {
        "would_install": polled.verdict == "offered",
        "obstacles": [one._asdict() for one in polled.obstacles],
        "to_fetch": polled.to_fetch,
        "place": polled.place,
    }


def show_offer(polled: "Polled") -> None:
    """Print the result of a poll for people."""
    from fwsign.receipts.facts import notice_words  # after the gateway

    colour = "yellow" if polled.obstacles else "green"
    offer = polled.offer
    ui.painted(polled.verdict, colour, offer.name if offer else "no release for this device")
    if offer is not None and polled.verdict != "nothing new":
        if words := notice_words(offer.notice):
            ui.out(f"  notice     {words}")
        ui.out(f"  size       {offer.size} bytes, at most {polled.to_fetch} of them to fetch")
    for one in polled.obstacles:
        ui.painted("  not now", "yellow", f"  {one.words}")
    for line in polled.notes:
        ui.painted("  note", "yellow", f"     {line}")
    if polled.place is not None and polled.verdict in ("waiting", "offered"):
        ui.next_command("install", polled.place)
