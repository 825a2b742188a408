"""`fwsign log`: the approval log, and the lines that each command adds to it."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from cli.kit import good, program, refused, run, tree
from fwsign.cli import inputs
from fwsign.pki.log import read_log, user, verify_log
from fwsign.receipts.canonical import canonical
from fwsign.receipts.chain import pruning
from fwsign.x509.anchor import Anchor
from support import NOW

pytestmark = pytest.mark.usefixtures("project")
LOG = Path("pki/log.jsonl")


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "GITEA_ACTIONS", "FORGEJO_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def kinds(log: Path = LOG) -> list[str]:
    return [str(one.content["kind"]) for one in read_log(log)]


def new(*arguments: object, log: Path = LOG) -> list[dict[str, object]]:
    """Run a command; return the lines that it adds."""
    before = len(kinds(log))
    good(*arguments)
    return [dict(one.content) for one in read_log(log)][before:]


# --- who writes it ----------------------------------------------------------------------------


def test_a_release_is_a_line_with_digest_key_and_place(project: Path) -> None:
    (line,) = new("sign", "build.bin", "--version", "2.4.1", "--sequence", 7)
    told = json.loads(good("verify", "build.bin.suit", "--json"))["release"]
    spki = Anchor.from_pem((project / "pki/issued/release.crt").read_bytes()).spki
    assert line | {"previous": None, "fwsign": None} == {
        "kind": "release",
        "clock": NOW.isoformat(),
        "who": user(),
        "name": "build.bin.suit",
        "sha256": told["manifest_digest"],
        "key": spki,
        "place": "pki/private/release.key",
        "vendor": "acme.example",
        "product": "gateway-x1",
        "version": "2.4.1",
        "sequence_number": 7,
        "previous": None,
        "fwsign": None,
    }


def test_many_files_are_many_lines(project: Path) -> None:
    (project / "b.bin").write_bytes(b"b")
    lines = new("sign", "build.bin", "b.bin")
    assert [one["name"] for one in lines] == ["build.bin.suit", "b.bin.suit"]


def test_what_signs_nothing_writes_no_line() -> None:
    good("sign", "build.bin", "--sequence", 7)
    before = LOG.read_bytes()
    good("sign", "build.bin", "--sequence", 7)  # unchanged
    good("sign", "build.bin", "--dry-run", "--force")
    good("verify", "build.bin.suit")
    good("staple", "build.bin.suit")
    good("digest", "build.bin")
    assert run("sign", "nothing.bin").status == 5
    assert LOG.read_bytes() == before


def test_trust_updates_have_lines() -> None:
    good("key", "new", "trust.key", "--no-passphrase")
    good("key", "new", "other.key", "--no-passphrase")
    for name in ("trust", "other"):
        good("key", "convert", f"{name}.key", f"{name}.pub", "--to", "public")
    keys = ("--key", "trust.key", "--key", "other.key")
    trusts = ("--trust", "trust.pub", "--trust", "other.pub")
    lines = new("trust", "make", "1.trust", "--release", "pki/ca.crt", *trusts, *keys)
    assert [(one["kind"], one["name"], one["place"]) for one in lines] == [
        ("trust", "1.trust", "trust.key"),
        ("trust", "1.trust", "other.key"),
    ]
    assert {one["number"] for one in lines} == {"1"}
    digests = {one["sha256"] for one in lines}
    good("trust", "make", "2.trust", "--from", "1.trust", "--key", "trust.key")
    (line,) = new("trust", "sign", "2.trust", "--key", "other.key")
    assert (line["kind"], line["place"]) == ("trust", "other.key")
    assert line["sha256"] not in digests


def test_a_key_without_a_pki_is_in_the_log_of_the_settings(project: Path) -> None:
    chain = b"".join(
        (project / "pki" / one).read_bytes()
        for one in ("issued/release.crt", "issued/issuing.crt", "ca.crt")
    )
    (project / "chain.pem").write_bytes(chain)
    before = LOG.read_bytes()
    key = ("--key", "pki/private/release.key", "--chain", "chain.pem", "--force")
    found = run("sign", "build.bin", *key)
    assert found.status == 0
    note = 'in no log: the key is of no PKI, and fwsign.toml has no log = "FILE"'
    assert f"fwsign: {note}\n" in found.err
    (project / "logs").mkdir()
    with (project / "fwsign.toml").open("a") as settings:
        settings.write('log = "logs/approvals.jsonl"\n')
    found = run("sign", "build.bin", *key)
    assert note not in found.err
    assert kinds(project / "logs/approvals.jsonl") == ["release"]
    good("sign", "build.bin", "--force")  # the PKI's signer, too
    assert kinds(project / "logs/approvals.jsonl") == ["release"] * 2
    assert LOG.read_bytes() == before
    assert good("log", "show").count("  release  ") == 2
    assert good("log", "show", "--pki", "pki").count("  issue ") == 4
    other = {"FWSIGN_LOG": "other.jsonl"}
    good("sign", "build.bin", "--force", env=other)
    assert kinds(project / "other.jsonl") == ["release"]


def test_the_ci_run_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("CI_JOB_URL", "https://lab.example/a/-/jobs/7")
    (line,) = new("sign", "build.bin")
    assert line["run"] == {"system": "gitlab", "url": "https://lab.example/a/-/jobs/7"}
    assert ", run https://lab.example/a/-/jobs/7  by " in good("log", "show", "--kind", "release")


def test_a_log_that_cannot_be_written_lets_nothing_out(project: Path) -> None:
    LOG.unlink()
    LOG.mkdir()
    before = tree(project)
    found = run("sign", "build.bin")
    hint = "what is signed is logged first, so nothing was written; "
    refused(
        found,
        5,
        "cannot write pki/log.jsonl: is a directory",
        f'{hint}log = "FILE" in fwsign.toml names another log',
    )
    assert tree(project) == before


# --- show -------------------------------------------------------------------------------------


def test_show_finds_lines_by_what_they_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    good("sign", "build.bin", "--version", "2.4.1")
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days=2))
    good("sign", "build.bin", "--force", "--product", "other")
    lines = [dict(one.content) for one in read_log(LOG)]
    first, second = lines[-2:]
    for wanted in ("gateway-x1", first["sha256"], str(first["sha256"])[:8].upper()):
        assert good("log", "show", wanted).count("\n") == 1
    assert good("log", "show", "build.bin.suit").count("\n") == 2
    assert good("log", "show", str(first["key"])[:16]).count("  release  ") == 2
    assert run("log", "show", str(first["sha256"])[:7]).err.startswith("fwsign: nothing in pki/log")
    assert good("log", "show", "--kind", "crl", "--kind", "issue").count("\n") == 7
    said = run("log", "show", "--kind", "releases").err
    assert said == 'fwsign: nothing in pki/log.jsonl concerns "releases"\n'
    assert good("log", "show", "--since", "1d").count("\n") == 1
    until = (NOW + timedelta(days=1)).isoformat()
    assert str(second["sha256"])[:16] not in good("log", "show", "--until", until)
    (told,) = json.loads(good("log", "show", "other", "--json"))["log"]
    assert told == second


def test_show_of_an_old_log_without_keys(project: Path) -> None:
    from fwsign.receipts.file import append

    old = project / "old.jsonl"
    append(
        old, {"kind": "issue", "clock": NOW.isoformat(), "who": "a@b", "name": "x", "sha256": "0"}
    )
    assert good("log", "show", "--log", old) == f"{NOW.isoformat()}  issue    x  sha256 0  by a@b\n"
    assert good("log", "verify", "--log", old)


def test_letters_that_deceive_a_terminal_are_escaped(project: Path) -> None:
    from fwsign.receipts.file import append

    append(project / "x.jsonl", {"kind": "issue", "name": "\x1b[2J\u202e", "who": "a\nb"})
    assert "\\x1b[2J\\u202e    by a\\nb" in good("log", "show", "--log", "x.jsonl")


# --- verify and head --------------------------------------------------------------------------


def test_a_head_that_was_exported_shows_a_lost_end(project: Path) -> None:
    good("sign", "build.bin")
    head = good("log", "head")
    assert re.fullmatch(r"[0-9a-f]{64} 8\n", head)
    (project / "head.txt").write_text(head)
    good("sign", "build.bin", "--force")
    assert good("log", "verify", "--head", "head.txt").splitlines() == [
        "whole  pki/log.jsonl: 9 lines, 1 since the head given",
        f"  head       {verify_log(LOG).head}",
    ]
    assert json.loads(good("log", "verify", "--head", head[:64], "--json")) == {
        "verdict": "whole",
        "log": "pki/log.jsonl",
        "lines": 9,
        "head": verify_log(LOG).head,
        "lines_since_head": 1,
    }
    kept = LOG.read_text().splitlines(keepends=True)
    LOG.write_text("".join(kept[:7]))
    for command in (("log", "verify"), ("log", "show")):
        refused(
            run(*command, "--head", "head.txt"),
            1,
            f"none of 7 receipts is the head {head[:16]}: the end was cut off or rewritten",
            "receipts were changed or taken out; ask who kept a copy",
        )
    assert "fwsign: without --head, lines at the end could be missing\n" in run("log", "verify").err


def test_no_record_of_pruned_lines_stands_for_the_exported_head() -> None:
    head = good("log", "head")[:64]
    good("sign", "build.bin")
    *_, last = LOG.read_text().splitlines()
    LOG.write_text(f"{canonical({**pruning(7, head), 'previous': None})}\n{last}\n")
    for command in (
        ("log", "verify"),
        ("log", "verify", "--head", head),
        ("log", "show"),
        ("log", "head"),
        ("pki", "log"),
    ):
        refused(
            run(*command),
            1,
            "receipt 1 says that 7 were pruned before it, an approval log is never pruned",
            "receipts were changed, moved or taken out; ask who kept a copy",
        )
    assert "an approval log is never pruned" in run("pki", "lint").out


def test_a_changed_line_is_refused() -> None:
    good("sign", "build.bin")
    kept = LOG.read_text().splitlines(keepends=True)
    LOG.write_text("".join([kept[0].replace('"ca"', '"CA"'), *kept[1:]]))
    for command in (("log", "verify"), ("log", "head"), ("log", "show"), ("pki", "log")):
        found = run(*command)
        assert (found.status, found.out) == (1, "")
        assert found.errors[0].startswith("error: receipt 2 names ")


def test_an_empty_log_has_no_head() -> None:
    LOG.write_text("")
    assert good("log", "verify") == "whole  pki/log.jsonl: 0 lines\n  head       none\n"
    refused(
        run("log", "head"),
        5,
        "pki/log.jsonl has no lines, and so no head",
        "the next signature makes the first; lines that were there before are lost",
    )


def test_no_log_is_no_proof(project: Path) -> None:
    LOG.unlink()
    for command in ("verify", "head"):
        refused(
            run("log", command),
            5,
            "pki/log.jsonl: no such file or directory",
            "the next signature makes it; a log that was there before is lost",
        )
    assert run("log", "show") == (0, "", "fwsign: pki/log.jsonl begins with the next signature\n")
    (project / "fwsign.toml").unlink()
    hint = "name it with --log FILE or --pki DIR"
    refused(run("log", "show"), 2, "no log given, and no fwsign.toml found", hint)
    refused(
        run("log", "show", "--log", "a", "--pki", "pki"),
        2,
        "--log and --pki exclude each other",
        "fwsign log show --help shows how",
    )


@pytest.mark.parametrize("head", ["4f5e", "empty.txt"])
def test_a_head_that_is_none(project: Path, head: str) -> None:
    (project / "empty.txt").write_text("\n")
    found = run("log", "verify", "--head", head)
    assert found.status == 2
    assert found.errors[0] in (
        'error: "4f5e" is not a head',
        "error: empty.txt does not begin with a head",
    )


def test_programs_read_the_head_as_json() -> None:
    told = json.loads(good("log", "head", "--json"))
    assert told == {"head": verify_log(LOG).head, "lines": 7, "log": "pki/log.jsonl"}


def test_a_thousand_signatures_are_one_sync_away(today: Path) -> None:
    """Two hundred files go through one call, and each has its line."""
    for number in range(200):
        (today / f"{number:03}.bin").write_bytes(b"%d" % number)
    files = [f"{number:03}.bin" for number in range(200)]
    found = program("sign", *files, "--quiet", cwd=today)
    assert found.returncode == 0
    names = [one.content["name"] for one in read_log(today / "pki")]
    assert names[-200:] == [f"{name}.suit" for name in files]
