"""Signing again, as a pipeline does: the same inputs change nothing, others are refused."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from cli.kit import tree as whole_tree
from fwsign import files as atomic
from fwsign.cli import inputs
from fwsign.format.cose import decode_block
from fwsign.format.envelope import decode_envelope, encode_envelope
from support import NOW

FORCE = "--force replaces envelopes that exist"
SAME = "--sequence or SOURCE_DATE_EPOCH makes the same of the same files"
NUMBERED = ("sign", "build.bin", "--sequence", "7", "--version", "1.2")


def facts(*arguments: object) -> Any:
    """What `sign --json` says of its only envelope."""
    (one,) = json.loads(good(*arguments, "--json"))["envelopes"]
    return one


def tree(directory: Path) -> dict[str, bytes | None]:
    """Return all files but the log, which has a line for each signature."""
    return {name: one for name, one in whole_tree(directory).items() if name != "pki/log.jsonl"}


def later(patch: pytest.MonkeyPatch) -> None:
    """Put the clock two days on."""
    patch.setattr(inputs, "now", lambda: NOW + timedelta(days=2))


@pytest.fixture
def again(project: Path) -> Path:
    """A project whose build.bin is signed."""
    good(*NUMBERED)
    return project


class TestTheSameInputs:
    def test_nothing_changes_and_that_is_said(self, again: Path) -> None:
        before, stat = tree(again), (again / "build.bin.suit").stat()
        found = run(*NUMBERED)
        assert (found.status, found.out) == (0, "build.bin.suit\n")
        assert "fwsign: build.bin.suit unchanged: it says the same already\n" in found.err
        assert tree(again) == before
        assert (again / "build.bin.suit").stat().st_mtime_ns == stat.st_mtime_ns

    @pytest.mark.usefixtures("again")
    def test_programs_are_told(self) -> None:
        one = facts(*NUMBERED)
        assert (one["result"], one["key"]) == ("unchanged", None)
        one = facts(*NUMBERED, "--force")
        assert (one["result"], one["key"]) == ("signed", "pki/private/release.key")
        verified = json.loads(good("verify", "build.bin.suit", "--json"))["release"]
        assert one["manifest_digest"] == verified["manifest_digest"]

    def test_no_key_is_opened(self, again: Path) -> None:
        (again / "pki/private/release.key").unlink()
        good(*NUMBERED)
        assert run(*NUMBERED, "--force").status == 5

    def test_force_signs_again_with_the_same_bytes(self, again: Path) -> None:
        before = tree(again)
        good(*NUMBERED, "--force")
        assert tree(again) == before

    def test_a_time_later(self, again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = tree(again)
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days=3))
        good(*NUMBERED)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
        good("sign", "build.bin", "--version", "1.2")
        assert tree(again) == before

    @pytest.mark.parametrize("alg", ["rsa3072", "ml-dsa-65"])
    def test_a_key_whose_signatures_are_random(self, project: Path, alg: str) -> None:
        more = ("--alg", alg, "--no-passphrase")
        good("pki", "issue", "signer", "random", *more)
        good(*NUMBERED, "--signer", "random")
        before = (project / "build.bin.suit").read_bytes()
        assert facts(*NUMBERED, "--signer", "random")["result"] == "unchanged"
        assert (project / "build.bin.suit").read_bytes() == before
        assert facts(*NUMBERED, "--signer", "random", "--force")["result"] == "signed"
        assert (project / "build.bin.suit").read_bytes() != before

    @pytest.mark.parametrize(
        "more", [("--embed",), ("--block-size", "4096"), ("--not-after", "9d")]
    )
    def test_with_every_kind_of_content(self, project: Path, more: tuple[str, ...]) -> None:
        (project / "build.bin").write_bytes(bytes(10_000))
        good(*NUMBERED, *more)
        before = tree(project)
        good(*NUMBERED, *more)
        assert tree(project) == before

    def test_of_several_those_that_are_missing_are_signed(self, project: Path) -> None:
        for name in "abc":
            (project / name).write_bytes(name.encode())
        files = ("sign", "a", "b", "c", "--sequence", "7")
        good(*files)
        whole = tree(project)
        (project / "b.suit").unlink()
        told = json.loads(good(*files, "--json"))["envelopes"]
        assert [one["result"] for one in told] == ["unchanged", "signed", "unchanged"]
        assert tree(project) == whole

    def test_signatures_of_others_stay(self, again: Path) -> None:
        good("pki", "issue", "signer", "other", "--no-passphrase")
        good(*NUMBERED, "--signer", "other", "--output", "other.suit")
        one, other = (
            decode_envelope((again / name).read_bytes())
            for name in ("build.bin.suit", "other.suit")
        )
        both = encode_envelope(one._replace(blocks=(*other.blocks, *one.blocks)))
        (again / "build.bin.suit").write_bytes(both)
        good(*NUMBERED)
        assert (again / "build.bin.suit").read_bytes() == both

    def test_a_dry_run_says_so(self, again: Path) -> None:
        before = tree(again)
        assert good(*NUMBERED, "--dry-run").startswith("would keep  build.bin.suit\n")
        assert facts(*NUMBERED, "--dry-run")["result"] == "unchanged"
        assert tree(again) == before


class TestNewerCrls:
    def test_they_are_put_in_and_the_signature_stays(
        self, again: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = decode_envelope((again / "build.bin.suit").read_bytes())
        later(monkeypatch)
        good("pki", "crl")
        found = run(*NUMBERED)
        assert (found.status, found.out) == (0, "build.bin.suit\n")
        words = "build.bin.suit kept its signature, and got newer CRLs"
        assert f"fwsign: {words}\n" in found.err
        new = decode_envelope((again / "build.bin.suit").read_bytes())
        (before,), (after,) = (map(decode_block, one.blocks) for one in (old, new))
        assert before.crls != after.crls
        assert after._replace(crls=before.crls) == before
        assert facts(*NUMBERED)["result"] == "unchanged"

    def test_a_dry_run_writes_none(self, again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        later(monkeypatch)
        good("pki", "crl")
        before = tree(again)
        assert facts(*NUMBERED, "--dry-run")["result"] == "refreshed"
        assert tree(again) == before

    def test_older_ones_replace_nothing(self, again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (again / "old").mkdir()
        for crl in (again / "pki/crl").glob("*.pem"):
            (again / "old" / crl.name).write_bytes(crl.read_bytes())
        later(monkeypatch)
        good("pki", "crl")
        good("staple", "build.bin.suit")
        before = (again / "build.bin.suit").read_bytes()
        for crl in (again / "old").glob("*.pem"):
            (again / "pki/crl" / crl.name).write_bytes(crl.read_bytes())
        assert facts(*NUMBERED)["result"] == "unchanged"
        assert (again / "build.bin.suit").read_bytes() == before

    def test_a_signer_that_was_revoked_meanwhile_is_refused(
        self, again: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        later(monkeypatch)
        good("pki", "revoke", "release", "--reason", "keyCompromise")
        before = tree(again)
        found = run(*NUMBERED)
        words = (
            'build.bin.suit exists already, and devices refuse it: certificate "release" revoked '
        )
        assert (found.status, found.out) == (5, "")
        assert found.errors[0].startswith(f"error: {words}")
        assert tree(again) == before


class TestOtherInputs:
    @pytest.mark.parametrize(
        ("more", "words", "hint"),
        [
            (("--sequence", "8"), "with sequence number 7, now 8", f"{SAME}; {FORCE}"),
            (("--product", "x2"), "for another product", FORCE),
            (("--version", "1.3"), "with another text, expiry, block list or attachment", FORCE),
            (("--description", "x"), "with another text, expiry, block list or attachment", FORCE),
            (("--not-after", "9d"), "with another text, expiry, block list or attachment", FORCE),
            (("--embed",), "with other content", FORCE),
            (("--base-url", "https://a.example/"), "with other content", FORCE),
            (("--name", "x.bin"), "with other content", FORCE),
            (("--signer", "other"), 'signed by "release", now by "other"', FORCE),
        ],
    )
    @pytest.mark.parametrize("dry", [(), ("--dry-run",)])
    def test_they_are_refused_and_named(
        self, again: Path, more: tuple[str, ...], words: str, hint: str, dry: tuple[str, ...]
    ) -> None:
        if "other" in more:
            good("pki", "issue", "signer", "other", "--no-passphrase")
        before = tree(again)
        found = run(*NUMBERED, *more, *dry)
        refused(found, 5, f"build.bin.suit exists already, {words}", hint)
        assert tree(again) == before
        good(*NUMBERED, *more, "--force")

    def test_another_file_of_the_name(self, again: Path) -> None:
        (again / "build.bin").write_bytes(b"another")
        words = "build.bin.suit exists already, with other content"
        refused(run(*NUMBERED), 5, words, FORCE)

    def test_json_says_it_too(self, again: Path) -> None:
        (again / "build.bin").write_bytes(b"another")
        found = run(*NUMBERED, "--json")
        told = json.loads(found.out)
        assert (found.status, told["verdict"], told["code"]) == (5, "refused", "io.exists")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("text", "with its text cut off"),
            ("inside", "with other payloads inside"),
            ("signature", "and devices refuse it: "),
            ("manifest", "and devices refuse it: "),
        ],
    )
    def test_an_envelope_that_was_changed(self, project: Path, change: str, words: str) -> None:
        sign = (*NUMBERED, "--embed")
        good(*sign)
        path = project / "build.bin.suit"
        old = decode_envelope(path.read_bytes())
        if change == "text":
            new = old._replace(text=None)
        elif change == "inside":
            new = old._replace(integrated={"#build.bin": b"another"})
        elif change == "manifest":
            new = old._replace(manifest=old.manifest[:-1])
        else:
            new = old._replace(blocks=(old.blocks[0][:-1] + bytes([old.blocks[0][-1] ^ 1]),))
        path.write_bytes(encode_envelope(new))
        before = tree(project)
        found = run(*sign)
        assert (found.status, found.out) == (5, "")
        assert found.errors[0].startswith(f"error: build.bin.suit exists already, {words}")
        assert tree(project) == before

    def test_an_envelope_that_is_none(self, project: Path) -> None:
        (project / "build.bin.suit").write_bytes(b"\xd8\x6b\xff")
        found = run(*NUMBERED)
        assert found.status == 5
        assert found.errors[0].startswith(
            "error: build.bin.suit exists already, and devices refuse"
        )


class TestPlaces:
    def test_envelopes_go_into_a_directory(self, project: Path) -> None:
        (project / "dist").mkdir()
        for name in "ab":
            (project / name).write_bytes(name.encode())
        told = good("sign", "a", "b", "--output-dir", "dist", "--embed", "--sequence", "7")
        assert told == "dist/a.suit\ndist/b.suit\n"
        good("verify", "dist/a.suit")
        assert (
            "unchanged"
            in run("sign", "a", "b", "--output-dir", "dist", "--embed", "--sequence", "7").err
        )

    def test_two_files_of_one_name_are_refused_there(self, project: Path) -> None:
        for name in ("x", "y", "dist"):
            (project / name).mkdir()
        for name in "xy":
            (project / name / "a.bin").write_bytes(name.encode())
        found = run("sign", "x/a.bin", "y/a.bin", "--output-dir", "dist")
        words = "two files would become dist/a.bin.suit"
        refused(found, 2, words, "sign them in two calls")

    def test_it_must_be_there(self, project: Path) -> None:
        before = tree(project)
        found = run("sign", "build.bin", "--output-dir", "dist")
        words = "cannot write dist/build.bin.suit: no such file or directory"
        refused(found, 5, words)
        assert tree(project) == before

    def test_it_excludes_an_output(self, project: Path) -> None:
        found = run("sign", "build.bin", "--output-dir", "dist", "--output", "x")
        hint = "fwsign sign --help shows how"
        refused(found, 2, "--output and --output-dir exclude each other", hint)
        assert not (project / "x").exists()


def test_a_run_that_fails_in_between_tells_programs_what_is_there(project: Path) -> None:
    for name in "abc":
        (project / name).write_bytes(name.encode())
    sign = ("sign", "a", "b", "c", "--sequence", "7")
    with pytest.MonkeyPatch.context() as patch:
        _fail_at(patch, "b.suit")
        found = run(*sign, "--json")
    told = json.loads(found.out)
    assert (found.status, told["code"], told["written"]) == (5, "io.full", ["a.suit"])
    assert found.errors == ["error: cannot write b.suit: no space left on device"]
    told = json.loads(good(*sign, "--json"))["envelopes"]
    assert [one["result"] for one in told] == ["unchanged", "signed", "signed"]


def _fail_at(patch: pytest.MonkeyPatch, name: str) -> None:
    give = atomic._give_name

    def fails(temporary: Path, path: Path, *, overwrite: bool) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device")
        give(temporary, path, overwrite=overwrite)

    patch.setattr(atomic, "_give_name", fails)
