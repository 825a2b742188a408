# SPDX-License-Identifier: Apache-2.0
"""Other TLS stacks and our PKI: each talks to a broker, and refuses what it must.

What they read of ours is a table in docs/pki.md. WRITE_DOCS=1 in the environment writes it anew.
"""

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.keys.convert import encode_private
from fwsign.keys.file import encode_private_key, load_private_key
from fwsign.pki.directory import Pki
from pki_kit import DAY, before_tls, issue, make, no_passphrase, renew_lists, withdraw
from support import absent, require_program

pytestmark = pytest.mark.external

HERE = Path(__file__).parent / "tls_clients"
PAGE = Path(__file__).parents[2] / "docs" / "pki.md"
CASES = ("good", "revoked", "expired", "use", "foreign")
PASSPHRASE = "four words drawn by dice"
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x"
CONNACK = b"\x20\x02\x00\x00"


class Site(NamedTuple):
    """A broker that shows another certificate at each port, and the files of its clients."""

    place: Path
    pki: Path
    ports: dict[str, int]

    def crls(self, *names: str) -> tuple[Path, ...]:
        return tuple(self.pki / f"crl/{name}.pem" for name in names)


class Own(NamedTuple):
    """What a client shows and trusts."""

    chain: Path
    key: Path
    passphrase: str = ""


Client = Callable[[Site, int, Own], "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("stacks")
    broker = require_program("mosquitto")
    now = datetime.now(UTC)
    pki = make(place / "pki", now=now - 30 * DAY).directory
    other = make(place / "other", now=now - 30 * DAY).directory  # of the same names
    for kind in ("server", "client"):
        more = {"domains": ["localhost"]} if kind == "server" else {}
        for where, case in ((pki, "good"), (pki, "revoked"), (pki, "expired"), (other, "foreign")):
            then = now - 20 * DAY
            time_ = {"now": then, "lifetime": DAY} if case == "expired" else {"now": now}
            issue(where, f"{case}-{kind}", kind, **more, **time_)
            chain(where, f"{case}-{kind}", place)
        withdraw(pki, f"revoked-{kind}", now=now)
    renew_lists(pki, now)
    (place / "cas.pem").write_bytes(
        b"".join((pki / name).read_bytes() for name in ("ca.crt", "issued/issuing-tls.crt"))
    )
    (place / "store.pem").write_bytes(
        b"".join((pki / name).read_bytes() for name in ("ca.crt", "crl/bundle.pem"))
    )
    key = load_private_key(pki / "private/good-client.key", no_passphrase)
    for kdf in ("scrypt", "pbkdf2"):
        pem = encode_private_key(key, PASSPHRASE.encode(), kdf)
        (place / f"{kdf}.key").write_bytes(pem)
    certificates = x509.load_pem_x509_certificates((place / "good-client.pem").read_bytes())
    p12 = encode_private(
        key, "p12", PASSPHRASE.encode(), certificates=certificates, name=own_name("good", "client")
    )
    (place / "good.p12").write_bytes(p12)
    ports = {case: free_port() for case in CASES}
    (place / "broker.conf").write_text(configuration(place, pki, ports))
    with (place / "log").open("wb") as log:
        running = subprocess.Popen([broker, "-c", "broker.conf"], cwd=place, stderr=log)
    try:
        for port in ports.values():
            wait_for(port)
        yield Site(place, pki, ports)
    finally:
        running.terminate()
        running.wait(timeout=10)


def chain(pki: Path, name: str, place: Path) -> None:
    """Write an entry's chain and key, as a server or client needs them."""
    found = Pki(pki)
    pem = b"".join(
        x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in found.path(name)
    )
    (place / f"{name}.pem").write_bytes(pem)
    (place / f"{name}.key").write_bytes(found.key_path(name).read_bytes())


def configuration(place: Path, pki: Path, ports: dict[str, int]) -> str:
    lines = ["per_listener_settings true"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lines.append("user root")
    for case, port in ports.items():
        name = own_name(case, "server")
        lines += [
            f"listener {port} 127.0.0.1",
            "allow_anonymous true",
            f"cafile {pki / 'ca.crt'}",
            f"certfile {place / name}.pem",
            f"keyfile {place / name}.key",
            f"crlfile {pki / 'crl/bundle.pem'}",
            "require_certificate true",
        ]
    return "\n".join(lines) + "\n"


def own_name(case: str, kind: str) -> str:
    """Return the name of a certificate; the wrong use is the other one's."""
    other = {"server": "client", "client": "server"}[kind]
    return f"good-{other}" if case == "use" else f"{case}-{kind}"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail("the broker does not listen")


# The clients.


def run(*command: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=30, check=False)


def compiled(source: str, header: str, *libraries: str) -> Path:
    """Compile a client; its library's headers must be there."""
    compiler = require_program("gcc")
    if not Path("/usr/include", header).is_file():
        absent(f"{header} is not installed")
    target = Path(os.environ["STACKS_PLACE"], source)
    flags = ("-Wall", "-Wextra", "-Werror", "-O1")
    done = run(compiler, *flags, HERE / f"{source}.c", "-o", target, *libraries)
    assert done.returncode == 0, done.stderr.decode()
    return target


def talk(
    *command: object, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run a client that passes on what it is given; send MQTT's first packet by it."""
    words = list(map(str, command))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=env, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(OSError):  # it has given up already
            child.stdin.write(CONNECT)
        seen = b""
        while CONNACK not in seen and (part := os.read(child.stdout.fileno(), 65536)):
            seen += part
        child.kill()
    return subprocess.CompletedProcess(words, 0 if CONNACK in seen else 1, seen)


def with_program(program: tuple[object, ...], cas: str, crls: tuple[str, ...]) -> Client:
    """Return a client that is one of `tls_clients`."""

    def call(site: Site, port: int, own: Own) -> "subprocess.CompletedProcess[bytes]":
        files = (site.place / cas if cas == "cas.pem" else site.pki / cas, own.chain, own.key)
        return run(*program, port, *files, own.passphrase, *site.crls(*crls))

    return call


def openssl(site: Site, port: int, own: Own) -> "subprocess.CompletedProcess[bytes]":
    return talk(
        *(require_program("openssl"), "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"),
        *("-CAfile", site.place / "store.pem", "-crl_check_all", "-verify_return_error"),
        *("-verify_hostname", "localhost", "-cert", own.chain, "-cert_chain", own.chain),
        *("-key", own.key, "-pass", f"pass:{own.passphrase}"),
    )


def gnutls(crls: tuple[str, ...], cas: str) -> Client:
    def call(site: Site, port: int, own: Own) -> "subprocess.CompletedProcess[bytes]":
        lists = site.place / f"{'-'.join(crls)}.crl"
        lists.write_bytes(b"".join(path.read_bytes() for path in site.crls(*crls)))
        trusted = site.place / cas if cas == "cas.pem" else site.pki / cas
        return talk(
            *(require_program("gnutls-cli"), "--port", port, "--x509cafile", trusted),
            *("--x509crlfile", lists, "--x509certfile", own.chain, "--x509keyfile", own.key),
            "localhost",
            env={**os.environ, "GNUTLS_PIN": own.passphrase},
        )

    return call


class Stack(NamedTuple):
    """A TLS stack: as it needs its files, and with ca.crt and bundle.pem as they are."""

    name: str
    client: Client
    plain: Client


def stacks() -> tuple[Stack, ...]:
    each = ("ca", "issuing-tls")
    mbedtls = compiled("mbedtls", "mbedtls/ssl.h", "-lmbedtls", "-lmbedx509", "-lmbedcrypto")
    wolfssl = compiled("wolfssl", "wolfssl/ssl.h", "-lwolfssl")
    node = (require_program("node"), HERE / "node.mjs")
    bundle = ("bundle",)
    return (
        Stack("OpenSSL", openssl, openssl),
        *(
            Stack(name, with_program(program, cas, each), with_program(program, "ca.crt", bundle))
            for name, program, cas in (
                ("mbedTLS", (mbedtls,), "ca.crt"),
                ("wolfSSL", (wolfssl,), "cas.pem"),
                ("Node", node, "ca.crt"),
            )
        ),
        Stack("GnuTLS", gnutls(each, "cas.pem"), gnutls(bundle, "ca.crt")),
    )


# What they accept.


class Row(NamedTuple):
    """What a program reads of ours; None if it is not its business."""

    program: str
    bundle: bool | None
    pbkdf2: bool | None
    scrypt: bool | None
    p12: bool | None

    def __str__(self) -> str:
        words = {True: "yes", False: "no", None: "-"}
        return f"| {self.program} | {' | '.join(words[cell] for cell in self[1:])} |"


def keytool(site: Site) -> Row:
    """Java's keystore: a PKCS#12 file of ours, with its chain, and our CRLs."""
    program = require_program("keytool")
    store = ("-keystore", site.place / "good.p12", "-storepass", PASSPHRASE)
    done = run(program, "-J-Duser.language=en", "-list", "-v", *store)
    for crl in site.crls("ca", "issuing-tls"):
        assert b"X.509 CRL v2" in run(program, "-printcrl", "-file", crl).stdout
    return Row("Java's keytool", None, None, None, b"Certificate chain length: 2" in done.stdout)


def nss(site: Site) -> Row:
    """NSS, as in Firefox: its database judges our certificates with our CRLs."""
    certutil, base = require_program("certutil"), site.place / "nss"
    base.mkdir()
    where = ("-d", f"sql:{base}")

    def good(*command: object) -> bool:
        return run(*command, *where).returncode == 0

    assert good(certutil, "-N", "--empty-password")
    assert good(certutil, "-A", "-n", "root", "-t", "CT,C,", "-i", site.pki / "ca.crt")
    imported = good(require_program("pk12util"), "-i", site.place / "good.p12", "-W", PASSPHRASE)
    for path in site.crls("ca", "issuing-tls"):
        crl = x509.load_pem_x509_crl(path.read_bytes())
        (site.place / "one.crl").write_bytes(crl.public_bytes(Encoding.DER))
        assert good(require_program("crlutil"), "-I", "-i", site.place / "one.crl")
    for case in CASES:
        for kind, use in (("server", "V"), ("client", "C")):
            name = own_name(case, kind)
            assert good(certutil, "-A", "-n", name, "-t", ",,", "-i", site.place / f"{name}.pem")
            assert good(certutil, "-V", "-n", name, "-u", use) == (case == "good"), name
    return Row("NSS", None, None, None, imported)


def reads_p12(site: Site, program: str) -> bool | None:
    """Tell whether a stack's own program reads a PKCS#12 file of ours."""
    file, secret = site.place / "good.p12", PASSPHRASE
    if program == "OpenSSL":
        wanted = ("pkcs12", "-in", file, "-passin", f"pass:{secret}", "-noout")
        return run(require_program("openssl"), *wanted).returncode == 0
    if program == "GnuTLS":
        more = ("--p12-info", "--inder", "--infile", file, "--password", secret)
        return run(require_program("certtool"), *more).returncode == 0
    if program == "Node":
        script = "const [f, p] = process.argv.slice(1); require('tls').createSecureContext({"
        script += "pfx: require('fs').readFileSync(f), passphrase: p})"
        return run(require_program("node"), "-e", script, file, secret).returncode == 0
    return None


def own_of(site: Site, case: str) -> Own:
    name = own_name(case, "client")
    return Own(site.place / f"{name}.pem", site.place / f"{name}.key")


def row_of(site: Site, stack: Stack) -> Row:
    good = own_of(site, "good")

    def works(client: Client, port: str, own: Own) -> bool:
        return client(site, site.ports[port], own).returncode == 0

    for case in CASES:  # what the broker shows
        done = stack.client(site, site.ports[case], good)
        assert (done.returncode == 0) == (case == "good"), (stack.name, case, done)
        assert done.returncode not in {3, 4, 5}, (stack.name, case, done)  # it read its files
    for case in CASES[1:]:  # what the client shows
        assert not works(stack.client, "good", own_of(site, case)), (stack.name, case)
    keys = {
        kdf: works(
            stack.client,
            "good",
            good._replace(key=site.place / f"{kdf}.key", passphrase=PASSPHRASE),
        )
        for kdf in ("pbkdf2", "scrypt")
    }
    bundle = works(stack.plain, "good", good)
    assert not bundle or not works(stack.plain, "revoked", good)
    p12 = reads_p12(site, stack.name)
    return Row(stack.name, bundle, keys["pbkdf2"], keys["scrypt"], p12)


def test_stacks_tell_good_peers_from_bad(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKS_PLACE", str(site.place))
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(judge, site) for judge in (keytool, nss)]
        rows = [*pool.map(partial(row_of, site), stacks()), *(one.result() for one in others)]
    head = "| program | `ca.crt` and `bundle.pem` as they are | key: PBKDF2 | scrypt | PKCS#12 |"
    compare("\n".join((head, "|---|---|---|---|---|", *map(str, rows))))


@pytest.mark.parametrize("one_ca", [True, False])
def test_mbedtls_reads_no_critical_name_constraints(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, one_ca: bool
) -> None:
    """The reason for a CA for TLS: in older PKIs `issuing` signs the broker."""
    monkeypatch.setenv("STACKS_PLACE", str(tmp_path))
    program = compiled("mbedtls", "mbedtls/ssl.h", "-lmbedtls", "-lmbedx509", "-lmbedcrypto")
    pki = make(tmp_path / "pki", now=datetime.now(UTC)).directory
    if one_ca:
        before_tls(pki)
    issue(pki, "b.acme.example", "client", now=datetime.now(UTC))
    chain(pki, "b.acme.example", tmp_path)
    name = tmp_path / "b.acme.example"
    done = run(program, site.ports["good"], pki / "ca.crt", f"{name}.pem", f"{name}.key", "")
    # 1: it is not below the broker's root
    assert (done.returncode, b"chain: " in done.stdout) == ((3, True) if one_ca else (1, False))


def test_mbedtls_reads_the_one_ca_of_easy_rsas_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKS_PLACE", str(tmp_path))
    program = compiled("mbedtls", "mbedtls/ssl.h", "-lmbedtls", "-lmbedx509", "-lmbedcrypto")
    pki = make(tmp_path / "pki", now=datetime.now(UTC), flat=True).directory
    issue(pki, "c", "client", now=datetime.now(UTC))
    files = (pki / "ca.crt", pki / "issued/c.crt", pki / "private/c.key")
    done = run(program, free_port(), *files, "", pki / "crl.pem")
    assert (done.returncode, done.stdout[:8]) == (6, b"connect:")  # it has read them all


def compare(table: str) -> None:
    """Compare the table with the page's, or write it there."""
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(r"(?<=<!-- tls -->\n).*?(?=\n<!-- /tls -->)", re.DOTALL)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(pattern.sub(table, page), encoding="utf-8")
    found = pattern.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == table
