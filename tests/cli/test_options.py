"""What all commands understand: short options, `-`, quiet, groups, several envelopes, dry runs."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from cli.kit import EXAMPLE, command, environment, good, program, refused, run, tree
from cli.test_hints import COMMANDS, GROUPS
from fwsign import __version__
from fwsign.cli import inputs
from support import NOW

WIDTHS = (60, 80, 100)
ISSUE = "CAs issue signers: fwsign pki issue signer NAME"


class TestEveryCommand:
    @pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
    def test_takes_quiet_and_no_color(self, path: tuple[str, ...]) -> None:
        names = {name for option in COMMANDS[path].params for name in option.opts}
        assert {"-q", "--quiet", "--no-color"} <= names

    @pytest.mark.parametrize("path", [*COMMANDS, *GROUPS], ids=lambda path: " ".join(path) or "-")
    def test_help_is_the_same_page_and_fits(
        self, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for width in WIDTHS:
            monkeypatch.setenv("COLUMNS", str(width))
            page = good(*path, "--help")
            assert page == good("help", *path)
            body = page.partition("  Examples:")[0]
            assert max(map(len, body.splitlines())) <= width
            assert "\u2011" not in page
            assert "..." not in page.partition("Commands:\n")[2]

    def test_words_with_hyphens_are_kept_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for width in range(40, 101):
            monkeypatch.setenv("COLUMNS", str(width))
            page = good("init", "--help")
            assert "ml-dsa-87" in page
            assert not any(line.endswith("-") for line in page.splitlines())


class TestGroups:
    @pytest.mark.parametrize("path", GROUPS[1:], ids=" ".join)
    def test_one_without_a_command_shows_its_page(self, path: tuple[str, ...]) -> None:
        found = run(*path)
        words = " ".join(("fwsign", *path))
        assert (found.status, found.out) == (2, "")
        assert found.err.startswith(good(*path, "--help"))
        assert found.errors == [
            f"error: {words} needs a command",
            f"hint: {words} COMMAND --help shows how",
        ]

    def test_with_json_it_is_one_object(self) -> None:
        assert json.loads(run("--json").out)["code"] == "usage"


class TestVersion:
    @pytest.mark.parametrize("typed", ["--version", "-V", "version"])
    def test_it_is_said(self, typed: str) -> None:
        assert good(typed) == f"fwsign {__version__}\n"

    def test_help_of_what_is_no_group(self) -> None:
        refused(run("help", "sign", "x"), 2, "fwsign sign has no commands", "fwsign help sign")


@pytest.mark.usefixtures("signed")
class TestQuiet:
    @pytest.mark.parametrize("option", ["--quiet", "-q"])
    def test_it_may_stand_before_and_after_the_command(self, option: str) -> None:
        assert run("sign", "build.bin", "--force").err != ""
        assert run(option, "sign", "build.bin", "--force").err == ""
        assert run("sign", option, "build.bin", "--force").err == ""
        assert run("sign", "build.bin", "--force", option).err == ""
        assert run("sign", "build.bin", "--force").err != ""

    def test_it_keeps_errors(self) -> None:
        assert run("verify", "-q", "absent").errors == [
            "error: cannot read absent: no such file or directory"
        ]


@pytest.mark.usefixtures("signed")
class TestSeveral:
    @pytest.fixture(autouse=True)
    def _files(self, project: Path) -> None:
        for name in ("a.bin", "b.bin"):
            (project / name).write_bytes(name.encode())
        good("sign", "a.bin", "b.bin")

    def test_all_are_told(self) -> None:
        found = run("verify", "a.bin.suit", "b.bin.suit", "build.bin.suit", "build.bin")
        assert found.status == 0
        assert [line for line in found.out.splitlines() if line[0] != " "] == [
            "verified  a.bin.suit",
            "verified  b.bin.suit",
            "verified  build.bin.suit",
        ]
        assert found.err == "fwsign: 3 of 3 verified\n"

    def test_the_worst_status_counts(self, project: Path) -> None:
        (project / "b.bin").write_bytes(b"x.bin")
        found = run("verify", "a.bin.suit", "absent.suit", "build.bin.suit")
        assert (found.status, found.out.count("verified  ")) == (5, 2)
        assert found.errors == ["error: cannot read absent.suit: no such file or directory"]
        found = run("verify", "a.bin.suit", "b.bin.suit", "build.bin.suit")
        assert found.status == 1
        error, hint = found.errors
        assert error.startswith('error: b.bin.suit: payload of "b.bin" has digest ')
        assert hint == "hint: this is not the file that was signed; fetch it again"
        assert found.out.count("verified  ") == 2
        assert found.err.endswith("fwsign: 2 of 3 verified\n")

    def test_json_is_one_line_each(self, project: Path) -> None:
        (project / "b.bin").unlink()
        found = run("verify", "a.bin.suit", "b.bin.suit", "--json")
        lines = [json.loads(line) for line in found.out.splitlines()]
        assert [(one["envelope"], one["verdict"], one["code"]) for one in lines] == [
            ("a.bin.suit", "verified", None),
            ("b.bin.suit", "refused", "io.payload-missing"),
        ]
        assert found.status == 5

    def test_an_envelope_that_was_signed_as_a_payload_is_one(self) -> None:
        good("sign", "a.bin.suit", "--output", "outer")
        out = good("verify", "outer", "a.bin.suit")
        assert out.startswith("verified  outer\n")
        assert out.count("verified") == 1


@pytest.mark.usefixtures("signed")
class TestDryRun:
    @pytest.mark.parametrize("more", [(), ("--json",)])
    def test_it_writes_nothing_and_opens_no_key(self, project: Path, more: tuple[str, ...]) -> None:
        (project / "pki/private/release.key").unlink()
        (project / "build.bin.suit").unlink()
        before = tree(project)
        found = run("sign", "build.bin", "--dry-run", "--version", "1.2", *more)
        assert (found.status, tree(project)) == (0, before)
        if more:
            (one,) = json.loads(found.out)["envelopes"]
            assert (one["version"], one["vendor"], one["signers"]) == (
                "1.2",
                "acme.example",
                ["release"],
            )
        else:
            assert found.out.startswith("would sign  build.bin.suit\n  release    gateway-x1 1.2, ")
        assert found.err == ("" if more else "fwsign: nothing was written, and no key was opened\n")

    def test_what_could_not_be_signed_is_refused(self) -> None:
        refused(
            run("sign", "build.bin", "--dry-run", "--version", "2"),
            5,
            "build.bin.suit exists already, with another text, expiry, block list or attachment",
            "--force replaces envelopes that exist",
        )

    @pytest.mark.parametrize("more", [(), ("--dry-run",)])
    @pytest.mark.parametrize(
        ("signer", "words", "hint"),
        [
            ("ca", '"Acme Root CA" is a CA, it may not sign releases', ISSUE),
            ("issuing", '"Acme Issuing CA" is a CA, it may not sign releases', ISSUE),
            (
                "release",
                'certificate "release" revoked 2026-11-22 (key compromise)',
                "sign with another signer: --signer NAME, or --key and --chain",
            ),
        ],
    )
    def test_a_signer_that_may_not_sign_is_refused_with_and_without_a_key(
        self, more: tuple[str, ...], signer: str, words: str, hint: str
    ) -> None:
        good("pki", "revoke", "release", "--reason", "keyCompromise")
        found = run("sign", "build.bin", "--signer", signer, "--output", "new.suit", *more)
        refused(found, 1, words, hint)

    @pytest.mark.parametrize("more", [(), ("--dry-run",)])
    def test_dates_and_crls_are_judged_with_and_without_a_key(
        self, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        typed = ("sign", "build.bin", "--output", "new.suit", "--not-after", "9d", *more)
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(100))
        found = run(*typed)
        assert (found.status, found.errors[0][:31]) == (3, 'error: CRL of "Acme Issuing CA"')
        monkeypatch.setattr(inputs, "now", lambda: NOW - timedelta(2))
        found = run(*typed)
        assert (found.status, found.errors[0][:25]) == (5, "error: the clock is wrong")
        assert run(*typed, "--force").status == 0

    def test_json_says_what_was_signed(self) -> None:
        found = json.loads(good("sign", "build.bin", "--force", "--json", "--not-after", "9d"))
        (one,) = found["envelopes"]
        assert (found["verdict"], found["warnings"], one["envelope"]) == (
            "signed",
            [],
            "build.bin.suit",
        )
        verified = json.loads(good("verify", "build.bin.suit", "--json"))["release"]
        for key in ("vendor", "product", "version", "description", "sequence_number", "use_before"):
            assert one[key] == verified[key]
        assert one["components"][0]["digest"] == verified["components"][0]["digest"]

    def test_next_is_complete(self, project: Path) -> None:
        (project / "fwsign.toml").unlink()
        (project / "my out").mkdir()
        found = run("sign", "build.bin", "--pki", "pki", "--product", "x1", "-o", "my out/a.suit")
        line = "next: fwsign verify 'my out/a.suit' build.bin --anchor pki/ca.crt"
        assert found.err.splitlines()[-1] == f"fwsign: {line}"
        good("verify", "my out/a.suit", "build.bin", "--anchor", "pki/ca.crt")


class TestStreams:
    def test_an_envelope_from_standard_input(self, today: Path) -> None:
        assert program("sign", "build.bin", cwd=today).returncode == 0
        for arguments in (("verify", "-"), ("show", "-"), ("verify", "-", "build.bin")):
            with (today / "build.bin.suit").open() as file:
                found = program(*arguments, cwd=today, stdin=file)
            assert (found.returncode, found.stderr) == (0, "")
        with (today / "build.bin").open() as file:
            found = program("verify", "build.bin.suit", "-", cwd=today, stdin=file)
        assert found.returncode == 0

    def test_an_envelope_to_standard_output(self, today: Path) -> None:
        before = tree(today)
        line = [*command(("sign", "build.bin", "-o", "-"))]
        found = subprocess.run(line, cwd=today, env=environment(), capture_output=True, check=True)
        logged = tree(today).pop("pki/log.jsonl")
        assert tree(today) == {**before, "pki/log.jsonl": logged}
        assert found.stdout[:2] == b"\xd8\x6b"
        (today / "x.suit").write_bytes(found.stdout)
        assert program("verify", "x.suit", cwd=today).returncode == 0
        stapled = subprocess.run(
            command(("staple", "-")),
            cwd=today,
            env=environment(),
            input=found.stdout,
            capture_output=True,
            check=True,
        )
        assert stapled.stdout == found.stdout

    def test_a_key_through_both(self, today: Path) -> None:
        with (today / "pki/private/release.key").open() as file:
            found = program("key", "convert", "-", "-", "--to", "public", cwd=today, stdin=file)
        assert found.stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
        assert found.stderr == ""

    def test_json_and_the_envelope_have_one_place(self, today: Path) -> None:
        found = program("sign", "build.bin", "-o", "-", "--json", cwd=today)
        assert found.returncode == 2
        assert "--output - and --json exclude each other" in found.stderr

    def test_a_file_of_that_name(self, today: Path) -> None:
        (today / "-").write_bytes(b"x")
        assert program("show", today / "-", cwd=today).stdout == "kind: unknown\nsize: 1\n"

    def test_start_up_imports_none_of_this(self) -> None:
        script = (
            "import sys; from fwsign.cli import app\n"
            "try: app(['--version'])\n"
            "except SystemExit: pass\n"
            "late = {'shlex', 'importlib.metadata', 'fwsign.cli.hints', "
            "'fwsign.cli.page', 'fwsign.cli.libraries', 'fwsign.nearest'}\n"
            "print(sorted(late & set(sys.modules)))\n"
        )
        line = [sys.executable, "-c", script]
        found = subprocess.run(line, capture_output=True, text=True, check=True, env=environment())
        assert found.stdout.splitlines()[1:] == ["[]"]


class TestShow:
    def test_a_damaged_image_is_shown_and_called_damaged(self, tmp_path: Path) -> None:
        sample = next((EXAMPLE.parent / "firmware-samples").glob("*/*esp32c3*.bin"), None)
        if sample is None:
            sample = next((EXAMPLE.parent / "firmware-samples").rglob("*c3*.bin"))
        data = bytearray(sample.read_bytes())
        data[40] ^= 1
        (tmp_path / "x.bin").write_bytes(data)
        lines = good("show", "x.bin").splitlines()
        assert lines[0] == "kind: esp image, damaged"
        assert lines[1].startswith("damage: esp image: ")
        assert f"size: {len(data)}" in lines
        assert "chip: esp32c3" in lines
        found = json.loads(good("show", "x.bin", "--json"))["content"][0]
        assert found["kind"] == "esp image, damaged"
