"""A PKI and its devices from 2026 to 2047: nothing crashes, and nothing false is said.

The operator follows `fwsign pki expire`. What `verify`, `show`, `expire` and `lint` say is compared
with a check of its own, made of certificates, dates and what the operator has revoked. One device
is made each year; it pins the roots of its year, has a memory, and sees every release.
"""

import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import run
from fwsign.cli import inputs
from fwsign.errors import FwsignError
from fwsign.memory.state import State
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor
from support import stride

START = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
NO = "--no-passphrase"
PKI = Path("pki")
LEAVES = {
    "release": "codesign",
    "ci": "codesign",
    "broker.acme.example": "server",
    "sensor": "client",
}
POLICY = DevicePolicy(vendor="acme.example", product="x1", revocation="require")
ALIVE = {"valid", "ending soon", "ending very soon"}


class Device(NamedTuple):
    """A device: the year it was made in, the roots it pins, and its memory."""

    year: int
    roots: tuple[str, ...]
    anchors: tuple[Anchor, ...]
    state: State

    def judge(self, envelope: bytes, now: datetime, *, accept: bool = True) -> str | None:
        """Return the code of a refusal; None for an accepted release."""
        policy, floor = self.state.policy(POLICY, "board")
        try:
            release = Verifier(self.anchors, policy).verify(envelope, at=now)
        except FwsignError as error:
            return error.code
        if accept:
            self.state.accept("board", release, floor)
        return None


class Life:
    """The operator of a PKI, with a clock, and the independent check."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
        self.now = START
        monkeypatch.setattr(inputs, "now", lambda: self.now)
        monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
        self.revoked: set[int] = set()
        self.devices: list[Device] = []
        self.old: list[tuple[int, bytes]] = []
        Path("build.bin").write_bytes(b"build")
        self.pki("init", "pki", "--org", "Acme", "--vendor", "acme.example", NO, *options)
        self.do("issue", "signer", "ci", NO)
        self.do("issue", "server", "broker.acme.example", NO)
        self.do("issue", "client", "sensor", NO)

    def at(self, year: float) -> None:
        self.now = START + timedelta(days=int((year - 2026) * 365.25))

    def pki(self, *words: str, also: tuple[int, ...] = ()) -> str:
        found = run("pki", *words)
        assert found.status in (0, *also), (self.now, words, found)
        return found.out

    def do(self, *words: str, also: tuple[int, ...] = ()) -> str:
        return self.pki(*words, "--pki", "pki", also=also)

    def names(self) -> dict[str, x509.Certificate]:
        paths = (*PKI.glob("*.crt"), *PKI.glob("issued/*.crt"))
        return {path.stem: x509.load_pem_x509_certificate(path.read_bytes()) for path in paths}

    def revoke(self, name: str, reason: str, *, renewed: bool = False) -> None:
        serial = self.names()[name].serial_number
        self.revoked.add(serial)
        if not renewed:
            self.do("revoke", name, "--reason", reason)

    def replace_and_revoke(self, name: str, reason: str) -> None:
        """Give a signer a new key, and revoke the old one by its serial number."""
        serial = self.names()[name].serial_number
        self.do("renew", name, "--new-key", NO)
        self.revoked.add(serial)
        self.do("revoke", f"{serial:X}", "--reason", reason)

    def obey(self) -> None:
        """Do what `expire` asks for, and make CRLs."""
        # CAs before what is below them.
        for one in sorted(self.ending(), key=lambda one: not one["name"].startswith("issuing")):
            if one["kind"] == "certificate" and not self.is_root(one["name"]):
                self.do("renew", one["name"])
        self.do("crl", also=(3,))

    def ending(self) -> list[dict[str, Any]]:
        return list(
            json.loads(self.do("expire", "--json", "--within", "400d", also=(3,)))["ending"]
        )

    def is_root(self, name: str) -> bool:
        certificate = self.names()[name]
        return certificate.issuer == certificate.subject

    # The independent check.

    def leads(
        self,
        certificate: x509.Certificate,
        roots: Iterable[str],
        *,
        tls: bool = False,
        fresh: bool = False,
        seen: tuple[str, ...] = (),
    ) -> bool:
        """Tell whether a path of valid certificates leads to a root.

        Args:
            certificate: where the path begins.
            roots: the roots that are pinned.
            tls: the dates of the root count, too.
            fresh: all CRLs on the path must be fresh.
            seen: the names on the path.
        """
        if certificate.serial_number in self.revoked or not is_within(certificate, self.now):
            return False
        for name, issuer in self.names().items():
            if name in seen or not is_issued(certificate, issuer):
                continue
            stem = name.split("-by-")[0]  # a root that another certified has the same CRL
            crl = PKI / ("crl.pem" if not (PKI / "crl").exists() else f"crl/{stem}.pem")
            if fresh and next_update(crl) < self.now:
                continue
            if issuer.issuer == issuer.subject:
                if name in roots and (not tls or is_within(issuer, self.now)):
                    return True
                continue
            on = {"tls": tls, "fresh": fresh, "seen": (*seen, name)}
            if self.leads(issuer, roots, **on):  # type: ignore[arg-type]
                return True
        return False

    def check(self) -> None:
        """Compare what the commands say with the independent check."""
        names = self.names()
        roots = [name for name in names if self.is_root(name)]
        ending = {one["name"] for one in self.ending() if one["kind"] == "certificate"}
        shown = {
            one["sha256"]: one["standing"]
            for one in json.loads(self.pki("show", "pki", "--json"))["certificates"]
        }
        lint = self.lint()
        for name, purpose in LEAVES.items():
            own = names[name]
            good = self.leads(own, roots, tls=purpose in ("server", "client"))
            where = (self.now, name, good)
            path = f"pki/issued/{name}.crt"
            found = run("pki", "verify", path, "--purpose", purpose, "--pki", "pki")
            assert (found.status == 0) == good, (where, found)
            assert (shown[own.fingerprint(hashes.SHA256()).hex()] in ALIVE) == good, where
            if own.serial_number in self.revoked:
                continue
            soon = own.not_valid_after_utc - self.now <= timedelta(400)
            assert (name in ending) == (soon or not good), where
            faults = [one for one in lint if one["file"].endswith(path)]
            grave = [one for one in faults if one["severity"] == "error"]
            assert bool(grave) == (not good), (where, faults)

    def lint(self) -> list[dict[str, Any]]:
        return list(json.loads(self.pki("lint", "pki", "--json", also=(1, 3)))["findings"])

    def make_device(self) -> None:
        year = self.now.year
        roots = {name: one for name, one in self.names().items() if self.is_root(name)}
        anchors = [
            Anchor.from_certificate(one.public_bytes(Encoding.DER)) for one in roots.values()
        ]
        state = State.open(Path(f"device-{year}/state"), create=True)
        self.devices.append(Device(year, tuple(roots), tuple(anchors), state))

    def ship(self) -> list[int]:
        """Sign a release, show it to every device; return the years of those that accept it."""
        sequence = str(int(self.now.timestamp()))
        words = ("--pki", "pki", "--product", "x1", "--force", "--sequence", sequence)
        found = run("sign", "build.bin", *words)
        assert found.status == 0, (self.now, found)
        envelope = Path("build.bin.suit").read_bytes()
        signer, accepted = self.names()["release"], []
        for one in self.devices:
            code = one.judge(envelope, self.now)
            wanted = self.leads(signer, one.roots, fresh=True)
            assert (code is None) == wanted, (self.now, one.year, one.roots, code)
            if code is None:
                accepted.append(one.year)
        for year, envelope in self.old:  # none of which may come back
            for one in self.devices:
                if one.year in accepted:
                    assert one.judge(envelope, self.now, accept=False), (self.now, one.year, year)
        if self.now.year % 5 == 0:
            self.old.append((self.now.year, Path("build.bin.suit").read_bytes()))
        return accepted

    def live(self, years: Iterable[int], events: dict[int, Callable[[], None]]) -> list[list[int]]:
        """Live some years, with what happens in them; return who accepted the releases."""
        found = []
        for year in years:
            self.at(year)
            if year in events:
                self.do("crl", also=(3,))
                events[year]()
            self.make_device()
            self.obey()
            if year % stride(7) == 0 or year in events:
                self.check()
            found.append(self.ship())
        return found


def is_within(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def next_update(crl: Path) -> datetime:
    found = x509.load_pem_x509_crl(crl.read_bytes()).next_update_utc
    assert found
    return found


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Life:
    return Life(monkeypatch)


def test_twenty_years(life: Life) -> None:
    def lost_passphrase() -> None:
        (PKI / "private/release.key").write_bytes(b"nobody can open this\n")
        life.replace_and_revoke("release", "superseded")

    def signer_stolen() -> None:
        life.replace_and_revoke("ci", "keyCompromise")

    def issuing_stolen() -> None:
        life.revoke("issuing", "keyCompromise")
        life.check()
        life.do("renew", "issuing", "--new-key", NO)
        life.do("renew", "--all")
        life.do("crl")

    def tls_stolen() -> None:
        life.revoke("issuing-tls", "keyCompromise")
        life.check()
        life.do("renew", "issuing-tls", "--new-key", NO)
        life.do("renew", "--all")
        life.do("crl")

    def root_lost() -> None:
        (PKI / "private/ca.key").unlink()
        life.do("rotate", NO)
        life.do("renew", "--all")

    def root_stolen() -> None:
        life.do("rotate", NO)
        life.do("renew", "--all", "--new-key", NO)

    def post_quantum() -> None:
        life.do("rotate", "--alg", "ml-dsa-65", NO)
        life.do("renew", "--all", "--new-key", NO)

    accepted = life.live(
        range(2026, 2048),
        {
            2029: lost_passphrase,
            2030: signer_stolen,
            2031: lambda: void(life.do("standby", NO)),
            2033: issuing_stolen,
            2034: tls_stolen,
            2036: root_lost,
            2038: lambda: void(life.do("standby", NO)),
            2040: root_stolen,
            2042: lambda: void(life.do("standby", "--alg", "ml-dsa-65", NO)),
            2043: post_quantum,
        },
    )
    assert accepted[9] == [*range(2026, 2036)]  # all, until the first root was lost
    # Then those that knew the standby, and those that were made since.
    assert accepted[10] == [*range(2031, 2037)]
    assert accepted[-1] == [*range(2031, 2048)]
    keys = {name: one.public_key().__class__.__name__ for name, one in life.names().items()}
    assert "MLDSA65" in keys["release"]
    assert life.do("expire", "--within", "30d") == ""
    assert life.do("crl")
    assert [one for one in life.lint() if one["severity"] != "note"] == []


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
def test_the_old_root_certifies_the_new_one(life: Life, *, lost: bool) -> None:
    """Devices that know only the old root go on until its key is lost, or it has ended."""

    def lose() -> None:
        if lost:
            (PKI / "private/ca.key").unlink()

    def rotate() -> None:
        life.do("rotate", NO)
        life.do("renew", "--all")

    years = (2026, 2030, 2034, 2036, 2038, 2040, 2044, 2046, 2047)
    accepted = life.live(years, {2034: rotate, 2038: lose})
    assert accepted[5] == (
        [2034, 2036, 2038, 2040] if lost else [2026, 2030, 2034, 2036, 2038, 2040]
    )
    assert accepted[-1] == [2034, 2036, 2038, 2040, 2044, 2046, 2047]
    assert life.do("expire", "--within", "30d") == ""


def test_one_ca_for_easyrsa_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(monkeypatch, "--layout", "easyrsa")
    life.live((2026, 2029), {2029: lambda: life.replace_and_revoke("ci", "keyCompromise")})
    life.live((2035, 2045), {})
    life.at(2047)
    for name in LEAVES:
        found = run("pki", "renew", name, "--pki", "pki")
        assert found.errors[0].startswith('error: the CA "Acme Root CA" expired 2046-11-22')
    life.check()


def void(_: object) -> None:
    """Make an event of a command."""
