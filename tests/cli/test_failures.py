"""A bad file, directory, disk: one clear error, the right status, and nothing left behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.kit import MAIN, environment, good, refused, run, tree
from fwsign.cli import app
from fwsign.cli.sign import targets
from fwsign.signing import release

LONG = "x" * 300
INIT = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
REFUSED_NAME = "expected 1 to 100 of A-Z a-z 0-9 . _ + -, not . + or - first"

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")


def names_a_file(command: str) -> tuple[str, ...]:
    """Return a command line that reads the file `bad`."""
    return {
        "sign": ("sign", "bad"),
        "sign --chain": ("sign", "build.bin", "--key", "bad", "--chain", "bad", "--force"),
        "sign --key": ("sign", "build.bin", "--key", "bad", "--chain", "chain.pem", "--force"),
        "sign --crl": ("sign", "build.bin", "--crl", "bad", "--force"),
        "verify": ("verify", "bad"),
        "verify PAYLOAD": ("verify", "build.bin.suit", "bad"),
        "verify --anchor": ("verify", "build.bin.suit", "--anchor", "bad"),
        "verify --crl": ("verify", "build.bin.suit", "--crl", "bad"),
        "show": ("show", "bad"),
        "staple": ("staple", "bad"),
        "staple --crl": ("staple", "build.bin.suit", "--crl", "bad"),
    }[command]


READERS = [
    "sign",
    "sign --chain",
    "sign --key",
    "sign --crl",
    "verify",
    "verify PAYLOAD",
    "verify --anchor",
    "verify --crl",
    "show",
    "staple",
    "staple --crl",
]


@pytest.mark.parametrize("command", READERS)
class TestInputs:
    @pytest.fixture(autouse=True)
    def _chain(self, signed: Path) -> None:
        parts = ("issued/release.crt", "issued/issuing.crt", "ca.crt")
        chain = b"".join((signed / "pki" / part).read_bytes() for part in parts)
        (signed / "chain.pem").write_bytes(chain)

    def check(self, project: Path, command: str, words: str) -> None:
        before = tree(project)
        refused(run(*names_a_file(command)), 5, f"cannot read bad: {words}")
        assert tree(project) == before

    def test_missing(self, signed: Path, command: str) -> None:
        self.check(signed, command, "no such file or directory")

    def test_a_directory(self, signed: Path, command: str) -> None:
        (signed / "bad").mkdir()
        self.check(signed, command, "is a directory")

    @posix
    def test_a_loop_of_links(self, signed: Path, command: str) -> None:
        (signed / "bad").symlink_to("bad")
        before = sorted(path.name for path in signed.iterdir())
        refused(
            run(*names_a_file(command)), 5, "cannot read bad: too many levels of symbolic links"
        )
        assert sorted(path.name for path in signed.iterdir()) == before

    @posix
    def test_one_that_may_not_be_read(self, signed: Path, command: str) -> None:
        (signed / "bad").write_bytes(b"x")
        (signed / "bad").chmod(0)
        if os.access(signed / "bad", os.R_OK):
            pytest.skip("permissions do not bind root")
        refused(run(*names_a_file(command)), 5, "cannot read bad: permission denied")


@pytest.mark.parametrize(
    "words",
    [
        ("init",),
        ("sign",),
        ("verify",),
        ("show",),
        ("staple",),
        ("pki", "init"),
        ("pki", "crl"),
        ("pki", "revoke"),
        ("pki", "issue", "signer"),
    ],
)
def test_typer_judges_no_file_for_us(words: tuple[str, ...]) -> None:
    found: Any = get_command(app)
    for word in words:
        found = found.get_command(None, word)
    checks = ("exists", "readable", "writable", "resolve_path")
    for parameter in found.params:
        assert not any(getattr(parameter.type, check, False) for check in checks), parameter.name


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("command", [c for c in READERS if c not in {"sign", "verify PAYLOAD"}])
def test_a_file_of_the_wrong_kind(tmp_path: Path, command: str) -> None:
    (tmp_path / "bad").write_bytes(b"nonsense")
    (tmp_path / "chain.pem").write_bytes((tmp_path / "pki/ca.crt").read_bytes() * 2)
    before = tree(tmp_path)
    found = run(*names_a_file(command))
    if command == "show":
        assert (found.status, found.out) == (0, "kind: unknown\nsize: 8\n")
    else:
        assert found.status in (1, 5)
        assert found.out == ""
        assert found.errors[0].startswith("error: ")
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("project")
class TestNames:
    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("my build.bin", "my-build.bin"),
            (".hidden", "hidden"),
            ("-dash", "dash"),
            ("b\u00e4r.bin", "b-r.bin"),
            ("con.bin", "NAME"),
            ("x" * 101, "x" * 100),
            (LONG, "x" * 100),
            ("a\x1b[2J", "a-2J"),
            ("\u202egpj.bin", "gpj.bin"),
            ("\udcff.bin", "bin"),
            ("", "NAME"),
        ],
    )
    def test_one_that_the_profile_refuses_is_refused_before_anything_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: str
    ) -> None:
        def never(*_: object, **__: object) -> None:
            raise AssertionError

        monkeypatch.setattr(release, "describe", never)
        monkeypatch.setattr(targets, "recognise", never)
        before = tree(tmp_path)
        found = run("sign", "--", name)
        assert (found.status, found.out) == (2, "")
        assert "is not allowed in a release, expected " in found.errors[0]
        assert found.errors[1] == f"hint: give it another name there: --name {other}"
        assert "\x1b" not in found.err
        assert "\u202e" not in found.err
        assert tree(tmp_path) == before

    def test_one_with_a_byte_of_zero(self) -> None:
        for command in ("sign", "verify", "show", "staple"):
            refused(
                run(command, "a\0b"),
                2,
                "an argument has a NUL byte in it",
                "fwsign --help shows how",
            )

    @posix
    @pytest.mark.parametrize("command", ["verify", "show", "staple"])
    def test_one_that_is_too_long(self, command: str) -> None:
        refused(run(command, LONG), 5, f"cannot read {LONG}: file name too long")

    @posix
    def test_outputs_that_are_too_long(self, tmp_path: Path) -> None:
        before = tree(tmp_path)
        refused(
            run("sign", "build.bin", "--output", LONG),
            5,
            f"cannot write {LONG}: file name too long",
        )
        refused(
            run("pki", "init", LONG, *INIT),
            5,
            f"cannot write {LONG}: file name too long",
        )
        assert run("init", LONG, *INIT).status == 5
        assert tree(tmp_path) == before


@posix
@pytest.mark.usefixtures("signed")
class TestPipes:
    def test_what_is_read_twice_cannot_be_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        refused(run("sign", "pipe"), 5, "pipe is not a regular file: it must be read twice")
        refused(run("show", "pipe"), 5, "pipe is not a regular file")
        refused(
            run("sign", "/dev/null"), 5, "/dev/null is not a regular file: it must be read twice"
        )

    def test_an_envelope_and_a_payload_can_come_through_pipes(self, tmp_path: Path) -> None:
        def feed(pipe: Path, data: bytes) -> None:
            with pipe.open("wb") as file:
                file.write(data)

        threads = []
        for name in ("build.bin", "build.bin.suit"):
            data = (tmp_path / name).read_bytes()
            os.mkfifo(pipe := tmp_path / f"{name}.pipe")
            threads.append(threading.Thread(target=feed, args=(pipe, data), daemon=True))
            threads[-1].start()
        good("verify", "build.bin.suit.pipe", "build.bin.pipe")
        for thread in threads:
            thread.join()


class TestInit:
    @pytest.mark.parametrize("command", [("init",), ("pki", "init")])
    def test_a_file_in_place_of_the_directory(
        self, tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        (tmp_path / "file").write_bytes(b"x")
        before = tree(tmp_path)
        assert run(*command, "file", *INIT).status == 5
        assert run(*command, "file/below", *INIT).status == 5
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("command", [("init",), ("pki", "init")])
    def test_a_directory_with_something_else_in_it(
        self, tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        (tmp_path / "d/pki").mkdir(parents=True)
        (tmp_path / "d/pki/notes.txt").write_text("mine")
        before = tree(tmp_path)
        found = run(*command, *(("d",) if command == ("init",) else ("d/pki",)), *INIT)
        assert found.status == 5
        assert "exists already and is not an empty directory" in found.errors[0]
        assert tree(tmp_path) == before

    def test_a_missing_parent(self, tmp_path: Path) -> None:
        refused(
            run("pki", "init", "absent/pki", *INIT),
            5,
            "cannot write absent/pki: no such file or directory",
        )
        good("init", "absent/project", *INIT)
        assert (tmp_path / "absent/project/fwsign.toml").exists()

    def test_a_directory_that_was_made_is_removed_where_it_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        found = run("init", "d", *INIT)
        assert (found.status, len(found.errors)) == (5, 1)
        assert found.errors[0].endswith("no space left on device")
        assert list(tmp_path.iterdir()) == []

    @posix
    def test_a_loop_of_links(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        for command in (("init",), ("pki", "init")):
            found = run(*command, "loop", *INIT)
            assert (found.status, len(found.errors)) == (5, 1)
            assert run(*command, "loop/x", *INIT).status == 5


LIMITED = f"""\
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
{MAIN}
"""


@posix
class TestFullDisk:
    """A limit on the size of files stands for the disk; the real clock runs."""

    def limited(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", LIMITED, *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            (("sign", "build.bin"), "pki/log.jsonl"),
            (("staple", "build.bin.suit"), None),
            (("pki", "crl"), "pki/log.jsonl"),
            (("pki", "issue", "signer", "x", "--no-passphrase"), "pki/private/x.key"),
            (("pki", "init", "other", *INIT), None),
            (("init", "other", *INIT), None),
        ],
    )
    def test_nothing_is_left(
        self, today: Path, arguments: tuple[str, ...], path: str | None
    ) -> None:
        if arguments[0] == "staple":
            good("sign", "build.bin")
            good("pki", "revoke", "release", "--reason", "superseded")
        before = tree(today)
        found = self.limited(*arguments)
        assert (found.returncode, found.stdout) == (5, "")
        # What is signed is logged first: a hint follows then.
        last = [line for line in found.stderr.splitlines() if "hint: " not in line][-1]
        assert last.startswith("fwsign: error: cannot write ")
        assert last.endswith(f"{path or ''}: file too large")
        assert tree(today) == before
