"""Settings: flag, then FWSIGN_*, then fwsign.toml, then the default."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from fwsign.cli import config

KEYS = "the keys of fwsign.toml are: vendor, product, pki, signer, key, chain, log, encrypt_to"


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
        assert run("sign", "build.bin", "--version", "2", env=env).status == 5
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


class TestKeyOfASettingsFile:
    """A pipeline has a key and its chain, and no PKI."""

    TOML = 'product = "x1"\nkey = "keys/own.key"\nchain = "keys/chain.pem"\n'

    @pytest.fixture(autouse=True)
    def _own(self, project: Path) -> None:
        keys = project / "keys"
        keys.mkdir()
        (keys / "own.key").write_bytes((project / "pki/private/release.key").read_bytes())
        names = ("release", "issuing", "ca")
        chain = [next((project / "pki").rglob(f"{name}.crt")).read_bytes() for name in names]
        (keys / "chain.pem").write_bytes(b"".join(chain))
        (project / "fwsign.toml").write_text(self.TOML)

    @staticmethod
    def sign(*more: object, env: dict[str, str] | None = None) -> str:
        """Sign; return the name of the signer."""
        good("sign", "build.bin", "--force", *more, env=env)
        anchor = ("--anchor", next(Path.cwd().rglob("ca.crt")))
        release = json.loads(good("verify", "build.bin.suit", "--json", *anchor))["release"]
        return str(release["signers"][0]["name"])

    def test_it_signs(self) -> None:
        assert self.sign() == "release"

    def test_its_paths_are_counted_from_the_file(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project / "deep").mkdir()
        monkeypatch.chdir(project / "deep")
        for uri in ("keys/own.key", "file:keys/own.key", str(project / "keys/own.key")):
            (project / "fwsign.toml").write_text(self.TOML.replace("keys/own.key", uri))
            good("sign", "../build.bin", "--force")

    def test_an_option_comes_before_it(self) -> None:
        good("pki", "issue", "signer", "other", "--no-passphrase", "--pki", "pki")
        assert self.sign("--signer", "other", "--pki", "pki") == "other"

    def test_the_environment_comes_before_it(self, project: Path) -> None:
        (project / "moved.key").write_bytes((project / "keys/own.key").read_bytes())
        (project / "keys/own.key").unlink()
        assert self.sign(env={"FWSIGN_KEY": "moved.key"}) == "release"

    def test_a_signer_of_the_environment_replaces_it(self) -> None:
        good("pki", "issue", "signer", "other", "--no-passphrase", "--pki", "pki")
        assert self.sign(env={"FWSIGN_SIGNER": "other", "FWSIGN_PKI": "pki"}) == "other"

    def test_a_key_of_the_environment_replaces_the_signer_of_the_file(self, project: Path) -> None:
        text = 'product = "x1"\npki = "pki"\nsigner = "gone"\nchain = "keys/chain.pem"\n'
        (project / "fwsign.toml").write_text(text)
        assert self.sign(env={"FWSIGN_KEY": "keys/own.key"}) == "release"

    def test_a_chain_of_the_file_serves_a_typed_key(self, project: Path) -> None:
        (project / "fwsign.toml").write_text('product = "x1"\nchain = "keys/chain.pem"\n')
        assert self.sign("--key", "keys/own.key") == "release"

    def test_a_key_without_a_chain_is_refused(self, project: Path) -> None:
        (project / "fwsign.toml").write_text('product = "x1"\nkey = "keys/own.key"\n')
        words = "the settings have a key without its chain"
        names = 'chain = "FILE" in fwsign.toml, or FWSIGN_CHAIN, names it; '
        hint = f"{names}--pki and --signer name a signer of a PKI"
        refused(run("sign", "build.bin"), 2, words, hint)
        assert self.sign("--pki", "pki") == "release"
        assert self.sign(env={"FWSIGN_CHAIN": "keys/chain.pem"}) == "release"

    @pytest.mark.parametrize("level", ["file", "environment"])
    def test_a_key_and_a_signer_in_one_place_are_refused(self, project: Path, level: str) -> None:
        env = {"FWSIGN_SIGNER": "a", "FWSIGN_KEY": "b"} if level == "environment" else {}
        if not env:
            (project / "fwsign.toml").write_text(self.TOML + 'signer = "release"\n')
        names = ("FWSIGN_KEY", "FWSIGN_SIGNER")
        one, other = names if env else ('fwsign.toml: "key"', 'fwsign.toml: "signer"')
        hint = "a signer is one of the PKI, a key has its own chain"
        found = run("sign", "build.bin", env=env)
        refused(found, 5, f"{one} and {other} exclude each other", hint)

    def test_an_unknown_place_is_refused(self, project: Path) -> None:
        (project / "fwsign.toml").write_text(self.TOML.replace("keys/own.key", "gcpkms:x"))
        found = run("sign", "build.bin")
        assert (found.status, found.out) == (5, "")
        assert found.errors[0].startswith('error: no key backend for "gcpkms:", there are file:')
