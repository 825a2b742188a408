"""`fwsign pki issue --csr DIR`, and the options that add extensions."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import EXAMPLE, good, refused, run, tree
from est_kit import csr, new_key
from fwsign.cli import inputs
from fwsign.keys.file import load_private_key
from fwsign.pki.directory import Pki
from fwsign.pki.index import serial_text

pytestmark = pytest.mark.usefixtures("project")


def write(name: str, common: str | None = "", key: Any = None, **more: Any) -> Path:
    """Write a request to reqs/NAME; its CN is that of its file unless it is given."""
    path = Path("reqs") / name
    path.parent.mkdir(exist_ok=True)
    found = csr(key or new_key(), path.stem if common == "" else common, **more)
    der = path.suffix == ".der"
    path.write_bytes(found.public_bytes(Encoding.DER if der else Encoding.PEM))
    return path


BATCH = ("pki", "issue", "client", "--csr", "reqs")


def issued() -> set[str]:
    made = {"issuing", "issuing-tls", "release"}
    return {path.stem for path in Path("pki/issued").iterdir()} - made


def test_a_directory_of_requests_is_issued() -> None:
    for name in ("b.csr", "a.der", "c.req"):
        write(name)
    write("d.pem", None)  # no CN: the file has the name
    Path("reqs/readme.txt").write_text("not a request")
    Path("reqs/.hidden.csr").write_text("not a request")
    found = run(*BATCH)
    assert found.status == 0
    assert found.out == "".join(f"pki/issued/{name}.crt\n" for name in "abcd")
    assert found.err == "fwsign: 4 requests: 4 issued\n"
    assert issued() == set("abcd")
    assert good("pki", "log").count("request") >= 4


def test_one_bad_request_holds_all_back() -> None:
    write("a.csr")
    write("b.csr", "another")
    Path("reqs/c.csr").write_text("garbage")
    before = tree(Path("pki"))
    found = run(*BATCH)
    assert (found.status, found.out) == (5, "")
    assert found.err == (
        'fwsign: error: reqs/b.csr: it asks for the name "another", its file is called "b" '
        "(state.policy)\n"
        "fwsign: hint: --names cn takes the names in the requests\n"
        "fwsign: error: reqs/c.csr: reqs/c.csr is not a certificate request in PEM or DER "
        "(io.format)\n"
        "fwsign: 3 requests: 0 issued, 2 refused\n"
        "fwsign: nothing was issued: --keep-going issues the other 1\n"
    )
    assert tree(Path("pki")) == before


def test_keep_going_issues_the_others() -> None:
    write("a.csr")
    write("b.csr", "another")
    found = run(*BATCH, "--keep-going", "--json")
    assert found.status == 5
    said = json.loads(found.out)
    assert said["verdict"] == "refused"
    first, second = said["requests"]
    assert first == {
        "file": "reqs/a.csr",
        "name": "a",
        "verdict": "issued",
        "serial": serial_text(Pki("pki").certificate("a").serial_number),
        "path": "pki/issued/a.crt",
    }
    assert (second["file"], second["verdict"], second["code"]) == (
        "reqs/b.csr",
        "refused",
        "state.policy",
    )
    assert issued() == {"a"}


def test_what_is_held_back_is_named_in_json() -> None:
    write("a.csr")
    write("b.csr", "another")
    said = json.loads(run(*BATCH, "--json").out)
    assert [one["verdict"] for one in said["requests"]] == ["held back", "refused"]


def test_names_of_the_requests() -> None:
    write("0001.csr", "sensor-7")
    write("0002.csr", "Sensor-8")
    good(*BATCH, "--names", "cn")
    assert issued() == {"sensor-7", "Sensor-8"}
    write("0003.csr", None)
    found = run(*BATCH, "--names", "cn")
    assert '"" cannot name a server or client' in found.err


def test_an_interrupted_run_is_repeated() -> None:
    for name in "abc":
        write(f"{name}.csr")
    good("pki", "issue", "client", "b", "--csr", "reqs/b.csr")
    before = Pki("pki").certificate("b")
    found = run(*BATCH, "--out", "out")
    assert found.status == 0
    assert found.err == "fwsign: 3 requests: 2 issued, 1 issued before\n"
    assert Pki("pki").certificate("b") == before
    assert run(*BATCH, "--out", "out").err == "fwsign: 3 requests: 0 issued, 3 issued before\n"


@pytest.mark.parametrize("how", ["another key", "another kind", "revoked"])
def test_a_name_that_is_taken_is_refused(how: str) -> None:
    key = new_key()
    write("a.csr", key=key)
    if how == "another key":
        good("pki", "issue", "client", "a", "--no-passphrase")
    elif how == "another kind":
        good("pki", "issue", "server", "a", "--csr", "reqs/a.csr", "--host", "a.acme.example")
    else:
        good("pki", "issue", "client", "a", "--csr", "reqs/a.csr")
        good("pki", "revoke", "a", "--reason", "superseded")
    found = run(*BATCH)
    assert found.status == 5
    assert 'there is a certificate "a" in pki already (state.pki-exists)' in found.err
    again = " --new-key" if how == "revoked" else ""
    assert found.err.count(f"fwsign pki renew a{again}\n") == 1


def test_a_leaked_key_is_refused_in_a_batch() -> None:
    key = new_key()
    write("a.csr", key=key)
    good("pki", "issue", "client", "b", "--csr", write("b.csr", None, key=key))
    Path("reqs/b.csr").unlink()
    good("pki", "revoke", "b", "--reason", "keyCompromise")
    found = run(*BATCH)
    words = "leaked: a certificate of it was revoked for that reason (state.pki)"
    assert f"the key of reqs/a.csr {words}" in found.err
    assert found.status == 5


def test_what_was_issued_before_is_what_is_asked_for() -> None:
    key = new_key()
    write("a.csr", key=key, names=[x509.DNSName("x.acme.example")])
    command = ("pki", "issue", "server", "--csr", "reqs")
    good(*command)
    assert run(*command).err == "fwsign: 1 requests: 0 issued, 1 issued before\n"
    write("a.csr", key=key, names=[x509.DNSName("y.acme.example")])
    found = run(*command, "--out", "out")
    assert found.status == 5
    assert 'there is a certificate "a" in pki already (state.pki-exists)' in found.err
    assert not Path("out").exists()


def test_what_was_issued_before_is_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.csr")
    good(*BATCH, "--for", "1h")
    later = inputs.now() + timedelta(hours=2)
    monkeypatch.setattr("fwsign.cli.inputs.now", lambda: later)
    found = run(*BATCH)
    assert found.status == 5
    assert 'there is a certificate "a" in pki already (state.pki-exists)' in found.err


def test_two_requests_for_one_name_or_key() -> None:
    key = new_key()
    write("a.csr")
    write("A.req")
    write("b.csr", key=key)
    write("c.csr", key=key)
    found = run(*BATCH)
    lines = [line for line in found.err.splitlines() if "error" in line]
    code = "(state.pki-exists)"
    assert lines == [
        f'fwsign: error: reqs/a.csr: the name "a" is also that of reqs/A.req {code}',
        f"fwsign: error: reqs/c.csr: its key is also that of reqs/b.csr {code}",
    ]


def test_published_keys_are_refused_alone_and_in_a_batch() -> None:
    key = load_private_key(EXAMPLE / "private/release.key", lambda: None)
    write("a.csr", key=key)
    words = "reqs/a.csr has a key of fwsign's keys.example, whose private half is published"
    found = run(*BATCH)
    assert found.status == 1
    assert f"error: reqs/a.csr: {words} (untrusted.example-key)" in found.err
    alone = run("pki", "issue", "client", "a", "--csr", "reqs/a.csr")
    assert alone.status == 1
    assert alone.errors[0] == f"error: {words}"


def test_each_server_gets_the_hosts_it_asks_for() -> None:
    names = [x509.DNSName("x.acme.example")]
    write("a.csr", names=names)
    write("b.csr", names=[x509.DNSName("*.other.example")])
    found = run("pki", "issue", "server", "--csr", "reqs", "--keep-going")
    assert found.out == "pki/issued/a.crt\n"
    assert 'host "*.other.example" is not a domain name' in found.err
    assert "a: hosts, as the request asks: x.acme.example" in found.err
    san = (
        Pki("pki").certificate("a").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    )
    assert list(san.value) == names


def test_identities_have_the_serial_numbers_of_the_requests() -> None:
    write("a.csr", serial="SN-1")
    write("b.csr", serial="SN-1")
    write("c.csr")
    found = run("pki", "issue", "idevid", "--csr", "reqs", "--keep-going")
    assert found.out == "pki/issued/a.crt\n"
    assert 'the device with serial number "SN-1" is "a" already, not "b"' in found.err
    assert 'device "c" has no serial number' in found.err


def test_chains_are_written() -> None:
    write("a.csr")
    good(*BATCH, "--out", "to/devices")
    good("pki", "export", "chain", "a", "chain.pem")
    assert Path("to/devices/a.pem").read_bytes() == Path("chain.pem").read_bytes()


def test_no_file_is_replaced() -> None:
    write("a.csr")
    Path("out").mkdir()
    Path("out/a.pem").write_text("mine")
    before = tree(Path("pki"))
    words = "out/a.pem exists already"
    refused(run(*BATCH, "--out", "out"), 5, words, "--out names another directory")
    assert tree(Path("pki")) == before


def test_a_directory_without_requests() -> None:
    Path("reqs").mkdir()
    refused(run(*BATCH), 5, "reqs has no file with a certificate request")


def test_what_is_no_directory() -> None:
    hint = "nowhere is not a directory"
    refused(run("pki", "issue", "client", "--csr", "nowhere"), 2, "missing argument NAME", hint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("client",), "missing argument NAME"),
        (("client", "a", "--csr", "reqs"), "--csr DIR and NAME exclude each other"),
        (("client", "a", "--keep-going"), "--keep-going is for --csr DIR"),
        (("client", "a", "--names", "cn"), "--names is for --csr DIR"),
        (("client", "a", "--out", "o"), "--out is for --csr DIR"),
        (("client", "a", "--json"), "--json is for --csr DIR"),
        (("client", "--csr", "reqs", "--names", "dn"), '--names is file or cn, not "dn"'),
        (("server", "--csr", "reqs", "--host", "a.b"), "--csr DIR takes hosts and addresses"),
        (("idevid", "--csr", "reqs", "--serial-number", "1"), "--csr DIR takes serial numbers"),
        (("idevid", "a", "--hw-serial", "00"), "--hw-serial is for --hw-type"),
        (
            ("idevid", "a", "--serial-number", "1", "--hw-type", "1.2.3", "--hw-serial", "x"),
            '--hw-serial "x" is not hexadecimal',
        ),
        (("idevid", "a", "--serial-number", "a_b"), '"a_b" cannot be the serial number'),
        (("client", "a", "--extension", "1.2.3"), '--extension "1.2.3" is not OID=FILE'),
        (("client", "a", "--critical-extension", "=x"), '--critical-extension "=x" is not OID=F'),
        (("client", "a", "--crl-url", "ftp://x/"), '"ftp://x/" is not a web address such as http'),
        (("client", "a", "--ca-issuers-url", "x"), '"x" is not a web address such as http'),
    ],
)
def test_options_without_meaning_are_usage_errors(arguments: tuple[str, ...], message: str) -> None:
    Path("reqs").mkdir()
    found = run("pki", "issue", *arguments)
    assert found.status == 2
    assert found.errors[0].startswith(f"error: {message}")


def test_an_identity_alone() -> None:
    words = 'device "a" has no serial number'
    refused(
        run("pki", "issue", "idevid", "a", "--no-passphrase"),
        5,
        words,
        "give it one: --serial-number SERIAL",
    )
    given = ("--serial-number", "SN-1", "--hw-type", "1.3.6.1.4.1.99999.7")
    assert good("pki", "issue", "idevid", "a", *given, "--no-passphrase") == "pki/issued/a.crt\n"
    said = good("show", "pki/issued/a.crt")
    assert "9999-12-31T23:59:59+00:00" in said
    assert "it has no end date, and ends with its CA" in said
    assert good("pki", "verify", "pki/issued/a.crt", "--purpose", "client").startswith("verified")


def test_extensions_are_added() -> None:
    Path("v.der").write_bytes(b"\x0c\x02hi")
    found = run(
        *("pki", "issue", "client", "a", "--no-passphrase"),
        *("--extension", "1.3.6.1.4.1.99999.1=v.der"),
        *("--critical-extension", "1.3.6.1.4.1.99999.2=v.der"),
        *("--crl-url", "https://crl.acme.example/{ca}.crl"),
        *("--ca-issuers-url", "http://crl.acme.example/{ca}.cer"),
    )
    assert found.status == 0
    assert found.err.startswith(
        "fwsign: warning: https://crl.acme.example/{ca}.crl: to judge an https server, programs "
        "may need this very CRL\n"
    )
    said = good("show", "pki/issued/a.crt")
    assert "https://crl.acme.example/issuing-tls.crl" in said
    assert "caIssuers URI:http://crl.acme.example/issuing-tls.cer" in said
    assert "1.3.6.1.4.1.99999.2 (critical)" in said
    refusal = run("pki", "verify", "pki/issued/a.crt", "--purpose", "client")
    assert refusal.status == 1
    assert "1.3.6.1.4.1.99999.2" in refusal.err


def test_a_bad_extension_writes_nothing() -> None:
    Path("v.der").write_bytes(b"hello")
    before = tree(Path("pki"))
    given = ("--extension", "1.3.6.1.4.1.99999.1=v.der", "--no-passphrase")
    words = "v.der is no value of extension 1.3.6.1.4.1.99999.1: cut off"
    refused(run("pki", "issue", "client", "a", *given), 5, words)
    assert tree(Path("pki")) == before


def test_a_short_life_in_minutes() -> None:
    good("pki", "issue", "client", "a", "--for", "30min", "--no-passphrase")
    assert "until 2026-11-22, 30 minutes left" in good("pki", "show", "pki")
    found = run("pki", "issue", "client", "b", "--for", "30m", "--no-passphrase")
    assert (found.status, found.errors) == (
        2,
        [
            'error: "30m" is not a time',
            "hint: write 2026-11-22T12:00:00Z, or 30min, 12h, 90d, 4w, 2y",
        ],
    )


INIT = ("pki", "init", "new", "--org", "Acme", "--vendor", "acme.example", "--no-passphrase")


def test_a_new_pki_names_where_its_crls_are() -> None:
    good(*INIT, "--crl-url", "http://crl.acme.example/{ca}.crl")
    assert "URI:http://crl.acme.example/ca.crl" in good("show", "new/issued/issuing-tls.crt")
    assert "URI:http://crl.acme.example/issuing.crl" in good("show", "new/issued/release.crt")
    assert good("pki", "lint", "new").splitlines()[-1].startswith("clean")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--crl-url", "http://a/b"),
            "--crl-url http://a/b has no {ca} in it",
            "there are several CAs, each with its own CRL",
        ),
        (
            ("--ca-issuers-url", "http://a/{ca}", "--root-only"),
            "--ca-issuers-url and --root-only exclude each other",
            "a root has no issuer",
        ),
    ],
)
def test_addresses_that_a_new_pki_cannot_have(
    arguments: tuple[str, ...], message: str, hint: str
) -> None:
    refused(run(*INIT, *arguments), 2, message, hint)
    assert not Path("new").exists()


def test_another_ca_is_renewed_to_have_addresses() -> None:
    found = run("pki", "renew", "issuing", "--new-key", "--no-passphrase", "--crl-url", "http://a/")
    assert (found.status, found.errors) == (
        2,
        [
            "error: addresses and --new-key exclude each other for an issuing CA",
            "hint: renew it once more to name them: fwsign pki renew issuing",
        ],
    )
    good("pki", "renew", "issuing", "--crl-url", "http://a/{ca}")
    assert "URI:http://a/ca" in good("show", "pki/issued/issuing.crt")
