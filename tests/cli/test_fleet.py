"""`fwsign fleet`: transcripts, and every command of docs/fleet.md."""

import csv
import json
import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.kit import REPOSITORY, good, refused, run
from fleet.kit import AT, CVE, HOSTILE, hostile, receipt, release, small, take
from fwsign.cli import inputs
from fwsign.collect.store import open_store
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from support import NOW

PAGE = REPOSITORY / "docs" / "fleet.md"
STORE = ("--store", "sqlite:///fleet.db")
STATUS = """\
devices   9: 7 signed what they run, 1 only said it, 1 said nothing
silent    1 for 7d
refused   1 at last
problems  none

product                  runs   sequence  devices  share    signed  class
acme.example/gateway-x1  2.0.0  #20       1        16.7 %   1       feature
acme.example/gateway-x1  1.5.0  #15       3        50.0 %   3       security, CVE-2026-41000
acme.example/gateway-x1  1.4.0  #14       2        33.3 %   1       feature
acme.example/sensor      9.0    #90       2        100.0 %  2       feature

refused with  devices  last
stale.crl     1        2026-11-27 12:00
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a store of a small fleet; the clock stands at its time."""
    monkeypatch.chdir(tmp_path)
    at = datetime.fromtimestamp(AT, UTC)
    monkeypatch.setattr(inputs, "now", lambda: at)
    with open_store("sqlite:///fleet.db") as store, store.transaction() as run_:
        small(run_)
    return tmp_path


def told(*words: object) -> Any:
    return json.loads(good("fleet", *words, *STORE, "--json"))


def test_status(here: Path) -> None:
    assert good("fleet", "status", *STORE) == STATUS
    found = told("status")
    assert found["totals"] == {
        "devices": 9,
        "signed": 7,
        "only_said": 1,
        "unknown": 1,
        "silent": 1,
        "refused": 1,
        "problems": {},
    }
    assert [one["version"] for one in found["releases"]] == ["2.0.0", "1.5.0", "1.4.0", "9.0"]
    assert found["refusals"][0]["code"] == "stale.crl"
    assert (found["store"], found["silent_after"]) == ("fleet.db", "7d")
    assert not list(here.glob("*.html"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--version", "1.5.0"), ["gw-1", "gw-2", "gw-3"]),
        (("--version", "1.5.0", "--product", "sensor"), []),
        (
            ("--release", release("9.0", product="sensor")["manifest_digest"][:12]),
            ["mac:01", "mac:02"],
        ),
        (("--silent", "7d"), ["gw-4"]),
        (("--silent", "30d"), []),
        (("--refused", "stale.crl"), ["gw-5"]),
        (("--refused", "any"), ["gw-5"]),
        (("--refused", "any", "--version", "1.5.0"), []),
        ((), ["gw-1", "gw-2", "gw-3", "gw-4", "gw-5", "gw-6", "gw-7", "mac:01", "mac:02"]),
    ],
)
def test_devices(here: Path, words: tuple[str, ...], names: list[str]) -> None:
    del here
    found = told("devices", *words)
    assert [one["device"] for one in found["devices"]] == names
    assert found["count"] == len(names)


def test_devices_say_what_was_proved(here: Path) -> None:
    del here
    shown = run("fleet", "devices", *STORE, "--version", "1.4.0")
    assert shown.out == (
        "device  runs                  last heard                 last result        said by\n"
        "gw-4    gateway-x1 1.4.0 #14  2026-11-07 12:00 (silent)  installed          signed\n"
        "gw-5    gateway-x1 1.4.0 #14  2026-11-27 12:00           refused stale.crl  only said\n"
    )
    assert shown.err == "fwsign: 2 devices\n"


def test_one_device_with_its_history(here: Path) -> None:
    del here
    shown = good("fleet", "device", "gw-5", *STORE)
    assert (
        "2026-11-27 12:01  refused    gateway-x1 1.5.0 #15  only said  stale.crl: the CRL" in shown
    )
    found = told("device", "mac:01")
    assert found["devices"][0]["station"] == "station-1"
    assert [one["result"] for one in found["receipts"]] == ["verified"]


def test_a_board_of_two_stations_and_a_certificate_at_its_limit(here: Path) -> None:
    flashed = receipt("station-2", "verified", AT, kind="flash", board={"identity": "mac:01"})
    with open_store(f"sqlite:///{here}/fleet.db") as store, store.transaction() as run_:
        take(run_, "station-2", {**flashed, "release": release("9.1", 91, "sensor")})
        account = "INSERT INTO accounts VALUES (?, 0, 0, 0, 0, 0, 0, 0, ?, ?, 3)"
        run_.rows(account, "gw-1", "20000 lines in a day", AT)
        run_.rows(account, HOSTILE, "64 boards of a gateway", AT - 60)
    said = good("fleet", "status", *STORE)
    assert said.startswith(
        "devices   9: 7 signed what they run, 1 only said it, 1 said nothing\n"
        "silent    1 for 7d\nrefused   1 at last\n"
        "moved     1 boards that several stations flashed, counted once\n"
        "problems  limit 2\n"
    )
    assert "gw-1 " in said
    assert "at its limit of 20000 lines in a day, refused 3 times" in said
    assert "\x1b" not in said
    found = told("status")
    assert (found["at_several_stations"], found["totals"]["problems"]) == (1, {"limit": 2})
    assert found["problems"][0] == {
        "noticed": "2026-11-27T12:00:00+00:00",
        "kind": "limit",
        "device": "gw-1",
        "detail": "at its limit of 20000 lines in a day, refused 3 times",
    }
    history = told("device", "mac:01")
    assert [one["station"] for one in history["devices"]] == ["station-2"]
    assert [one["station"] for one in history["receipts"]] == ["station-2", "station-1"]
    lines = good("fleet", "device", "mac:01", *STORE).splitlines()
    assert lines[3].split() == ["time", "result", "release", "station", "said", "by", "reason"]
    assert [line.split()[6] for line in lines[4:]] == ["station-2", "station-1"]
    lines = good("fleet", "device", "station-1", *STORE).splitlines()
    head = next(line for line in lines if line.startswith("time"))
    assert head.split()[3] == "board"


def test_rows_are_inert_in_a_spreadsheet(here: Path) -> None:
    with open_store("sqlite:///fleet.db") as store, store.transaction() as run_:
        wild = release('=HYPERLINK("http://evil.example")', 1, product="+1")
        split = release("1;=1+1; -2;ok; 3", 1, product=" @x")
        take(run_, "other", receipt("other", "installed", release=split))
        take(run_, "@evil", receipt("@evil", "installed", release=wild))
        hostile(run_)
    shown = run("fleet", "devices", *STORE, "--csv", "rows.csv")
    assert (shown.out, shown.err) == ("", "fwsign: rows in rows.csv: 12\n")
    with (here / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    evil = next(one for one in rows if one["device"] == "'@evil")
    assert evil["version"] == '\'=HYPERLINK("http://evil.example")'
    assert evil["product"] == "'+1"
    # Many spreadsheets begin another cell after a semicolon, whatever the file means.
    other = next(one for one in rows if one["device"] == "other")
    assert (other["version"], other["product"]) == ("1;'=1+1;' -2;ok; 3", "' @x")
    text = (here / "rows.csv").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    printed = good("fleet", "devices", *STORE, "--csv", "-")
    assert printed == text
    refused(
        run("fleet", "devices", *STORE, "--csv", "rows.csv"),
        5,
        "cannot write rows.csv: exists already",
        "--force replaces it",
    )


def test_texts_of_devices_do_not_move_the_cursor(here: Path) -> None:
    del here
    with open_store("sqlite:///fleet.db") as store, store.transaction() as run_:
        hostile(run_)
    for words in (("status",), ("devices",), ("device", "evil"), ("answer", "--version", HOSTILE)):
        shown = good("fleet", *words, *STORE)
        assert "\x1b" not in shown
        assert "\u202e" not in shown


@pytest.fixture
def ours(here: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store beside a project: old.suit, and new.suit, which names the advisory."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    with monkeypatch.context() as then:
        then.setattr(inputs, "now", lambda: NOW)
        good("sign", "build.bin", "--sequence", 14, "--version", "1.4.0", "--output", "old.suit")
        named = ("--class", "security", "--advisory", CVE, "--output", "new.suit")
        good("sign", "build.bin", "--sequence", 15, "--version", "1.5.0", *named)
    return here


ABOUT = (*STORE, "--advisory", CVE, "--envelope", "old.suit", "--envelope", "new.suit")


def test_an_answer_in_a_file(ours: Path) -> None:
    with open_store("sqlite:///fleet.db") as store, store.transaction() as run_:
        for name, file in (("a", "old.suit"), ("b", "new.suit"), ("c", "new.suit")):
            envelope = decode_envelope((ours / file).read_bytes())
            digest = check_manifest_digest(envelope).hex()
            lie = release("0", 99, advisories=("CVE-1",), digest=digest)
            take(run_, name, receipt(name, "installed", release=lie))
    out = good("fleet", "answer", *ABOUT, "--output", "answer.json")
    # 1.4.0 and 1.5.0 of the store are in no envelope: of the first, devices say that it is older.
    assert out == "affected  1\nclaimed   2\nmended    2 of 9\n"
    found = json.loads((ours / "answer.json").read_text(encoding="utf-8"))
    (old,) = found["affected"]["releases"]
    assert (old["version"], old["sequence_number"], old["advisories"]) == ("1.4.0", 14, [])
    page = good("fleet", "answer", *ABOUT, "--anchor", "pki/ca.crt")
    assert page.startswith("# Affected devices: CVE-2026-41000\n")
    assert "**2 of 9 devices** (22.2 %) run a release that names the advisory." in page
    refused(
        run("fleet", "answer", *ABOUT, "--output", "answer.json"),
        5,
        "cannot write answer.json: exists already",
        "--output names another file",
    )


@pytest.mark.parametrize(
    ("words", "status", "error", "hint"),
    [
        (
            ("status", "--store", "sqlite:///none.db"),
            5,
            "there is no store none.db",
            "fwsign collect",
        ),
        (
            ("status", "--store", "fleet.db"),
            2,
            'the store "fleet.db" is not sqlite:',
            "as in: --store",
        ),
        (("status", "--silent", "soon", *STORE), 2, '"soon" is not a span of time', "write 30min"),
        (
            ("device", "gw-99", *STORE),
            5,
            'no device "gw-99" has reported to fleet.db',
            "fwsign fleet",
        ),
        (("devices", "--release", "abc", *STORE), 2, '"abc" is no manifest digest', "it has hex"),
        (
            ("devices", "--release", "f" * 64, *STORE),
            5,
            "no release whose digest is f",
            "fwsign fleet",
        ),
        (("answer", *STORE), 2, "nothing is asked about", "--advisory CVE-2026-41000"),
        (
            ("answer", "--advisory", "CVE-9", *STORE),
            2,
            "--advisory without --envelope: only devices would say which release names it",
            "--envelope FILE for each of your releases",
        ),
        (
            ("answer", "--version", "1.4.0", "--anchor", "x.pem", *STORE),
            2,
            "--anchor without --envelope",
            "fwsign fleet answer --help",
        ),
        (
            ("answer", "--version", "0.0.0", *STORE),
            5,
            "no device has reported version 0.0.0",
            "fwsign fleet",
        ),
        (
            ("answer", "--version", "1.4.0", "--output", "a.pdf", *STORE),
            2,
            "a.pdf ends neither",
            "name it",
        ),
        (
            ("answer", "--version", "1.4.0", "--country", "Germany", *STORE),
            2,
            "is not a country",
            "write",
        ),
        (
            ("answer", "--version", "1.4.0", "--aware", "x", *STORE),
            2,
            '"x" is not a time',
            "write 20",
        ),
        (
            ("page", "--output", "p.html", "--device", "no", *STORE),
            5,
            'no device "no" has',
            "fwsign fleet",
        ),
    ],
)
def test_refusals(here: Path, words: tuple[str, ...], status: int, error: str, hint: str) -> None:
    found = run("fleet", *words)
    assert found.status == status
    assert error in found.errors[0]
    assert found.errors[1].startswith(f"hint: {hint}")
    assert found.out == ""
    assert [one.name for one in here.iterdir() if not one.name.startswith("fleet.db")] == []


def test_a_page_replaces_a_page_and_nothing_else(here: Path) -> None:
    page = here / "fleet.html"
    words = ("fleet", "page", *STORE, "--output", "fleet.html")
    assert good(*words) == "fleet.html\n"
    refused(run(*words), 5, "fleet.html exists already", "--force replaces a page")
    assert good(*words, "--device", "gw-4", "--force") == "fleet.html\n"
    page.write_text("a letter")
    found = run(*words, "--force")
    assert found.errors[0].endswith("exists already, and is no page of fwsign fleet page")
    assert page.read_text() == "a letter"


def test_an_envelope_of_somebody_else_says_nothing(ours: Path) -> None:
    good(
        "init",
        "other",
        "--org",
        "Other",
        "--no-passphrase",
        "--vendor",
        "acme.example",
        "--product",
        "gateway-x1",
    )
    found = run("fleet", "answer", *ABOUT, "--anchor", "other/pki/ca.crt")
    assert (found.status, "old.suit" in found.errors[0]) == (1, True)
    (ours / "old.suit").write_bytes(b"x")
    assert run("fleet", "answer", *ABOUT).status == 1


def test_every_command_of_the_page_runs(ours: Path) -> None:
    del ours
    text = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^\$ fwsign (fleet .*)$", text, re.MULTILINE)
    assert len(commands) == 9
    for line in commands:
        good(*shlex.split(line))
    block = re.search(r"```text\n(devices .*?)```", text, re.DOTALL)
    assert block is not None
    assert STATUS.startswith(block[1])
