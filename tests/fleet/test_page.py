"""The page in a file: what it may do, what it says, and how it behaves in a browser."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from browser import Browser, chromium
from fleet.kit import AT, DAY, hostile, receipt, release, small, take
from fwsign.collect.store import FleetRun, open_store
from fwsign.fleet import page
from fwsign.fleet.questions import Questions

WHEN = datetime.fromtimestamp(AT, UTC)
DARK, LIGHT = "rgb(15, 19, 25)", "rgb(245, 246, 248)"


def everything(run: FleetRun) -> None:
    """Store a fleet with several products, a rollout of a week, and problems."""
    small(run)
    hostile(run)
    for number in range(120):
        name = f"unit-{number:03}"
        begin = AT - 8 * DAY + number * 5000
        old = release("4.1.0", 41, product="thermostat")
        take(run, name, receipt(name, "installed", begin - 9 * DAY, release=old))
        if number % 3:
            new = release("4.2.0", 42, product="thermostat")
            take(run, name, receipt(name, "installed", begin, release=new))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, fill in (("whole", everything), ("empty", lambda _: None)):
        place = tmp_path_factory.mktemp(name)
        with open_store(f"sqlite:///{place}/fleet.db") as store:
            with store.transaction() as run:
                fill(run)
            with Questions.asked(store, WHEN, timedelta(7)) as questions:
                data = page.whole(questions, "fleet.db", "7 days", ["unit-119"])
        found[name] = place / "page.html"
        found[name].write_text(page.render(data), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.mark.parametrize("kind", ["whole", "empty"])
def test_the_page_loads_nothing_and_runs_its_own_script_alone(
    kind: str, files: dict[str, Path]
) -> None:
    text = files[kind].read_text(encoding="utf-8")
    assert text.encode().startswith(page.FIRST_LINE)
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", text)
    assert not re.search(r"@import|url\(|src=|srcset=|innerHTML|insertAdjacent|eval\(", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for element in ("style", "script"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}';" in policy[1]
    assert policy[1].startswith("default-src 'none';")
    assert "unsafe" not in policy[1]
    assert "connect-src" not in policy[1]


def test_what_devices_wrote_cannot_end_the_data(files: dict[str, Path]) -> None:
    text = files["whole"].read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert not set("<>&") & set(data)
    told = json.loads(data)
    (evil,) = [one for one in told["devices"] if one["id"] == "evil"]
    assert evil["version"].startswith("<script>document.title='owned'</script></script>\\x1b[31m")
    assert all("\u202e" not in str(one) for one in (evil, told["histories"]["evil"]))


def test_the_same_data_gives_the_same_page() -> None:
    data: dict[str, Any] = {"live": False, "devices": []}
    assert page.render(data) == page.render(data)
    assert page.policy(live=True) != page.policy(live=False)


def test_the_page_in_a_browser(browser: Browser, files: dict[str, Path], tmp_path: Path) -> None:
    browser.requested()
    browser.open(files["whole"], height=1400)
    assert [one for one in browser.log("browser") if one["level"] == "SEVERE"] == []
    assert browser.requested() == [files["whole"].as_uri()]
    assert browser.run("return document.title") == "Fleet"  # no script of a device ran
    words = browser.run("return document.body.innerText")
    for phrase in (
        *(
            "130\ndevices",
            "1\nsilent for 7 days",
            "2\nproblems in receipts",
            "only said, not signed",
        ),
        *("acme.example/thermostat", "4.2.0", "only said", "1.5.0", "stale.crl", "fork", "forged"),
        r"<script>document.title='owned'</script>",
    ):
        assert phrase in words, phrase
    assert "\u202e" not in words
    assert browser.run("return document.querySelectorAll('#curve .line').length") > 0
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


@pytest.mark.parametrize(("dark", "colour"), [(False, LIGHT), (True, DARK)])
def test_light_and_dark(
    browser: Browser, files: dict[str, Path], *, dark: bool, colour: str
) -> None:
    browser.open(files["whole"], dark=dark)
    background = "return getComputedStyle(document.body).backgroundColor"
    assert browser.run(background) == colour
    assert browser.run("return document.querySelector('#theme').ariaPressed") == str(dark).lower()
    browser.click("#theme")
    assert browser.run(background) != colour
    browser.click("#theme")
    browser.run("localStorage.clear()")


@pytest.mark.parametrize("kind", ["whole", "empty"])
def test_a_narrow_window_has_no_sideways_scroll(
    browser: Browser, files: dict[str, Path], kind: str
) -> None:
    browser.open(files[kind], width=360, height=800)
    assert browser.run("return document.documentElement.scrollWidth") == 360


def rows(browser: Browser) -> list[str]:
    script = "return [...document.querySelectorAll('#rows button')].map((one) => one.textContent)"
    found: list[str] = browser.run(script)
    return found


def test_devices_are_found_by_keyboard_and_by_choice(
    browser: Browser, files: dict[str, Path]
) -> None:
    browser.open(files["whole"])
    assert len(rows(browser)) == 25
    browser.click("#next")
    assert len(rows(browser)) == 25
    browser.type("body", "/")
    assert browser.run("return document.activeElement.id") == "search"
    browser.type("#search", "gw-5")
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    assert rows(browser) == ["gw-5"]
    browser.type("#search", "\ue00c")  # Escape
    browser.run("document.querySelector('#kind').value = 'silent'")
    browser.run("document.querySelector('#kind').dispatchEvent(new Event('change'))")
    assert rows(browser) == ["gw-4"]
    browser.click("#refusals .bar")
    assert rows(browser)[0] in {"evil", "gw-5"}


def test_a_device_has_its_history(browser: Browser, files: dict[str, Path]) -> None:
    browser.open(files["whole"])
    browser.type("#search", "gw-5")
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    browser.click("#rows button")
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    words = browser.run("return document.querySelector('#story').innerText")
    for phrase in ("gw-5", "only said", "refused", "stale.crl", "the CRL is too old", "installed"):
        assert phrase in words
    assert browser.run("return document.activeElement.id") == "story"
    assert browser.run("return location.hash") == "#device=gw-5"
    browser.run("location.hash = '#device=evil'")
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    assert browser.run("return document.title") == "Fleet"
    assert "<script>" in browser.run("return document.querySelector('#story').innerText")


def test_controls_have_names_and_tables_have_heads(
    browser: Browser, files: dict[str, Path]
) -> None:
    browser.open(files["whole"])
    nameless = """return [...document.querySelectorAll('button, input, select, svg[role=img]')]
        .filter((one) => !one.hidden && !(one.ariaLabel || one.textContent.trim())).length"""
    assert browser.run(nameless) == 0
    heads = "return [...document.querySelectorAll('thead th')].every((one) => one.scope === 'col')"
    assert browser.run(heads)
    assert browser.run("return document.querySelectorAll('h1').length") == 1
    assert browser.run("return document.documentElement.lang") == "en"


def test_an_empty_fleet_says_so(browser: Browser, files: dict[str, Path]) -> None:
    browser.open(files["empty"])
    assert [one for one in browser.log("browser") if one["level"] == "SEVERE"] == []
    words = browser.run("return document.body.innerText")
    for phrase in (
        *("0\ndevices", "No device has said what it runs.", "No device refused anything."),
        *("No release was taken yet.", "No device fits.", "The collector noticed none."),
    ):
        assert phrase in words
