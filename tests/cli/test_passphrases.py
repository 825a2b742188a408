"""Passphrases: where they come from, and that they are never waited for."""

import os
import shutil
from pathlib import Path

import pytest

from cli.kit import good, refused, run, tree
from fwsign.keys.file import encode_private_key, load_private_key, new_private_key
from support import cases, needs_cases

PASS, CA_PASS = b"correct horse", b"battery staple"
NAMES = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1")


@pytest.fixture(scope="session")
def _locked(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Path:
    directory = tmp_path_factory.mktemp("locked")
    shutil.copytree(made, directory, dirs_exist_ok=True)
    for name, passphrase in (("release", PASS), ("issuing", CA_PASS), ("ca", CA_PASS)):
        path = directory / f"pki/private/{name}.key"
        path.write_bytes(encode_private_key(load_private_key(path, lambda: None), passphrase))
    return directory


@pytest.fixture
def locked(_locked: Path, tmp_path: Path) -> Path:
    """A project whose keys have passphrases: PASS the signer's, CA_PASS those of the CAs."""
    shutil.copytree(_locked, tmp_path, dirs_exist_ok=True)
    return tmp_path


def encrypted(path: Path) -> bool:
    return b"ENCRYPTED" in path.read_bytes()


@pytest.mark.usefixtures("locked")
class TestSources:
    def test_env(self) -> None:
        good("sign", "build.bin", "--pass", "env:P", env={"P": PASS.decode()})

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_file(self, tmp_path: Path, end: bytes) -> None:
        (tmp_path / "p").write_bytes(PASS + end)
        good("sign", "build.bin", "--pass", "file:p")

    def test_fd(self) -> None:
        reader, writer = os.pipe()
        os.write(writer, PASS + b"\n")
        os.close(writer)
        good("sign", "build.bin", "--pass", f"fd:{reader}")
        os.close(reader)

    def test_one_descriptor_opens_the_keys_of_all_cas(self) -> None:
        reader, writer = os.pipe()
        os.write(writer, CA_PASS)
        os.close(writer)
        assert len(good("pki", "crl", "--ca-pass", f"fd:{reader}").splitlines()) == 3
        os.close(reader)

    def test_each_of_two_passphrases_has_its_option(self, tmp_path: Path) -> None:
        env = {"N": "new", "C": CA_PASS.decode()}
        good("pki", "issue", "signer", "a", "--pass", "env:N", "--ca-pass", "env:C", env=env)
        assert encrypted(tmp_path / "pki/private/a.key")
        good("sign", "build.bin", "--signer", "a", "--pass", "env:N", env=env)
        good("pki", "revoke", "a", "--reason", "superseded", "--ca-pass", "env:C", env=env)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "pki/private/release.key"
        key = load_private_key(path, lambda: PASS)
        path.write_bytes(encode_private_key(key, b"p\xff"))
        (tmp_path / "p").write_bytes(b"p\xff")
        good("sign", "build.bin", "--pass", "file:p")
        good("sign", "build.bin", "--force", "--pass", "env:P", env={"P": "p\udcff"})


class TestNewKeys:
    def test_init_protects_all_keys(self, tmp_path: Path) -> None:
        good("init", "d", *NAMES, "--pass", "env:P", env={"P": "x"})
        keys = sorted((tmp_path / "d/pki/private").iterdir())
        assert [path.name for path in keys if encrypted(path)] == [
            "ca.key",
            "issuing-tls.key",
            "issuing.key",
            "release.key",
        ]

    def test_the_root_can_have_its_own(self, tmp_path: Path) -> None:
        env = {"P": "x", "R": "y"}
        good("init", "d", *NAMES, "--pass", "env:P", "--root-pass", "env:R", env=env)
        private = tmp_path / "d/pki/private"
        load_private_key(private / "ca.key", lambda: b"y")
        load_private_key(private / "issuing.key", lambda: b"x")
        good("pki", "crl", "--pki", "d/pki", "--ca-pass", "env:P", "--root-pass", "env:R", env=env)

    def test_the_root_alone_can_have_one(self, tmp_path: Path) -> None:
        good("init", "d", *NAMES, "--no-passphrase", "--root-pass", "env:R", env={"R": "y"})
        private = tmp_path / "d/pki/private"
        assert [encrypted(private / f"{name}.key") for name in ("ca", "release")] == [True, False]

    @pytest.mark.parametrize(
        ("options", "error", "hint"),
        [
            (
                (),
                "no passphrase for the new keys, and no terminal to ask",
                "give it with --pass env:NAME, file:PATH or fd:N, or use --no-passphrase",
            ),
            (
                ("--pass", "env:P", "--no-passphrase"),
                "--pass and --no-passphrase exclude each other",
                "fwsign init --help shows how",
            ),
            (
                ("--pass", "env:EMPTY"),
                "the environment's variable EMPTY is empty",
                "a passphrase is expected in it",
            ),
            (
                ("--pass", "env:NO_SUCH"),
                "the environment has no variable NO_SUCH",
                "set it first: export NO_SUCH=...",
            ),
            (
                ("--pass", "secret"),
                "a passphrase is given as env:NAME, file:PATH or fd:N",
                "never on the command line itself, where other users can see it",
            ),
        ],
    )
    def test_nothing_is_made_without_one(
        self, tmp_path: Path, options: tuple[str, ...], error: str, hint: str
    ) -> None:
        env = {"P": "x", "EMPTY": ""}
        refused(run("init", "d", *NAMES, *options, env=env), 2, error, hint)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("locked")
class TestRefusals:
    def test_none_is_exit_2_and_never_a_wait(self) -> None:
        refused(
            run("sign", "build.bin", stdin="correct horse\n"),
            2,
            "no passphrase for the key pki/private/release.key, and no terminal to ask",
            "give it with --pass env:NAME, file:PATH or fd:N",
        )
        refused(
            run("pki", "crl", "ca", "issuing"),  # the other one has no passphrase
            2,
            'no passphrase for the key of CA "ca", and no terminal to ask',
            "give it with --ca-pass env:NAME, file:PATH or fd:N",
        )

    def test_a_wrong_one(self, tmp_path: Path) -> None:
        before = tree(tmp_path)
        key = "pki/private/release.key"
        refused(
            run("sign", "build.bin", "--pass", "env:P", env={"P": "wrong"}),
            5,
            f"wrong passphrase for {key}, or the key in it is damaged",
            "is it the passphrase of this key?",
        )
        assert tree(tmp_path) == before

    def test_an_empty_one(self) -> None:
        refused(
            run("sign", "build.bin", "--pass", "env:P", env={"P": ""}),
            2,
            "the environment's variable P is empty",
            "a passphrase is expected in it",
        )

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_bytes(b"\n")
        refused(
            run("sign", "build.bin", "--pass", "file:empty"),
            5,
            "pki/private/release.key is encrypted and no passphrase was given",
            "give it with --pass: env:NAME, file:PATH or fd:N",
        )

    @pytest.mark.parametrize(
        "source", ["x", "pass:x", "env:", "file:", "fd:", "fd:-1", "fd:x", "ENV:P", "fd:9999999999"]
    )
    def test_a_source_that_there_is_not(self, source: str) -> None:
        refused(
            run("sign", "build.bin", "--pass", source),
            2,
            "a passphrase is given as env:NAME, file:PATH or fd:N",
            "never on the command line itself, where other users can see it",
        )

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("file:absent", "cannot read absent: no such file or directory"),
            ("file:pki", "cannot read pki: is a directory"),
            ("file:large", "large is larger than 4096 bytes"),
            ("fd:9999", "cannot read fd:9999: bad file descriptor"),
        ],
    )
    def test_a_source_that_gives_none(self, tmp_path: Path, source: str, words: str) -> None:
        (tmp_path / "large").write_bytes(b"x" * 4097)
        refused(run("sign", "build.bin", "--pass", source), 5, words)

    def test_a_descriptor_that_gives_too_much(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(b"x" * 4097)
        with (tmp_path / "large").open("rb") as file:
            source = f"fd:{file.fileno()}"
            refused(
                run("sign", "build.bin", "--pass", source),
                5,
                f"{source} gives more than 4096 bytes",
            )


# --- files as editors write them ------------------------------------------------------------

SAME = {
    "plain": b"secret\n",
    "no line end": b"secret",
    "CRLF": b"secret\r\n",
    "mark": b"\xef\xbb\xbfsecret\r\n",
    "UTF-16": "secret\r\n".encode("utf-16"),
    "UTF-16, big endian": b"\xfe\xff" + "secret\n".encode("utf-16-be"),
    "an empty line after it": b"secret\n\n",
}


@pytest.mark.parametrize("written", SAME)
@pytest.mark.parametrize("way", ["file", "fd"])
def test_marks_and_line_ends_are_no_part_of_a_passphrase(
    written: str, way: str, tmp_path: Path
) -> None:
    key, secret = tmp_path / "x.key", tmp_path / "secret"
    key.write_bytes(encode_private_key(new_private_key("p256"), b"secret"))
    secret.write_bytes(SAME[written])
    with secret.open("rb") as file:
        source = f"file:{secret}" if way == "file" else f"fd:{file.fileno()}"
        found = run("key", "convert", key, tmp_path / "out", "--pass", source, "--no-passphrase")
    assert (found.status, found.errors) == (0, [])
    assert "several lines" not in found.err


def test_of_several_lines_the_first_is_the_passphrase_and_that_is_said(tmp_path: Path) -> None:
    key, secret = tmp_path / "x.key", tmp_path / "secret"
    secret.write_bytes(b"secret\nother\n")
    words = f"file:{secret} has several lines, the first is the passphrase"
    assert words in run("key", "new", key, "--pass", f"file:{secret}").err
    load_private_key(key, lambda: b"secret")
    found = run("key", "passwd", key, "--pass", f"file:{secret}", "--new-pass", "env:P", env=OTHER)
    assert found.status == 0
    assert words in found.err
    load_private_key(key, lambda: b"other")


OTHER = {"P": "\ufeffother\r"}


def test_blanks_are_part_of_a_passphrase(tmp_path: Path) -> None:
    key, secret = tmp_path / "x.key", tmp_path / "secret"
    key.write_bytes(encode_private_key(new_private_key("p256"), b" secret "))
    secret.write_bytes(b" secret \n")
    good("key", "convert", key, tmp_path / "a", "--pass", f"file:{secret}", "--no-passphrase")
    secret.write_bytes(b"secret\n")
    found = run("key", "convert", key, tmp_path / "b", "--pass", f"file:{secret}")
    words = f"wrong passphrase for {key}, or the key in it is damaged"
    refused(found, 5, words, "is it the passphrase of this key?")


FOLDER = cases() / "keys"


@needs_cases()
@pytest.mark.parametrize("name", ["pass", "pass-bom", "pass-crlf", "pass-two", "pass-utf16"])
def test_cases_of_passphrase_files(name: str, tmp_path: Path) -> None:
    key, source = FOLDER / "k02b-encrypted.pem", f"file:{FOLDER / name}"
    found = run("key", "convert", key, tmp_path / "out", "--pass", source, "--no-passphrase")
    assert (found.status, found.errors) == (0, [])
    assert ("several lines" in found.err) == (name == "pass-two")


@needs_cases()
@pytest.mark.parametrize("name", ["pass-nfc", "pass-nfd", "pass-latin1"])
def test_cases_of_letters_with_accents(name: str, tmp_path: Path) -> None:
    for made in ("pass-nfc", "pass-nfd"):
        key = tmp_path / made
        good("key", "new", key, "--pass", f"file:{FOLDER / made}")
        source = f"file:{FOLDER / name}"
        out = tmp_path / f"{made}.out"
        good("key", "convert", key, out, "--pass", source, "--no-passphrase")


@needs_cases()
@pytest.mark.parametrize("name", ["pass-sp", "pass-latin1"])
def test_cases_of_other_passphrases(name: str, tmp_path: Path) -> None:
    key = FOLDER / "k02b-encrypted.pem"
    found = run("key", "convert", key, tmp_path / "out", "--pass", f"file:{FOLDER / name}")
    words = f"wrong passphrase for {key}, or the key in it is damaged"
    refused(found, 5, words, "is it the passphrase of this key?")
    found = run("key", "convert", key, tmp_path / "out", "--pass", f"file:{FOLDER / 'pass-empty'}")
    assert found.errors[0] == f"error: {key} is encrypted and no passphrase was given"
