"""fwsign as a program: terminals, pipes, signals, closed streams, encodings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.kit import command, environment, program
from support import require_terminals

NAMES = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")


class TestStatus:
    def test_it_is_the_programs_exit_status(self, today: Path) -> None:
        statuses = {
            0: ("sign", "build.bin"),
            1: ("verify", "build.bin"),
            2: ("nope",),
            3: ("verify", "build.bin.suit", "--at", "2099-01-01T00:00:00Z"),
            4: ("verify", "build.bin.suit", "--product", "x2"),
            5: ("show", "absent"),
        }
        for status, arguments in statuses.items():
            found = program(*arguments, cwd=today)
            assert found.returncode == status, found
            assert (found.stderr.startswith("fwsign: error: ")) is (status != 0)

    def test_the_entry_point_is_installed(self) -> None:
        path = shutil.which("fwsign", path=str(Path(sys.executable).parent))
        if path is None:
            pytest.skip("the tests run on a source tree that is not installed")
        found = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        assert found.stdout.startswith("fwsign ")

    def test_nothing_heavy_is_imported_to_say_the_version(self) -> None:
        script = (
            "import sys; from fwsign.cli import app\n"
            "try: app(['--version'])\n"
            "except SystemExit: pass\n"
            "heavy = {'pydantic', 'rich', 'cryptography', 'json', 'tomllib', 'fwsign.verify'}\n"
            "print(sorted(heavy & set(sys.modules)))\n"
        )
        found = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        )
        assert found.stdout.splitlines()[1:] == ["[]"]


class TestStreams:
    def test_a_reader_that_has_enough_is_no_error(self, today: Path) -> None:
        assert program("sign", "build.bin", cwd=today).returncode == 0
        for arguments in (("show", "build.bin.suit"), ("verify", "build.bin.suit"), ("--help",)):
            reader, writer = os.pipe()
            os.close(reader)
            found = program(*arguments, cwd=today, stdout=writer, stderr=subprocess.PIPE)
            os.close(writer)
            assert (found.returncode, found.stderr) == (0, "")

    def test_one_that_reads_a_line(self, today: Path) -> None:
        assert program("sign", "build.bin", cwd=today).returncode == 0
        process = subprocess.Popen(
            command(("show", "build.bin.suit")),
            cwd=today,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"kind: SUIT envelope, not verified here\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 0

    def test_a_reader_that_is_gone_stops_no_work(self, today: Path) -> None:
        for name in ("a.bin", "b.bin", "c.bin"):
            (today / name).write_bytes(name.encode())
        reader, writer = os.pipe()
        os.close(reader)
        both: dict[str, Any] = {"stdout": writer, "stderr": writer}
        found = program("sign", "a.bin", "b.bin", "c.bin", cwd=today, **both)
        assert found.returncode == 0
        assert program("init", "new", *NAMES, "--no-passphrase", cwd=today, **both).returncode == 0
        refused = program("verify", "a.bin", "--json", cwd=today, **both)
        os.close(writer)
        assert refused.returncode == 1
        assert {f"{name}.bin.suit" for name in "abc"} <= {path.name for path in today.iterdir()}
        assert (today / "new/fwsign.toml").exists()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    @pytest.mark.parametrize("arguments", [("show", "build.bin"), ("--version",), ("--help",)])
    def test_a_full_disk_under_standard_output(
        self, today: Path, arguments: tuple[str, ...]
    ) -> None:
        with Path("/dev/full").open("wb") as full:
            found = program(*arguments, cwd=today, stdout=full, stderr=subprocess.PIPE)
        words = "cannot write standard output: no space left on device"
        assert (found.returncode, found.stderr) == (5, f"fwsign: error: {words}\n")

    @pytest.mark.parametrize("stream", [0, 1, 2])
    def test_closed_streams(self, today: Path, stream: int) -> None:
        def close() -> None:
            os.close(stream)

        plain: Any = {"stdin": None} if stream == 0 else {}
        for status, arguments in ((0, ("show", "build.bin")), (5, ("show", "absent"))):
            found = program(*arguments, cwd=today, preexec_fn=close, **plain)
            assert found.returncode == status
            assert "Traceback" not in found.stderr
        found = program("init", "d", *NAMES, cwd=today, preexec_fn=close, **plain)
        assert (found.returncode, (today / "d").exists()) == (2, False)

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
    def test_any_encoding_of_standard_output(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "d\u00e9\u4e2d").mkdir()
        path = tmp_path / "d\u00e9\u4e2d" / "x"
        path.write_bytes(b"-----BEGIN \xff")
        found = subprocess.run(
            command(("verify", path)),
            env=environment(PYTHONIOENCODING=encoding),
            capture_output=True,
            check=False,
            cwd=tmp_path,
        )
        assert found.returncode == 2
        shown = subprocess.run(
            command(("show", path, "--json")),
            env=environment(PYTHONIOENCODING=encoding),
            capture_output=True,
            check=False,
        )
        assert shown.stdout.decode("ascii").startswith('{\n  "file": "/')

    def test_file_names_that_are_no_text(self, today: Path) -> None:
        name = b"\xff\xfe.bin"
        try:
            (Path(os.fsdecode(bytes(today) + b"/" + name))).write_bytes(b"x")
        except OSError:
            pytest.skip("this file system takes names of UTF-8 only")
        shown = program("show", os.fsdecode(name), cwd=today)
        assert (shown.returncode, shown.stdout) == (0, "kind: unknown\nsize: 1\n")
        signed = program("sign", os.fsdecode(name), cwd=today)
        assert signed.returncode == 2
        assert "fwsign: hint: give it another name there: --name bin\n" in signed.stderr

    def test_a_passphrase_through_a_descriptor(self, today: Path) -> None:
        reader, writer = os.pipe()
        os.write(writer, b"secret\n")
        os.close(writer)
        arguments = ("pki", "issue", "signer", "a", "--pass", f"fd:{reader}")
        found = program(*arguments, cwd=today, pass_fds=(reader,))
        os.close(reader)
        assert (found.returncode, "secret" in found.stdout + found.stderr) == (0, False)
        assert b"ENCRYPTED" in (today / "pki/private/a.key").read_bytes()
        from_stdin = ("sign", "build.bin", "--signer", "a", "--pass", "fd:0")
        with (today / "secret").open("w+") as file:
            file.write("secret")
            file.seek(0)
            assert program(*from_stdin, cwd=today, stdin=file).returncode == 0


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, *arguments: object, cwd: Path, **env: str) -> None:
        import pty  # not on Windows

        require_terminals()
        self.pid, self.handle = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child
            os.chdir(cwd)
            variables = {**environment(), "TERM": "xterm", **env}
            os.execve(sys.executable, command(arguments), variables)  # noqa: S606 - no shell is meant
        self.seen = ""

    def expect(self, text: str) -> None:
        """Read until the text has been shown."""
        while text not in self.seen:
            self.seen += os.read(self.handle, 4096).decode()

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.handle, text.encode())

    def end(self) -> int:
        """Read what is left and return the exit status."""
        try:
            while data := os.read(self.handle, 4096):
                self.seen += data.decode()
        except OSError:  # how Linux says that the other side is closed
            pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.handle)  # earlier, it would hang up on it before its end
        return os.waitstatus_to_exitcode(status)


class TestTerminal:
    def test_passphrases_are_asked_for_twice_and_not_shown(self, tmp_path: Path) -> None:
        terminal = Terminal("init", *NAMES, cwd=tmp_path)
        terminal.expect("Passphrase of the new keys: ")
        terminal.type("secret\n")
        terminal.expect("Repeat for confirmation: ")
        terminal.type("secret\n")
        assert terminal.end() == 0
        assert "secret" not in terminal.seen
        (tmp_path / "x.bin").write_bytes(b"x")
        terminal = Terminal("sign", "x.bin", cwd=tmp_path)
        terminal.expect("private/release.key: ")
        terminal.type("secret\n")
        assert terminal.end() == 0
        assert "secret" not in terminal.seen

    def test_ctrl_c_at_a_prompt(self, tmp_path: Path) -> None:
        terminal = Terminal("init", "d", *NAMES, cwd=tmp_path, NO_COLOR="1")
        terminal.expect("Passphrase of the new keys: ")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "fwsign: error: interrupted" in terminal.seen
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("env", "options", "coloured"),
        [
            ({}, (), True),
            ({"NO_COLOR": "1"}, (), False),
            ({"TERM": "dumb"}, (), False),
            ({}, ("--no-color",), False),
        ],
    )
    def test_colour(
        self, today: Path, env: dict[str, str], options: tuple[str, ...], coloured: bool
    ) -> None:
        assert program("sign", "build.bin", cwd=today).returncode == 0
        terminal = Terminal(*options, "verify", "build.bin.suit", cwd=today, **env)
        assert terminal.end() == 0
        assert ("\x1b[" in terminal.seen) is coloured
        assert "verified" in terminal.seen

    @pytest.mark.parametrize(
        ("env", "options", "red"),
        [
            ({}, (), True),
            ({"NO_COLOR": "1"}, (), False),
            ({"TERM": "dumb"}, (), False),
            ({}, ("--no-color",), False),
        ],
    )
    def test_errors_are_red(
        self, tmp_path: Path, env: dict[str, str], options: tuple[str, ...], red: bool
    ) -> None:
        terminal = Terminal("show", "absent", *options, cwd=tmp_path, **env)
        assert terminal.end() == 5
        assert ("\x1b[31m\x1b[1mfwsign: error:\x1b[0m cannot read" in terminal.seen) is red
        assert ("\x1b" in terminal.seen) is red

    def test_long_payloads_show_a_bar_and_quiet_ones_do_not(self, today: Path) -> None:
        with (today / "large.bin").open("wb") as file:
            file.truncate(40 * 1024 * 1024)
        terminal = Terminal("sign", "large.bin", cwd=today)
        assert terminal.end() == 0
        assert "100%" in terminal.seen
        terminal = Terminal("--quiet", "verify", "large.bin.suit", cwd=today)
        assert terminal.end() == 0
        assert "%" not in terminal.seen

    def test_ctrl_c_in_the_middle_leaves_nothing(self, today: Path) -> None:
        with (today / "large.bin").open("wb") as file:
            file.truncate(64 * 1024**3)  # of nothing; hashing it would take a minute
        before = sorted(path.name for path in today.iterdir())
        terminal = Terminal("sign", "large.bin", cwd=today, NO_COLOR="1")
        terminal.expect("%")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert terminal.seen.endswith("fwsign: error: interrupted\r\n")
        assert sorted(path.name for path in today.iterdir()) == before
