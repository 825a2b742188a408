# SPDX-License-Identifier: Apache-2.0
"""A gateway fetches from Apache, through tinyproxy, with certificates that fwsign made.

The commands are run as people run them, and Apache's log tells what was sent.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import pytest

from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.https import fetch
from support import for_child, require_program

pytestmark = pytest.mark.external

MODULES = Path("/usr/lib/apache2/modules")
TOKEN = "a-token-of-Apache"
LOGIN = "gateway:a password"
APACHE = """
ServerRoot "{folder}"
ServerName localhost
Listen 127.0.0.1:{port}
PidFile "{folder}/pid"
ErrorLog "{folder}/error.log"
Mutex pthread
User www-data
Group www-data
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
DocumentRoot "{folder}/web"
FileETag MTime Size
LogFormat "%U %>s %{{Range}}i %B" sent
CustomLog "{folder}/access.log" sent
SSLEngine on
SSLCertificateFile "{folder}/server.pem"
SSLCertificateKeyFile "{folder}/server.key"
SSLCACertificateFile "{folder}/clients.pem"
SSLVerifyClient require
SSLVerifyDepth 3
<Directory "{folder}/web">
    Require expr %{{HTTP:Authorization}} == 'Bearer {token}'
</Directory>
"""


class Site(NamedTuple):
    """A PKI, a gateway, and an Apache with releases."""

    folder: Path
    public: Path
    port: int

    def fwsign(self, *words: str, before: Sequence[str] = (), status: int = 0) -> str:
        """Run a command; return what it says."""
        command = [*before, sys.executable, "-m", "fwsign", *words]
        run = subprocess.run(
            command, cwd=self.folder, env=for_child(), capture_output=True, text=True, check=False
        )
        assert run.returncode == status, run.stdout + run.stderr
        return run.stdout + run.stderr

    def publish(self, number: int, content: bytes) -> None:
        """Sign a release, and give it to the server."""
        (self.folder / "app.bin").write_bytes(content)
        whose = ("--pki", "pki", "--signer", "release", "--product", "x1", "--force")
        self.fwsign("sign", "app.bin", *whose, "--sequence", str(number), "--output", "u.suit")
        for name in ("app.bin", "u.suit"):
            shutil.copy(self.folder / name, self.public / "web" / name)
        (self.public / "access.log").write_text("")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/u.suit"

    def install(self, *words: str, **more: object) -> str:
        return self.fwsign("install", self.url, "--config", "etc/device.toml", *words, **more)  # type: ignore[arg-type]

    @property
    def installed(self) -> bytes:
        return (self.folder / "target/current/app.bin").read_bytes()

    @property
    def sent(self) -> list[tuple[str, int, str, int]]:
        """What Apache sent: path, status, range, and bytes."""
        lines = (self.public / "access.log").read_text().splitlines()
        found = [line.split() for line in lines]
        return [(one[0], int(one[1]), one[2], int(one[3])) for one in found]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(port: int, *command: str, log: Path) -> Iterator[None]:
    """Run a server until the end of the block; it has to listen first."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            for _ in range(200):
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    program = require_program("apache2")
    port = free_port()
    public = Path(mkdtemp(prefix="fwsign-apache-"))  # Apache's own user has to enter it
    public.chmod(0o755)
    (public / "web").mkdir()
    found = Site(tmp_path, public, port)
    try:
        common = ("--no-passphrase", "--vendor", "acme.example", "--org", "Acme")
        found.fwsign("pki", "init", "pki", *common)
        more = ("--pki", "pki", "--no-passphrase")
        found.fwsign("pki", "issue", "server", "updates", "--host", "localhost", *more)
        found.fwsign("pki", "issue", "client", "gateway-7", *more)
        issued, ca = tmp_path / "pki/issued", (tmp_path / "pki/ca.crt").read_bytes()
        tls = (issued / "issuing-tls.crt").read_bytes()
        (public / "server.pem").write_bytes((issued / "updates.crt").read_bytes() + tls)
        shutil.copy(tmp_path / "pki/private/updates.key", public / "server.key")
        (public / "clients.pem").write_bytes(ca + tls)
        (tmp_path / "gateway.pem").write_bytes((issued / "gateway-7.crt").read_bytes() + tls)
        shutil.copy(tmp_path / "pki/private/gateway-7.key", tmp_path / "gateway.key")
        for name, text in (("token", TOKEN), ("login", LOGIN)):
            (tmp_path / name).write_text(f"{text}\n")
        for name in ("token", "login", "gateway.key"):
            (tmp_path / name).chmod(0o600)
        (tmp_path / "target").mkdir()
        (tmp_path / "etc").mkdir()
        who = ("--vendor", "acme.example", "--product", "x1", "--anchor", "pki/ca.crt")
        where = ("--target-dir", "target", "--state", "state.db", "--config", "etc/device.toml")
        found.fwsign("device", "init", *who, *where)
        configure(found)
        (public / "httpd.conf").write_text(
            APACHE.format(folder=public, port=port, modules=MODULES, token=TOKEN)
        )
        command = (program, "-X", "-f", str(public / "httpd.conf"))
        with running(port, *command, log=public / "out.log"):
            yield found
    finally:
        shutil.rmtree(public)


def configure(site: Site, *lines: str) -> None:
    """Write the table `fetch` of device.toml."""
    config = site.folder / "etc/device.toml"
    names = ("client_cert", "gateway.pem"), ("client_key", "gateway.key"), ("token_file", "token")
    files = [f'{key} = "{site.folder}/{name}"' for key, name in (("ca", "pki/ca.crt"), *names)]
    table = ["[fetch]", 'allow_hosts = ["localhost"]', *files, *lines]
    config.write_text(config.read_text().partition("[fetch]")[0] + "\n".join(table) + "\n")


def test_apache_gives_a_gateway_with_a_certificate_and_a_token_what_is_new(site: Site) -> None:
    data = os.urandom(8 * 1024 * 1024)
    site.publish(1, data)
    site.install()
    assert site.installed == data
    assert [one[:2] for one in site.sent] == [("/u.suit", 200), ("/app.bin", 200)]
    new = data[:3_000_000] + b"!" + data[3_000_001:]
    site.publish(2, new)
    site.install()
    assert site.installed == new
    assert [one[:3] for one in site.sent] == [
        ("/u.suit", 200, "-"),
        ("/app.bin", 206, "bytes=2998272-3014655"),
    ]
    assert sum(one[3] for one in site.sent) < 80_000


def test_apache_says_what_is_not_new(site: Site) -> None:
    site.publish(1, b"one")
    rules = FetchRules(
        ("localhost",),
        site.folder / "pki/ca.crt",
        client_cert=site.folder / "gateway.pem",
        client_key=site.folder / "gateway.key",
        token_file=site.folder / "token",
    )
    first = fetch.changed(site.url, rules, None, 100_000)
    assert first.data == (site.public / "web/u.suit").read_bytes()
    assert fetch.changed(site.url, rules, first.tag, 100_000) == (None, first.tag)
    site.publish(2, b"two")
    second = fetch.changed(site.url, rules, first.tag, 100_000)
    assert second.data == (site.public / "web/u.suit").read_bytes()


def test_apache_refuses_a_gateway_without_them(site: Site) -> None:
    site.publish(1, b"one")
    (site.folder / "token").write_text("another-token")
    said = site.install(status=5)
    assert "the server answers with status 403" in said
    assert "another-token" not in said
    config = site.folder / "etc/device.toml"
    text = config.read_text()
    config.write_text("".join(one for one in text.splitlines(True) if "client_" not in one))
    said = site.install(status=5)
    assert "the server refuses this gateway" in said or "io.fetch-c" in said


def test_tinyproxy_leads_to_apache_with_a_login_alone(site: Site) -> None:
    program, port = require_program("tinyproxy"), free_port()
    user, _, password = LOGIN.replace(" ", "-").partition(":")
    (site.folder / "login").write_text(f"{user}:{password}")
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "Allow 127.0.0.1"]
    lines += [f"ConnectPort {site.port}", f"BasicAuth {user} {password}", "LogLevel Info"]
    (site.folder / "tinyproxy.conf").write_text("\n".join(lines) + "\n")
    site.publish(1, b"one")
    proxy = f'proxy = "http://127.0.0.1:{port}"'
    log = site.folder / "proxy.log"
    with running(port, program, "-d", "-c", str(site.folder / "tinyproxy.conf"), log=log):
        configure(site, proxy)
        said = site.install(status=5)
        assert "it wants a user and a password" in said
        configure(site, proxy, f'proxy_login_file = "{site.folder}/login"')
        site.install()
    assert site.installed == b"one"
    assert f"CONNECT localhost:{site.port}" in log.read_text()
    assert TOKEN not in log.read_text()
    assert password not in log.read_text()


def test_a_clock_of_1970_fetches_and_one_of_2099_does_not(site: Site) -> None:
    program = require_program("faketime")
    environment = "FAKETIME_DONT_FAKE_MONOTONIC=1"
    site.publish(1, b"one")
    site.install(before=("env", environment, program, "1970-01-02 00:00:00"))
    assert site.installed == b"one"
    site.publish(2, b"two")
    said = site.install(before=("env", environment, program, "2099-01-01 00:00:00"), status=5)
    assert "certificate has expired" in said
    site.install(before=("env", environment, program, "1970-01-02 00:00:00"))
    assert site.installed == b"two"
