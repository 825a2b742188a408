"""What must not be replaced is refused before a key is used, and before the log gets a line."""

import os
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import good, refused, run
from fwsign.cli import outputs
from fwsign.format.cose import decode_block
from fwsign.format.envelope import decode_envelope
from fwsign.x509.token import parse_token
from support import NOW
from support import refused as not_ok
from tsa_kit import make_tsa
from tsa_server import serving, stamping

PERMIT: Final = ("permit", "make", "--device", "gw-0007", "--release", "build.bin.suit")
CHANNEL: Final = ("channel", "make", "stable", "build.bin.suit", "--fresh", "--number", "5")
TRUST: Final = (
    *("--vendor", "acme.example", "--product", "gateway-x1", "--key", "pki/private/ca.key"),
    *("--release", "pki/ca.crt", "--trust", "pki/ca.crt"),
)
NOT_AN_ENVELOPE: Final = "exists already and is not an envelope"
OTHERWISE: Final = "choose another name, or remove it yourself"
THERE: Final = {
    "permit": (PERMIT, "build.bin.permit", "cannot write {}: exists already", "--output names"),
    "channel": (CHANNEL, "stable.channel", f"{{}} {NOT_AN_ENVELOPE}", OTHERWISE),
    "channel from another": (
        ("channel", "make", "stable", "--previous", "other.channel"),
        "stable.channel",
        f"{{}} {NOT_AN_ENVELOPE}",
        OTHERWISE,
    ),
    "trust": (("trust", "make", "1.trust", *TRUST), "1.trust", "cannot write {}: exists", None),
    "release": (("sign", "build.bin"), "build.bin.suit", "{} exists already", "--force replaces"),
    "file": (("sign", "build.bin", "--minisig"), "build.bin.minisig", "{} exists already", "--for"),
}


@pytest.fixture
def ready(signed: Path) -> Path:
    """A project with a release and a signer of channels, whose keys are then taken away."""
    good("pki", "issue", "channel", "rollout", "--no-passphrase")
    good("channel", "make", "stable", "build.bin.suit")
    (signed / "stable.channel").rename(signed / "other.channel")
    for key in (signed / "pki/private").glob("*.key"):
        key.unlink()
    return signed


@pytest.mark.parametrize("name", THERE)
def test_a_file_that_is_there_is_refused_first(name: str, ready: Path) -> None:
    words, place, error, hint = THERE[name]
    (ready / place).write_bytes(b"of somebody else")
    log = (ready / "pki/log.jsonl").read_bytes()
    found = run(*words)
    assert found.status == 5, found
    assert found.errors[0].startswith(f"error: {error.format(place)}")
    assert hint is None or found.errors[1].startswith(f"hint: {hint}")
    assert (ready / place).read_bytes() == b"of somebody else"
    assert (ready / "pki/log.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ((*PERMIT, "--output", "none/x.permit"), "none/x.permit"),
        ((*CHANNEL, "--output-dir", "none"), "none/stable.channel"),
        (("trust", "make", "none/1.trust", *TRUST), "none/1.trust"),
    ],
)
def test_a_place_in_no_directory_is_refused_first(
    words: tuple[str, ...], place: str, ready: Path
) -> None:
    log = (ready / "pki/log.jsonl").read_bytes()
    found = run(*words)
    assert found.status == 5, found
    error = f"error: cannot write {Path(place)}: no such file or directory"
    assert found.errors[0] == error
    assert (ready / "pki/log.jsonl").read_bytes() == log


def test_an_output_is_looked_at_as_it_is_written(tmp_path: Path) -> None:
    there, absent = tmp_path / "there", tmp_path / "absent"
    there.write_bytes(b"old")
    outputs.check(absent)
    outputs.check(there, overwrite=True)
    for path, overwrite, code, words in (
        (there, False, "io.exists", f"cannot write {there}: exists already"),
        (tmp_path, True, "io.directory", f"cannot write {tmp_path}: is a directory"),
        (absent / "x", False, "io.missing", "no such file or directory"),
        (there / "x", False, "io.directory", "a part of the path is not a directory"),
    ):
        with not_ok(code, words):
            outputs.check(path, overwrite=overwrite)
    if os.name == "posix":
        (tmp_path / "link").symlink_to(absent)
        with not_ok("io.exists", "exists already"):
            outputs.check(tmp_path / "link")
        (tmp_path / "link").unlink()
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
    assert there.read_bytes() == b"old"


def test_a_channel_does_not_replace_its_release(ready: Path) -> None:
    (ready / "build.bin.suit").rename(ready / "stable.channel")
    found = run("channel", "make", "stable", "stable.channel", "--fresh", "--number", "5")
    error = "stable.channel would replace stable.channel, which is read"
    refused(found, 2, error, "--output-dir names another place")


def test_a_channel_replaces_the_one_before(signed: Path) -> None:
    good("pki", "issue", "channel", "rollout", "--no-passphrase")
    good("channel", "make", "stable", "build.bin.suit")
    before = (signed / "stable.channel").read_bytes()
    good("channel", "make", "stable")
    assert (signed / "stable.channel").read_bytes() != before


@pytest.mark.parametrize("words", [PERMIT, CHANNEL], ids=["permit", "channel"])
class TestTimeStamps:
    """Channels and permits are stamped as releases are."""

    @pytest.fixture(autouse=True)
    def _signers(self, signed: Path) -> None:
        tsa = make_tsa()
        self.tsa, self.place = tsa, signed
        good("pki", "issue", "channel", "rollout", "--no-passphrase")
        pem = tsa.root.certificate.public_bytes(Encoding.PEM)
        (signed / "root.pem").write_bytes(pem)
        (signed / "tsa.crl").write_bytes(tsa.crls[0])

    def test_a_token_is_asked_for(self, words: tuple[str, ...]) -> None:
        with serving(stamping(self.tsa)) as (url, _):
            good(*words, "--tsa", url, "--tsa-anchor", "root.pem", "--crl", "tsa.crl")
        name = "stable.channel" if words is CHANNEL else "build.bin.permit"
        block = decode_block(decode_envelope((self.place / name).read_bytes()).blocks[0])
        assert block.token is not None
        assert parse_token(block.token).gen_time == NOW

    def test_nothing_is_written_with_a_token_that_does_not_count(
        self, words: tuple[str, ...]
    ) -> None:
        log = (self.place / "pki/log.jsonl").read_bytes()
        with serving(stamping(self.tsa)) as (url, _):
            found = run(*words, "--tsa", url)
        assert found.status == 1, found
        assert 'the path ends at issuer "TSA Root"' in found.errors[0]
        assert not (self.place / "stable.channel").exists()
        assert not (self.place / "build.bin.permit").exists()
        assert (self.place / "pki/log.jsonl").read_bytes() == log

    def test_options_that_need_each_other(self, words: tuple[str, ...]) -> None:
        found = run(*words, "--tsa-anchor", "root.pem")
        hint = f"fwsign {words[0]} make --help shows how"
        refused(found, 2, "--tsa-anchor without --tsa", hint)

    def test_a_crl_of_no_use_is_refused(self, words: tuple[str, ...]) -> None:
        found = run(*words, "--crl", "tsa.crl")
        assert (found.status, found.errors[0]) == (
            5,
            "error: a CRL given belongs to no issuer in the signer's path",
        )
