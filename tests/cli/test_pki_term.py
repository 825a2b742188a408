"""Commands outside the term of a CA: refused with both times, or done; never half done."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cli.kit import Result, good, refused, run, tree
from fwsign.cli import inputs
from support import NOW

NAMES = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
NO = "--no-passphrase"
YEAR = timedelta(days=365.25)
ROOT = 'the CA "Acme Root CA" expired 2046-11-22, it is 2046-11-24'
ISSUING = 'the CA "Acme {} CA" expired 2036-11-21, it is {}'
STANDBY = "fwsign pki standby makes another root: give it to devices, then fwsign pki rotate"
BEHIND = 'it is 2026-11-20, but the CA "Acme {}" begins 2026-11-22'
ANEW = "fwsign pki renew {}, with the root's key"

FOR_ROOT = {
    "rotate": ("rotate", NO),
    "renew issuing": ("renew", "issuing"),
    "renew issuing --for": ("renew", "issuing", "--for", "5y"),
    "renew issuing --permit": ("renew", "issuing", "--permit", "localhost"),
    "renew issuing --new-key": ("renew", "issuing", "--new-key", NO),
    "sign-ca": ("sign-ca", "away/reqs/issuing.csr", "--permit", "acme.example"),
    "sign-ca --for": (
        "sign-ca",
        "away/reqs/issuing.csr",
        "--permit",
        "acme.example",
        "--for",
        "1y",
    ),
}
FOR_ISSUING = {
    "renew": ("renew", "release"),
    "renew --for": ("renew", "release", "--for", "1y"),
    "renew --new-key": ("renew", "release", "--new-key", NO),
    "renew --all": ("renew", "--all"),
    "issue": ("issue", "signer", "x", NO),
    "issue --for": ("issue", "signer", "x", "--for", "1d", NO),
    "issue server": ("issue", "server", "b.acme.example", NO),
}
ANYWAY = {
    "crl": ("crl",),
    "revoke": ("revoke", "release", "--reason", "keyCompromise"),
    "revoke issuing": ("revoke", "issuing", "--reason", "cACompromise"),
    "standby": ("standby", NO),
}


def ca_of(words: tuple[str, ...]) -> tuple[str, str]:
    """Return the CA that a command issues by: the word in its subject, and its name."""
    return ("TLS", "issuing-tls") if words[1] == "server" else ("Issuing", "issuing")


MADE = "pki/standby.crt\npki/issued/issuing-tls-2.crt\npki/issued/issuing-2.crt\n"

Clock = Callable[[datetime], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return lambda time: monkeypatch.setattr(inputs, "now", lambda: time)


@pytest.fixture
def after(clock: Clock) -> datetime:
    """Two days after the root's end."""
    time = NOW + timedelta(days=7307)
    clock(time)
    return time


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("term")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "now", lambda: NOW)
        patch.chdir(base)
        good("pki", "init", "pki", *NAMES)
        good("pki", "init", "flat", *NAMES, "--layout", "easyrsa")
        good("pki", "init", "root", *NAMES, "--root-only")
        good("pki", "csr", "away", *NAMES)
        good("pki", "sign-ca", "away/reqs/issuing.csr", "--pki", "root", "--permit", "acme.example")
        parts = ("root/ca.crt", "root/issued/issuing.crt", "root/crl/ca.pem")
        good("pki", "accept", "away", *parts)
    return base


@pytest.fixture
def pki(_made: Path, tmp_path: Path) -> Path:
    """The PKIs `pki`, `flat`, and `root` with the issuing CA `away`."""
    shutil.copytree(_made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def on(directory: str, *words: str) -> Result:
    return run("pki", *words, "--pki", directory)


def unchanged(base: Path, found: Result, before: object, error: str, hint: str | None) -> None:
    refused(found, 5, error, hint)
    assert tree(base) == before


@pytest.mark.usefixtures("after")
class TestRootHasExpired:
    @pytest.mark.parametrize("words", FOR_ROOT.values(), ids=FOR_ROOT)
    def test_it_certifies_nothing(self, words: tuple[str, ...], pki: Path) -> None:
        before = tree(pki)
        unchanged(pki, on("pki", *words), before, ROOT, STANDBY)

    @pytest.mark.parametrize("words", FOR_ISSUING.values(), ids=FOR_ISSUING)
    def test_the_way_out_for_leaves_is_another_root(
        self, words: tuple[str, ...], pki: Path
    ) -> None:
        before = tree(pki)
        unchanged(
            pki, on("pki", *words), before, ISSUING.format(ca_of(words)[0], "2046-11-24"), STANDBY
        )

    @pytest.mark.parametrize("words", ANYWAY.values(), ids=ANYWAY)
    def test_crls_are_made_and_a_standby(self, words: tuple[str, ...], pki: Path) -> None:
        assert on("pki", *words).status == 0
        assert pki.is_dir()

    def test_a_root_alone(self, pki: Path) -> None:
        before = tree(pki)
        hint = f"{STANDBY} where the issuing CA is, with that root's key"
        unchanged(pki, on("root", *FOR_ROOT["sign-ca"]), before, ROOT, hint)

    @pytest.mark.parametrize("words", FOR_ISSUING.values(), ids=FOR_ISSUING)
    def test_flat(self, words: tuple[str, ...], pki: Path) -> None:
        before = tree(pki)
        hint = "fwsign pki init makes another PKI; devices must be given its root"
        unchanged(pki, on("flat", *words), before, ROOT, hint)
        assert on("flat", "crl").status == 0

    def test_import(self, pki: Path) -> None:
        before = tree(pki)
        found = run("pki", "import", "flat", "--vendor", "acme.example", NO)
        hint = "fwsign pki show reads it as it is; fwsign pki init makes another PKI"
        unchanged(pki, found, before, ROOT, hint)

    def test_import_of_a_ca_below_a_root(self, pki: Path) -> None:
        good("pki", "export", "easyrsa", "theirs", "--pki", "pki")
        found = run("pki", "import", "theirs", "--to", "ours", NO)
        assert (found.status, found.out) == (0, "ours\n")
        words = "fwsign: warning: it expired 2036-11-21, it is 2046-11-24: the root can renew it"
        assert words in found.err
        assert on("ours", "issue", "signer", "x", NO).errors[0] == (
            f"error: {ISSUING.format('Issuing', '2046-11-24')}"
        )
        assert pki.is_dir()

    def test_a_standby_takes_over_without_its_help(self, pki: Path) -> None:
        good("pki", "standby", "--pki", "pki", NO)
        assert on("pki", "renew", "issuing").errors[1] == (
            "hint: fwsign pki rotate goes over to the standby root"
        )
        found = on("pki", "rotate", NO)
        assert (found.status, found.out) == (0, MADE)
        warning = 'warning: devices that know only "ca" refuse what is signed from now on'
        assert warning in found.err
        assert on("pki", "issue", "signer", "x", NO).status == 0
        assert pki.is_dir()

    def test_a_standby_that_has_expired_too_is_none(self, pki: Path, clock: Clock) -> None:
        clock(NOW)
        good("pki", "standby", "--pki", "pki", NO)
        clock(NOW + timedelta(days=7307))
        before = tree(pki)
        unchanged(pki, on("pki", "rotate", NO), before, ROOT, STANDBY)
        assert good("pki", "standby", "--pki", "pki", NO) == "pki/standby-2.crt\n"
        assert "pki/standby-2.crt\n" in good("pki", "rotate", "--pki", "pki", NO)


class TestIssuingHasExpired:
    @pytest.fixture(autouse=True)
    def _later(self, clock: Clock) -> None:
        clock(NOW + 11 * YEAR)

    @pytest.mark.parametrize("words", FOR_ISSUING.values(), ids=FOR_ISSUING)
    def test_it_certifies_nothing(self, words: tuple[str, ...], pki: Path) -> None:
        before = tree(pki)
        subject, name = ca_of(words)
        error = ISSUING.format(subject, "2037-11-22")
        unchanged(pki, on("pki", *words), before, error, ANEW.format(name))

    @pytest.mark.parametrize("words", FOR_ROOT.values(), ids=FOR_ROOT)
    def test_the_root_goes_on(self, words: tuple[str, ...], pki: Path) -> None:
        assert on("pki", *words).status == 0
        assert pki.is_dir()

    def test_a_later_one_is_named(self, pki: Path, clock: Clock) -> None:
        good("pki", "rotate", "--pki", "pki", NO)
        clock(NOW + 22 * YEAR)
        found = on("pki", "renew", "--all")
        assert found.errors == [
            'error: the CA "Acme Issuing CA 2" expired 2047-11-22, it is 2048-11-22',
            "hint: fwsign pki renew issuing-2, with the root's key",
        ]
        assert on("pki", "renew", "issuing-2").status == 0
        assert pki.is_dir()

    def test_the_root_is_elsewhere(self, pki: Path) -> None:
        before = tree(pki)
        hint = (
            "where the root is: fwsign pki sign-ca issuing.csr; then here: fwsign pki accept away "
            "FILE"
        )
        words = FOR_ISSUING["issue"]
        unchanged(pki, on("away", *words), before, ISSUING.format("Issuing", "2037-11-22"), hint)


class TestClockIsBehind:
    @pytest.fixture(autouse=True)
    def _earlier(self, clock: Clock) -> None:
        clock(NOW - timedelta(2))

    @pytest.mark.parametrize("words", {**FOR_ROOT, "standby": ("standby", NO)}.values())
    def test_of_the_root(self, words: tuple[str, ...], pki: Path) -> None:
        before = tree(pki)
        unchanged(pki, on("pki", *words), before, BEHIND.format("Root CA"), None)

    @pytest.mark.parametrize("words", FOR_ISSUING.values(), ids=FOR_ISSUING)
    def test_of_the_issuing_ca(self, words: tuple[str, ...], pki: Path) -> None:
        before = tree(pki)
        unchanged(pki, on("pki", *words), before, BEHIND.format(f"{ca_of(words)[0]} CA"), None)

    @pytest.mark.parametrize("directory", ["pki", "flat"])
    def test_a_revocation(self, directory: str, pki: Path) -> None:
        before = tree(pki)
        name = "Issuing CA" if directory == "pki" else "Root CA"
        unchanged(pki, on(directory, *ANYWAY["revoke"]), before, BEHIND.format(name), None)


def test_the_last_second(pki: Path, clock: Clock) -> None:
    end = NOW + timedelta(days=7305)
    clock(end - timedelta(seconds=1))
    assert on("pki", "renew", "issuing").status == 0
    clock(end)
    assert (
        on("pki", "renew", "issuing").errors[0].startswith('error: the CA "Acme Root CA" expired')
    )
    clock(end + timedelta(minutes=30))  # a certificate begins an hour earlier
    assert (
        on("pki", "renew", "issuing").errors[0].startswith('error: the CA "Acme Root CA" expired')
    )
    assert pki.is_dir()


@pytest.mark.parametrize(
    ("year", "why"),
    [(2040, "its CRL is stale since 2036-12-26"), (2047, "what it certified has ended")],
)
def test_signing_warns_of_devices_that_know_only_a_root_that_is_gone(
    year: int, why: str, pki: Path, clock: Clock
) -> None:
    """Its key is lost in 2040; in 2047 it is here, and the root has ended."""
    clock(NOW + 9 * YEAR)
    good("pki", "rotate", "--pki", "pki", NO)
    good("pki", "renew", "--all", "--pki", "pki")
    good("pki", "crl", "--pki", "pki")
    (pki / "build.bin").write_bytes(b"build")
    sign = ("sign", "build.bin", "--pki", "pki", "--product", "x1", "--force")
    assert "warning" not in run(*sign).err
    time = NOW + (year - 2026) * YEAR
    clock(time)
    if year == 2040:
        (pki / "pki/private/ca.key").unlink()
    good("pki", "renew", "issuing-2", "--pki", "pki")
    good("pki", "renew", "--all", "--pki", "pki")
    run("pki", "crl", "--pki", "pki")
    found = run(*sign)
    assert (found.status, found.out) == (0, "build.bin.suit\n")
    note = f'fwsign: warning: devices that know only the root "ca" refuse this: {why}\n'
    assert note in found.err


def test_a_root_that_was_left_is_named_before_its_end(pki: Path, clock: Clock) -> None:
    clock(NOW + 9 * YEAR)
    good("pki", "rotate", "--pki", "pki", NO)
    clock(NOW + 20 * YEAR - timedelta(30))
    found = run("pki", "expire", "--pki", "pki")
    assert "certificate ca  pki/ca.crt\n" in found.out
    assert "-by-" not in found.out
    words = 'devices that know only the root "ca" refuse all after its end: give them another\n'
    assert words in found.err
    assert pki.is_dir()
