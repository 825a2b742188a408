# SPDX-License-Identifier: Apache-2.0
import base64
import hashlib
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from browser import Browser, chromium
from fwsign.pki.report import page, page_facts
from fwsign.pki.report.inventory import Inventory, build, read
from fwsign.pki.report.material import KeyFile, Material, Problem
from support import (
    DAY,
    NOW,
    Entity,
    ca_extensions,
    certify,
    leaf_extensions,
    make_ca,
    make_crl,
    make_leaf,
    new_key,
)
from support import name as subject

EXAMPLE = Path(__file__).parents[2] / "keys.example"
HOSTILE = "<script>document.title='owned'</script>\x1b[31m\u202e\"'<!--@tree-->"
VOID = {"meta", "input", "br", "path", "circle", "rect", "line", "use"}
DARK, LIGHT = "rgb(15, 19, 25)", "rgb(245, 246, 248)"


def material(*entities: tuple[str, Entity]) -> Material:
    found = Material("pki")
    found.certificates += [(file, entity.certificate) for file, entity in entities]
    return found


def small() -> Inventory:
    """One of everything: valid, ending, expired, of the future, revoked."""
    root = make_ca("Acme Root CA", days=(-300, 7000))
    issuing = make_ca("Acme Issuing CA", root, path_length=0, days=(-300, 3300))
    stamping = [ExtendedKeyUsageOID.TIME_STAMPING]
    lost = make_leaf(issuing, "lost", days=(-100, 600))
    found = material(
        ("ca.crt", root),
        ("issued/issuing.crt", issuing),
        ("issued/release.crt", make_leaf(issuing, "release", days=(-300, 430))),
        ("issued/ci.crt", make_leaf(issuing, "ci", days=(-300, 70))),
        ("issued/old.crt", make_leaf(issuing, "release-2025", days=(-700, -20))),
        ("issued/next.crt", make_leaf(issuing, "release-2027", days=(40, 770))),
        ("issued/tsa.crt", make_leaf(issuing, "tsa", usages=stamping, days=(-10, 20))),
        ("issued/lost.crt", lost),
    )
    crls = (make_crl(root, days=(-30, 370)), make_crl(issuing, [lost], days=(-80, 10)))
    names = ("crl/ca.pem", "crl/issuing.pem")
    for file, crl in zip(names, crls, strict=True):
        found.crls.append((file, x509.load_der_x509_crl(crl)))
    found.keys.append(KeyFile("private/release.key", "encrypted", None))
    return build(found)


def large() -> Inventory:
    root = make_ca("Fleet Root", days=(-900, 6000))
    found = material(("ca.crt", root))
    for group in range(6):
        issuing = make_ca(f"Fleet CA {group}", root, days=(-800, 2500))
        found.certificates.append((f"sub-{group}.crt", issuing.certificate))
        for number in range(49):
            begin = -(group * 49 + number) * 2 - 1
            leaf = make_leaf(issuing, f"unit-{group}-{number:02}", days=(begin, begin + 730))
            found.certificates.append((f"issued/unit-{group}-{number:02}.crt", leaf.certificate))
    return build(found)


def broken() -> Inventory:
    root, second = make_ca("Root", days=(-3000, 15)), make_ca("Second")
    sub = make_ca("Cross", root)
    above = certify(sub.key, sub.certificate.subject, second, ca_extensions())
    forger = Entity(new_key(), root.certificate)
    forged = certify(new_key(), subject("forged"), forger, leaf_extensions(), identifiers=False)
    found = material(
        ("ca.crt", root),
        ("second.crt", second),
        ("cross-1.crt", sub),
        ("cross-2.crt", above),
        ("hostile.crt", make_leaf(sub, HOSTILE[:64])),
        ("forged.crt", forged),
        ("orphan.crt", make_leaf(make_ca("Elsewhere"), "orphan")),
    )
    crl = make_crl(root, [sub], days=(-200, -100), number=None)
    found.crls.append(("crl.pem", x509.load_der_x509_crl(crl)))
    found.problems += [Problem(f"issued/{HOSTILE}.crt", "is empty"), Problem("x.crt", HOSTILE)]
    return build(found)


class Outline(HTMLParser):
    """Checks that elements close in order, and collects what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.words += data

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(str(value))
            if name in {"href", "src"}:
                self.links.append(str(value))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    made = {
        "small": small(),
        "large": large(),
        "broken": broken(),
        "empty": Inventory("x", (), (), ()),
    }
    return {name: page.render(inventory, NOW) for name, inventory in made.items()}


KINDS = ["small", "large", "broken", "empty"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_well_formed_and_links_lead_somewhere(kind: str, pages: dict[str, str]) -> None:
    found = Outline(pages[kind])
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert all(link.startswith("#") for link in found.links)
    assert "<!--@" not in pages[kind].replace("&lt;!--@", "")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_loads_nothing_and_runs_its_own_script_alone(
    kind: str, pages: dict[str, str]
) -> None:
    text = pages[kind]
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"@import|url\(|src=|srcset=", text)
    found = Outline(text)
    assert not {name for name in found.attributes if name.startswith("on") or name == "style"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for element in ("style", "script"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}';" in policy[1]
    assert policy[1].startswith("default-src 'none';")
    assert "unsafe" not in policy[1]


def test_text_of_others_is_escaped(pages: dict[str, str]) -> None:
    text = pages["broken"]
    assert text.count("<script>") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"&lt;script&gt;document.title=&#x27;owned&#x27;&lt;/script&gt;\x1b[31m\u202e" in text


def test_the_same_model_and_time_give_the_same_page() -> None:
    first, second = (page.render(read(EXAMPLE), NOW) for _ in range(2))
    assert first == second
    assert first != page.render(read(EXAMPLE), NOW + DAY)
    assert first.encode().startswith(page.FIRST_LINE)


def test_the_page_says_what_there_is(pages: dict[str, str]) -> None:
    words = Outline(pages["small"]).words
    for phrase in (
        "As of 2026-11-22 12:00 UTC",
        "8 certificates",
        "2 CAs",
        "2 CRLs",
        "1 expired",
        "1 revoked",
        "1 not valid yet",
        "revoked 2026-11-21",
        "ended 2026-11-02, 20 days ago",
        "private/release.key, encrypted",
        "CA:TRUE, path length 0",
        "keyCompromise, by crl/issuing.pem",
    ):
        assert phrase in words
    words = Outline(pages["broken"]).words
    for phrase in ("PROBLEM", "STALE", "(not here)", "2 not readable"):
        assert phrase in words


def test_details_are_those_of_xca() -> None:
    url = x509.DistributionPoint([x509.UniformResourceIdentifier("http://a/<b>")], None, None, None)
    root = make_ca("Acme Root", days=(-300, 7000))
    points = x509.CRLDistributionPoints([url])
    leaf = make_leaf(root, "odd", extensions=[*leaf_extensions(), (points, False)])
    found = material(("ca.crt", root), ("issued/odd.crt", leaf))
    crl = make_crl(root, [leaf], number=7)
    found.crls.append(("crl.pem", x509.load_der_x509_crl(crl)))
    html = page.render(build(found), NOW)
    words = Outline(html).words
    der = leaf.der
    above = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    own = leaf.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    serial = f"{leaf.certificate.serial_number:x}"
    for phrase in (
        hashlib.sha256(der).hexdigest(),
        hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        hashlib.md5(der, usedforsecurity=False).hexdigest(),
        f"Subject key identifier {own.digest.hex()}",
        f"Authority key identifier {above.digest.hex()}",
        "Basic constraints (critical) CA:FALSE",
        "cRLDistributionPoints",
        "http://a/<b>",
        "keyCompromise",
        hashlib.sha256(crl).hexdigest(),
        "Name Common name CA Serial Key Expires CRL until",
    ):
        assert "".join(phrase.split()) in "".join(words.split())
    blocks = re.findall(r'<pre class="mono">(-----BEGIN [^<]*)</pre>', html)
    pem = Encoding.PEM
    wanted = [one.certificate.public_bytes(pem) for one in (root, leaf)]
    wanted.append(x509.load_der_x509_crl(crl).public_bytes(pem))
    assert [one.encode() for one in blocks] == wanted
    rows = re.findall(r'<tr class="listed".*?</tr>', html)
    assert len(rows) == 2
    end = NOW + 30 * DAY
    assert ("yes" in rows[0], f"{end:%Y-%m-%d}" in rows[0], serial in rows[1]) == (True, True, True)
    assert f"{end:%Y-%m-%d}" not in rows[1]


def test_a_large_crl_is_shown_in_part() -> None:
    root = make_ca("Acme Root", days=(-300, 7000))
    leaves = [make_leaf(root, key=root.key) for _ in range(3)]
    crl = x509.load_der_x509_crl(make_crl(root, leaves))
    found = material(("ca.crt", root))
    found.crls.append(("crl.pem", crl))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_facts, "_REVOKED", 2)
        patch.setattr(page_facts, "_RAW", 10)
        html = page.render(build(found), NOW)
    assert "and 1 more" in Outline(html).words
    assert "BEGIN X509 CRL" not in html


def test_dates_at_the_ends_of_time() -> None:
    for days in ((-700_000, 2_900_000), (-2, 2_900_000), (-1, 0)):
        found = build(material(("a.crt", make_ca(days=_possible(days)))))
        Outline(page.render(found, NOW))


def _possible(days: tuple[int, int]) -> tuple[int, int]:
    least = -(NOW.year - 1950) * 365  # RFC 5280 s.4.1.2.5 begins there
    return max(days[0], least), min(days[1], (9998 - NOW.year) * 365)


def test_a_deep_chain_stays_within_what_browsers_nest() -> None:
    above = make_ca("0")
    found = material(("0.crt", above))
    for level in range(1, 230):
        above = make_ca(str(level), above)
        found.certificates.append((f"{level}.crt", above.certificate))
    text = page.render(build(found), NOW)
    Outline(text)
    deepest = depth = 0
    for mark in re.findall("</?ul", text):
        depth += 1 if mark == "<ul" else -1
        deepest = max(deepest, depth)
    assert deepest == 201


# --- in a browser ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        started.requested()  # of the window that it begins with
        yield started


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots go: FWSIGN_SCREENSHOTS keeps them."""
    kept = Path(os.environ.get("FWSIGN_SCREENSHOTS") or tmp_path)
    kept.mkdir(exist_ok=True)
    return kept


def visible(browser: Browser, selector: str) -> int:
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
    found: int = browser.run(f"{script}.length", selector)
    return found


def background(browser: Browser) -> Any:
    return browser.run("return getComputedStyle(document.body).backgroundColor")


def put(directory: Path, text: str) -> Path:
    path = directory / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.external
@pytest.mark.parametrize("kind", KINDS)
def test_every_page_in_every_window(
    kind: str, pages: dict[str, str], browser: Browser, tmp_path: Path, shots: Path
) -> None:
    file = put(tmp_path, pages[kind])
    for window, width, dark in (("light", 1280, False), ("dark", 1280, True), ("phone", 390, True)):
        browser.open(file, width=width, dark=dark)
        assert background(browser) == (DARK if dark else LIGHT)
        widest = browser.run("return document.documentElement.scrollWidth")
        assert widest == width, "it must not scroll sideways"
        assert browser.run("return document.title").startswith("PKI ")
        data = shots / f"{kind}-{window}.png"
        browser.screenshot(data)
        assert data.read_bytes().startswith(b"\x89PNG")
    assert browser.log("browser") == []  # no error, nothing that the policy refused
    assert set(browser.requested()) == {file.as_uri()}


@pytest.mark.external
def test_open_an_entry_with_mouse_and_keyboard(
    pages: dict[str, str], browser: Browser, tmp_path: Path
) -> None:
    browser.open(put(tmp_path, pages["small"]))
    is_open = "return document.querySelector('#tree .entry').open"
    assert browser.run(is_open) is False
    browser.click("#tree .entry > summary")
    assert browser.run(is_open) is True
    assert visible(browser, "#tree .facts") == 1
    browser.type("#tree .entry > summary", "\ue007")  # Enter
    assert browser.run(is_open) is False
    browser.type("#tree .entry > summary", "\ue015")  # down
    focused = "return document.activeElement.querySelector('.name').textContent"
    assert browser.run(focused) == "issuing"
    browser.click("#open")
    assert visible(browser, ".facts") == 10
    assert browser.log("browser") == []


@pytest.mark.external
def test_fold_a_ca_and_follow_a_link_into_it(
    pages: dict[str, str], browser: Browser, tmp_path: Path
) -> None:
    browser.open(put(tmp_path, pages["small"]))
    assert visible(browser, "#tree .entry > summary") == 8
    browser.click("#tree .fold")
    assert visible(browser, "#tree .entry > summary") == 1
    assert browser.run("return document.querySelector('.fold').ariaExpanded") == "false"
    browser.click(".span:nth-of-type(5) a")
    assert visible(browser, "#tree .entry > summary") == 8
    assert visible(browser, "#tree .facts") == 1


@pytest.mark.external
def test_search_and_filter(
    pages: dict[str, str], browser: Browser, tmp_path: Path, shots: Path
) -> None:
    browser.open(put(tmp_path, pages["large"]))
    browser.type("#search", "unit-3-0")
    browser.screenshot(shots / "search.png")
    assert browser.run("return document.getElementById('shown').textContent") == "10 of 301 shown"
    assert visible(browser, "#tree .entry > summary") == 12  # with the two CAs above
    assert visible(browser, ".span") == 10
    browser.type("#search", " nothing")
    assert visible(browser, "#none") == 1
    browser.type("#search", "\ue00c")  # Escape
    assert visible(browser, "#tree .entry > summary") == 301
    browser.type("#kind", "CAs")
    assert visible(browser, "#tree .entry > summary") == 7
    browser.open(put(tmp_path, pages["small"]))
    browser.type("#kind", "Needs")
    assert browser.run("return document.getElementById('shown').textContent") == "6 of 10 shown"
    assert browser.log("browser") == []


@pytest.mark.external
def test_dark_and_light_at_will(pages: dict[str, str], browser: Browser, tmp_path: Path) -> None:
    browser.open(put(tmp_path, pages["small"]))
    pressed = "return document.getElementById('theme').ariaPressed"
    assert (background(browser), browser.run(pressed)) == (LIGHT, "false")
    browser.click("#theme")
    assert (background(browser), browser.run(pressed)) == (DARK, "true")
    browser.click("#theme")
    assert background(browser) == LIGHT
    browser.run("localStorage.clear()")


@pytest.mark.external
def test_zoom_into_the_timeline(pages: dict[str, str], browser: Browser, tmp_path: Path) -> None:
    browser.open(put(tmp_path, pages["small"]))
    width = "return document.querySelector('[data-of=c3] rect:last-child').width.baseVal.value"
    before = browser.run(width)
    browser.click("#zoom button[value='1 year']")
    assert browser.run(width) > 5 * before
    assert visible(browser, ".axis") <= 1
    assert browser.run("return document.querySelectorAll('.axis:not([hidden])').length") == 1


@pytest.mark.external
def test_colours_have_contrast(pages: dict[str, str], browser: Browser, tmp_path: Path) -> None:
    """WCAG 2.1 s.1.4.3: 4.5 to 1 for text, of every colour in the page on what is behind it."""
    browser_script = """
      const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const parse = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
      const behind = (e) => {
        for (; e; e = e.parentElement) {
          const found = parse(getComputedStyle(e).backgroundColor);
          if (found.length < 4 || found[3] === 1) return found;
        }
        return [255, 255, 255];
      };
      let least = 21;
      for (const e of document.querySelectorAll("body *:not(svg *)")) {
        const says = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!says || !e.checkVisibility()) continue;
        const pair = [light(parse(getComputedStyle(e).color)), light(behind(e))];
        pair.sort((a, b) => b - a);
        least = Math.min(least, (pair[0] + 0.05) / (pair[1] + 0.05));
      }
      return least;"""
    for kind in ("small", "broken"):
        for dark in (False, True):
            browser.open(put(tmp_path, pages[kind]), dark=dark)
            browser.click("#open")
            assert browser.run(browser_script) >= 4.5
