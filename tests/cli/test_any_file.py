"""`fwsign sign --hash-envelope` and `--minisig`, and `fwsign verify` of both."""

import json
import subprocess
from pathlib import Path

import pytest

from cli.kit import Result, good, run
from support import require_program

FILE = b"release notes\n" * 100


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    own = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    good("init", *own, "--alg", "ed25519")
    (tmp_path / "notes.txt").write_bytes(FILE)
    return tmp_path


def fails(found: Result, status: int, *words: str) -> None:
    """Assert that a run ended with an error, and wrote no result."""
    assert (found.status, found.out) == (status, ""), found
    assert [one for one in words if one not in found.err] == []


def key() -> str:
    good("sign", "notes.txt", "--minisig", "--force")
    found = json.loads(good("sign", "notes.txt", "--minisig", "--json"))
    return str(found["minisign_key"])


class TestHashEnvelope:
    def test_the_way_of_a_user(self, here: Path) -> None:
        assert good("sign", "--hash-envelope", "notes.txt") == "notes.txt.cose\n"
        out = good("verify", "notes.txt.cose")
        assert "verified  notes.txt\n" in out
        assert f"  file       notes.txt, {len(FILE)} bytes\n" in out
        assert "  signer     release, Ed25519\n" in out
        (here / "notes.txt").write_bytes(FILE + b"x")
        fails(run("verify", "notes.txt.cose"), 1, "the file's digest is ")

    def test_a_second_run_changes_nothing(self, here: Path) -> None:
        good("sign", "--hash-envelope", "notes.txt")
        before = (here / "notes.txt.cose").read_bytes()
        again = run("sign", "--hash-envelope", "notes.txt")
        assert (again.status, (here / "notes.txt.cose").read_bytes()) == (0, before)
        assert "notes.txt.cose unchanged: it is good already" in again.err
        (here / "notes.txt").write_bytes(b"new")
        fails(
            run("sign", "--hash-envelope", "notes.txt"),
            5,
            "notes.txt.cose exists already",
            "it is of another file, or by another key: --force replaces it",
        )
        assert (here / "notes.txt.cose").read_bytes() == before
        good("sign", "--hash-envelope", "notes.txt", "--force")
        good("verify", "notes.txt.cose")

    def test_what_is_no_signature_is_not_replaced(self, here: Path) -> None:
        (here / "notes.txt.cose").write_bytes(b"precious")
        for more in ((), ("--force",)):
            assert run("sign", "--hash-envelope", "notes.txt", *more).status == 5
        assert (here / "notes.txt.cose").read_bytes() == b"precious"

    def test_a_file_of_another_name_is_fails(self, here: Path) -> None:
        good("sign", "--hash-envelope", "notes.txt")
        (here / "other.txt").write_bytes(FILE)
        fails(
            run("verify", "notes.txt.cose", "other.txt"),
            4,
            'other.txt was signed as "notes.txt"',
        )
        (here / "notes.txt.cose").rename("other.txt.cose")
        fails(run("verify", "other.txt.cose"), 4, 'other.txt was signed as "notes.txt"')

    def test_json(self) -> None:
        said = json.loads(good("sign", "--hash-envelope", "notes.txt", "--json"))
        assert (said["verdict"], said["signer"]) == ("signed", "release")
        (file,) = said["files"]
        assert (file["file"], file["signature"], file["result"]) == (
            "notes.txt",
            "notes.txt.cose",
            "signed",
        )
        found = json.loads(good("verify", "notes.txt.cose", "--json"))
        assert (found["verdict"], found["release"], found["unchecked"]) == ("verified", None, [])
        assert (found["name"], found["size"]) == ("notes.txt", len(FILE))
        assert found["signer"]["name"] == "release"

    def test_several_at_once(self, here: Path) -> None:
        (here / "b.txt").write_bytes(b"b")
        out = good("sign", "--hash-envelope", "notes.txt", "b.txt", "--output-dir", ".")
        assert out == "notes.txt.cose\nb.txt.cose\n"
        good("verify", "notes.txt.cose", "b.txt.cose", "b.txt")
        (here / "b.txt").write_bytes(b"c")
        found = run("verify", "notes.txt.cose", "b.txt.cose")
        assert found.status == 1
        assert "verified  notes.txt" in found.out
        assert "b.txt.cose: the file's digest is" in found.err

    def test_each_is_in_the_log(self, here: Path) -> None:
        good("sign", "--hash-envelope", "notes.txt")
        good("sign", "--hash-envelope", "notes.txt")
        lines = (here / "pki/log.jsonl").read_text().splitlines()
        assert len([one for one in lines if '"kind":"file"' in one]) == 1

    def test_a_vendor_that_the_signer_may_not_sign_for_is_fails(self) -> None:
        good("sign", "--hash-envelope", "notes.txt")
        found = run("verify", "notes.txt.cose", "--vendor", "other.example")
        fails(found, 1, '"release" may sign for acme.example, expected other.example')

    def test_it_is_no_release(self) -> None:
        good("sign", "--hash-envelope", "notes.txt")
        assert run("install", "notes.txt.cose").status != 0
        found = run("flash", "notes.txt.cose", "--port", "/dev/null", "--dry-run")
        assert (found.status, found.out) == (1, "")
        assert "not a tagged SUIT envelope with wrapper and manifest" in found.err


class TestMinisig:
    def test_the_way_of_a_user(self, here: Path) -> None:
        word = key()
        assert "verified  notes.txt\n" in good(
            "verify", "notes.txt.minisig", "--minisign-key", word
        )
        (here / "minisign.pub").write_text(f"untrusted comment: x\n{word}\n")
        good("verify", "notes.txt.minisig", "--anchor", "minisign.pub")
        (here / "notes.txt").write_bytes(FILE[1:])
        found = run("verify", "notes.txt.minisig", "--minisign-key", word)
        fails(found, 1, "Ed25519 signature does not verify")

    def test_a_public_key_in_pem_will_do(self) -> None:
        good("sign", "notes.txt", "--minisig")
        good("key", "convert", "pki/private/release.key", "release.pub", "--to", "public")
        good("verify", "notes.txt.minisig", "--anchor", "release.pub")
        good("key", "new", "ec.key", "--no-passphrase")
        good("key", "convert", "ec.key", "ec.pub", "--to", "public")
        found = run("verify", "notes.txt.minisig", "--anchor", "ec.pub")
        fails(found, 5, "ec.pub has no key of Ed25519, which minisign's signatures need")

    def test_the_time_in_the_comment_is_that_of_the_source(self, here: Path) -> None:
        good("sign", "notes.txt", "--minisig", env={"SOURCE_DATE_EPOCH": "1700000000"})
        first = (here / "notes.txt.minisig").read_bytes()
        assert b"timestamp:1700000000\tfile:notes.txt" in first
        more = {"SOURCE_DATE_EPOCH": "1700000000"}
        good("sign", "notes.txt", "--minisig", "--force", env=more)
        assert (here / "notes.txt.minisig").read_bytes() == first

    def test_a_key_of_another_kind_is_fails(self, here: Path) -> None:
        good("pki", "issue", "signer", "ec", "--alg", "p256", "--no-passphrase")
        found = run("sign", "notes.txt", "--minisig", "--signer", "ec")
        fails(found, 5, "minisign's signatures are of Ed25519 alone, this key is P-256")
        hint = "fwsign pki issue signer NAME --alg ed25519 makes a signer with such a key"
        assert found.errors[1] == f"hint: {hint}"
        assert not (here / "notes.txt.minisig").exists()

    def test_without_a_key_it_says_what_is_missing(self) -> None:
        good("sign", "notes.txt", "--minisig")
        fails(
            run("verify", "notes.txt.minisig"),
            2,
            "no key given for a signature of minisign",
            "name it with --minisign-key KEY, or --anchor FILE",
        )
        found = run("verify", "notes.txt.minisig", "--minisign-key", "x")
        assert found.status == 2
        assert "--minisign-key: minisign: the public key: expected base64" in found.err

    @pytest.mark.external
    def test_minisign_checks_ours_and_we_check_its(self, here: Path) -> None:
        program = require_program("minisign")
        word = key()
        command = [program, "-V", "-m", "notes.txt", "-P", word]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0
        (here / "notes.txt").write_bytes(FILE[1:])
        assert subprocess.run(command, check=False, capture_output=True).returncode != 0

        make = [program, "-G", "-W", "-p", "their.pub", "-s", "their.key"]
        subprocess.run(make, check=True, capture_output=True)
        for more in ([], ["-l"]):
            sign = [program, "-S", *more, "-s", "their.key", "-m", "notes.txt", "-t", "theirs"]
            subprocess.run(sign, check=True, capture_output=True, stdin=subprocess.DEVNULL)
            out = good("verify", "notes.txt.minisig", "--anchor", "their.pub")
            assert "  comment    theirs\n  unchecked  name\n" in out
        (here / "notes.txt").write_bytes(FILE)
        found = run("verify", "notes.txt.minisig", "--anchor", "their.pub")
        fails(found, 1, "Ed25519 signature does not verify")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--hash-envelope", "--minisig"), "--hash-envelope and --minisig exclude each other"),
        (("--minisig", "--product", "x"), "--product with --minisig"),
        (("--hash-envelope", "--embed"), "--embed with --hash-envelope"),
        (("--hash-envelope", "--target", "esp32@0x10000"), "--target with --hash-envelope"),
        (("--hash-envelope", "--output", "x"), "--output with --hash-envelope"),
        (("--hash-envelope", "--dry-run"), "--dry-run with --hash-envelope"),
    ],
)
def test_options_without_meaning_are_fails(words: tuple[str, ...], error: str) -> None:
    fails(run("sign", "notes.txt", *words), 2, error)


def test_demands_without_meaning_are_fails() -> None:
    good("sign", "--hash-envelope", "notes.txt")
    words = "a signature on a file alone knows no products and sequence numbers"
    fails(run("verify", "notes.txt.cose", "--product", "x"), 2, words)
    fails(run("verify", "notes.txt.cose", "--min-sequence", "1"), 2, words)
    found = run("verify", "notes.txt.cose", "--minisign-key", "x")
    fails(found, 2, "--minisign-key without a .minisig")
    fails(run("verify", "notes.txt.cose", "a", "b"), 2, "b after a")


def test_a_signature_of_another_name_needs_its_file(here: Path) -> None:
    good("sign", "--hash-envelope", "notes.txt")
    (here / "notes.txt.cose").rename("sig")
    found = run("verify", "sig")
    fails(found, 5, "the name of sig does not tell which file it signs", "name the file after it")
    good("verify", "sig", "notes.txt")


def test_show_says_what_they_are(here: Path) -> None:
    good("sign", "--hash-envelope", "notes.txt")
    (found,) = json.loads(good("show", "notes.txt.cose", "--json"))["content"]
    assert found["kind"] == "COSE hash envelope, not verified here"
    assert (found["file"], found["certificates"]) == ("notes.txt", ["release", "Acme Issuing CA"])
    word = key()
    (found,) = json.loads(good("show", "notes.txt.minisig", "--json"))["content"]
    assert found["kind"] == "signature of minisign, not verified here"
    assert (found["file"], found["signs"]) == ("notes.txt", "the file's BLAKE2b-512")
    (here / "m.pub").write_text(f"untrusted comment: x\n{word}\n")
    (shown,) = json.loads(good("show", "m.pub", "--json"))["content"]
    assert shown == {"kind": "public key of minisign", "key": found["key"]}
    (here / "odd").write_bytes(b"\xd2\x84" + bytes(100))
    (shown,) = json.loads(good("show", "odd", "--json"))["content"]
    assert "COSE" not in shown["kind"]
