"""Servers of hawkBit's device API that lie, and what they hear."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.follow import hawkbit
from fwsign.gateway.follow.hawkbit import MAX_ANSWER, MAX_ARTIFACTS
from gateway.follow_kit import Follower
from gateway.server import Handler, Server, serving
from support import refused

BASE = "/T/controller/v1/gw-1"
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


class Ddi(Follower):
    """A gateway, and a server of the API whose answers tests write."""

    def __init__(self, base: Path, server: Server, more: str = "") -> None:
        server.clear()
        self.server = server
        fetch = f'[fetch]\nca = "{server.ca}"\nallow_hosts = ["localhost"]\n{more}'
        super().__init__(base, more=fetch)
        self.address = f"hawkbit+{server.url(BASE)}"
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.links: dict[str, str] = {}
        self.answer(BASE, lambda: {"_links": self.hrefs()})

    def hrefs(self) -> Mapping[str, Any]:
        return {name: {"href": self.server.url(path)} for name, path in self.links.items()}

    def answer(self, path: str, content: Any) -> None:
        """Let the server answer at a path, with JSON or bytes."""

        def give(handler: Handler) -> None:
            found = content() if callable(content) else content
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            handler.head(200, {"Content-Length": str(len(data))})
            handler.wfile.write(data)

        self.server.answers[path] = give

    def listens(self, path: str, status: int = 200) -> None:
        """Let the server take what is sent to a path."""

        def take(handler: Handler) -> None:
            size = int(handler.headers.get("Content-Length", "0"))
            content = json.loads(handler.rfile.read(size))
            self.sent.append((handler.command, path, content))
            handler.head(status, {"Content-Length": "0"})

        self.server.answers[path] = take

    def deploys(self, number: str, *artifacts: tuple[str, str], **said: str) -> None:
        """Let the server want artifacts, each with a name and a path."""
        self.links["deploymentBase"] = f"{BASE}/deploymentBase/{number}?c=-17"
        self.listens(f"{BASE}/deploymentBase/{number}/feedback")
        found = [
            {"filename": name, "_links": {"download": {"href": self.server.url(path)}}}
            for name, path in artifacts
        ]
        wanted = {"download": "forced", "update": "forced", "chunks": [{"artifacts": found}]}
        content = {"id": number, "deployment": {**wanted, **said}}
        self.answer(f"{BASE}/deploymentBase/{number}?c=-17", content)

    def releases(self, number: int, content: bytes = b"one") -> tuple[tuple[str, str], ...]:
        """Put a release on the server; return its artifacts."""
        envelope = self.gateway.release(number, {"app.bin": content})
        self.server.files[f"/{number}/app.bin"] = content
        self.server.files[f"/{number}/update.suit"] = envelope.read_bytes()
        return ("update.suit", f"/{number}/update.suit"), ("app.bin", f"/{number}/app.bin")

    @property
    def heard(self) -> list[tuple[str, str]]:
        """What the server heard of deployments: execution and result."""
        told = [content["status"] for _, path, content in self.sent if "feedback" in path]
        return [(one["execution"], one["result"]["finished"]) for one in told]


@pytest.fixture(autouse=True)
def _methods(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("do_POST", "do_PUT"):
        monkeypatch.setattr(Handler, name, Handler.do_GET, raising=False)


@pytest.fixture
def ddi(tmp_path: Path, running: Server) -> Ddi:
    return Ddi(tmp_path, running)


def test_envelope_and_payload_are_artifacts(ddi: Ddi) -> None:
    ddi.deploys("8", *ddi.releases(1))
    assert ddi.check().verdict == "offered"
    assert ddi.sent == []
    assert ddi.poll().verdict == "installed"
    assert ddi.installed == {"app.bin": b"one"}
    assert ddi.heard == [("closed", "success")]
    del ddi.links["deploymentBase"]
    assert ddi.poll().verdict == "nothing new"
    assert len(ddi.sent) == 1


def test_lost_feedback_is_given_after_the_next_poll(ddi: Ddi) -> None:
    ddi.deploys("8", *ddi.releases(1))
    ddi.listens(f"{BASE}/deploymentBase/8/feedback", 500)
    assert ddi.poll().verdict == "installed"
    assert "the server could not be told" in ddi.said[-1]
    ddi.listens(f"{BASE}/deploymentBase/8/feedback")
    ddi.sent.clear()
    ddi.server.requests.clear()
    assert ddi.poll().verdict == "nothing new"
    assert ddi.heard == [("closed", "success")]
    assert all("update.suit" not in path for path, _ in ddi.server.requests)


def test_a_refusal_is_told_with_its_code_and_again(ddi: Ddi) -> None:
    ddi.deploys("8", *ddi.releases(2))
    ddi.poll()
    ddi.deploys("9", *ddi.releases(1))
    for _ in range(2):
        ddi.sent.clear()
        with refused("unsuitable.rollback"):
            ddi.poll()
        assert ddi.heard == [("closed", "failure")]
    details = ddi.sent[0][2]["status"]["details"]
    assert details == [
        "unsuitable.rollback: sequence number 1 is below 2, the lowest that is still accepted"
    ]


def test_a_deployment_that_came_meanwhile_is_not_closed(
    ddi: Ddi, monkeypatch: pytest.MonkeyPatch
) -> None:
    ddi.deploys("8", *ddi.releases(1))
    told = hawkbit.HawkbitDevice.tell_server

    def later(*arguments: Any) -> None:
        ddi.deploys("9", *ddi.releases(2))
        told(*arguments)

    monkeypatch.setattr(hawkbit.HawkbitDevice, "tell_server", later)
    assert ddi.poll().verdict == "installed"
    assert ddi.heard == []


@pytest.mark.parametrize(
    "said", [{"update": "skip"}, {"download": "skip"}, {"maintenanceWindow": "unavailable"}]
)
def test_a_deployment_for_later_waits(ddi: Ddi, said: dict[str, str]) -> None:
    ddi.deploys("8", *ddi.releases(1), **said)
    assert ddi.poll().verdict == "nothing new"
    assert ddi.installed is None


def test_a_cancelled_deployment_is_confirmed(ddi: Ddi) -> None:
    ddi.links["cancelAction"] = f"{BASE}/cancelAction/8"
    ddi.answer(f"{BASE}/cancelAction/8", {"id": "8", "cancelAction": {"stopId": "8"}})
    ddi.listens(f"{BASE}/cancelAction/8/feedback")
    assert ddi.poll().verdict == "nothing new"
    assert ddi.heard == [("closed", "success")]


def test_the_server_gets_the_devices_data_when_it_asks(ddi: Ddi) -> None:
    ddi.links["configData"] = f"{BASE}/configData"
    ddi.listens(f"{BASE}/configData")
    ddi.poll()
    ((method, _, content),) = ddi.sent
    assert method == "PUT"
    assert content["data"]["product"] == "gateway-x1"


def test_a_trial_is_told_as_it_goes(tmp_path: Path, running: Server) -> None:
    health = tmp_path / "health"
    health.write_text("#!/bin/sh\nexit 75\n")
    health.chmod(0o755)
    ddi = Ddi(tmp_path, running, f'[trial]\nhealth = ["{health}"]')
    ddi.deploys("8", *ddi.releases(1))
    assert ddi.poll().verdict == "on trial"
    ddi.poll()
    assert set(ddi.heard) == {("proceeding", "none")}
    health.write_text("#!/bin/sh\nexit 1\n")
    ddi.sent.clear()
    ddi.poll()
    assert ddi.heard == [("closed", "failure")]
    assert "unsuitable.trial" in ddi.sent[0][2]["status"]["details"][0]


def test_the_token_goes_to_the_server_and_into_no_message(tmp_path: Path, running: Server) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    ddi = Ddi(tmp_path, running, f'token_file = "{token}"\ntoken_kind = "target"')
    ddi.deploys("8", *ddi.releases(1))
    ddi.answer(BASE, TOKEN.encode)
    with refused("io.fetch-protocol", "does not speak hawkBit's device API") as caught:
        ddi.poll()
    assert TOKEN not in str(caught.value)
    assert {one["Authorization"] for one in ddi.server.heads} == {f"TargetToken {TOKEN}"}
    assert not any(TOKEN in line for line in ddi.said)


HUGE = {"_links": {}, "more": "x" * MAX_ANSWER}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"[" * 10_000, "no JSON object"),
        (HUGE, f"more than {MAX_ANSWER} bytes"),
    ],
)
def test_answers_that_are_none(ddi: Ddi, content: Any, words: str) -> None:
    ddi.answer(BASE, content)
    with refused("io.fetch-protocol", words):
        ddi.poll()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "a deployment without content"),
        ({"deployment": []}, "a deployment without content"),
        ({"deployment": {}}, "no id"),
        ({"deployment": {}, "id": "x" * 101}, "no id"),
        ({"deployment": {"chunks": [{"artifacts": [1]}]}, "id": 8}, "an artifact without a name"),
        (
            {"deployment": {"chunks": [{"artifacts": [{"filename": "a"}]}]}, "id": 8},
            "an artifact without a name or an address",
        ),
        (
            {
                "deployment": {
                    "chunks": [
                        {
                            "artifacts": [
                                {"filename": "a", "_links": {"download": {"href": "https://x/"}}}
                            ]
                            * (MAX_ARTIFACTS + 1)
                        }
                    ]
                },
                "id": 8,
            },
            f"more than {MAX_ARTIFACTS} artifacts",
        ),
    ],
)
def test_deployments_that_are_none(ddi: Ddi, content: Any, words: str) -> None:
    ddi.deploys("8")
    ddi.answer(f"{BASE}/deploymentBase/8?c=-17", content)
    with refused("io.fetch-protocol", words):
        ddi.poll()


def test_links_to_other_hosts_and_without_tls_are_refused(ddi: Ddi) -> None:
    for place in ("https://elsewhere.example/d", "http://localhost/d", "file:///etc/passwd"):
        links = {"_links": {"deploymentBase": {"href": place}}}
        ddi.answer(BASE, links)
        with refused("io.fetch-address"):
            ddi.poll()


def test_a_deployment_without_an_envelope_is_told(ddi: Ddi) -> None:
    ddi.deploys("8", ("a.bin", "/a"), ("b.bin", "/b"))
    with refused("io.missing", "deployment 8 has 0 files *.suit"):
        ddi.poll()
    assert ddi.heard == [("proceeding", "none")]


def test_links_that_are_none_are_passed_over(ddi: Ddi) -> None:
    given: list[dict[str, Any]] = [{"_links": []}, {"_links": {"deploymentBase": 1}}, {}]
    for links in given:
        ddi.answer(BASE, links)
        assert ddi.poll().verdict == "nothing new"
