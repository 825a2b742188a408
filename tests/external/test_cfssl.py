"""PKIs that the real cfssl makes are read; and cfssl reads, and issues with, what we write."""

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, run
from support import require_program

pytestmark = pytest.mark.external

ROOT = {"CN": "Acme cfssl root", "names": [{"O": "Acme"}], "ca": {"pathlen": 1}}
ISSUING = {"CN": "Acme cfssl issuing", "names": [{"O": "Acme"}]}
SIGNER = {"CN": "by-cfssl", "names": [{"O": "Acme"}], "hosts": ["acme.example"]}
_CA = {"is_ca": True, "max_path_len": 0, "max_path_len_zero": True}
PROFILES = {
    "code": {"usages": ["digital signature", "code signing"], "expiry": "8760h"},
    "issuing": {"usages": ["cert sign", "crl sign"], "expiry": "43800h", "ca_constraint": _CA},
}
DEVICE = ("--vendor", "acme.example", "--product", "gateway-x1")
NOT_CRITICAL = 'extended key usage of "by-cfssl" is not critical'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def cfssl(*arguments: object, expect: int = 0) -> str:
    """Run cfssl; return what it prints."""
    done = subprocess.run(
        [require_program("cfssl"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == expect, (arguments, done.stdout, done.stderr)
    return done.stdout


def write(name: str, printed: str) -> None:
    """Have cfssljson write NAME.pem, NAME-key.pem and NAME.csr."""
    done = subprocess.run(
        [require_program("cfssljson"), "-bare", name],
        input=printed,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def request(of: Mapping[str, Any], alg: str) -> str:
    """Write what cfssl takes for a request."""
    key = {"algo": "rsa", "size": 3072} if alg == "rsa" else {"algo": "ecdsa", "size": int(alg)}
    Path("request.json").write_text(json.dumps({**of, "key": key}))
    return "request.json"


def issue(name: str, profile: str, of: Mapping[str, Any], alg: str, *, ca: str, key: str) -> None:
    """Have cfssl issue a certificate for a key that it makes."""
    Path("config.json").write_text(json.dumps({"signing": {"profiles": PROFILES}}))
    with_ca = ("-ca", ca, "-ca-key", key, "-config", "config.json", "-profile", profile)
    write(name, cfssl("gencert", "-loglevel", 4, *with_ca, request(of, alg)))


def crl(name: str, ca: str, *revoked: int) -> None:
    """Have cfssl make a CRL; it prints base64 of DER."""
    Path("serials.txt").write_text("".join(f"{serial}\n" for serial in revoked))
    printed = cfssl("gencrl", "serials.txt", f"{ca}.pem", f"{ca}-key.pem")
    Path(name).write_bytes(base64.b64decode(printed))


@pytest.fixture
def made(request_alg: str) -> str:
    """Return the algorithm of a PKI of cfssl's: root, issuing CA, signer, two CRLs."""
    alg = request_alg
    write("ca", cfssl("gencert", "-loglevel", 4, "-initca", request(ROOT, alg)))
    issue("issuing", "issuing", ISSUING, alg, ca="ca.pem", key="ca-key.pem")
    issue("signer", "code", SIGNER, alg, ca="issuing.pem", key="issuing-key.pem")
    crl("ca.crl", "ca")
    crl("issuing.crl", "issuing")
    return alg


@pytest.fixture
def request_alg(request: pytest.FixtureRequest) -> str:
    """The algorithm of `made`."""
    return str(request.param)


def serial(file: str) -> int:
    shown = json.loads(good("show", file, "--json"))["content"][0]
    return int(shown["serial"], 16)


ALGORITHMS = pytest.mark.parametrize("request_alg", ["256", "384", "rsa"], indirect=True)
ONE = pytest.mark.parametrize("request_alg", ["256"], indirect=True)


@ALGORITHMS
def test_everything_that_cfssl_writes_is_shown(made: str) -> None:
    kinds = {
        file: [one["kind"] for one in json.loads(good("show", file, "--json"))["content"]]
        for file in ("signer.pem", "signer.csr", "signer-key.pem", "issuing.crl")
    }
    assert kinds == {
        "signer.pem": ["certificate"],
        "signer.csr": ["certificate signing request"],
        "signer-key.pem": ["private key"],
        "issuing.crl": ["CRL"],
    }
    (key,) = json.loads(good("key", "show", "signer-key.pem", "--json"))["content"]
    assert (key["format"], key["encrypted"]) == ("PKCS#1" if made == "rsa" else "SEC1", False)


@ALGORITHMS
def test_its_pki_is_a_tree_and_linted(made: str) -> None:
    del made
    tree = json.loads(good("pki", "show", ".", "--json"))
    names = {one["name"]: (one["kind"], one["problems"]) for one in tree["certificates"]}
    assert names == {"ca": ("root CA", []), "issuing": ("CA", []), "signer": ("signer", [])}
    assert len(tree["crls"]) == 2
    found = run("pki", "lint", ".", "--json")
    codes = {one["code"] for one in json.loads(found.out)["findings"]}
    assert found.status == 3
    assert codes >= {"lint.eku-criticality", "lint.crl-number", "lint.key-plain"}


@ALGORITHMS
def test_strict_refuses_its_signer_and_compat_takes_it(made: str) -> None:
    del made
    given = ("pki", "verify", "signer.pem", "issuing.pem", "--anchor", "ca.pem")
    crls = ("--crl", "ca.crl", "--crl", "issuing.crl")
    strict = run(*given, *crls)
    assert (strict.status, strict.errors[0]) == (1, f"error: {NOT_CRITICAL}")
    found = json.loads(good(*given, *crls, "--profile", "compat", "--json"))
    assert found["verdict"] == "verified"
    assert found["notes"] == [
        NOT_CRITICAL,
        'CRL of "Acme cfssl issuing" has no number',
        'CRL of "Acme cfssl root" has no number',
    ]


@ALGORITHMS
def test_a_release_that_its_signer_signs(made: str) -> None:
    del made
    Path("build.bin").write_bytes(b"firmware")
    pems = [Path(f"{name}.pem").read_bytes() for name in ("signer", "issuing", "ca")]
    Path("chain.pem").write_bytes(b"".join(pems))
    signed = run("sign", "build.bin", "--key", "signer-key.pem", "--chain", "chain.pem", *DEVICE)
    assert signed.status == 0
    assert f"devices need the profile compat: {NOT_CRITICAL}" in signed.err
    given = ("verify", "build.bin.suit", "--anchor", "ca.pem", *DEVICE)
    strict = run(*given)
    assert (strict.status, strict.errors[0]) == (1, f"error: {NOT_CRITICAL}")
    compat = (*given, "--profile", "compat", "--crl", "ca.crl", "--crl", "issuing.crl")
    assert good(*compat).startswith("verified  build.bin.suit\n")
    crl("issuing.crl", "issuing", serial("signer.pem"))
    revoked = run(*compat)
    assert (revoked.status, "revoked" in revoked.errors[0]) == (1, True)


@ONE
def test_its_bundle_in_pkcs7_and_pkcs12_will_do_as_a_chain(made: str) -> None:
    del made
    openssl = require_program("openssl")
    files = ("-certfile", "ca.pem", "-certfile", "issuing.pem", "-certfile", "signer.pem")
    subprocess.run([openssl, "crl2pkcs7", "-nocrl", *files, "-out", "all.p7b"], check=True)
    p12 = ("-in", "signer.pem", "-inkey", "signer-key.pem", "-certfile", "issuing.pem")
    out = ("-out", "all.p12", "-passout", "env:P12")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P12", "secret")
        subprocess.run([openssl, "pkcs12", "-export", *p12, *out], check=True)
        for bundle in ("all.p7b", "all.p12"):
            more = ("--profile", "compat", "--pass", "env:P12")
            anchored = (bundle, "--anchor", "ca.pem", *more)
            assert "vendors    acme.example" in good("pki", "verify", *anchored)
        Path("build.bin").write_bytes(b"firmware")
        key = ("--key", "all.p12", "--pass", "env:P12")
        good("sign", "build.bin", *key, "--chain", "all.p12", *DEVICE)
    good("verify", "build.bin.suit", "--anchor", "all.p7b", *DEVICE, "--profile", "compat")


def test_what_it_signs_itself_is_no_root() -> None:
    request(SIGNER, "256")
    write("self", cfssl("selfsign", "-loglevel", 4, "acme.example", "request.json"))
    assert '"server"' in good("pki", "show", "self.pem", "--json")
    found = run("pki", "verify", "self.pem", "--anchor", "self.pem", "--profile", "compat")
    assert found.status == 1


def new_pki(alg: str) -> None:
    good("init", ".", "--org", "Acme", "--vendor", "acme.example", "--alg", alg, "--pass", "env:P",
         env={"P": "secret"})  # fmt: skip


@pytest.mark.parametrize("alg", ["p256", "p384", "rsa3072", "ed25519", "ml-dsa-65"])
def test_cfssl_reads_what_we_write(alg: str) -> None:
    new_pki(alg)
    told = json.loads(cfssl("certinfo", "-cert", "pki/issued/release.crt"))
    assert told["subject"]["common_name"] == "release"
    assert told["sans"] == ["acme.example"]
    assert told["issuer"]["common_name"] == "Acme Issuing CA"


@pytest.mark.parametrize(
    ("alg", "form"), [("p256", "sec1"), ("p384", "pkcs8"), ("rsa3072", "pkcs1")]
)
def test_cfssl_issues_with_our_ca_once_its_key_is_converted(alg: str, form: str) -> None:
    """It reads keys in clear alone; `fwsign key convert --no-passphrase` makes one, in any form."""
    new_pki(alg)
    ca, key = "pki/issued/issuing.crt", "pki/private/issuing.key"
    Path("config.json").write_text(json.dumps({"signing": {"profiles": PROFILES}}))
    more = ("-config", "config.json", "-profile", "code", request(SIGNER, "256"))
    cfssl("gencert", "-loglevel", 5, "-ca", ca, "-ca-key", key, *more, expect=1)
    given = ("--to", form, "--pass", "env:P", "--no-passphrase")
    good("key", "convert", key, "plain.pem", *given, env={"P": "secret"})
    issue("signer", "code", SIGNER, "256", ca=ca, key="plain.pem")
    told = good("pki", "verify", "signer.pem", "--profile", "compat")
    assert NOT_CRITICAL in told


@pytest.mark.parametrize(("alg", "form"), [("ed25519", "pkcs8"), ("p256", "openssh")])
def test_keys_that_cfssl_does_not_take(alg: str, form: str) -> None:
    new_pki(alg)
    given = ("--to", form, "--pass", "env:P", "--no-passphrase")
    good("key", "convert", "pki/private/issuing.key", "plain", *given, env={"P": "secret"})
    ca = ("-ca", "pki/issued/issuing.crt", "-ca-key", "plain", request(SIGNER, "256"))
    cfssl("gencert", "-loglevel", 5, *ca, expect=1)
