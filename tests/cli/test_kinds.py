"""A file of another kind is named in the refusal, with the command that takes it."""

import os
import shutil
from pathlib import Path

import pytest

from cli.kit import good, run
from fwsign.cli import inputs
from fwsign.cli.kinds import _TAKERS, BY_ENDING
from support import NOW

WORDS = {"suit": "release", "channel": "channel", "permit": "permit", "trust": "trust update"}
VERIFY = {
    "suit": "fwsign verify x.suit",
    "channel": "fwsign channel verify x.channel",
    "permit": "fwsign permit show x.permit",
    "trust": "fwsign trust show x.trust",
}
PUBLISH = {
    "suit": "fwsign publish x.suit --to PLACE",
    "channel": "fwsign publish --channel x.channel --to PLACE",
}
INSTALL = {
    "suit": "fwsign install x.suit",
    "permit": "fwsign install ENVELOPE --permit x.permit",
    "trust": "fwsign trust apply x.trust",
}
POLICY, EKU = "untrusted.signers", "untrusted.eku"
CODES = {
    "suit": "unsuitable.release",
    "channel": "unsuitable.channel",
    "permit": "unsuitable.permit",
    "trust": "unsuitable.trust-update",
}
AS_RELEASE = {**CODES, "channel": EKU, "trust": POLICY}
AS_CHANNEL = {**CODES, "suit": EKU, "permit": EKU, "trust": POLICY}
Case = tuple[str, str, dict[str, str], dict[str, str]]
COMMANDS: list[Case] = [
    ("verify FILE", "suit", AS_RELEASE, {}),
    ("channel make stable FILE", "suit", AS_RELEASE, {}),
    ("permit make --device gw-1 --release FILE", "suit", AS_RELEASE, {}),
    ("publish FILE --to served", "suit", AS_RELEASE, PUBLISH),
    ("cosign FILE", "suit", CODES, {}),
    ("rewrap FILE --encrypt-to g --decrypt k", "suit", CODES, {}),
    ("channel verify FILE", "channel", AS_CHANNEL, {}),
    ("channel show FILE", "channel", CODES, {}),
    ("publish --channel FILE --to served", "channel", AS_CHANNEL, PUBLISH),
    ("rollout simulate FILE", "channel", CODES, {}),
    ("hint FILE --to mqtts://127.0.0.1", "channel", CODES, {}),
    ("permit show FILE", "permit", CODES, {}),
    ("trust show FILE", "trust", CODES, {"suit": INSTALL["suit"]}),
]
ON_DEVICES: list[Case] = [
    ("install FILE", "suit", {**CODES, "channel": "", "trust": POLICY}, INSTALL),
    ("install x.suit --permit FILE", "permit", {**CODES, "channel": EKU, "trust": POLICY}, INSTALL),
    ("trust apply FILE", "trust", CODES, {"suit": INSTALL["suit"]}),
]


@pytest.fixture(scope="module")
def all_kinds(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a file of each kind, and a device."""
    place = tmp_path_factory.mktemp("kinds")
    shutil.copytree(made, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "now", lambda: NOW)
        patch.chdir(place)
        patch.setenv("FWSIGN_DEVICE", str(place / "device.toml"))
        good("pki", "issue", "channel", "rollout", "--no-passphrase")
        good("sign", "build.bin", "--output", "x.suit")
        good("channel", "make", "stable", "x.suit")
        Path("stable.channel").rename("x.channel")
        good("permit", "make", "--device", "gw-1", "--release", "x.suit")
        good("trust", "make", "x.trust", "--release", "pki/ca.crt", "--trust", "pki/ca.crt")
        Path("files").mkdir()
        if os.name == "posix":
            who = ("--vendor", "acme.example", "--product", "gateway-x1", "--id", "gw-1")
            where = ("--state", "state.db", "--target-dir", "files", "--anchor", "pki/ca.crt")
            good("device", "init", *who, *where)
    return place


def check(words: str, wanted: str, codes: dict[str, str], takers: dict[str, str]) -> None:
    for kind, code in codes.items():
        if kind == wanted or not code:
            continue
        found = run(*[f"x.{kind}" if one == "FILE" else one for one in words.split()])
        known = found.err.splitlines()
        taker = takers.get(kind, VERIFY[kind])
        hint = f"it is a {WORDS[kind]}, and no {WORDS[wanted]}: {taker}"
        assert known[-1] == f"fwsign: hint: {hint}", (words, kind, found)
        assert (found.status, found.out) == (4 if code.startswith("unsui") else 1, ""), found
        message = f"this is a {WORDS[kind]}, not a {WORDS[wanted]}"
        said = {EKU: "extended key usage of", POLICY: "the policy demands 1 distinct signers"}
        assert said.get(code, message) in known[0], (words, kind, found)


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case[0])
def test_the_hint_names_what_it_is(
    all_kinds: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    monkeypatch.chdir(all_kinds)
    before = sorted(all_kinds.rglob("*"))
    check(*case)
    assert sorted(all_kinds.rglob("*")) == before


@pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")
@pytest.mark.parametrize("case", ON_DEVICES, ids=lambda case: case[0])
def test_the_hint_on_a_device(all_kinds: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.chdir(all_kinds)
    monkeypatch.setenv("FWSIGN_DEVICE", str(all_kinds / "device.toml"))
    check(*case)


def test_the_hint_in_json(all_kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(all_kinds)
    found = run("verify", "x.channel", "--json")
    hint = '"hint": "it is a channel, and no release: fwsign channel verify x.channel"'
    assert found.status == 1
    assert '"code": "untrusted.eku"' in found.out
    assert hint in found.out


def test_show_says_what_each_kind_is(all_kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(all_kinds)
    for kind in WORDS:
        shown = good("show", f"x.{kind}")
        assert shown.startswith("kind: SUIT envelope, not verified here\n")


def test_each_kind_has_a_command() -> None:
    assert set(_TAKERS) == set(BY_ENDING.values())
    assert all(lines[-1][0] == "" for lines in _TAKERS.values())
