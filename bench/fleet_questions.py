# SPDX-License-Identifier: Apache-2.0
"""How long questions to a large fleet take, and its page.

usage: fleet_questions.py STORE [--runs 7]      prints milliseconds as JSON

STORE is one that `synthetic.py` has filled, such as postgresql://HOST/DATABASE. Each question is
asked once before it is measured; `first` is that first time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from synthetic import NOW, VENDOR, manifest_of, version_of

from fwsign.collect.store import FleetStore, open_store
from fwsign.fleet.answer import FleetAsked, find_answer
from fwsign.fleet.own import OwnRelease
from fwsign.fleet.questions import DeviceFilter, Questions
from fwsign.fleet.web import FleetPages

WHEN = datetime.fromtimestamp(NOW, UTC)
SILENCE = timedelta(7)
ADVISORY = "CVE-2026-1040"
PRODUCT = "gateway-x1"
OWN = tuple(
    OwnRelease(
        manifest_of(PRODUCT, number),
        VENDOR,
        PRODUCT,
        version_of(number),
        number,
        None,
        (ADVISORY,) if number == 40 else (),
    )
    for number in range(1, 41)
)
"""The releases up to that which names the advisory, as a manufacturer's envelopes say them."""


def main() -> None:
    """Ask, and print how long the answers took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    with open_store(given.store, make=False) as store:
        with store.transaction("read") as run:
            ((devices,),) = run.rows("SELECT count(*) FROM devices")
            ((receipts,),) = run.rows("SELECT max(receipt) FROM receipts")
        found = {what: timed(call, given.runs) for what, call in questions(store).items()}
    print(json.dumps({"devices": devices, "receipts": receipts, "milliseconds": found}, indent=2))


def questions(store: FleetStore) -> dict[str, Callable[[], object]]:
    """Return what is asked, by what it is called in the results."""

    def asked(ask: Callable[[Questions], Any]) -> Callable[[], object]:
        def call() -> object:
            with Questions.asked(store, WHEN, SILENCE) as found:
                return ask(found)

        return call

    def page(path: str, **query: str) -> Callable[[], object]:
        def call() -> object:
            found = FleetPages(store, SILENCE, lambda: WHEN).answer(path, query)
            if found.status != 200:
                raise SystemExit(f"bench: error: {path}: {found.body[:200]!r}")
            return found

        return call

    newest, old = DeviceFilter(version=version_of(40)), DeviceFilter(version=version_of(37))
    manifest = manifest_of(PRODUCT, 40).hex()
    return {
        "how many devices run which release": asked(lambda one: one.releases()),
        "which devices run version X, all of them": asked(lambda one: one.devices(newest)),
        "which devices run an older version X": asked(lambda one: one.devices(old)),
        "which devices are silent": asked(lambda one: one.devices(DeviceFilter(silent=True))),
        "the history of one device": asked(lambda one: one.events("gw-012345")),
        "the answer within 24 hours": asked(
            lambda one: find_answer(one, FleetAsked(ADVISORY, own=OWN), "bench", "7 days")
        ),
        "the page, counted anew": page("/"),
        "the page's list of a release": page("/fleet/devices", kind=f"release:{manifest}"),
        "the page's search by id": page("/fleet/devices", kind="all", like="gw-0123"),
        "the page's list, last part": page("/fleet/devices", kind="all", after='["gw-099000", ""]'),
        "the page's history of one device": page("/fleet/device", id="gw-054321"),
    }


def timed(call: Callable[[], object], runs: int) -> dict[str, float]:
    """Return the first time, and the median of the others, in milliseconds."""
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return {"first": round(times[0], 1), "median": round(statistics.median(times[1:]), 1)}


if __name__ == "__main__":
    main()
