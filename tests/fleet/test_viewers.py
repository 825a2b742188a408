"""The page of a collector that runs: over mutual TLS, and in a browser that asks it."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from browser import Browser, chromium
from cli.kit import command, good
from fleet.kit import AT, hostile, receipt, release, small, take
from fwsign.collect.store import open_store
from fwsign.fleet.web import FleetPages

WHEN = datetime.fromtimestamp(AT, UTC)


class Served(NamedTuple):
    """A collector as a program of its own."""

    directory: Path
    port: int

    def ask(self, who: str | None, path: str, method: str = "GET") -> tuple[int, Any, Any]:
        """Send a request as a client; return status, body and headers."""
        context = ssl.create_default_context(cafile=self.directory / "pki/ca.crt")
        if who is not None:
            pki = self.directory / "pki"
            context.load_cert_chain(pki / f"{who}.pem", pki / f"private/{who}.key")
        connection = HTTPSConnection("127.0.0.1", self.port, context=context, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    here = tmp_path_factory.mktemp("collector")
    good("init", here, "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    pki = here / "pki"
    issue = ("--pki", pki, "--no-passphrase")
    good("pki", "issue", "server", "collector", "--ip", "127.0.0.1", *issue)
    for name in ("ops", "gw-1"):
        good("pki", "issue", "client", name, *issue)
    for name in ("collector", "ops", "gw-1"):
        good("pki", "export", "chain", name, pki / f"{name}.pem", "--pki", pki)
    with open_store(f"sqlite:///{here}/fleet.db") as store, store.transaction() as run:
        small(run)
    words = (
        *("collect", "--store", f"sqlite:///{here}/fleet.db", "--listen", "127.0.0.1:0"),
        *("--cert", pki / "collector.pem", "--key", pki / "private/collector.key"),
        *("--client-ca", pki / "ca.crt", "--anchor", pki / "ca.crt"),
        *("--viewer", "ops", "--silent", "7d"),
    )
    log = (here / "log").open("wb")
    with log, subprocess.Popen(command(words), stdout=subprocess.PIPE, stderr=log) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline().decode()
            assert line, (here / "log").read_text(encoding="utf-8")
            yield Served(here, urlsplit(line.strip()).port or 0)
        finally:
            running.terminate()
            running.wait(20)


def test_a_viewer_sees_the_page_and_its_answers(served: Served) -> None:
    status, body, headers = served.ask("ops", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html><!-- fwsign fleet page -->")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    status, body, _ = served.ask("ops", "/fleet/devices?kind=all&like=gw-5")
    assert (status, [one["id"] for one in json.loads(body)["rows"]]) == (200, ["gw-5"])
    status, body, _ = served.ask("ops", "/fleet/device?id=gw-5")
    assert json.loads(body)["events"][0]["code"] == "stale.crl"


def test_a_device_may_not_look(served: Served) -> None:
    status, body, _ = served.ask("gw-1", "/")
    assert (status, json.loads(body)) == (
        403,
        {"message": '"gw-1" may not look; --viewer names who may'},
    )
    status, _, _ = served.ask("gw-1", "/fleet/devices?kind=all")
    assert status == 403
    log = (served.directory / "log").read_text(encoding="utf-8")
    assert 'gw-1 403 "gw-1" may not look' in log


def test_without_a_certificate_nobody_is_heard(served: Served) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served.ask(None, "/")


def test_a_viewer_changes_nothing(served: Served) -> None:
    assert served.ask("ops", "/", "POST")[0] == 405
    assert served.ask("ops", "/fleet/devices", "DELETE")[0] == 405
    assert served.ask("ops", "/fleet.db")[0] == 404
    assert served.ask("ops", "/../fleet.db")[0] == 404


# --- in a browser -------------------------------------------------------------------------------


@contextmanager
def asked_by_browser(pages: FleetPages) -> Iterator[str]:
    """Serve pages to a browser, which has no certificate here."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found = pages.answer(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)))
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def settled(browser: Browser, script: str) -> Any:
    """Return what a script finds, once it finds something; the page asks meanwhile."""
    wait = """return new Promise((done) => {
        let left = 200;
        const look = () => {
            const found = (() => { %s })();
            if (found || --left === 0) done(found); else setTimeout(look, 20);
        };
        look();
    })"""
    return browser.run(wait % script)


def test_the_live_page_asks_its_collector_alone(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/fleet.db") as store:
        with store.transaction() as run:
            small(run)
            hostile(run)
            for number in range(60):
                name = f"unit-{number:03}"
                take(run, name, receipt(name, "installed", release=release("3.0", 30)))
                take(run, "gw-1", receipt("gw-1", "installed", AT + number, release=release()))
        pages = FleetPages(store, timedelta(7), lambda: WHEN)
        with asked_by_browser(pages) as address, chromium(tmp_path / "chromium") as browser:
            browser.requested()
            browser.open(f"{address}/")
            rows = "return [...document.querySelectorAll('#rows button')].map((b) => b.textContent)"
            assert settled(browser, f"const f = (() => {{ {rows} }})(); return f.length && f")[
                0
            ] == ("evil")
            browser.click("#next")
            second = "const f = document.querySelector('#rows button').textContent"
            assert settled(browser, f"{second}; return f !== 'evil' && f") == "unit-015"
            browser.type("#search", "gw-1")
            found = settled(
                browser,
                "const r = document.querySelectorAll('#rows button');"
                " return r.length === 1 && r[0].textContent",
            )
            assert found == "gw-1"
            browser.click("#rows button")
            count = "document.querySelectorAll('#story li').length"
            assert settled(browser, f"return {count}") == 50
            browser.click("#story .older")
            assert settled(browser, f"return {count} === 12") is True
            assert [one for one in browser.log("browser") if one["level"] == "SEVERE"] == []
            assert {urlsplit(one).netloc for one in browser.requested()} == {
                urlsplit(address).netloc
            }
            browser.open(f"{address}/#device=evil")
            assert settled(browser, f"return {count} === 2") is True
            assert browser.run("return document.title") == "Fleet"
