# SPDX-License-Identifier: Apache-2.0
"""The issuing CA for TLS: what signs firmware does not serve TLS, and the other way round."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import Untrusted
from fwsign.pki.acceptance import accept
from fwsign.pki.authority import open_authority
from fwsign.pki.directory import Pki
from fwsign.pki.easyrsa.read import read
from fwsign.pki.easyrsa.takeover import NewIssuing, take_over
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.entry_names import line_of
from fwsign.pki.leaves import Leaf, leaf_certificate, leaf_of
from fwsign.pki.offline import add_request, create_requests, sign_request
from fwsign.pki.profiles import CaLimits, issuing_certificate, limits_of, usages_of
from fwsign.pki.renewal import renew
from fwsign.pki.request import parse_request
from fwsign.pki.rotation import replace_issuing, rotate
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import validate_path
from fwsign.x509.roles import CONFIG_SIGNING
from pki_kit import (
    DAY,
    NEW,
    NOW,
    SECOND,
    YEAR,
    before_tls,
    check_whole,
    issue,
    make,
    no_passphrase,
    pyopenssl_verify,
    refused,
    withdraw,
)
from support import new_key

CODE = ExtendedKeyUsageOID.CODE_SIGNING
SIGNING = (CODE, ExtendedKeyUsageOID.TIME_STAMPING, CONFIG_SIGNING)
TLS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tls") / "pki").directory


@pytest.fixture
def pki(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "pki"))


@pytest.fixture
def old(pki: Path) -> Path:
    """A PKI of the time before there was a CA for TLS."""
    return before_tls(pki)


def below(pki: Path, ca: str, leaf: Leaf) -> tuple[bytes, bytes]:
    """Let a CA certify what fwsign would not; return the path."""
    issuer = open_authority(Pki(pki), ca, no_passphrase)
    period = (SECOND, SECOND + DAY)
    key: Any = new_key("p256").public_key()
    made = leaf_certificate(leaf, key, period, issuer)
    return made.public_bytes(Encoding.DER), issuer.certificate.public_bytes(Encoding.DER)


def anchor(pki: Path) -> Anchor:
    return Anchor.from_certificate(Pki(pki).root.public_bytes(Encoding.DER))


# A key of the TLS CA signs no firmware.


@pytest.mark.parametrize("profile", ["strict", "compat"])
@pytest.mark.parametrize("kind", ["signer", "channel", "tsa"])
def test_a_signer_below_the_tls_ca_is_refused(kind: str, profile: Any, pki: Path) -> None:
    path = below(pki, "issuing-tls", Leaf(kind, "x", ("acme.example",)))
    use: Any = {"signer": "codeSigning", "channel": "configSigning", "tsa": "timeStamping"}[kind]
    words = {"signer": "code signing", "channel": "channels", "tsa": "time stamping"}[kind]
    with pytest.raises(Untrusted) as caught:
        validate_path(path, [anchor(pki)], profile=profile, use=use)
    assert caught.value.code == "untrusted.eku"
    assert caught.value.message == f'CA "Acme TLS CA" may not issue for {words}'


@pytest.mark.parametrize("profile", ["strict", "compat"])
def test_nor_below_it_as_the_anchor(profile: Any, pki: Path) -> None:
    leaf, ca = below(pki, "issuing-tls", Leaf("signer", "x", ("acme.example",)))
    with pytest.raises(Untrusted) as caught:
        validate_path([leaf], [Anchor.from_certificate(ca)], profile=profile)
    assert caught.value.code == "untrusted.eku"


@pytest.mark.parametrize("kind", ["server", "client"])
def test_a_tls_leaf_below_the_ca_of_signers_is_refused(kind: str, pki: Path) -> None:
    path = below(pki, "issuing", Leaf(kind, "x", ("acme.example",)))
    use: Any = {"server": "serverAuth", "client": "clientAuth"}[kind]
    with pytest.raises(Untrusted) as caught:
        validate_path(path, [anchor(pki)], use=use)
    assert caught.value.message == f'CA "Acme Issuing CA" may not issue for TLS {kind}s'


@pytest.mark.parametrize(
    ("kind", "ca"),
    [
        ("signer", "issuing"),
        ("channel", "issuing"),
        ("tsa", "issuing"),
        ("server", "issuing-tls"),
        ("client", "issuing-tls"),
    ],
)
def test_each_kind_comes_from_its_ca(kind: str, ca: str, pki: Path) -> None:
    issue(pki, "x", kind, domains=["broker.acme.example"] if kind == "server" else [])
    assert Pki(pki).issuers("x") == (ca, "ca")
    assert Pki(pki).issuing(kind) == ca
    pyopenssl_verify(pki, "x", now=NOW)
    renew(pki, "x", ca_passphrase=no_passphrase, now=NOW)
    assert Pki(pki).issuers("x") == (ca, "ca")


def test_hosts_need_no_permission(pki: Path) -> None:
    issue(pki, "factorycube-server-vernemq", "server")
    issue(pki, "b", "server", domains=["localhost", "broker.other.example"])
    issue(pki, "gw.other.example", "client")
    check_whole(pki, set())


@pytest.mark.parametrize("kind", ["signer", "channel", "tsa"])
def test_a_ca_for_tls_alone_issues_no_signer(kind: str, pki: Path) -> None:
    """With the other CA gone, and with its name."""
    tls, place = Pki(pki).certificate_path("issuing-tls"), Pki(pki).certificate_path("issuing")
    key = Pki(pki).key_path("issuing-tls")
    shutil.copy(tls, place)
    shutil.copy(key, Pki(pki).key_path("issuing"))
    shutil.copy(pki / "crl/issuing-tls.pem", pki / "crl/issuing.pem")
    error = refused(partial(issue, pki, "x", kind, domains=["acme.example"]), "state.pki")
    assert error.message == (
        f'the CA "Acme TLS CA" may not issue a {kind}: it is for serverAuth, clientAuth'
    )
    assert error.hint is None
    for path in (place, Pki(pki).key_path("issuing")):
        path.unlink()
    error = refused(partial(issue, pki, "x", kind, domains=["acme.example"]), "state.pki")
    assert error.message == f"there is no issuing CA for a {kind} in {pki}"


def test_a_ca_of_signers_alone_issues_no_server(pki: Path) -> None:
    for path in list(pki.rglob("issuing-tls*")):
        path.unlink()
    error = refused(partial(issue, pki, "x", "client"), "state.pki")
    assert error.message == (
        'the CA "Acme Issuing CA" may not issue a client: it is for codeSigning, '
        "timeStamping, configSigning"
    )
    assert error.hint == "fwsign pki renew issuing-tls makes a CA for servers and clients"


# An older PKI.


def test_an_older_pki_goes_on_as_before(old: Path) -> None:
    issue(old, "b.acme.example", "server")
    assert Pki(old).issuers("b.acme.example") == ("issuing", "ca")
    renew(old, "issuing", ca_passphrase=no_passphrase, now=NOW)
    assert limits_of(Pki(old).certificate("issuing")) == CaLimits(("acme.example",), ())
    rotated = rotate(old, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert rotated.tls is None
    assert limits_of(Pki(old).certificate("issuing-2")) == CaLimits(("acme.example",), ())
    issue(old, "c", "client")
    assert Pki(old).issuers("c") == ("issuing-2", "ca-2", "ca")


def bring_over(pki: Path, line: str = "issuing-tls", new_key: NewKey = NEW) -> str:
    return replace_issuing(pki, line, new_key=new_key, passphrase=lambda _: None, now=NOW)


@pytest.mark.parametrize("alg", ["p384", "ed25519", "rsa3072", "ml-dsa-65"])
def test_an_older_pki_is_brought_over(alg: str, tmp_path: Path) -> None:
    old = before_tls(make(tmp_path / "pki", alg).directory)
    issue(old, "b.acme.example", "server")
    before = Pki(old).certificate("issuing")
    assert bring_over(old, new_key=NewKey("", None)) == "issuing-tls"
    tls = Pki(old).certificate("issuing-tls")
    assert type(tls.public_key()) is type(Pki(old).root.public_key())
    assert limits_of(tls) == CaLimits((), TLS)
    assert Pki(old).certificate("issuing") == before
    pyopenssl_verify(old, "b.acme.example", now=NOW)  # as it was
    renew(old, "b.acme.example", ca_passphrase=no_passphrase, now=NOW)
    assert Pki(old).issuers("b.acme.example") == ("issuing-tls", "ca")
    issue(old, "ci")
    assert Pki(old).issuers("ci") == ("issuing", "ca")
    check_whole(old, set())


def test_the_next_ca_of_signers_leaves_tls_to_the_other(old: Path) -> None:
    bring_over(old)
    assert bring_over(old, "issuing") == "issuing-2"
    found = limits_of(Pki(old).certificate("issuing-2"))
    assert found == CaLimits(("acme.example",), SIGNING)


def test_successors_are_counted_apart(pki: Path) -> None:
    names = [bring_over(pki, line) for line in ("issuing-tls", "issuing", "issuing-tls")]
    assert names == ["issuing-tls-2", "issuing-2", "issuing-tls-3"]
    assert list(map(line_of, names)) == ["issuing-tls", "issuing", "issuing-tls"]
    subjects = [Pki(pki).certificate(name).subject.rfc4514_string() for name in names]
    assert subjects == [
        "CN=Acme TLS CA 2,O=Acme",
        "CN=Acme Issuing CA 2,O=Acme",
        "CN=Acme TLS CA 3,O=Acme",
    ]
    assert Pki(pki).authorities() == ("ca", "issuing", "issuing-2", *_tls(1, 2, 3))
    assert (Pki(pki).issuing("client"), Pki(pki).issuing("tsa")) == ("issuing-tls-3", "issuing-2")
    Pki(pki).key_path("issuing-tls-3").unlink()
    assert Pki(pki).issuing("server") == "issuing-tls-2"
    assert Pki(pki).in_use() == ("issuing-2", "issuing-tls-2")


def _tls(*numbers: int) -> tuple[str, ...]:
    return tuple("issuing-tls" + ("" if one == 1 else f"-{one}") for one in numbers)


def test_rotation_brings_both(pki: Path) -> None:
    done = rotate(pki, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)
    assert (done.issuing, done.tls) == ("issuing-2", "issuing-tls-2")
    for name, usages in (("issuing-2", SIGNING), ("issuing-tls-2", TLS)):
        assert Pki(pki).issuers(name) == ("ca-2", "ca")
        assert usages_of(Pki(pki).certificate(name)) == usages


def test_a_revoked_tls_ca_is_replaced(pki: Path) -> None:
    issue(pki, "c", "client")
    withdraw(pki, "issuing-tls", "cACompromise")
    error = refused(partial(issue, pki, "d", "client"), "state.pki")
    assert error.message == f'the CA "Acme TLS CA" was revoked {SECOND:%Y-%m-%d}'
    assert error.hint == "fwsign pki renew issuing-tls --new-key makes another one"
    issue(pki, "ci")  # signers do not mind
    bring_over(pki)
    renew(pki, "c", ca_passphrase=no_passphrase, now=NOW)
    assert Pki(pki).issuers("c") == ("issuing-tls-2", "ca")


def test_an_expired_tls_ca_is_renewed(pki: Path) -> None:
    now = NOW + 11 * YEAR
    error = refused(partial(issue, pki, "d", "client", now=now), "state.pki")
    assert error.hint == "fwsign pki renew issuing-tls, with the root's key"
    renew(pki, "issuing-tls", ca_passphrase=no_passphrase, now=now)
    assert limits_of(Pki(pki).certificate("issuing-tls")) == CaLimits((), TLS)
    issue(pki, "d", "client", now=now)


def test_it_has_no_domains_to_widen(pki: Path) -> None:
    call = partial(renew, pki, "issuing-tls", permit=["x.example"], ca_passphrase=no_passphrase)
    error = refused(partial(call, now=NOW), "state.pki")
    assert error.message.startswith('the CA "issuing-tls" is not limited to domains')


def test_a_leaf_of_that_name_is_no_ca(old: Path) -> None:
    """It was not reserved before."""
    issue(old, "c", "client")
    for folder, end in (("issued", "crt"), ("private", "key")):
        (old / f"{folder}/c.{end}").rename(old / f"{folder}/issuing-tls.{end}")
    assert Pki(old).authorities() == ("ca", "issuing")
    assert Pki(old).issuing("client") == "issuing"
    renew(old, "issuing-tls", ca_passphrase=no_passphrase, now=NOW)
    found = Pki(old).certificate("issuing-tls").extensions
    assert not found.get_extension_for_class(x509.BasicConstraints).value.ca
    assert bring_over(old) == "issuing-tls-2"
    issue(old, "d", "client")
    assert Pki(old).issuers("d") == ("issuing-tls-2", "ca")


def test_a_ca_may_be_for_less(pki: Path) -> None:
    root = open_authority(Pki(pki), "ca", no_passphrase)
    issuing: Any = Pki(pki).certificate("issuing")
    limited = issuing_certificate(
        issuing.public_key(), issuing.subject, CaLimits(("acme.example",), (CODE,)), root, SECOND
    )
    Pki(pki).certificate_path("issuing").write_bytes(limited.public_bytes(Encoding.PEM))
    error = refused(partial(issue, pki, "t", "tsa"), "state.pki")
    assert error.message == 'the CA "Acme Issuing CA" may not issue a tsa: it is for codeSigning'


def test_limits_of_a_root_above_hold_for_tls_too(tmp_path: Path) -> None:
    """Such as the root of an imported PKI in easy-rsa's layout."""
    flat = make(tmp_path / "flat", flat=True).directory
    new = NewIssuing(("acme.example",), "p256", None)
    call = partial(take_over, read(flat), issuing=new, ca_passphrase=no_passphrase, now=NOW)
    pki = call(tmp_path / "pki").directory
    assert Pki(pki).authorities() == ("ca", "issuing", "issuing-tls")
    assert limits_of(Pki(pki).certificate("issuing-tls")) == CaLimits((), TLS)
    error = refused(partial(issue, pki, "b.other.example", "server"), "state.ca-limit")
    assert error.message == (
        'host "b.other.example" is outside what the CA "Acme Root CA" is limited to: acme.example'
    )
    issue(pki, "b.acme.example", "server")
    check_whole(pki, set())


# An offline root.


def certify(root: Path, request: Path, **more: Any) -> Path:
    parsed = parse_request(request.read_bytes(), "x.csr")
    return sign_request(root, parsed, root_passphrase=no_passphrase, now=NOW, **more)


def take(pki: Path, *files: Path) -> tuple[Path, ...]:
    blobs = []
    for file in files:
        data = file.read_bytes()
        load = x509.load_pem_x509_crl if b"X509 CRL" in data else x509.load_pem_x509_certificate
        blobs.append(load(data).public_bytes(Encoding.DER))
    return accept(pki, blobs, passphrase=no_passphrase, now=NOW)


@pytest.fixture
def apart(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """The root's directory, that of the issuing CAs, and their requests."""
    root = make(tmp_path / "root", root_only=True).directory
    requests = create_requests(tmp_path / "on", org="Acme", vendor="acme.example", new_key=NEW)
    return root, tmp_path / "on", *requests


def test_both_cas_come_from_an_offline_root(apart: tuple[Path, Path, Path, Path]) -> None:
    root, pki, signing, tls = apart
    first = certify(root, signing, permitted=["acme.example"])
    second = certify(root, tls, tls=True)
    assert [path.name for path in (first, second)] == ["issuing.crt", "issuing-tls.crt"]
    take(pki, root / "ca.crt", first, second, root / "crl/ca.pem")
    issue(pki, "release")
    issue(pki, "c", "client")
    assert (Pki(pki).issuers("release")[0], Pki(pki).issuers("c")[0]) == ("issuing", "issuing-tls")
    check_whole(pki, set())
    again = certify(root, tls, tls=True)  # renews
    assert take(pki, again) == (pki / "issued/issuing-tls.crt",)


def test_the_one_may_come_before_the_other(apart: tuple[Path, Path, Path, Path]) -> None:
    root, pki, signing, tls = apart
    take(pki, root / "ca.crt", certify(root, tls, tls=True), root / "crl/ca.pem")
    issue(pki, "c", "client")
    error = refused(partial(issue, pki, "x"), "state.pki")
    assert error.message == f"there is no issuing CA for a signer in {pki}"
    written = take(pki, certify(root, signing, permitted=["acme.example"]))
    assert [path.name for path in written] == ["issuing.pem", "issuing.crt"]
    issue(pki, "x")
    check_whole(pki, set())


def test_one_key_is_never_for_both(apart: tuple[Path, Path, Path, Path]) -> None:
    root, _, signing, tls = apart
    certify(root, signing, permitted=["acme.example"])
    certify(root, tls, tls=True)
    error = refused(partial(certify, root, signing, tls=True), "state.pki")
    words = "one key is either for signers or for TLS"
    assert error.message == f'the key is that of the CA "issuing": {words}'
    error = refused(partial(certify, root, tls, permitted=["acme.example"]), "state.pki")
    assert error.message == f'the key is that of the CA "issuing-tls": {words}'


def test_the_wrong_ca_is_not_accepted(apart: tuple[Path, Path, Path, Path]) -> None:
    root, pki, signing, tls = apart
    crl = root / "crl/ca.pem"
    wrong = certify(root, tls, permitted=["acme.example"])
    error = refused(partial(take, pki, root / "ca.crt", wrong, crl), "state.pki")
    assert error.message == 'the root has certified the CA "issuing-tls" for signers'
    wrong = certify(root, signing, tls=True)
    error = refused(partial(take, pki, root / "ca.crt", wrong, crl), "state.pki")
    assert error.message == ('the root has certified the CA "issuing" for TLS servers and clients')
    assert not (pki / "ca.crt").exists()


def test_an_older_offline_pki_asks_for_it(apart: tuple[Path, Path, Path, Path]) -> None:
    root, pki, signing, tls = apart
    for path in (tls, pki / "private/issuing-tls.key"):
        path.unlink()
    take(
        pki,
        root / "ca.crt",
        certify(root, signing, permitted=["acme.example"]),
        root / "crl/ca.pem",
    )
    asked = add_request(pki, new_key=NewKey("", None))
    assert asked == pki / "reqs/issuing-tls.csr"
    assert Pki(pki).issuing("client") == "issuing"  # not yet
    first = asked.read_bytes()
    assert add_request(pki, new_key=NewKey("", None)) == asked
    assert asked.read_bytes() != first
    assert (pki / "private/issuing-tls.key.unused-1").exists()
    take(pki, certify(root, asked, tls=True))
    issue(pki, "c", "client")
    assert Pki(pki).issuers("c") == ("issuing-tls", "ca")
    check_whole(pki, set())


def test_no_ca_is_taken_for_a_leaf(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki")
    assert [leaf_of(pki.certificate(name)) for name in pki.authorities()] == [None] * 3
