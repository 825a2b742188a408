"""`fwsign pki verify`: transcripts."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import EXAMPLE, good, refused, run
from support import Entity, ca_extensions, certify, make_ca, make_crl, make_leaf


def pem(path: str, *entities: Entity) -> str:
    data = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
    Path(path).write_bytes(data)
    return path


def test_a_signer_of_our_pki(project: Path) -> None:
    del project
    found = good("pki", "verify", "pki/issued/release.crt").splitlines()
    assert found == [
        "verified  pki/issued/release.crt for codesign, 2026-11-22",
        "  path       release, 2026-11-22 to 2028-11-21",
        "  path       Acme Issuing CA, 2026-11-22 to 2036-11-21",
        "  anchor     Acme Root CA, 2026-11-22 to 2046-11-22",
        "  vendors    acme.example",
        '  crl        CRL of "Acme Issuing CA", until 2027-02-20',
        '  crl        CRL of "Acme Root CA", until 2027-12-27',
    ]


def test_json(project: Path) -> None:
    del project
    found: dict[str, Any] = json.loads(good("pki", "verify", "pki/issued/release.crt", "--json"))
    assert found["verdict"] == "verified"
    assert [one["name"] for one in found["path"]] == ["release", "Acme Issuing CA", "Acme Root CA"]
    assert (found["unchecked"], found["vendors"]) == ([], ["acme.example"])


def test_a_revoked_signer(project: Path) -> None:
    del project
    good("pki", "revoke", "release", "--reason", "keyCompromise")
    found = run("pki", "verify", "pki/issued/release.crt")
    hint = "do not install this; sign again with a signer that is not revoked"
    refused(found, 1, 'certificate "release" revoked 2026-11-22 (key compromise)', hint)
    assert "fwsign: release, 2026-11-22 to 2028-11-21\n" in found.err
    assert "fwsign: refused by the rule untrusted.revoked\n" in found.err


def test_a_refusal_as_json_has_the_path(project: Path) -> None:
    del project
    found = run("pki", "verify", "pki/issued/release.crt", "--at", "2030-01-01T00:00:00Z", "--json")
    refusal = json.loads(found.out)
    assert (found.status, refusal["verdict"], refusal["code"]) == (
        3,
        "refused",
        "stale.certificate",
    )
    assert [one["name"] for one in refusal["path"]] == ["release", "Acme Issuing CA"]


def test_anchors_and_crls_that_are_given() -> None:
    root = make_ca()
    issuing = make_ca("Issuing", root, path_length=0)
    leaf = make_leaf(issuing)
    chain = pem("chain.pem", leaf, root, issuing)  # in any order behind the leaf
    anchor = pem("root.crt", root)
    assert "unchecked  revocation" in good("pki", "verify", chain, "--anchor", anchor)
    Path("a.crl").write_bytes(make_crl(issuing))
    missing = run("pki", "verify", chain, "--anchor", anchor, "--crl", "a.crl")
    assert (missing.status, missing.errors[0]) == (
        3,
        'error: no CRL of "Root", the issuer of "Issuing"',
    )
    Path("b.crl").write_bytes(make_crl(root))
    more = ("--crl", "a.crl", "--crl", "b.crl")
    assert "unchecked" not in good("pki", "verify", chain, "--anchor", anchor, *more)
    Path("c.crl").write_bytes(make_crl(make_ca("Foreign")))
    unused = run("pki", "verify", chain, "--anchor", anchor, "--crl", "c.crl")
    assert (unused.status, unused.out) == (5, "")


def test_chain_files_in_any_order() -> None:
    root = make_ca()
    upper = make_ca("Upper", root)
    lower = make_ca("Lower", upper)
    leaf = pem("leaf.crt", make_leaf(lower))
    found = good("pki", "verify", leaf, pem("u.crt", upper), pem("l.crt", lower),
                     "--anchor", pem("root.crt", root))  # fmt: skip
    assert found.count("  path  ") == 3


def test_example_keys_are_refused() -> None:
    found = run("pki", "verify", EXAMPLE / "issued/release.crt", "--pki", EXAMPLE)
    assert (found.status, found.out) == (1, "")
    assert "fwsign's keys.example" in found.errors[0]
    accepted = good(
        "pki", "verify", EXAMPLE / "issued/release.crt", "--pki", EXAMPLE, "--allow-example-keys"
    )
    assert accepted.count("which anyone can use") == 1


def test_a_purpose_that_it_is_not_for(project: Path) -> None:
    del project
    found = run("pki", "verify", "pki/issued/release.crt", "--purpose", "timestamp")
    words = 'extended key usage of "release" is 1.3.6.1.5.5.7.3.3, expected timeStamping alone'
    assert (found.status, found.errors[0]) == (1, f"error: {words}")


@pytest.mark.parametrize(
    ("kind", "more", "purpose"),
    [
        ("server", ("--host", "b.acme.example"), "server"),
        ("client", (), "client"),
        ("idevid", ("--serial-number", "SN-1"), "client"),
        ("tsa", (), "timestamp"),
    ],
)
def test_the_purpose_that_it_is_for(
    project: Path, kind: str, more: tuple[str, ...], purpose: str
) -> None:
    del project
    good("pki", "issue", kind, "b", *more, "--no-passphrase")
    found = run("pki", "verify", "pki/issued/b.crt")
    hint = f"it is made for another use; judge it with --purpose {purpose}"
    assert (found.status, found.errors[1]) == (1, f"hint: {hint}")
    good("pki", "verify", "pki/issued/b.crt", "--purpose", purpose)


def test_usage(project: Path) -> None:
    del project
    found = run("pki", "verify", "pki/ca.crt", "--purpose", "email")
    purposes = "codesign, channel, timestamp, server, client, encryption"
    refused(found, 2, '"email" is not a purpose', f"choose from {purposes}")
    found = run("pki", "verify", "pki/ca.crt", "--profile", "lax")
    refused(found, 2, '"lax" is not a profile', "choose strict or compat")
    assert run("pki", "verify", "build.bin").status == 5


@pytest.mark.parametrize("turned", [False, True])
def test_a_path_through_a_cross_certificate_is_found(turned: bool) -> None:
    old, new = make_ca("Old"), make_ca("New")
    crossed = certify(new.key, new.certificate.subject, old, ca_extensions())
    stray = certify(new.key, new.certificate.subject, make_ca("Stranger"), ca_extensions())
    issuing = make_ca("Issuing", new)
    leaf = pem("leaf.crt", make_leaf(issuing))
    above = [crossed, stray]
    pool = pem("pool.crt", *(reversed(above) if turned else above), new, issuing)
    anchor = pem("old.crt", old)
    found = json.loads(good("pki", "verify", leaf, pool, "--anchor", anchor, "--json"))
    assert [one["name"] for one in found["path"]] == ["release", "Issuing", "New", "Old"]
    found = json.loads(good("pki", "verify", leaf, pool, "--anchor", pem("n", new), "--json"))
    assert [one["name"] for one in found["path"]] == ["release", "Issuing", "New"]


def crl_in_state(state: str, issuing: Entity, leaf: Entity) -> bytes:
    stranger = make_ca("Issuing")
    here = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    made = {
        "stale": lambda: make_crl(issuing, days=(-90, -1)),
        "wrong issuer": lambda: make_crl(make_ca("Foreign")),
        "forged": lambda: make_crl(issuing, signer=stranger),
        "delta": lambda: make_crl(issuing, extensions=[(x509.DeltaCRLIndicator(1), True)]),
        "indirect": lambda: make_crl(issuing, extensions=[(here, True)]),
        "without number": lambda: make_crl(issuing, number=None),
        "revoked": lambda: make_crl(issuing, [leaf]),
    }
    return made[state]()


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        ("missing", "stale.crl-missing", 3),
        ("stale", "stale.crl", 3),
        ("wrong issuer", "io.crl-unused", 5),
        ("forged", "stale.crl-missing", 3),  # of another key: as if it were not there
        ("delta", "untrusted.crl", 1),
        ("indirect", "untrusted.crl", 1),
        ("without number", "untrusted.crl", 1),
        ("revoked", "untrusted.revoked", 1),
    ],
)
def test_each_state_of_a_crl_has_its_code(state: str, code: str, status: int) -> None:
    root = make_ca()
    issuing = make_ca("Issuing", root, path_length=0)
    leaf = make_leaf(issuing)
    Path("root.crl").write_bytes(make_crl(root))
    given = ["--crl", "root.crl"]
    if state != "missing":
        Path("a.crl").write_bytes(crl_in_state(state, issuing, leaf))
        given += ["--crl", "a.crl"]
    if state == "wrong issuer":
        Path("b.crl").write_bytes(make_crl(issuing))
        given += ["--crl", "b.crl"]
    paths = (pem("leaf.crt", leaf, issuing), "--anchor", pem("root.crt", root))
    found = run("pki", "verify", *paths, *given, "--json")
    assert (json.loads(found.out)["code"], found.status) == (code, status)


def test_a_rolled_back_crl_does_not_count_beside_the_newer_one() -> None:
    root = make_ca()
    leaf = make_leaf(root)
    Path("old.crl").write_bytes(make_crl(root, number=1))
    Path("new.crl").write_bytes(make_crl(root, [leaf], number=2))
    crls = ("--crl", "old.crl", "--crl", "new.crl")
    found = run(
        "pki", "verify", pem("leaf.crt", leaf), "--anchor", pem("root.crt", root), *crls, "--json"
    )
    assert json.loads(found.out)["code"] == "untrusted.revoked"


@pytest.mark.usefixtures("project")
def test_a_wildcard_is_no_name_to_ask_for() -> None:
    good("pki", "issue", "server", "b.acme.example", "--no-passphrase")
    asked = ("--purpose", "server", "--host", "*.acme.example")
    found = run("pki", "verify", "pki/issued/b.acme.example.crt", *asked)
    words = '"*.acme.example" is a wildcard, expected the name of one host'
    refused(found, 2, words, "a client calls a server by one name: ask for that")
