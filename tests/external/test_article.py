# SPDX-License-Identifier: Apache-2.0
"""The PKI that articles about MQTT show in xca, made with easy-rsa and with fwsign, row by row."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cli.kit import good, refused, run
from external.test_easyrsa_programs import call
from fwsign.format.cose import key_name
from fwsign.pki.directory import Pki
from fwsign.pki.view.entry import facts
from support import require_program, vectors

pytestmark = pytest.mark.external
PAGE = Path(__file__).parents[2] / "docs" / "pki.md"
VERNEMQ = "factorycube-server-vernemq"
LEAVES = ("TESTING", VERNEMQ)
DAYS = 1080  # as in the article
PLAIN = "--no-passphrase"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PKI by easy-rsa in `easy-rsa/pki`, and by fwsign in `article`, as the page says."""
    home = tmp_path_factory.mktemp("article")
    call([require_program("make-cadir"), home / "easy-rsa"], home)
    (home / "easy-rsa/vars").unlink()
    env = {"EASYRSA_BATCH": "1", "EASYRSA_CERT_EXPIRE": str(DAYS)}
    program = ("./easyrsa",)
    call([*program, "init-pki"], home / "easy-rsa", env)
    call(
        [*program, "build-ca", "nopass"], home / "easy-rsa", env | {"EASYRSA_REQ_CN": "Easy-RSA CA"}
    )
    call([*program, "build-server-full", VERNEMQ, "nopass"], home / "easy-rsa", env)
    call([*program, "build-client-full", "TESTING", "nopass"], home / "easy-rsa", env)
    with contextlib.chdir(home):
        for line in commands("article"):
            good(*line)
    return home


@pytest.fixture(autouse=True)
def _here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


def commands(word: str) -> list[list[str]]:
    """Return the commands of the page that make or renew something of a PKI, without `fwsign`."""
    made = re.compile(r"(?:\$ )?fwsign (pki (?:init|issue|import|renew) .*)")
    found = map(made.fullmatch, PAGE.read_text(encoding="utf-8").splitlines())
    lines = [one[1].split() for one in found if one]
    return [line for line in lines if word in line]


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


class Row(NamedTuple):
    """What xca shows of a certificate."""

    common_name: str
    issuer: str
    ca: bool
    names: tuple[str, ...]
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    key: str
    signature: str
    days: int
    identifiers: tuple[bool, bool]
    critical: tuple[str, ...]
    constrained: bool
    organisation: bool


def row(certificate: x509.Certificate) -> Row:
    said = facts(certificate)
    period = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    issuer = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return Row(
        said.common_name,
        str(issuer),
        said.ca,
        said.names,
        said.key_usage,
        said.extended_key_usage,
        said.key,
        said.signature,
        round(period / timedelta(days=1)),
        (said.subject_key is not None, said.authority_key is not None),
        tuple(sorted(one.oid._name for one in certificate.extensions if one.critical)),
        bool(said.permitted),
        "O=" in said.subject,
    )


def rows(pki: Path) -> dict[str, Row]:
    return {
        "ca": row(load(pki / "ca.crt")),
        **{name: row(load(pki / f"issued/{name}.crt")) for name in LEAVES},
    }


OURS = {
    "ca": Row(
        "Article Root CA", "Article Root CA", True, (), ("certificate sign", "CRL sign"), (),
        "RSA-3072", "sha256WithRSAEncryption", 7305, (True, False),
        ("basicConstraints", "keyUsage"), True, True,
    ),
    "TESTING": Row(
        "TESTING", "Article Root CA", False, (), ("digital signature",), ("clientAuth",),
        "RSA-2048", "sha256WithRSAEncryption", DAYS, (True, True),
        ("basicConstraints", "keyUsage"), False, True,
    ),
    VERNEMQ: Row(
        VERNEMQ, "Article Root CA", False, (VERNEMQ, "localhost"),
        ("digital signature", "key encipherment"), ("serverAuth",),
        "RSA-2048", "sha256WithRSAEncryption", DAYS, (True, True),
        ("basicConstraints", "keyUsage"), False, True,
    ),
}  # fmt: skip
"""Each row by fwsign, as the page's commands make it."""

DIFFERENT: dict[str, dict[str, Any]] = {
    "ca": {
        "common_name": "Easy-RSA CA", "issuer": "Easy-RSA CA", "key": "RSA-2048", "days": 3650,
        "critical": (), "constrained": False, "organisation": False, "identifiers": (True, True),
    },
    "TESTING": {"issuer": "Easy-RSA CA", "critical": (), "organisation": False},
    VERNEMQ: {
        "issuer": "Easy-RSA CA", "critical": (), "organisation": False, "names": (VERNEMQ,),
    },
}  # fmt: skip
"""What easy-rsa makes otherwise; the page lists it."""


# --- row by row -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_rows_are_those_of_easyrsa_but_for_what_the_page_says(name: str) -> None:
    ours, theirs = rows(Path("article"))[name], rows(Path("easy-rsa/pki"))[name]
    assert ours == OURS[name]
    assert theirs == ours._replace(**DIFFERENT[name])


@pytest.mark.parametrize("name", OURS)
def test_rows_of_the_article_itself_are_made_by_easyrsa(name: str) -> None:
    article = vectors() / "foreign-pki/article/pki"
    assert rows(article)[name] == rows(Path("easy-rsa/pki"))[name]


def test_the_article_itself_is_refused() -> None:
    article = vectors() / "foreign-pki/article/pki"
    tail = "whose private half is published"
    own = "United Manufacturing Hub's"
    found = run("pki", "import", article, "--vendor", "acme.example", PLAIN, "--to", "x")
    words = f"{article}/ca.crt has {own} CA key, {tail}"
    refused(found, 1, words, "make your own PKI: fwsign init")
    assert not Path("x").exists()
    for name, whose in zip(LEAVES, ("client", "broker"), strict=True):
        request = article / f"reqs/{name}.req"
        words = f"{request} has {own} {whose} key, {tail}"
        for command in (("issue", "client", "x"), ("renew", "TESTING")):
            found = run("pki", *command, "--csr", request, "--pki", "article", "--compat")
            refused(found, 1, words, "make another key: fwsign key new")
    listed = run("pki", "lint", article).out
    assert listed.count("error    lint.published-key") == 3


# --- shown ----------------------------------------------------------------------------------


def drawn(pki: str) -> list[str]:
    """Return the lines of the tree that name a certificate: rails, name and kind."""
    lines = good("pki", "show", pki, env={"COLUMNS": "100"}).splitlines()
    return [
        re.sub(r"\s{2,}[█░].*", "", line) for line in lines if "█" in line and "crl" not in line
    ]


def test_both_are_the_same_tree() -> None:
    ours = [line for line in drawn("article") if "release" not in line]
    theirs = drawn("easy-rsa/pki")
    assert theirs == ["ca  root CA", "├─ TESTING  client", f"└─ {VERNEMQ}  server"]
    assert [line.lstrip("├└─ ") for line in ours] == [line.lstrip("├└─ ") for line in theirs]


# --- talking --------------------------------------------------------------------------------


@contextlib.contextmanager
def broker(certificate: Path, key: Path, authorities: bytes) -> Iterator[int]:
    """Run mosquitto with a certificate; it accepts clients of some authorities. Yield its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    Path("clients.pem").write_bytes(authorities)
    lines = [f"listener {port} 127.0.0.1", "cafile clients.pem", f"certfile {certificate}"]
    lines += [f"keyfile {key}", "require_certificate true", "use_identity_as_username true"]
    lines += ["user root"] if os.name != "nt" and os.geteuid() == 0 else []
    Path("broker.conf").write_text("\n".join(lines) + "\n")
    program = require_program("mosquitto")
    command = [program, "-c", "broker.conf"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as running:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and running.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            assert running.poll() is None, "the broker ended"
            yield port
        finally:
            running.terminate()


def talks(port: int, root: Path, certificate: Path, key: Path, *more: str) -> bool:
    """Tell whether a client sends a message to the broker."""
    command = [require_program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port)]
    command += ["--cafile", str(root), "--cert", str(certificate), "--key", str(key), "-q", "1"]
    command += ["-t", "temperature", "-m", "21", *more]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def files(pki: str, name: str) -> tuple[Path, Path]:
    return Path(pki, f"issued/{name}.crt"), Path(pki, f"private/{name}.key")


@pytest.mark.skipif(sys.platform == "win32", reason="mosquitto is started as on Unix")
def test_a_broker_of_each_and_clients_of_both() -> None:
    pkis = ("easy-rsa/pki", "article")
    good("pki", "init", "foreign", "--org", "F", "--vendor", "f.example", PLAIN)
    good("pki", "issue", "client", "TESTING", "--pki", "foreign", PLAIN)
    both = b"".join(Path(pki, "ca.crt").read_bytes() for pki in pkis)
    for served in pkis:
        root = Path(served, "ca.crt")
        with broker(*files(served, VERNEMQ), both) as port:
            # its certificate names no address
            for pki in pkis:
                assert talks(port, root, *files(pki, "TESTING"), "--insecure")
                assert not talks(port, root, *files(pki, VERNEMQ), "--insecure")  # a server
            other = Path(next(one for one in pkis if one != served), "ca.crt")
            assert not talks(port, other, *files(served, "TESTING"), "--insecure")
            assert not talks(port, root, *files("foreign", "TESTING"), "--insecure")
            assert not talks(
                port, root, *files(served, "TESTING")
            )  # 127.0.0.1 is none of its names


@pytest.mark.skipif(sys.platform == "win32", reason="mosquitto is started as on Unix")
def test_what_was_taken_over_and_renewed_talks_to_what_was_not() -> None:
    key = load_pem_private_key(Path("easy-rsa/pki/private/TESTING.key").read_bytes(), None)
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    Path("easy-rsa/pki/private/TESTING_pkc8.key").write_bytes(pkcs8)
    lines = commands("taken")
    assert [" ".join(line[1:2]) for line in lines] == ["import", *["renew"] * 3]
    kinds = []
    for line in lines:
        good(*line)
        kinds.append(key_name(Pki("taken").certificate("TESTING").public_key()))
    assert kinds == ["RSA-2048", "RSA-2048", "P-256", "P-256"]
    pki = Pki("taken")
    for name in LEAVES:
        assert (
            pki.certificate(name).subject == load(Path(f"easy-rsa/pki/issued/{name}.crt")).subject
        )
        good("pki", "export", "chain", name, f"{name}.pem", "--pki", "taken")
    root = Path("easy-rsa/pki/ca.crt")
    renewed = (Path("TESTING.pem"), pki.key_path("TESTING"))
    with broker(*files("easy-rsa/pki", VERNEMQ), root.read_bytes()) as port:
        assert talks(port, root, *renewed, "--insecure")
    with broker(Path(f"{VERNEMQ}.pem"), pki.key_path(VERNEMQ), root.read_bytes()) as port:
        assert talks(port, root, *files("easy-rsa/pki", "TESTING"), "--insecure")
        assert talks(port, root, *renewed, "--insecure")
    asked = ("--purpose", "server", "--host", VERNEMQ, "--profile", "compat")
    assert VERNEMQ in good("pki", "verify", f"{VERNEMQ}.pem", "--anchor", root, *asked)


def test_the_other_key_alone_is_taken_too() -> None:
    Path("easy-rsa/pki/private/TESTING.key").rename("aside.key")
    try:
        key = load_pem_private_key(Path("aside.key").read_bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        place = Path("easy-rsa/pki/private/TESTING_pkc8.key")
        place.write_bytes(pkcs8)
        said = run("pki", "import", "easy-rsa", "--vendor", "acme.example", PLAIN, "--to", "again")
        assert '"TESTING" from TESTING.crt, with its key TESTING_pkc8.key' in said.err
        assert Path("again/private/TESTING.key").read_bytes() == pkcs8
    finally:
        Path("aside.key").rename("easy-rsa/pki/private/TESTING.key")
