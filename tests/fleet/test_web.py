"""What a collector answers to the page's script, without a network."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from fleet.kit import AT, HOSTILE, hostile, receipt, release, small, take
from fwsign.collect.store import FleetStore, open_store
from fwsign.fleet import web
from fwsign.fleet.web import FRESH, FleetPages

WHEN = datetime.fromtimestamp(AT, UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with open_store(f"sqlite:///{tmp_path}/fleet.db") as made:
        with made.transaction() as run:
            small(run)
        yield made


def pages(store: FleetStore, clock: list[datetime] | None = None) -> FleetPages:
    times = clock or [WHEN]
    return FleetPages(store, timedelta(7), lambda: times[-1])


def got(found: FleetPages, path: str, query: str = "", status: int = 200) -> Any:
    answer = found.answer(path, dict(parse_qsl(query, keep_blank_values=True)))
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return json.loads(answer.body)


def test_the_page_forbids_all_but_its_own_script_and_questions(store: FleetStore) -> None:
    answer = pages(store).answer("/", {})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert policy.endswith(
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert b'"devices":9,' in answer.body


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("kind=silent", ["gw-4"]),
        ("kind=refused", ["gw-5"]),
        ("kind=refused:stale.crl", ["gw-5"]),
        ("kind=said", ["gw-5"]),
        ("kind=all&like=mac", ["mac:01", "mac:02"]),
        (f"kind=release:{release('1.5.0')['manifest_digest']}", ["gw-1", "gw-2", "gw-3"]),
        ("kind=refused:%27%20OR%201=1", []),
    ],
)
def test_devices_of_a_kind(store: FleetStore, query: str, names: list[str]) -> None:
    found = got(pages(store), "/fleet/devices", query)
    assert [one["name"] for one in found["rows"]] == names
    assert found["next"] is None


def test_devices_come_in_pages(store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ROWS", 4)
    found, names, after = pages(store), [], ""
    for size in (4, 4, 1):
        part = found.answer("/fleet/devices", {"kind": "all", "after": after})
        told = json.loads(part.body)
        assert len(told["rows"]) == size
        names += [one["id"] for one in told["rows"]]
        after = told["next"]
    assert after is None
    assert names == [*(f"gw-{number}" for number in range(1, 8)), "mac:01", "mac:02"]


def test_a_history_comes_in_pages(store: FleetStore) -> None:
    with store.transaction() as run:
        for number in range(60):
            take(run, "gw-1", receipt("gw-1", "installed", AT + number, release=release()))
    found = pages(store)
    first = got(found, "/fleet/device", "id=gw-1")
    second = got(found, "/fleet/device", f"id=gw-1&before={first['next']}")
    assert (len(first["events"]), len(second["events"])) == (50, 12)
    assert (first["device"]["name"], second["next"]) == ("gw-1", None)


def test_a_device_that_is_not_there_has_no_history(store: FleetStore) -> None:
    found = got(pages(store), "/fleet/device", "id=none")
    assert found == {"device": None, "events": [], "next": None}


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/fleet/devices", "kind=everything", "kind is all, silent, refused, signed, said,"),
        ("/fleet/devices", "kind=release:zz", "a release is named by its manifest digest in hex"),
        ("/fleet/devices", "kind=refused:", "kind is all"),
        ("/fleet/devices", "after=5", "after is what the answer before names as next"),
        ("/fleet/devices", "after=[1,2]", "after is what"),
        ("/fleet/devices", f"after={'[' * 500}", "after is what"),
        ("/fleet/devices", "like=%00", "too long, or has a NUL in it"),
        ("/fleet/devices", f"like={'x' * 600}", "too long, or has a NUL in it"),
        ("/fleet/device", "id=gw-1&before=-5", "before is the number of a receipt"),
        ("/fleet/device", f"id=gw-1&before={'9' * 40}", "before is the number of a receipt"),
        ("/fleet/device", "id=gw-1&before=%D9%A3", "before is the number of a receipt"),
    ],
)
def test_questions_that_make_no_sense_are_refused(
    store: FleetStore, path: str, query: str, words: str
) -> None:
    found = got(pages(store), path, query, 400)
    assert found["code"] == "usage"
    assert words in found["message"]


def test_text_that_is_no_unicode_finds_nothing_or_is_refused(store: FleetStore) -> None:
    answer = pages(store).answer("/fleet/devices", {"like": "\ud800"})
    assert answer.status == 400


def test_other_paths_are_not_there(store: FleetStore) -> None:
    found = got(pages(store), "/fleet/../etc/passwd", status=404)
    assert found == {"code": "io.missing", "message": "there is no /fleet/../etc/passwd"}


def test_numbers_are_counted_once_for_all_who_ask(store: FleetStore) -> None:
    times = [WHEN]
    found = pages(store, times)
    assert got(found, "/fleet/status")["totals"]["devices"] == 9
    with store.transaction() as run:
        take(run, "gw-new", receipt("gw-new", "installed", release=release()))
    assert got(found, "/fleet/status")["totals"]["devices"] == 9
    times.append(WHEN + timedelta(seconds=FRESH))
    assert got(found, "/fleet/status")["totals"]["devices"] == 10


def test_a_store_that_does_not_answer_says_little(store: FleetStore) -> None:
    with store.transaction() as run:
        run.rows("DROP TABLE running")
    found = got(pages(store), "/fleet/status", status=503)
    assert found == {"code": "io.store", "message": "the store does not answer"}


def test_what_devices_wrote_is_escaped_and_cut(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/evil.db") as store:
        with store.transaction() as run:
            hostile(run)
        found = pages(store)
        bodies = [
            found.answer("/", {}).body.decode(),
            *(found.answer(path, {"id": "evil"}).body.decode() for path in web.PATHS[1:]),
        ]
    for text in bodies:
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert r"\u202e" not in text.replace(r"\\u202e", "")  # which JSON would turn into it
        assert "x" * 700 not in text
    assert bodies[0].count("<script") == 2
    assert HOSTILE[:20] not in bodies[0]
