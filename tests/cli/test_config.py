"""Settings: flag, then FWSIGN_*, then fwsign.toml, then the default."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from fwsign.cli import config

KEYS = "the keys of fwsign.toml are: vendor, product, pki, signer, log"


def product(*more: object, env: dict[str, str] | None = None) -> Any:
    """Return the product that a file is signed for."""
    good("sign", "build.bin", "--force", *more, env=env)
    device = ("--vendor", "acme.example")
    found = good("verify", "build.bin.suit", *device, "--product", "p4", "--json", env=env)
    return json.loads(found)["release"]["product"]


@pytest.mark.usefixtures("project")
class TestOrder:
    @pytest.mark.parametrize("given", [("--product", "p4"), ()])
    def test_a_flag_comes_before_the_environment(self, given: tuple[str, ...]) -> None:
        env = {"FWSIGN_PRODUCT": "p3" if given else "p4"}
        assert product(*given, env=env) == "p4"

    def test_the_environment_comes_before_the_file(self) -> None:
        good("pki", "issue", "signer", "other", "--no-passphrase")
        good("sign", "build.bin", env={"FWSIGN_SIGNER": "other"})
        assert "  signer     other < " in good("verify", "build.bin.suit")

    def test_an_empty_variable_says_nothing(self) -> None:
        good("sign", "build.bin", env={"FWSIGN_PRODUCT": "", "FWSIGN_PKI": ""})

    def test_fwsign_pki_is_counted_from_here(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "pki").rename(tmp_path / "sub/moved")
        good("sign", "build.bin", env={"FWSIGN_PKI": "sub/moved"})

    def test_pki_of_the_file_is_counted_from_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "a/b")
        good("sign", "../../build.bin")

    @pytest.mark.parametrize("key", ["no_passphrase", "force", "revocation", "manifest_only"])
    def test_a_dangerous_choice_cannot_be_a_setting(self, tmp_path: Path, key: str) -> None:
        (tmp_path / "fwsign.toml").write_text(f'{key} = "yes"\n')
        refused(run("sign", "build.bin"), 5, f'fwsign.toml has the unknown key "{key}"', KEYS)

    def test_a_dangerous_choice_cannot_come_from_the_environment(self, tmp_path: Path) -> None:
        good("sign", "build.bin")
        names = ("FORCE", "NO_PASSPHRASE", "MANIFEST_ONLY", "ALLOW_EXAMPLE_KEYS", "REVOCATION")
        env = {f"FWSIGN_{name}": "1" for name in names}
        assert run("sign", "build.bin", env=env).status == 5
        (tmp_path / "build.bin").unlink()
        assert run("verify", "build.bin.suit", env=env).status == 5
        assert run("pki", "issue", "signer", "x", env=env).status == 2


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'vendr = "x"', ' has the unknown key "vendr"'),
            (b"product = 3", ': "product" is not a text in quotes'),
            (b'product = ""', ': "product" is not a text in quotes'),
            (b'pki = "a\\u0000b"', ': "pki" is not a text in quotes'),
            (b'[product]\nname = "x"', ': "product" is not a text in quotes'),
            (b'vendor = "ACME"', ': "vendor": vendor "ACME" is not a domain name such as'),
            (b'product = "My Board"', ': "product": product "My Board" is not a name of'),
            (b"product = x", ": invalid value (at line 1, column 11)"),
            (b'product = "x', ": "),
            (b"\xff\xfe", ": 'utf-8' codec can't decode"),
            (b"a = " + b"[" * 5000, ": "),
            (b"# " + b"x" * 70000, " is larger than 65536 bytes"),
        ],
    )
    def test_they_are_errors(self, project: Path, content: bytes, words: str) -> None:
        (project / "fwsign.toml").write_bytes(content)
        found = run("sign", "build.bin")
        assert found.status == 5
        assert found.errors[0].startswith(f"error: fwsign.toml{words}")
        assert not (project / "build.bin.suit").exists()

    @pytest.mark.usefixtures("project")
    def test_those_of_the_environment_are_named(self) -> None:
        found = run("sign", "build.bin", env={"FWSIGN_VENDOR": "ACME"})
        assert found.status == 5
        assert found.errors[0].startswith('error: FWSIGN_VENDOR: vendor "ACME" is not a domain')

    def test_text_of_the_file_is_escaped(self, project: Path) -> None:
        (project / "fwsign.toml").write_text('"\\u001b[2J\\u202e" = "x"\n')
        found = run("sign", "build.bin")
        assert r'has the unknown key "\x1b[2J\u202e"' in found.err

    def test_line_ends_and_mark_of_windows_are_fine(self, project: Path) -> None:
        text = (project / "fwsign.toml").read_text().replace("\n", "\r\n")
        (project / "fwsign.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
        good("sign", "build.bin")


class TestSearch:
    @pytest.fixture(autouse=True)
    def _deep(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project / "repository/deep").mkdir(parents=True)
        monkeypatch.chdir(project / "repository/deep")
        monkeypatch.setenv("HOME", str(project))

    def test_it_goes_up(self) -> None:
        assert config.load().product == "gateway-x1"

    @pytest.mark.parametrize("kind", ["directory", "file"])
    def test_it_stops_at_the_root_of_a_repository(self, project: Path, kind: str) -> None:
        mark = project / "repository/.git"
        if kind == "file":  # as in a worktree or submodule
            mark.write_text("gitdir: elsewhere\n")
        else:
            mark.mkdir()
        assert config.load() == config.Config()
        (project / "repository/fwsign.toml").write_text('product = "nearer"\n')
        assert config.load().product == "nearer"

    def test_it_stops_at_home(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(project / "repository"))
        assert config.load() == config.Config()

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner there")
    def test_a_file_of_another_user_is_not_used(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(config, "_owner", lambda path: 12345 if path.exists() else None)
        assert config.load() == config.Config()
        words = f"fwsign: {project}/fwsign.toml is not used: it belongs to another user\n"
        assert capsys.readouterr().err == words

    def test_a_directory_that_cannot_be_looked_into_has_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(path: Path) -> bool:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "is_file", denied)
        assert config.load() == config.Config()

    def test_a_directory_called_fwsign_toml_is_none(self, project: Path) -> None:
        (project / "repository/fwsign.toml").mkdir()
        assert config.load().product == "gateway-x1"


@pytest.mark.skipif(os.name == "nt", reason="the current directory cannot be removed there")
@pytest.mark.parametrize(
    "command",
    [("verify", "x"), ("init", "--org", "A", "--vendor", "a.example", "--no-passphrase")],
)
def test_a_current_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(run(*command), 5, "cannot read the current directory: no such file or directory")
