"""A hint belongs to the command that failed, and names nothing that is not there."""

import ast
import json
import os
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import fwsign
from cli.kit import REPOSITORY, good, refused, run
from fwsign.cli import app, hints, libraries
from fwsign.errors import CODES, Failed
from fwsign.format import library
from support import PAYLOAD

SOURCE = Path(fwsign.__file__).parent
ROOT: Any = get_command(app)


def commands(
    group: Any = ROOT, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command, with the words after `fwsign`."""
    for name in group.list_commands(None):
        one = group.get_command(None, name)
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield (*path, name), one


COMMANDS = dict(commands())
OPTIONS = {
    path: frozenset(name for option in one.params for name in option.opts)
    for path, one in COMMANDS.items()
}
GROUPS = [*dict.fromkeys(path[:length] for path in COMMANDS for length in range(len(path)))]


def named(line: str) -> tuple[str, ...]:
    """Return the command that a line beginning with `fwsign` names."""
    path: tuple[str, ...] = ()
    for word in line.split()[1:]:
        here = (*path, word.rstrip(",.:)"))
        if here not in COMMANDS and here not in GROUPS:
            break
        path = here
    return path


def wrong_in(text: str, options: frozenset[str]) -> list[str]:
    """Return what a hint names that is not there, for a command with these options."""
    found = [name for name in hints.own_options(text) if name not in options]
    for _, line in hints.clauses(text):
        if line.startswith("fwsign "):
            path = named(line)
            if not path:
                found.append(line)
            known = OPTIONS.get(path, frozenset())
            found += [one for one in re.findall(r"--[a-z][a-z-]*", line) if one not in known]
    return found


@pytest.mark.parametrize("code", hints.HINTS)
def test_no_hint_names_what_its_command_does_not_have(code: str) -> None:
    for path, options in OPTIONS.items():
        text = hints.hint_for(code, None, path, options)
        assert text is None or wrong_in(text, options) == [], (path, text)


def test_every_alternative_is_given_by_some_command() -> None:
    given = {
        (code, hints.hint_for(code, None, path, options))
        for code in hints.HINTS
        for path, options in OPTIONS.items()
    }
    wanted = {
        (code, text.removeprefix("device: ").removeprefix("channel: "))
        for code, texts in hints.HINTS.items()
        for text in texts
    }
    assert wanted <= given


def test_every_hint_belongs_to_a_code() -> None:
    assert set(hints.HINTS) <= set(CODES)


def written() -> Iterator[tuple[str, str]]:
    """Yield all hints that stand in the source, where they are plain text, with their place."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            texts = [one.value for one in node.keywords if one.arg == "hint"]
            if getattr(node.func, "attr", "") == "usage":
                texts += node.args[1:2]
            for text in texts:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield f"{path.name}:{node.lineno}", text.value


def test_hints_in_the_source_name_what_is_there() -> None:
    everything = frozenset().union(*OPTIONS.values())
    found = list(written())
    assert len(found) > 40
    wrong = {where: names for where, text in found if (names := wrong_in(text, everything))}
    assert wrong == {}


def test_a_hint_that_came_along_is_dropped_where_the_command_has_no_such_option() -> None:
    given = "--to pkcs8 takes every kind of key"
    assert hints.hint_for("key.unsupported", given, ("sign",), OPTIONS[("sign",)]) is None
    path = ("key", "convert")
    assert hints.hint_for("key.unsupported", given, path, OPTIONS[path]) == given


@pytest.mark.parametrize(
    "given",
    [
        'pipx install --force "fwsign[flash]"; in an environment: pip install "fwsign[flash]"',
        "sign it with the board's key first: espsecure sign-data --version 2",
    ],
)
@pytest.mark.parametrize("path", [("flash",), ("board",)])
def test_options_of_other_programs_keep_no_hint_back(given: str, path: tuple[str, ...]) -> None:
    assert hints.hint_for("device.support", given, path, OPTIONS[path]) == given


def test_a_gateway_is_told_of_device_toml_and_others_of_options() -> None:
    def hint(*path: str) -> str | None:
        return hints.hint_for("unsuitable.product", None, path, OPTIONS[path])

    assert hint("install") == "device: device.toml says what this device is".removeprefix(
        "device: "
    )
    assert hint("verify") == "--product, or fwsign.toml, says what this device is"
    assert hint("show") is None


@pytest.mark.usefixtures("signed")
class TestVerify:
    def test_the_payload_instead_of_the_envelope(self) -> None:
        found = run("verify", "build.bin")
        assert (found.status, found.errors[1]) == (1, "hint: did you mean build.bin.suit?")

    def test_the_payload_where_there_is_no_envelope(self, tmp_path: Path) -> None:
        (tmp_path / "build.bin.suit").unlink()
        found = run("verify", "build.bin")
        hint = "build.bin is not an envelope; fwsign show build.bin tells what it is"
        assert (found.status, found.errors[1]) == (1, f"hint: {hint}")

    @pytest.mark.parametrize("command", ["staple", "flash"])
    def test_other_commands_ask_the_same(self, command: str) -> None:
        more = ("--port", "sim:esp32c3") if command == "flash" else ()
        found = run(command, "build.bin", *more)
        assert (found.status, found.errors[1]) == (1, "hint: did you mean build.bin.suit?")

    def test_an_envelope_that_is_damaged_is_no_wrong_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.suit").write_bytes((tmp_path / "build.bin.suit").read_bytes()[:-1])
        found = run("verify", "x.suit")
        assert found.errors[1] == "hint: is this a .suit file? fwsign show FILE tells what it is"


class TestNames:
    @pytest.mark.parametrize(
        ("typed", "command", "meant"),
        [
            (["verfy"], "fwsign", "fwsign verify"),
            (["keygen"], "fwsign", "fwsign key new"),
            (["revoke", "x"], "fwsign", "fwsign pki revoke"),
            (["inspect", "x"], "fwsign", "fwsign show"),
            (["pki", "isue"], "fwsign pki", "fwsign pki issue"),
            (["pki", "issue", "signr"], "fwsign pki issue", "fwsign pki issue signer"),
            (["help", "verfy"], "fwsign", "fwsign verify"),
        ],
    )
    def test_a_command_that_is_none(self, typed: list[str], command: str, meant: str) -> None:
        word = next(one for one in reversed(typed) if one != "x")
        words = f'{command} has no command "{word}"'
        refused(run(*typed), 2, words, f"did you mean {meant}?")

    def test_a_command_that_is_like_none(self) -> None:
        words = 'fwsign pki has no command "xyzzy"'
        refused(run("pki", "xyzzy"), 2, words, "fwsign pki --help lists them")

    @pytest.mark.parametrize(("name", "verb"), [("a b.bin", "sign"), ("c.suit", "verify")])
    def test_a_file_where_a_command_should_be(self, tmp_path: Path, name: str, verb: str) -> None:
        (tmp_path / name).write_bytes(b"x")
        shown = name if " " not in name else f"'{name}'"
        hint = f"did you mean fwsign {verb} {shown}?"
        refused(run(name), 2, f'fwsign has no command "{name}"', hint)

    @pytest.mark.parametrize(
        ("typed", "words", "hint"),
        [
            (
                ["verify", "x", "--anchr", "y"],
                "fwsign verify has no option --anchr",
                "did you mean --anchor?",
            ),
            (
                ["--pki", "x", "sign"],
                "fwsign has no option --pki",
                "options come after the command, as in fwsign COMMAND --pki",
            ),
            (
                ["verify", "x", "--xyzzy"],
                "fwsign verify has no option --xyzzy",
                "fwsign verify --help shows how",
            ),
        ],
    )
    def test_an_option_that_is_none(self, typed: list[str], words: str, hint: str) -> None:
        refused(run(*typed), 2, words, hint)

    @pytest.mark.parametrize("typed", [["sign", "my build.bin"], ["sign", "x", "my build.bin"]])
    def test_a_file_whose_name_is_not_allowed(self, typed: list[str], project: Path) -> None:
        (project / "my build.bin").write_bytes(b"x")
        (project / "x").write_bytes(b"y")
        found = run(*typed)
        alone = len(typed) == 2
        value = "my-build.bin" if alone else "'my build.bin=my-build.bin'"
        hint = f"give it another name there: --name {value}"
        assert (found.status, found.errors[1]) == (2, f"hint: {hint}")
        assert found.errors[0].startswith('error: the name "my build.bin" is not allowed in a rel')

    def test_a_file_by_another_name(self, project: Path) -> None:
        (project / "my build.bin").write_bytes(PAYLOAD)
        found = run("sign", "my build.bin", "--name", "my-build.bin")
        assert (found.status, found.out) == (0, "my build.bin.suit\n")
        line = "next: fwsign verify 'my build.bin.suit' 'my build.bin'\n"
        assert line in found.err
        shown = json.loads(good("verify", "my build.bin.suit", "my build.bin", "--json"))
        assert shown["release"]["components"][0]["name"] == "my-build.bin"

    def test_another_name_that_is_not_allowed_either(self, project: Path) -> None:
        found = run("sign", project / "build.bin", "--name", "a/b")
        assert found.status == 2
        assert found.errors[0].startswith('error: --name "a/b" is not allowed, expected 1 to 100')


class TestSettings:
    def test_an_unknown_key_is_named_with_the_nearest(self, project: Path) -> None:
        (project / "fwsign.toml").write_text('prodct = "x1"\n')
        words = 'fwsign.toml has the unknown key "prodct"'
        refused(run("sign", "build.bin"), 5, words, "did you mean product?")

    def test_no_init_yet(self, tmp_path: Path) -> None:
        (tmp_path / "x.bin").write_bytes(b"x")
        found = run("sign", "x.bin")
        assert (found.status, found.errors[1]) == (
            2,
            "hint: name it with --product NAME, or in fwsign.toml, which fwsign init makes",
        )
        found = run("verify", "x.bin")
        assert (found.status, found.errors) == (
            2,
            [
                "error: no anchor given, and no fwsign.toml found",
                "hint: name a root with --anchor PEM; your own PKI is made by: fwsign init",
            ],
        )

    @pytest.mark.parametrize(
        ("env", "words", "hint"),
        [
            ({}, "the environment has no variable S", "set it first: export S=..."),
            (
                {"S": ""},
                "the environment's variable S is empty",
                "a passphrase is expected in it",
            ),
        ],
    )
    def test_a_passphrase_that_is_not_there(
        self, tmp_path: Path, env: dict[str, str], words: str, hint: str
    ) -> None:
        del tmp_path
        refused(run("key", "new", "x.key", "--pass", "env:S", env=env), 2, words, hint)


class TestLibraries:
    def test_old_cryptography_is_told_in_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "x").write_bytes(b"-----BEGIN CERTIFICATE-----\n")

        def too_old(*_: object, **__: object) -> None:
            raise ImportError("cannot import name mldsa")

        monkeypatch.setattr("fwsign.cli.inputs.read", too_old)
        hint = "apt install python3-cryptography, or pip install --upgrade cryptography"
        for found, words in (
            ("38.0.4", "this needs cryptography 48 or newer, found 38.0.4"),
            ("47.0.0", "this needs cryptography 48 or newer, found 47.0.0"),
            ("37.0.2", "fwsign needs cryptography 38 or newer, found 37.0.2"),
        ):
            monkeypatch.setattr(libraries, "version", lambda _, found=found: found)
            refused(run("verify", "x"), 5, words, hint)

    def test_an_old_version_is_not_to_blame_for_everything(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(libraries, "version", lambda _: "38.0.4")
        assert libraries.blame(RuntimeError("x")) is None
        assert libraries.blame(AttributeError("no not_valid_before_utc")) is not None
        monkeypatch.setattr(libraries, "version", lambda _: "48.0.0")
        assert libraries.blame(AttributeError("no not_valid_before_utc")) is None

    def test_a_library_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(_: str) -> str:
            raise PackageNotFoundError

        monkeypatch.setattr(libraries, "version", absent)
        found = libraries.blame(ModuleNotFoundError("no", name="cryptography.x509"))
        assert isinstance(found, Failed)
        assert str(found) == "fwsign needs cryptography 38 or newer, found nothing"
        assert libraries.blame(ModuleNotFoundError("no", name="other")) is None

    def test_another_error_is_nobodys_fault(self) -> None:
        assert libraries.blame(RuntimeError("x")) is None

    def test_the_same_versions_stand_in_the_verify_path(self) -> None:
        assert (libraries.OLDEST, libraries.COMPLETE) == (library.OLDEST, library.ML_DSA)

    def test_the_package_asks_for_the_same_version(self) -> None:
        page = REPOSITORY / "pyproject.toml"
        if not page.exists():
            pytest.skip("the tests run without the source tree")
        assert f'"cryptography>={libraries.OLDEST}"' in page.read_text()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs a POSIX system")
class TestPaths:
    @pytest.mark.parametrize(
        "command",
        [
            ["sign", "d"],
            ["verify", "d"],
            ["show", "d"],
            ["staple", "d", "--pki", "pki"],
            ["flash", "d", "--port", "sim:esp32c3"],
            ["key", "show", "d"],
            ["key", "convert", "d", "out.key"],
            ["key", "passwd", "d"],
            ["verify", "build.bin.suit", "--anchor", "d"],
            ["verify", "build.bin.suit", "--crl", "d"],
            ["verify", "build.bin.suit", "d"],
            ["pki", "verify", "d"],
            ["trust", "show", "d"],
            ["receipts", "show", "d"],
        ],
    )
    def test_a_directory_instead_of_a_file(self, signed: Path, command: list[str]) -> None:
        (signed / "d").mkdir()
        found = run(*command)
        assert (found.status, found.errors) == (5, ["error: cannot read d: is a directory"])

    @pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read all")
    @pytest.mark.parametrize("command", [["sign"], ["verify"], ["show"], ["key", "show"]])
    def test_a_file_that_may_not_be_read(self, signed: Path, command: list[str]) -> None:
        (signed / "f").write_bytes(b"x")
        (signed / "f").chmod(0)
        refused(run(*command, "f"), 5, "cannot read f: permission denied")


@pytest.mark.parametrize("command", ["install", "follow", "watch"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("stale.channel", "what runs goes on; the next channel is due"),
        ("untrusted.eku", "fwsign show FILE tells what it is"),
    ],
)
def test_a_device_is_not_told_to_sign(command: str, code: str, words: str) -> None:
    path = (command,)
    hint = hints.hint_for(code, None, path, OPTIONS[path])
    assert hint is not None
    assert hint.startswith(words)
