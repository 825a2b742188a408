"""The first five minutes, word by word."""

import hashlib
import re
from pathlib import Path

import pytest

import fwsign
from cli.kit import SAMPLES, Result, good, run
from support import NOW, PAYLOAD

SEQUENCE = int(NOW.timestamp())


def test_fwsign_alone_shows_the_happy_path_in_six_lines() -> None:
    assert run() == Result(
        0,
        """\
fwsign init --org Acme --vendor acme.example    make a PKI and fwsign.toml, once
fwsign sign build.bin                           write build.bin.suit
fwsign verify build.bin.suit                    check signature, path, payload
fwsign flash build.bin.suit --port PORT         write it to a board, and read it back
fwsign show build.bin.suit                      see what is inside; any key or image too
fwsign COMMAND --help                           everything else
""",
        "",
    )


def test_version() -> None:
    assert run("--version") == Result(0, f"fwsign {fwsign.__version__}\n", "")


def test_help_lists_the_commands_in_whole_sentences() -> None:
    page = good("--help")
    commands = page.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in commands] == [
        "init",
        "sign",
        "cosign",
        "digest",
        "attach",
        "verify",
        "flash",
        "ports",
        "board",
        "device",
        "install",
        "follow",
        "watch",
        "hint",
        "channel",
        "rollout",
        "publish",
        "permit",
        "adapter",
        "trust",
        "receipts",
        "report",
        "collect",
        "fleet",
        "show",
        "staple",
        "rewrap",
        "pki",
        "log",
        "key",
        "completion",
        "version",
        "help",
    ]
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)
    assert good("-h") == page


def test_init_sign_verify_show_each_say_what_comes_next(tmp_path: Path) -> None:
    project = tmp_path / "Gateway X1"
    assert run("init", project, "--org", "Acme", "--vendor", "acme.example", "--no-passphrase") == (
        0,
        f"{project}/pki\n{project}/fwsign.toml\n",
        f"""\
fwsign: the product is called "gateway-x1", after the directory; --product names it
fwsign: root "Acme Root CA": give {project}/pki/ca.crt to every device
fwsign: keep {project}/pki/private/ca.key offline; signing does not need it
fwsign: warning: keys in {project}/pki/private have no passphrase
fwsign: next: fwsign sign FILE, in {project}
""",
    )
    assert (
        (project / "fwsign.toml").read_text()
        == """\
# What fwsign takes where the command line does not say.
vendor = "acme.example"
product = "gateway-x1"
pki = "pki"
signer = "release"
"""
    )


def test_sign_writes_one_envelope_beside_the_file(project: Path) -> None:
    assert run("sign", "build.bin") == (
        0,
        "build.bin.suit\n",
        """\
fwsign: build.bin: 800 bytes, payload build.bin
fwsign: next: fwsign verify build.bin.suit
""",
    )
    assert (project / "build.bin.suit").stat().st_size < 2100


@pytest.mark.usefixtures("signed")
def test_verify_says_who_signed_what_for_whom() -> None:
    digest = hashlib.sha256(PAYLOAD).hexdigest()[:16]
    assert run("verify", "build.bin.suit") == (
        0,
        f"""\
verified  build.bin.suit
  release    gateway-x1, acme.example, sequence {SEQUENCE}
  signer     release < Acme Issuing CA < Acme Root CA, ESP256
  payload    build.bin, 800 bytes, {digest}..., build.bin
  anchor     pki/ca.crt
  unchecked  rollback (give --min-sequence)
""",
        "",
    )


def test_show_says_what_is_inside(signed: Path) -> None:
    page = good("show", signed / "build.bin.suit")
    assert page.startswith("kind: SUIT envelope, not verified here\n")
    for line in (
        "vendor: acme.example",
        "product: gateway-x1",
        f"sequence number: {SEQUENCE}",
        "  name: build.bin",
        "  algorithm: ESP256",
        "    subject: CN=release,O=Acme",
        "      extendedKeyUsage (critical): codeSigning",
        "diagnostic",
    ):
        assert line in page.splitlines()
    assert re.search(r"^  107\(\{$", page, re.MULTILINE)


def test_quiet_leaves_the_result(project: Path) -> None:
    assert run("--quiet", "sign", "build.bin") == (0, "build.bin.suit\n", "")
    quiet = run("--quiet", "sign", project / "absent.bin")
    assert (
        quiet.err == f"fwsign: error: cannot read {project}/absent.bin: no such file or directory\n"
    )


def test_an_esp_image_is_recognised(project: Path) -> None:
    (project / "app.bin").write_bytes((SAMPLES / "blink-esp32c3.bin").read_bytes())
    found = run("sign", "app.bin")
    assert "fwsign: esp32c3@0x10000: 592 bytes, payload app.bin\n" in found.err
    assert "version: 1.0.0\n" in good("show", "app.bin.suit")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("chip", ["rp2040", "rp2350"])
def test_a_uf2_image_is_recognised(tmp_path: Path, chip: str) -> None:
    (tmp_path / "app.uf2").write_bytes((SAMPLES / f"blink-{chip}.uf2").read_bytes())
    assert f"fwsign: {chip}@0x0: 1024 bytes, payload app.uf2\n" in run("sign", "app.uf2").err
