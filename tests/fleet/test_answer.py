"""The answer that a manufacturer owes within 24 hours."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.kit import AT, CVE, HOSTILE, hostile, receipt, release, small, take
from fwsign.collect.store import FleetStore, open_store
from fwsign.fleet.answer import FleetAnswer, FleetAsked, as_json, find_answer, unknowns
from fwsign.fleet.answer_page import as_markdown
from fwsign.fleet.own import OwnRelease, read_own
from fwsign.fleet.questions import Questions
from support import NOW, make_manifest, make_pki, refused, sign_with

WHEN = datetime.fromtimestamp(AT, UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with open_store(f"sqlite:///{tmp_path}/fleet.db") as made:
        with made.transaction() as run:
            small(run)
        yield made


def answer(store: FleetStore, asked: FleetAsked) -> FleetAnswer:
    with Questions.asked(store, WHEN, timedelta(7)) as questions:
        return find_answer(questions, asked, "fleet.db", "7 days")


def own(version: str, sequence: int, *advisories: str, digest: str | None = None) -> OwnRelease:
    """Return what the manufacturer's envelope says of a release that a device may run."""
    made = bytes.fromhex(digest or release(version)["manifest_digest"])
    kind = "security" if advisories else None
    return OwnRelease(made, "acme.example", "gateway-x1", version, sequence, kind, advisories)


OWN = (own("1.4.0", 14), own("1.5.0", 15, CVE), own("2.0.0", 20))


def names(found: FleetAnswer) -> tuple[list[str], list[str]]:
    return [one.name for one in found.affected], [one.name for one in found.mending]


def test_an_advisory_alone_affects_all_before_what_mends_it(store: FleetStore) -> None:
    found = answer(store, FleetAsked(CVE, own=OWN))
    assert names(found) == (["1.4.0"], ["1.5.0"])
    assert (found.devices, found.signed, found.silent, found.refused) == (2, 1, 1, {"stale.crl": 1})
    assert (found.mended, found.newer, found.others, found.everyone) == (3, 1, 0, 6)
    told = as_json(found)
    assert told["affected"]["found"] == f"derived: every release before one that names {CVE}"
    assert told["affected"]["refused"] == [{"code": "stale.crl", "devices": 1}]
    assert (told["affected"]["signed"], told["affected"]["only_said"]) == (1, 1)
    assert told["affected"]["silent"] == 1
    assert told["mended"]["devices"] == 3


def test_a_named_version_is_affected_and_no_other(store: FleetStore) -> None:
    found = answer(store, FleetAsked(CVE, version="2.0.0", own=OWN))
    assert names(found) == (["2.0.0"], ["1.5.0"])
    assert (found.mended, found.newer, found.others) == (3, 0, 2)


def test_a_named_release_is_affected_even_if_it_names_the_advisory(store: FleetStore) -> None:
    digest = bytes.fromhex(release("1.5.0")["manifest_digest"])
    found = answer(store, FleetAsked(CVE, release=digest, own=OWN))
    assert names(found) == (["1.5.0"], [])
    assert "which release mends it: none that a device runs names it" in unknowns(found)[0]
    assert "--envelope" not in unknowns(found)[0]
    found = answer(store, FleetAsked(CVE, release=digest))
    assert unknowns(found)[0].endswith(f"names it ({CVE}); --envelope gives yours")


def test_other_products_are_not_counted(store: FleetStore) -> None:
    found = answer(store, FleetAsked(version="9.0"))
    assert (found.devices, found.everyone) == (2, 2)
    with refused("io.missing", "no device has reported version 9.0, or of product gateway-x1"):
        answer(store, FleetAsked(version="9.0", product="gateway-x1"))


def test_what_nobody_reported_is_refused(store: FleetStore) -> None:
    with refused("io.missing", "no device has reported a release that names CVE-1"):
        answer(store, FleetAsked("CVE-1"))


def test_an_invented_release_does_not_make_others_look_mended(store: FleetStore) -> None:
    invented = release("0.0.1", 1, advisories=(CVE,))
    with store.transaction() as run:
        for number in range(20):  # more than run anything else
            take(run, f"evil-{number}", receipt(f"evil-{number}", "installed", release=invented))
    found = answer(store, FleetAsked(CVE, own=OWN))
    assert names(found) == (["1.4.0"], ["1.5.0"])
    assert (found.devices, found.mended, found.only_claimed) == (2, 3, 20)
    assert [one.name for one in found.claimed] == ["0.0.1"]
    told = as_json(found)["claimed"]
    assert (told["devices"], told["releases"][0]["advisories"]) == (20, [])
    words = "whether 20 devices are affected, which say that they run releases of which you gave no"
    assert any(one.startswith(words) for one in unknowns(found))
    page = as_markdown(found)
    assert "**20 devices** say that they run a release that no envelope is of." in page


@pytest.mark.parametrize("sequence", [1, 99, None])
def test_a_device_that_lies_decides_nothing(store: FleetStore, sequence: int | None) -> None:
    """It invents a manifest, or says of a genuine one what its envelope does not."""
    genuine = release("1.4.0")["manifest_digest"]
    with store.transaction() as run:
        for number in range(9):
            lie = release("1.4.0", sequence, advisories=(CVE,), digest=genuine)
            take(run, f"evil-{number}", receipt(f"evil-{number}", "installed", release=lie))
    found = answer(store, FleetAsked(CVE, own=OWN))
    assert names(found) == (["1.4.0"], ["1.5.0"])
    assert (found.affected[0].sequence, found.affected[0].advisories) == (14, ())
    assert (found.devices, found.mended) == (11, 3)


def test_by_version_only_ones_own_releases_count_where_there_are_envelopes(
    store: FleetStore,
) -> None:
    with store.transaction() as run:
        lie = release("1.4.0", 14, digest="ab" * 32)
        take(run, "evil", receipt("evil", "installed", release=lie))
    found = answer(store, FleetAsked(version="1.4.0", own=OWN))
    assert (found.devices, found.only_claimed) == (2, 1)
    assert as_json(found)["affected"]["found"] == "named: version 1.4.0"
    found = answer(store, FleetAsked(version="1.4.0"))
    assert (found.devices, found.only_claimed) == (3, 0)
    assert as_json(found)["affected"]["found"] == "named: version 1.4.0, as devices say"


def test_the_first_release_that_names_it_mends_it(store: FleetStore) -> None:
    later = (*OWN[:2], own("2.0.0", 20, CVE))
    found = answer(store, FleetAsked(CVE, own=later))
    assert names(found) == (["1.4.0"], ["2.0.0", "1.5.0"])


def test_without_an_envelope_nothing_names_an_advisory(store: FleetStore) -> None:
    with refused("io.missing", f"no device has reported a release that names {CVE}"):
        answer(store, FleetAsked(CVE))


def test_what_an_envelope_says_is_verified() -> None:
    pki = make_pki()
    envelope = sign_with(pki, make_manifest(sequence_number=14))
    with refused("io.format", "its text was cut off"):
        read_own(envelope, [pki.root.anchor], NOW)
    with refused("io.format", "its text was cut off"):  # when its CRLs are stale, too
        read_own(envelope, [pki.root.anchor], NOW + 4000 * timedelta(days=1))
    with refused("untrusted.no-anchor"):
        read_own(envelope, [make_pki().root.anchor], NOW)


def test_deadlines_follow_from_the_time_of_awareness(store: FleetStore) -> None:
    aware = datetime(2026, 11, 27, 8, tzinfo=UTC)
    asked = FleetAsked(CVE, aware=aware, countries=("DE", "FR"), own=OWN)
    told = as_json(answer(store, asked))
    assert told["law"]["act"] == "Regulation (EU) 2024/2847, Article 14"
    assert told["law"]["early_warning_due"] == "2026-11-28T08:00:00+00:00"
    assert told["law"]["notification_due"] == "2026-11-30T08:00:00+00:00"
    assert told["available_in"] == ["DE", "FR"]
    page = as_markdown(answer(store, asked))
    assert "| early warning, within 24 hours | 2026-11-28 08:00 UTC |" in page
    assert "- countries in which the product is available: DE, FR\n" in page


def test_what_is_not_known_is_left_open_and_named(store: FleetStore) -> None:
    found = answer(store, FleetAsked(CVE, own=OWN))
    told = as_json(found)
    assert told["law"]["aware"] is None
    assert told["available_in"] is None
    assert set(told["to_fill_in"].values()) == {None}
    page = as_markdown(found)
    for words in (
        "| became aware | ____________ |",
        "- manufacturer: ____________",
        "whether all older releases are affected",
        "1 of the affected devices only say so, without a signature",
        "1 of the affected devices were silent for 7 days",
        "1 devices of the fleet never said what they run",
        "nothing here says whether a device was attacked",
        "whether newer releases that do not name it, on 1 devices, mend it",
    ):
        assert words in page
    assert json.loads(json.dumps(told)) == told


def test_texts_of_devices_are_text_in_markdown(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/evil.db") as store:
        with store.transaction() as run:
            hostile(run)
            wild = release("[x](http://evil.example) | `a` **b** <img>", 3, product="evil")
            take(run, "e2", receipt("e2", "installed", release=wild))
        page = as_markdown(answer(store, FleetAsked(version=wild["version"])))
        other = as_markdown(answer(store, FleetAsked(version=HOSTILE)))
    assert r"\[x\](http\://evil.example) \| \`a\` \*\*b\*\* \<img\>" in page
    assert r"\<script\>document.title='owned'\</script\>\</script\>\\x1b\[31m\\u202e" in other
    assert "\x1b" not in other
    assert "\u202e" not in other
