# SPDX-License-Identifier: Apache-2.0
"""The answer that a manufacturer owes within 24 hours: what is affected, and how far it is mended.

Article 14 of the Cyber Resilience Act, Regulation (EU) 2024/2847, wants an early warning within 24
hours of becoming aware of an actively exploited vulnerability or of a severe incident, and a
notification within 72 hours. This answers what a collector can know of that. What it cannot know is
left to fill in, and named.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from fwsign import __version__
from fwsign.errors import Failed
from fwsign.fleet.model import rfc3339
from fwsign.fleet.own import as_signed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fwsign.fleet.model import FleetRelease
    from fwsign.fleet.own import OwnRelease
    from fwsign.fleet.questions import Questions

LAW: Final = "Regulation (EU) 2024/2847, Article 14"
WARNING: Final = timedelta(hours=24)
"""Article 14(2)(a) and (4)(a)."""
NOTIFICATION: Final = timedelta(hours=72)
"""Article 14(2)(b) and (4)(b)."""
FINAL_REPORT: Final = (
    "of a vulnerability 14 days after a corrective or mitigating measure is available, of an "
    "incident one month after its notification"
)
"""Article 14(2)(c) and (4)(c)."""
TO_FILL_IN: Final = (
    "manufacturer",
    "kind: actively exploited vulnerability, or severe incident",
    "nature of the vulnerability or incident, and how it is exploited",
    "whether unlawful or malicious acts are suspected, if it is an incident",
    "measures that users can take meanwhile",
    "how sensitive this information is",
)
"""What the notifications need and no receipt has."""
_UNKNOWABLE: Final = (
    "devices that never reported, or report elsewhere, are not counted",
    "nothing here says whether a device was attacked",
    "a device speaks for itself: who owns a device can let it sign what is not so",
)


class FleetAsked(NamedTuple):
    """What is asked about.

    Args:
        advisory: the advisory, such as "CVE-2026-1234".
        version: the affected version; None if it is named otherwise.
        release: the affected release's manifest digest; None if it is named otherwise.
        product: the affected product; None for each that fits.
        aware: when the manufacturer became aware; None leaves it to fill in.
        countries: where the product is available; empty leaves it to fill in.
        own: the manufacturer's releases, from verified envelopes. Only they say which release names
            the advisory, and if there are any, which releases are affected.
    """

    advisory: str | None = None
    version: str | None = None
    release: bytes | None = None
    product: str | None = None
    aware: datetime | None = None
    countries: tuple[str, ...] = ()
    own: tuple[OwnRelease, ...] = ()


class FleetAnswer(NamedTuple):
    """The answer.

    Args:
        asked: what was asked about.
        at: the time of the answer, seconds since 1970.
        source: where the receipts are stored.
        silence: the span after which a device is silent, in words.
        affected: the releases that are affected and run somewhere.
        mending: the releases that name the advisory, and run somewhere.
        claimed: the releases that would be affected by what devices report, and no envelope that
            was given is of them: a device may have invented them.
        silent: those of the devices with an affected release that are silent.
        refused: the codes with which their last actions ended, and how many did.
        newer: the devices that run a release after one that mends it, which does not name it.
        others: the devices of the same products that run none of these.
        unknown: the devices of the fleet that never said what they run.
        moved: the boards of the fleet that several stations flashed.
    """

    asked: FleetAsked
    at: int
    source: str
    silence: str
    affected: tuple[FleetRelease, ...]
    mending: tuple[FleetRelease, ...]
    claimed: tuple[FleetRelease, ...]
    silent: int
    refused: Mapping[str, int]
    newer: int
    others: int
    unknown: int
    moved: int = 0

    @property
    def devices(self) -> int:
        """The devices that run an affected release."""
        return sum(one.devices for one in self.affected)

    @property
    def signed(self) -> int:
        """Those of them that signed that."""
        return sum(one.signed for one in self.affected)

    @property
    def mended(self) -> int:
        """The devices that run a release that names the advisory."""
        return sum(one.devices for one in self.mending)

    @property
    def everyone(self) -> int:
        """All devices of the products that are concerned."""
        return self.devices + self.mended + self.only_claimed + self.newer + self.others

    @property
    def only_claimed(self) -> int:
        """The devices that say they run a release of which no envelope was given."""
        return sum(one.devices for one in self.claimed)


def find_answer(questions: Questions, asked: FleetAsked, source: str, silence: str) -> FleetAnswer:
    """Return the answer of a fleet at one moment.

    Args:
        questions: the fleet.
        asked: what is asked about.
        source: where it is stored, without secrets.
        silence: the span after which a device is silent, in words.

    Raises:
        Failed: `io.missing`: no release and no device fits.
    """
    own = {one.manifest: one for one in asked.own}
    named = [as_signed(one, own) for one in questions.releases()]
    every = [one for one in named if asked.product in (None, one.product)]
    places = [_place(one, asked, own) for one in every]
    affected, mending, claimed = (
        [one for one, place in zip(every, places, strict=True) if place == wanted]
        for wanted in ("affected", "mending", "claimed")
    )
    if not affected and not mending and not claimed:
        raise Failed(
            "io.missing",
            f"no device has reported {_words(asked)}",
            expected=_words(asked),
            found=f"{len(every)} other releases",
            hint="fwsign fleet status lists the releases that devices run",
        )
    products = {(one.vendor, one.product) for one in (*affected, *mending, *claimed)}
    silent, refused = 0, dict[str, int]()
    for one in affected:
        gone, codes = questions.ended(one.manifest)
        silent += gone
        for code, count in codes.items():
            refused[code] = refused.get(code, 0) + count
    beside = [
        (one.devices, place)
        for one, place in zip(every, places, strict=True)
        if (one.vendor, one.product) in products
    ]
    totals = questions.totals()
    return FleetAnswer(
        asked,
        questions.at,
        source,
        silence,
        tuple(affected),
        tuple(mending),
        tuple(claimed),
        silent,
        dict(sorted(refused.items(), key=lambda two: (-two[1], two[0]))),
        sum(count for count, place in beside if place == "newer"),
        sum(count for count, place in beside if place == "other"),
        totals.unknown,
        totals.moved,
    )


def _mended_from(one: FleetRelease, asked: FleetAsked) -> int | None:
    """Return the sequence number from which on a release's product is mended; None if none is.

    Only one's own envelopes say that: a device can invent a release which names the advisory.
    """
    known = [
        other.sequence
        for other in asked.own
        if (other.vendor, other.product) == (one.vendor, one.product)
        and asked.advisory in other.advisories
    ]
    return min(known, default=None)


def _place(
    one: FleetRelease, asked: FleetAsked, own: Mapping[bytes, OwnRelease]
) -> Literal["affected", "mending", "claimed", "newer", "other"]:
    """Return how a release is concerned: as named, or by its place before what mends it."""
    named = asked.release is not None or asked.version is not None
    known = not own or one.manifest in own
    if named and asked.release in (None, one.manifest) and asked.version in (None, one.version):
        return "affected" if known or asked.release is not None else "claimed"
    if asked.advisory and asked.advisory in one.advisories:
        return "mending"
    mended_from = _mended_from(one, asked)
    if mended_from is None:
        return "other"
    if one.sequence is None or one.sequence < mended_from:
        return "other" if named else "affected" if known else "claimed"
    return "newer"


def _words(asked: FleetAsked) -> str:
    parts = [
        asked.release and f"release {asked.release.hex():.16}",
        asked.version and f"version {asked.version}",
        asked.product and f"of product {asked.product}",
        asked.advisory and f"a release that names {asked.advisory}",
    ]
    return ", or ".join(str(one) for one in parts if one)


def chosen_by(asked: FleetAsked) -> str:
    """Return how the affected releases were found, in words."""
    if asked.release is not None:
        return f"named: release {asked.release.hex()}"
    if asked.version is not None:
        by = "" if asked.own else ", as devices say"
        return f"named: version {asked.version}{by}"
    return f"derived: every release before one that names {asked.advisory}"


def unknowns(answer: FleetAnswer) -> list[str]:
    """Return what the answer does not know, in sentences."""
    asked, said = answer.asked, answer.devices - answer.signed
    found = []
    if asked.release is None and asked.version is None:
        found.append(
            "whether all older releases are affected, or only some: name them with --version or "
            "--release once you know"
        )
    if not answer.mending:
        about = asked.advisory or "no advisory was asked for"
        how = "; --envelope gives yours" if not asked.own else ""
        found.append(f"which release mends it: none that a device runs names it ({about}){how}")
    if answer.claimed:
        found.append(
            f"whether {answer.only_claimed} devices are affected, which say that they run releases "
            "of which you gave no envelope: give yours with --envelope; a device can invent one"
        )
    if answer.newer:
        found.append(
            f"whether newer releases that do not name it, on {answer.newer} devices, mend it"
        )
    if said:
        found.append(f"{said} of the affected devices only say so, without a signature")
    if answer.silent:
        found.append(
            f"{answer.silent} of the affected devices were silent for {answer.silence}: they may "
            "run another release by now, or be gone"
        )
    if answer.unknown:
        found.append(f"{answer.unknown} devices of the fleet never said what they run")
    if answer.moved:
        found.append(
            f"what {answer.moved} boards run that several stations flashed: the latest receipt "
            "counts, whichever station wrote it"
        )
    disputed = sum(one.disputed for one in (*answer.affected, *answer.mending))
    if disputed:
        found.append(f"{disputed} devices give a release another name than most do")
    if not asked.countries:
        found.append("in which countries the product is available: fill it in")
    return [*found, *_UNKNOWABLE]


def as_json(answer: FleetAnswer) -> dict[str, Any]:
    """Return the answer for programs."""
    asked, aware = answer.asked, answer.asked.aware
    return {
        "kind": "fwsign fleet answer",
        "at": rfc3339(answer.at),
        "source": answer.source,
        "law": {
            "act": LAW,
            "aware": aware.isoformat() if aware else None,
            "early_warning_due": (aware + WARNING).isoformat() if aware else None,
            "notification_due": (aware + NOTIFICATION).isoformat() if aware else None,
            "final_report_due": FINAL_REPORT,
        },
        "to_fill_in": dict.fromkeys(TO_FILL_IN),
        "advisory": asked.advisory,
        "affected": {
            "found": chosen_by(asked),
            "devices": answer.devices,
            "signed": answer.signed,
            "only_said": answer.devices - answer.signed,
            "silent": answer.silent,
            "releases": [one.as_json() for one in answer.affected],
            "refused": [{"code": code, "devices": n} for code, n in answer.refused.items()],
        },
        "claimed": {
            "devices": answer.only_claimed,
            "releases": [one.as_json() for one in answer.claimed],
        },
        "mended": {
            "devices": answer.mended,
            "newer": answer.newer,
            "of": answer.everyone,
            "releases": [one.as_json() for one in answer.mending],
        },
        "neither": {"devices": answer.others},
        "available_in": list(asked.countries) or None,
        "unknown": unknowns(answer),
        "fwsign": __version__,
    }
