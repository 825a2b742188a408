"""What `fwsign` writes: never over something else, and whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from cli.kit import good, refused, run, tree
from fwsign import files as atomic
from fwsign.cli.sign import targets

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")


@pytest.mark.usefixtures("signed")
class TestOutputs:
    def test_an_envelope_is_replaced_only_by_force(self, tmp_path: Path) -> None:
        (tmp_path / "build.bin").write_bytes(b"another build")
        before = tree(tmp_path)
        hint = "--force replaces envelopes that exist"
        words = "build.bin.suit exists already, with other content"
        refused(run("sign", "build.bin"), 5, words, hint)
        assert tree(tmp_path) == before
        good("sign", "build.bin", "--force")

    @pytest.mark.parametrize("force", [(), ("--force",)])
    @pytest.mark.parametrize("other", ["build.bin", "./build.bin", "link", "hard"])
    def test_a_payload_is_never_replaced(
        self, tmp_path: Path, force: tuple[str, ...], other: str
    ) -> None:
        if other == "link":
            (tmp_path / other).symlink_to("build.bin")
        elif other == "hard":
            (tmp_path / other).hardlink_to(tmp_path / "build.bin")
        before = tree(tmp_path)
        output = other.removeprefix("./")
        refused(
            run("sign", "build.bin", "--output", other, *force),
            2,
            f"{output} would replace build.bin, which is read",
            "--output names another",
        )
        assert tree(tmp_path) == before

    def test_of_two_files_none_is_the_envelope_of_the_other(self, tmp_path: Path) -> None:
        before = tree(tmp_path)
        refused(
            run("sign", "build.bin", "build.bin.suit", "--force"),
            2,
            "build.bin.suit would replace build.bin.suit, which is read",
            "--output names another",
        )
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("output", ["fwsign.toml", "pki/private/release.key", "pki/ca.crt"])
    def test_force_replaces_nothing_but_envelopes(self, tmp_path: Path, output: str) -> None:
        before = tree(tmp_path)
        refused(
            run("sign", "build.bin", "--force", "--output", output),
            5,
            f"{output} exists already and is not an envelope",
            "choose another name, or remove it yourself",
        )
        assert tree(tmp_path) == before

    @posix
    def test_force_replaces_no_device(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert run("sign", "build.bin", "--force", "--output", "pipe").status == 5
        assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)

    def test_an_empty_file_may_be_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "made-by-mktemp").touch()
        good("sign", "build.bin", "--force", "--output", "made-by-mktemp")
        good("verify", "made-by-mktemp")

    @pytest.mark.parametrize(
        ("output", "words"),
        [
            ("absent/x.suit", "cannot write absent/x.suit: no such file or directory"),
            ("pki", "cannot write pki: is a directory"),
            (
                "build.bin/x.suit",
                "cannot write build.bin/x.suit: a part of the path is not a directory",
            ),
        ],
    )
    def test_a_place_that_cannot_be_written(self, tmp_path: Path, output: str, words: str) -> None:
        before = tree(tmp_path)
        refused(run("sign", "build.bin", "--force", "--output", output), 5, words)
        found = run("staple", "build.bin.suit", "--output", output)
        assert (found.status, found.out) == (5, "")
        assert tree(tmp_path) == before

    def test_an_envelope_can_be_signed_again_and_that_is_told(self) -> None:
        found = run("sign", "build.bin.suit")
        assert found.status == 0
        words = "build.bin.suit is an envelope itself, and was signed as a payload"
        assert f"fwsign: warning: {words}\n" in found.err

    def test_where_one_of_several_fails_those_before_it_are_there_and_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a.bin", "b.bin", "c.bin"):
            (tmp_path / name).write_bytes(name.encode())
        give = atomic._give_name

        def fails(temporary: Path, path: Path, *, overwrite: bool) -> None:
            if path.name == "b.bin.suit":
                raise OSError(28, "No space left on device")
            give(temporary, path, overwrite=overwrite)

        monkeypatch.setattr(atomic, "_give_name", fails)
        before = tree(tmp_path)
        found = run("sign", "a.bin", "b.bin", "c.bin")
        assert (found.status, found.out) == (5, "a.bin.suit\n")
        assert found.errors == ["error: cannot write b.bin.suit: no space left on device"]
        assert tree(tmp_path).keys() - before.keys() == {"a.bin.suit"}

    def test_a_file_that_vanishes_while_it_is_signed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find = targets.find_targets

        def vanishing(files: list[Path], typed: list[str]) -> list[targets.TargetFile]:
            found = find(files, typed)
            (tmp_path / "build.bin").unlink()
            return found

        monkeypatch.setattr(targets, "find_targets", vanishing)
        before = tree(tmp_path)
        refused(
            run("sign", "build.bin", "--force"),
            5,
            "cannot read build.bin: no such file or directory",
        )
        assert tree(tmp_path).keys() == before.keys() - {"build.bin"}


@posix
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sign", "build.bin", "--force"), "build.bin.suit: permission denied"),
        (("staple", "build.bin.suit"), "build.bin.suit: permission denied"),
        (("init", "new", "--org", "A", "--vendor", "a.example", "--no-passphrase"), "new: "),
        (("pki", "init", "new", "--org", "A", "--vendor", "a.example", "--no-passphrase"), "new: "),
        (("pki", "issue", "signer", "x", "--no-passphrase"), "pki/.lock: permission denied"),
        (("pki", "crl"), "pki/.lock: permission denied"),
    ],
)
def test_a_directory_that_may_not_be_written(
    signed: Path, arguments: tuple[str, ...], words: str
) -> None:
    directories = [signed, *(path for path in signed.rglob("*") if path.is_dir())]
    before = tree(signed)
    for directory in directories:
        directory.chmod(0o500)
    try:
        if os.access(signed, os.W_OK):
            pytest.skip("permissions do not bind root")
        found = run(*arguments)
    finally:
        for directory in directories:
            directory.chmod(0o700)
    assert (found.status, found.out, len(found.errors)) == (5, "", 1)
    assert found.errors[0].startswith(f"error: cannot write {words}")
    assert tree(signed) == before
