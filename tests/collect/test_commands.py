"""`fwsign collect` and `fwsign report` as typed: what they refuse before anything is done."""

import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from cli.kit import refused, run
from collect.kit import chain_of, devices_ca, sqlite_address
from collect.server_kit import Place, make_place, pem_files, reporting_gateway
from fwsign.collect.app import CollectorApp
from fwsign.gateway.config.device import load
from fwsign.gateway.report.spool import SPOOL, SpoolPlace
from fwsign.memory.state import State
from fwsign.receipts.chain import line_digest
from support import refused as raises

TO = "https://collector.example/receipts"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("place"))


class TestCollect:
    def test_a_password_in_the_address_is_refused(self, place: Place) -> None:
        found = run("collect", *place.options("postgresql://me:s3cret@db/fleet"))
        refused(
            found,
            2,
            "a password in the address is seen by every user of this machine",
            "sqlite:///fleet.db, or postgresql://HOST/DATABASE with ~/.pgpass",
        )
        assert "s3cret" not in found.err

    def test_another_database_is_refused(self, place: Place) -> None:
        found = run("collect", *place.options("mysql://db/fleet"))
        assert (found.status, 'the store "mysql" is not' in found.err) == (2, True)

    def test_a_database_that_is_not_there_is_refused(self, place: Place, tmp_path: Path) -> None:
        found = run("collect", *place.options(f"postgresql://fleet@/fleet?host={tmp_path}"))
        assert found.status == 5
        assert found.errors[0].startswith("error: the store postgresql://local socket/fleet: ")

    @pytest.mark.parametrize("one", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_that_comes_early_ends_it(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: signal.Signals
    ) -> None:
        def asgi(app: CollectorApp, *routes: BaseRoute) -> Starlette:
            signal.raise_signal(one)
            return made(app, *routes)

        made = CollectorApp.asgi
        monkeypatch.setattr(CollectorApp, "asgi", asgi)
        found = run("collect", *place.options(sqlite_address(tmp_path)))
        assert (found.status, found.err) == (0, "fwsign: stopped\n")
        assert found.out.startswith("https://127.0.0.1:")

    def test_libraries_that_are_not_there_are_named(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        found = run("collect", *place.options("postgresql://db/fleet"))
        refused(
            found,
            5,
            "a store in PostgreSQL needs psycopg, which is not installed",
            "pip install 'fwsign[collect]'",
        )
        known = importlib.util.find_spec

        def find(name: str, *rest: Any) -> Any:
            return None if name == "uvicorn" else known(name, *rest)

        monkeypatch.setattr("fwsign.collect.library.find_spec", find)
        found = run("collect", *place.options(sqlite_address(tmp_path)))
        refused(
            found,
            5,
            "the collector needs uvicorn, which is not installed",
            "pip install 'fwsign[collect]'",
        )

    def test_clients_need_a_root(self, place: Place, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding

        issuing = tmp_path / "issuing.crt"
        issuing.write_bytes(devices_ca().certificate.public_bytes(Encoding.PEM))
        words = place.options(sqlite_address(tmp_path))
        words[words.index("--client-ca") + 1] = str(issuing)
        found = run("collect", *words)
        assert found.errors[0] == "error: there is no root among the certificates for clients"
        assert found.status == 5

    def test_another_key_is_refused(self, place: Place, tmp_path: Path) -> None:
        _, key = pem_files(tmp_path, "gw-other")
        words = place.options(sqlite_address(tmp_path))
        words[words.index("--key") + 1] = str(key)
        found = run("collect", *words)
        assert found.errors[0] == f"error: TLS cannot use {key}: key values mismatch"

    def test_a_place_to_listen_is_an_address_and_a_port(self, place: Place, tmp_path: Path) -> None:
        found = run("collect", *place.options(sqlite_address(tmp_path)), "--listen", "here")
        assert found.errors[0] == 'error: "here" is not ADDR:PORT'
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (("--mqtt-ca", "x"), "--mqtt-cert, --mqtt-key and --mqtt-ca are for --mqtt"),
            (
                ("--mqtt", "mqtts://b.example", "--mqtt-cert", "x"),
                "--mqtt-cert and --mqtt-key go together",
            ),
        ],
    )
    def test_options_of_mqtt_go_together(
        self, place: Place, tmp_path: Path, words: tuple[str, ...], error: str
    ) -> None:
        found = run("collect", *place.options(sqlite_address(tmp_path)), *words)
        assert (found.status, found.errors[0]) == (2, f"error: {error}")


class TestReport:
    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (("lines",), "FILE and --to go together"),
            (("--to", TO), "FILE and --to go together"),
            (("--ca", "x"), "--client-cert, --client-key and --ca are for FILE"),
            (("lines", "--to", TO, "--client-cert", "x"), "--client-cert and --client-key go"),
            (("lines", "--to", "http://collector.example"), "is not https"),
            (("lines", "--to", "mqtts://collector.example"), "is not https"),
            (("lines", "--to", "https://me:pw@collector.example"), "is not https"),
        ],
    )
    def test_options_go_together(self, words: tuple[str, ...], error: str) -> None:
        found = run("report", *words)
        assert found.status == 2
        assert error in found.errors[0]

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        found = run("report", tmp_path / "none", "--to", TO)
        assert (found.status, "no such file or directory" in found.errors[0]) == (5, True)
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_file_has_nothing_to_report(self, tmp_path: Path) -> None:
        file = tmp_path / "lines"
        file.touch()
        found = json.loads(run("report", file, "--to", TO, "--json").out)
        assert (found["verdict"], found["sent"], found["head"]) == ("reported", 0, None)

    def test_a_gateway_without_a_collector(self, tmp_path: Path, place: Place) -> None:
        gateway = reporting_gateway(tmp_path, "gw-1", place, TO)
        text = gateway.config.read_text()
        gateway.config.write_text(text.partition("[report]")[0])
        found = run("report", "--config", gateway.config)
        refused(
            found,
            2,
            f"{gateway.config} names no collector",
            'put to = "https://HOST/receipts" into [report]',
        )

    def test_what_a_broker_acknowledged_is_not_pruned_without_a_word(
        self, tmp_path: Path, place: Place
    ) -> None:
        gateway = reporting_gateway(tmp_path, "gw-1", place, "mqtts://broker.example")
        with State.open(gateway.device.state) as state:
            for number in range(3):
                state.append_receipt({"kind": "test", "number": number})
            every = list(state.receipt_lines())
            newest, lines = every[-1], len(every)
            place_then = SpoolPlace("mqtts://broker.example", lines, line_digest(newest))
            state.remember(SPOOL, place_then.encode())
        words = ("receipts", "prune", "--config", gateway.config, "--keep", "1")
        found = run(*words, "--lines", tmp_path / "a.jsonl")
        why = "what a broker says does not prove that a collector has them; --unreported removes"
        assert f"fwsign: {lines - 1} receipts stay: {why} them" in found.err
        assert found.out.startswith("pruned  0 receipts")
        found = run(*words, "--unreported", "--lines", tmp_path / "b.jsonl")
        assert (found.err, found.out.startswith(f"pruned  {lines - 1} receipts")) == ("", True)

    def test_a_key_that_is_not_there_is_told_by_its_option(self, tmp_path: Path) -> None:
        file = tmp_path / "lines"
        file.write_text(f"{chain_of('line-9', 1).lines[0]}\n")
        own = ("--client-cert", tmp_path / "a.pem", "--client-key", tmp_path / "a.key")
        found = run("report", file, "--to", TO, *own)
        assert found.status == 5
        assert found.errors[0].startswith("error: --client-")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('to = "http://collector.example"', "[report] to"),
        ('to = "https://me:pw@collector.example/receipts"', "[report] to"),
        ('to = "https://[collector"', "[report] to"),
        ('to = "mqtt://broker.example"', "[report] to"),
        ('to = "collector.example"', "[report] to"),
        ("seconds = 0", "[report] seconds"),
        ("often = 3", "[report]"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, place: Place, line: str, words: str) -> None:
    gateway = reporting_gateway(tmp_path, "gw-1", place, TO)
    good = load(gateway.config).report
    assert (good.to, good.seconds) == (TO, 20)
    text = gateway.config.read_text().partition("[report]")[0]
    gateway.config.write_text(f"{text}[report]\n{line}\n")
    with raises("io.config") as caught:
        load(gateway.config)
    assert words.rsplit(maxsplit=1)[-1].strip("[]") in caught.value.message
