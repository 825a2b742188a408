"""Which certificates are accepted for what; code signing is what the verifier says."""

from datetime import datetime
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import FwsignError
from fwsign.pki.paths.purpose import AcceptedPath, Purpose, judge
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import validate_path
from support import (
    CODE_SIGNING,
    DAY,
    NOW,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    der,
    key_usage,
    leaf_extensions,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    name,
    new_key,
    refused,
)

STAMP, SERVER, CLIENT = (
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
)
TLS: tuple[tuple[Purpose, x509.ObjectIdentifier], ...] = (("server", SERVER), ("client", CLIENT))
ROOT = make_ca()
ISSUING = make_ca("Issuing", ROOT, path_length=0, permitted=[VENDOR])


def accept(
    leaf: Entity, purpose: Purpose, *, at: datetime = NOW, above: Entity = ISSUING, **more: Any
) -> AcceptedPath:
    anchor = more.pop("anchor", ROOT).anchor
    return judge([leaf.der, above.der], [anchor], purpose=purpose, at=at, **more)


def with_usages(*usages: Any, critical: bool = True, **more: Any) -> Entity:
    own = leaf_extensions(more.pop("vendors", (VENDOR,)), usages=())
    extended = (x509.ExtendedKeyUsage(list(usages)), critical)
    return make_leaf(more.pop("issuer", ISSUING), extensions=[*own, extended], **more)


def test_code_signing_is_what_the_verifier_says() -> None:
    pki = make_pki()
    found = judge(
        [pki.leaf.der, pki.issuing.der],
        [pki.root.anchor],
        purpose="codesign",
        at=NOW,
        crls=pki.crls,
    )
    assert found.path == validate_path([pki.leaf.der, pki.issuing.der], [pki.root.anchor])
    assert found.revocation_checked
    with refused("untrusted.revoked"):
        crls = (make_crl(pki.issuing, [pki.leaf]), make_crl(pki.root))
        judge(
            [pki.leaf.der, pki.issuing.der],
            [pki.root.anchor],
            purpose="codesign",
            at=NOW,
            crls=crls,
        )


def test_a_bare_key_is_an_anchor_as_on_devices_and_never_for_tls() -> None:
    pki = make_pki()
    anchor = Anchor.from_public_key(der(pki.issuing.key.public_key()))
    assert judge([pki.leaf.der], [anchor], purpose="codesign", at=NOW).path.name == "release"
    stamp = with_usages(STAMP, issuer=pki.issuing)
    assert judge([stamp.der], [anchor], purpose="timestamp", at=NOW).path.name == "release"
    for purpose, usage in TLS:
        leaf = with_usages(usage, issuer=pki.issuing)
        words = 'the path ends at issuer "Issuing", and no anchor is a certificate'
        with refused("untrusted.no-anchor", words):
            judge([leaf.der], [anchor], purpose=purpose, at=NOW)


@pytest.mark.parametrize(
    ("purpose", "usage"), [("timestamp", STAMP), ("server", SERVER), ("client", CLIENT)]
)
@pytest.mark.parametrize("alg", ["p256", "rsa3072", "ed25519", "ml-dsa-65"])
def test_each_purpose_accepts_its_own(purpose: Purpose, usage: Any, alg: str) -> None:
    root = make_ca(alg=alg)
    issuing = make_ca("Issuing", root, alg, path_length=0, permitted=[VENDOR])
    leaf = with_usages(usage, issuer=issuing)
    crls = (make_crl(root), make_crl(issuing))
    found = accept(leaf, purpose, above=issuing, anchor=root, crls=crls)
    assert found.revocation_checked
    assert bool(found.notes) == (alg == "ed25519" and purpose != "timestamp")


@pytest.mark.parametrize("purpose", ["timestamp", "server", "client"])
def test_another_purpose_is_refused(purpose: Purpose) -> None:
    with refused("untrusted.eku", "expected "):
        accept(with_usages(CODE_SIGNING), purpose)
    with refused("untrusted.eku", "is none"):
        accept(make_leaf(ISSUING, usages=()), purpose)


def test_time_stamps_need_their_usage_alone_and_critical() -> None:
    with refused("untrusted.eku", "expected timeStamping alone"):
        accept(with_usages(STAMP, CODE_SIGNING), "timestamp")
    with refused("untrusted.criticality"):
        accept(with_usages(STAMP, critical=False), "timestamp", profile="compat")


def test_tls_does_not_need_a_critical_usage_nor_one_alone() -> None:
    accept(with_usages(SERVER, CLIENT, critical=False), "server")
    accept(with_usages(SERVER, CLIENT, critical=False), "client")


def test_a_server_needs_a_name() -> None:
    with refused("untrusted.vendor"):
        accept(with_usages(SERVER, vendors=()), "server")
    accept(with_usages(SERVER, vendors=("*.acme.example",)), "server")


def test_dates_of_the_path() -> None:
    leaf = with_usages(SERVER)
    with refused("stale.certificate"):
        accept(leaf, "server", at=NOW + 400 * DAY)
    with refused("stale.not-yet-valid"):
        accept(leaf, "server", at=NOW - 11 * DAY)
    with refused("untrusted.issuer", "refused by the TLS rules"):  # the anchor's dates count here
        root = make_ca(days=(-100, -1))
        accept(make_leaf(root, usages=(SERVER,)), "server", above=root, anchor=root)


def test_revocation() -> None:
    leaf = with_usages(CLIENT)
    with refused("untrusted.revoked"):
        accept(leaf, "client", crls=(make_crl(ISSUING, [leaf]), make_crl(ROOT)))
    with refused("stale.crl-missing"):
        accept(leaf, "client", crls=(make_crl(ISSUING),))


def test_rules_of_cas() -> None:
    forged = Entity(new_key(), ISSUING.certificate)
    own = leaf_extensions(usages=(SERVER,))
    leaf = certify(new_key(), name("forged"), forged, own)
    with refused("untrusted.key-identifier"):
        accept(leaf, "server")
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(ISSUING.key.public_key())
    own.append((theirs, False))
    with refused("tampered.certificate"):
        accept(certify(new_key(), name("forged"), forged, own, identifiers=False), "server")
    narrow = make_ca("Narrow", path_length=0)
    below = make_ca("Below", narrow)
    with refused("untrusted.path-length", "allows 0 CAs"):
        accept(with_usages(SERVER, issuer=below), "server", above=below, anchor=narrow)
    with refused("untrusted.name-constraint"):
        accept(with_usages(SERVER, vendors=("evil.example",)), "server")
    with refused("untrusted.ca-as-leaf"):
        accept(make_ca("CA", ISSUING), "server")


@pytest.mark.parametrize(
    ("extensions", "code"),
    [
        (leaf_extensions()[:1], "untrusted.issuer"),
        ([ca_extensions()[0], (key_usage("crl_sign"), True)], "untrusted.key-usage"),
        (
            [*ca_extensions(), (x509.ExtendedKeyUsage([CODE_SIGNING]), True)],
            "untrusted.eku",
        ),
    ],
)
def test_a_ca_that_may_not_issue(extensions: Any, code: str) -> None:
    odd = certify(new_key(), name("Odd"), ROOT, extensions)
    with refused(code):
        accept(with_usages(SERVER, issuer=odd), "server", above=odd)


@pytest.mark.parametrize("extensions", [ca_extensions(critical=False), ca_extensions()[:1]])
def test_compat_forgives_old_roots_and_says_so(extensions: Any) -> None:
    root = certify(new_key(), name("Old"), None, extensions)
    leaf = with_usages(SERVER, issuer=root)
    with pytest.raises(FwsignError):
        judge([leaf.der], [root.anchor], purpose="server", at=NOW)
    assert judge([leaf.der], [root.anchor], purpose="server", at=NOW, profile="compat").notes


def test_the_second_verifier_is_asked_for_tls_alone() -> None:
    root = make_ca(days=(-100, -1))  # it counts the dates of anchors
    for purpose, usage in TLS:
        leaf = with_usages(usage, issuer=root)
        with refused("untrusted.issuer", "refused by the TLS rules"):
            judge([leaf.der], [root.anchor], purpose=purpose, at=NOW)
    stamp = with_usages(STAMP, issuer=root)
    assert judge([stamp.der], [root.anchor], purpose="timestamp", at=NOW)


@pytest.mark.parametrize(
    ("has", "asked", "good"),
    [
        ("*.acme.example", "b.acme.example", True),
        ("*.acme.example", "a.b.acme.example", False),
        ("*.acme.example", "acme.example", False),
        ("*.localhost", "b.localhost", False),
        ("B.acme.example", "b.ACME.example", True),
        ("localhost", "localhost", True),
        ("localhost", "b.localhost", False),
    ],
)
@pytest.mark.parametrize("alg", ["p256", "ed25519"])  # judged with another library, or by us alone
def test_the_name_that_a_client_calls(has: str, asked: str, good: bool, alg: str) -> None:
    root = make_ca(alg=alg)
    server = with_usages(SERVER, vendors=(has,), issuer=root)
    call = partial(judge, [server.der], [root.anchor], purpose="server", at=NOW)
    if good:
        assert call(host=x509.DNSName(asked)).path.name == "release"
        return
    with refused("untrusted.vendor") as caught:
        call(host=x509.DNSName(asked))
    words = f'"release" is for "{has}", not for "{asked}": a different domain'
    assert caught.value.message == words


def test_a_name_that_not_every_library_takes() -> None:
    server = with_usages(SERVER, vendors=(f"a_b.{VENDOR}",))
    notes = accept(server, "server", host=x509.DNSName(f"a_b.{VENDOR}")).notes
    words = f'not every TLS library takes the name "a_b.{VENDOR}": judged by our own rules only'
    assert words in notes
