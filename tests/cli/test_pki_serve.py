"""`fwsign pki serve` and the commands around it, with curl, openssl and strongSwan."""

import base64
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import REPOSITORY, command, environment, good, program, refused, run
from est_kit import basic, body_of, csr, new_key
from fwsign.est.http import HttpRequest, Refused
from fwsign.est.rules import EnrolmentRules
from fwsign.est.service import PREFIX, Client, Service
from fwsign.pki.authority import open_authority
from fwsign.pki.directory import Pki
from fwsign.pki.log import verify_log
from support import require_program

pytestmark = pytest.mark.usefixtures("today")
HERE = "127.0.0.1"
KILLED = """
import os, signal, sys, threading
left = int(sys.argv.pop(1))
main = threading.main_thread()
def hook(event, arguments):
    global left
    files = event.startswith(("open", "os.", "fcntl.", "tempfile."))
    if files and threading.current_thread() is not main:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from fwsign.cli import main as run
run()
"""


class Running(NamedTuple):
    """A server that runs, and what it has printed."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    def end(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)

    def curl(self, operation: str, *more: str) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        ca = ("--cacert", "pki/ca.crt", "--silent", "--show-error", "--max-time", "20")
        out = ("--write-out", "\n%{http_code}", "--header", "Content-Type: application/pkcs10")
        done = subprocess.run(
            [require_program("curl"), *ca, *out, *more, self.url + operation],
            capture_output=True,
            check=False,
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status or 0), body


@contextmanager
def served(
    *options: str, pki: str = "pki", kill: int = 0, env: Mapping[str, str] = {}
) -> Iterator[Running]:
    """Run the server; `kill` ends it at that event of its threads."""
    if not Path(f"{pki}/issued/est.crt").exists():
        names = ("--host", "localhost", "--ip", HERE)
        good("pki", "issue", "server", "est", *names, "--no-passphrase")
    log = Path("serve.log")
    arguments = ("pki", "serve", "--as", "est", "--listen", f"{HERE}:0", "--rate", "1000", *options)
    killed = [sys.executable, "-c", KILLED, str(kill), *arguments]
    with log.open("w") as errors:
        process = subprocess.Popen(
            killed if kill else command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(**env),
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, log.read_text()
        yield Running(process, url, log)
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


def openssl(*arguments: str, data: bytes | None = None) -> bytes:
    program_ = require_program("openssl")
    done = subprocess.run([program_, *arguments], input=data, capture_output=True, check=True)
    return done.stdout


def request(name: str, subject: str) -> str:
    """Make a key NAME.key if there is none, and a request NAME.b64 with openssl."""
    if not Path(f"{name}.key").exists():
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    asked = ("req", "-new", "-key", f"{name}.key", "-subj", subject, "-outform", "DER")
    Path(f"{name}.b64").write_bytes(openssl("base64", data=openssl(*asked)))
    return f"@{name}.b64"


def kept(body: bytes, path: str) -> x509.Certificate:
    """Write the certificates of an answer to a file with openssl; return the first."""
    der = openssl("base64", "-d", "-A", data=body)
    pem = openssl("pkcs7", "-inform", "DER", "-print_certs", data=der)
    Path(path).write_bytes(pem)
    return x509.load_pem_x509_certificate(pem)


@pytest.mark.external
def test_curl_and_openssl_enrol() -> None:
    with served() as server:
        status, body = server.curl("cacerts")
        assert status == 200
        assert kept(body, "cas.pem").subject == Pki("pki").root.subject
        password = good("pki", "invite", "sensor-7").split()[1]
        data, user = request("sensor-7", "/CN=sensor-7"), f"sensor-7:{password}"
        assert server.curl("simpleenroll", "--data-binary", data)[0] == 401
        assert server.curl("simpleenroll", "-u", "sensor-7:x", "--data-binary", data)[0] == 401
        status, body = server.curl("simpleenroll", "-u", user, "--data-binary", data)
        assert status == 200
        first = kept(body, "sensor-7.crt")
        assert first == Pki("pki").certificate("sensor-7")
        assert server.curl("simpleenroll", "-u", user, "--data-binary", data)[0] == 401
        mutual = ("--cert", "sensor-7.crt", "--key", "sensor-7.key", "--data-binary")
        assert server.curl("simplereenroll", *mutual, data)[0] == 403  # another subject
        data = request("sensor-7", "/O=Acme/CN=sensor-7")
        assert server.curl("simplereenroll", "--data-binary", data)[0] == 403
        status, body = server.curl("simplereenroll", *mutual, data)
        assert status == 200
        assert kept(body, "second.crt") == Pki("pki").certificate("sensor-7") != first
        assert good("pki", "verify", "second.crt", "--purpose", "client").startswith("verified")
        good("pki", "revoke", "sensor-7", "--reason", "keyCompromise")
        status, body = server.curl("simplereenroll", *mutual, data)
        assert (status, body[:39]) == (403, b'the certificate of "sensor-7" was revok')
        big = Path("big")
        big.write_bytes(b"A" * 2_000_000)
        assert server.curl("simpleenroll", "-u", user, "--data-binary", "@big")[0] == 413
        assert server.end() == 0
        log = server.log.read_text()
    line = r"^fwsign: [0-9:]{8} 127\.0\.0\.1 simpleenroll 200 \"sensor-7\" has [0-9A-F]+$"
    assert re.search(line, log, re.MULTILINE)
    assert log.endswith("fwsign: stopped\n")
    assert password not in log
    verify_log(Path("pki"))


@pytest.mark.external
def test_a_foreign_client_is_refused_by_tls() -> None:
    names = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
    good("pki", "init", "other", *names)
    good("pki", "issue", "client", "sensor-7", "--pki", "other", "--no-passphrase")
    with served() as server:
        data = request("sensor-7", "/O=Acme/CN=sensor-7")
        foreign = ("--cert", "other/issued/sensor-7.crt", "--key", "other/private/sensor-7.key")
        assert server.curl("simplereenroll", *foreign, "--data-binary", data)[0] == 0
        assert server.curl("cacerts")[0] == 200


@pytest.mark.external
def test_strongswan_enrols_and_waits_for_the_operator() -> None:
    program_ = require_program("pki")
    with served("--approve", "gateway-*", "--retry-after", "1") as server:
        url = server.url.partition("/.well-known")[0].replace(HERE, "localhost")
        cas = ("--cacert", "pki/ca.crt", "--cacert", "pki/issued/issuing-tls.crt")
        for name in ("gateway-1", "sensor-7"):
            request(name, f"/CN={name}")
            der = base64.b64decode(Path(f"{name}.b64").read_bytes())
            Path(f"{name}.der").write_bytes(der)
            user = f"{name}:{good('pki', 'invite', name).split()[1]}"
            asked = ("--in", f"{name}.der", "--userpass", user, "--outform", "pem")
            client = subprocess.Popen(
                [program_, "--est", "--url", url, *cas, *asked, "--interval", "1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            if name == "sensor-7":
                end = time.monotonic() + 20
                while not good("pki", "requests").count("waiting") and time.monotonic() < end:
                    time.sleep(0.1)
                good("pki", "approve", name)
            out, _ = client.communicate(timeout=40)
            assert client.returncode == 0
            assert x509.load_pem_x509_certificate(out) == Pki("pki").certificate(name)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(how: signal.Signals) -> None:
    with served() as server:
        assert server.end(how) == 0
        assert server.log.read_text() == "fwsign: stopped\n"


def test_passphrases_are_given_once() -> None:
    names = ("--org", "Acme", "--vendor", "acme.example", "--permit", "localhost")
    env = {"P": "correct horse", "Q": "battery staple"}
    good("pki", "init", "locked", *names, "--pass", "env:P", env=env)
    issue = ("pki", "issue", "server", "est", "--host", "localhost", "--pki", "locked")
    good(*issue, "--pass", "env:Q", "--ca-pass", "env:P", env=env)
    given = ("--pki", "locked", "--ca-pass", "env:P", "--pass", "env:Q")
    with served(*given, pki="locked", env=env) as server:
        assert server.end() == 0
    words = "wrong passphrase for locked/private/issuing-tls.key"
    wrong = ("--listen", f"{HERE}:0", "--ca-pass", "env:Q", "--pass", "env:Q")
    found = run("pki", "serve", "--as", "est", "--pki", "locked", *wrong, env=env)
    assert (found.status, found.errors[0].startswith("error: ")) == (5, True)
    assert found.errors[0].startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "x"), '"x" is not ADDR:PORT'),
        (("--listen", "127.0.0.1:99999"), '"127.0.0.1:99999" is not ADDR:PORT'),
        (("--listen", ":8443"), '":8443" is not ADDR:PORT'),
        (("--approve", "manual", "--approve", "x*"), "--approve manual excludes other rules"),
        (("--for", "x"), '"x" is not a time'),
        (("--rate", "0"), "--rate: 0 is not in the range 1 to 100000"),
    ],
)
def test_impossible_options_are_usage_errors(arguments: tuple[str, ...], message: str) -> None:
    found = run("pki", "serve", "--as", "est", *arguments)
    assert found.status == 2
    assert found.errors[0].startswith(f"error: {message}")


def test_it_needs_a_server_of_the_pki() -> None:
    refused(
        run("pki", "serve", "--as", "release"),
        5,
        '"release" is not a server',
        "issue one: fwsign pki issue server NAME --host NAME",
    )
    assert run("pki", "serve", "--as", "nobody").status == 5


def test_an_address_that_is_not_here_is_named() -> None:
    good("pki", "issue", "server", "est", "--host", "est.acme.example", "--no-passphrase")
    found = run("pki", "serve", "--as", "est", "--listen", "192.0.2.1:8443")
    assert found.status == 5
    words = "cannot assign requested address"
    assert found.errors[0] == f"error: cannot listen on 192.0.2.1, port 8443: {words}"
    assert found.errors[1] == "hint: --listen names another address and port"


# --- killed at any time ---------------------------------------------------------------------


def ask(server: Running, name: str, password: str, key: Any) -> int:
    """Enrol with a client of our own; 0: no answer."""
    import ssl
    import urllib.error
    import urllib.request

    headers = {"Content-Type": "application/pkcs10", "Authorization": basic(name, password)}
    wanted = urllib.request.Request(  # noqa: S310 - of our own server
        server.url + "simpleenroll", body_of(csr(key, name)), headers
    )
    context = ssl.create_default_context(cafile="pki/ca.crt")
    try:
        with urllib.request.urlopen(wanted, timeout=20, context=context) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_in_the_middle_loses_nothing_and_counts_nothing_twice() -> None:
    outcomes = set()
    for kill in itertools.count(2, 4):  # until it is killed too late to do harm
        name, key = f"d{kill}", new_key()
        password = good("pki", "invite", name).split()[1]
        with served(kill=kill) as server:
            first = ask(server, name, password, key)
        pki = Pki("pki")
        issued = name in pki.names()
        state = json.loads(Path(f"pki/enrol/{name}.json").read_text())["state"]
        assert first in (0, 200)
        assert first == 0 or issued
        assert not issued or state == "issued"  # the password was used up first
        assert not issued or pki.path(name)
        verify_log(Path("pki"))
        outcomes.add((first, issued, state))
        # Whatever is left, the password counts once.
        authority = open_authority(pki, "issuing-tls", lambda: None)
        service = Service(Path("pki"), ("issuing-tls", authority), EnrolmentRules())
        body = body_of(csr(new_key(), name))
        headers = {"content-type": "application/pkcs10", "authorization": basic(name, password)}
        request_ = HttpRequest("POST", PREFIX + "simpleenroll", headers, body)
        if state == "open":
            assert service.answer(request_, Client("192.0.2.9")).status == 200
        else:
            with pytest.raises(Refused, match="no invitation of that name and password is open"):
                service.answer(request_, Client("192.0.2.9"))
        if first == 200:
            break
    assert (200, True, "issued") in outcomes
    assert (0, False, "open") in outcomes
    assert (0, False, "issued") in outcomes


# --- the commands around it -----------------------------------------------------------------


def test_invitations_are_printed_once() -> None:
    found = run("pki", "invite", "sensor-7", "sensor-8", "--until", "24h")
    assert found.status == 0
    assert re.fullmatch(r"(sensor-[78]  [a-z2-9]{5}(-[a-z2-9]{5}){4}\n){2}", found.out)
    assert "with this password, which works once" in found.err
    said = json.loads(good("pki", "invite", "sensor-9", "--json"))
    assert [one["name"] for one in said["invited"]] == ["sensor-9"]
    listed = good("pki", "requests")
    assert [line.split()[0] for line in listed.splitlines()] == ["open"] * 3
    assert [one["state"] for one in json.loads(good("pki", "requests", "--json"))["requests"]] == [
        "open"
    ] * 3


def test_an_invitation_is_taken_back() -> None:
    good("pki", "invite", "sensor-7")
    assert good("pki", "deny", "sensor-7") == "denied  sensor-7\n"
    assert good("pki", "requests").startswith("denied")
    refused(
        run("pki", "approve", "sensor-7"),
        5,
        '"sensor-7" has no request to approve: it is denied',
        "fwsign pki requests lists them",
    )


def test_nobody_is_invited_at_first() -> None:
    found = run("pki", "requests")
    assert (found.status, found.out) == (0, "")
    assert found.err == "fwsign: nobody is invited: fwsign pki invite NAME\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing argument NAME..."),
        (("ca",), '"ca" is the name of a CA'),
        (("../x",), '"../x" cannot name a server or client'),
        (("x", "--kind", "signer"), '"signer" cannot be invited'),
        (("x", "--host", "a.b"), "--host and --ip are for --kind server"),
        (("x", "y", "--device", "1"), "--host, --ip and --device are for one NAME"),
        (("x", "--kind", "server", "--ip", "x"), '"x" is not an address'),
        (("x", "--until", "2020-01-01T00:00:00Z"), "--until 2020-01-01T00:00:00Z is in the past"),
    ],
)
def test_impossible_invitations_are_usage_errors(arguments: tuple[str, ...], message: str) -> None:
    found = run("pki", "invite", *arguments)
    assert found.status == 2
    assert found.errors[0].startswith(f"error: {message}")
    assert not Path("pki/enrol").exists()


def test_a_device_is_invited_without_a_password() -> None:
    found = run("pki", "invite", "gateway-17", "--device", "SN-0017")
    assert found.out == "gateway-17\n"
    assert "for the device SN-0017" in found.err


def test_invitations_do_not_disturb_other_commands() -> None:
    good("pki", "invite", "sensor-7")
    assert good("pki", "lint", "pki").splitlines()[-1].startswith("clean")
    assert "sensor-7" not in good("pki", "show", "pki")
    assert program("pki", "crl", "--pki", "pki").returncode == 0


# --- the page -------------------------------------------------------------------------------

PAGE = REPOSITORY / "docs" / "enrol.md"


@pytest.mark.external
@pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs")
def test_the_page_about_enrolment_can_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bash", "curl", "openssl"):
        require_program(name)
    places = (str(Path(sys.executable).parent), os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    Path("requests").mkdir()
    Path("requests/a.csr").write_bytes(csr(new_key(), "a").public_bytes(Encoding.PEM))
    with socket.create_server((HERE, 0)) as free:
        port = str(free.getsockname()[1])
    server, shown, lines = None, "", 0
    try:
        page = PAGE.read_text(encoding="utf-8")
        for block in re.finditer(r"```(?:console|sh)\n(.*?)```", page, re.DOTALL):
            text = block[1].replace("8443", port)
            commands = [text] if "$ " not in text and "& " not in text else text.splitlines()
            for line in commands:
                lines += 1
                if line.startswith("& "):
                    server = subprocess.Popen(
                        ["bash", "-c", f"exec {line[2:]}"],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                    )
                    assert server.stdout is not None
                    assert server.stdout.readline().startswith("https://")
                    continue
                done = subprocess.run(
                    ["bash", "-e", "-o", "pipefail", "-c", line.removeprefix("$ ")],
                    env={**os.environ, "PASSWORD": shown},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                if " invite " in line:
                    shown = done.stdout.split()[1]
    finally:
        if server is not None:
            server.terminate()
            server.wait(20)
            assert server.stdout is not None
            server.stdout.close()
    assert lines >= 9
    issued_ = Path("sensor-7.crt").read_bytes()
    assert x509.load_pem_x509_certificate(issued_) == Pki("pki").certificate("sensor-7")
