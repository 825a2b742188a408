"""Each rule about certificates together has its test here, named after it."""

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.pki.directory import Pki
from fwsign.pki.leaves import DeviceIdentity
from fwsign.pki.lint.run import lint
from lint_kit import CA_USAGE, ca, codes, crls, fill, findings, leaf, make_pki, said
from pki_kit import NOW as PKI_NOW
from pki_kit import issue, make
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    leaf_extensions,
    make_ca,
    make_crl,
    name,
    new_key,
)

PKI = make_pki()
GOOD: tuple[Entity | bytes, ...] = (PKI.root, PKI.issuing, *crls(PKI.root, PKI.issuing), PKI.leaf)


def below_a_new_ca(tmp_path: Path, extensions: Any, **more: Any) -> list[str]:
    """Return what is found where a CA of these extensions has issued a signer."""
    issuing = ca(PKI.root, "Other Issuing", extensions, **more)
    signer = leaf(issuing)
    return codes(fill(tmp_path, *GOOD, issuing, *crls(issuing), signer))


def test_signature(tmp_path: Path) -> None:
    other = Entity(new_key(), PKI.issuing.certificate)
    forged = certify(new_key(), name("forged"), other, leaf_extensions(), days=(-10, 700))
    found = codes(fill(tmp_path, *GOOD, forged))
    assert "signature" in found or "issuer-absent" in found
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(PKI.issuing.key.public_key())
    ski = x509.SubjectKeyIdentifier.from_public_key(other.key.public_key())
    extensions = [*leaf_extensions(), (aki, False), (ski, False)]
    forged = certify(
        new_key(), name("forged"), other, extensions, days=(-10, 700), identifiers=False
    )
    assert codes(fill(tmp_path / "b", *GOOD, forged)) == ["signature"]


def test_issuer_absent(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, PKI.leaf)) == ["issuer-absent"]


def test_aki_mismatch(tmp_path: Path) -> None:
    wrong = x509.AuthorityKeyIdentifier.from_issuer_public_key(new_key().public_key())
    extensions = [*leaf_extensions(), (wrong, False)]
    entity = leaf(PKI.issuing, extensions=extensions, identifiers=False)
    assert codes(fill(tmp_path, *GOOD, entity)) == ["aki-mismatch"]


def test_serial_twice(tmp_path: Path) -> None:
    serial = PKI.leaf.certificate.serial_number
    assert codes(fill(tmp_path, *GOOD, leaf(PKI.issuing, serial=serial))) == ["serial-twice"]


def test_ca_name_twice(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, make_ca(), make_ca())) == ["ca-name-twice"]


def test_name_twice(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, *GOOD, leaf(PKI.issuing, "release"))) == ["name-twice"]
    same = leaf(PKI.issuing, "release", key=PKI.leaf.key)
    assert codes(fill(tmp_path / "b", *GOOD, same)) == []


def test_outlives_issuer(tmp_path: Path) -> None:
    issuing = make_ca("Short", PKI.root, permitted=[VENDOR], path_length=0, days=(-10, 500))
    signer = leaf(issuing)
    found = codes(fill(tmp_path, *GOOD, issuing, *crls(issuing), signer))
    assert found == ["outlives-issuer"]


def test_no_end(tmp_path: Path) -> None:
    pki = make(tmp_path / "pki").directory
    for number in range(3):
        issue(pki, f"d{number}", "idevid", device=DeviceIdentity(f"{number}"))
    named = [one for one in lint(pki, now=PKI_NOW).findings if "end" in one.code]
    end = Pki(pki).certificate("issuing-tls").not_valid_after_utc
    assert [(one.code, one.severity, one.subject, one.message) for one in named] == [
        (
            "lint.no-end",
            "note",
            "Acme TLS CA",
            f'3 below it have no end date, such as "d0", and end with it, {end:%Y-%m-%d}',
        )
    ]


def test_issuer_not_ca(tmp_path: Path) -> None:
    extensions = [(x509.BasicConstraints(ca=False, path_length=None), True), (CA_USAGE, True)]
    assert "issuer-not-ca" in below_a_new_ca(tmp_path, extensions)


def test_path_length(tmp_path: Path) -> None:
    root = make_ca("Narrow", path_length=0)
    issuing = make_ca("Narrow Issuing", root, permitted=[VENDOR], path_length=0)
    found = codes(fill(tmp_path, root, issuing, *crls(root, issuing), leaf(issuing)))
    assert found == ["path-length"]
    assert said(tmp_path, "path-length") == ["it allows 0 CAs below it, there are 1"]


def test_constraints_absent(tmp_path: Path) -> None:
    assert below_a_new_ca(tmp_path, ca_extensions(path_length=0)) == ["constraints-absent"]


def test_ca_eku(tmp_path: Path) -> None:
    own = ca_extensions(path_length=0, permitted=[VENDOR])
    tls = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True)
    assert below_a_new_ca(tmp_path, [*own, tls]) == ["ca-eku"]
    code = (x509.ExtendedKeyUsage([CODE_SIGNING]), True)
    assert below_a_new_ca(tmp_path / "b", [*own, code]) == []


def test_refused(tmp_path: Path) -> None:
    """What no rule knows, the verifier says: here a name that the CA does not permit."""
    signer = leaf(PKI.issuing, vendors=("evil.example",))
    [finding] = findings(fill(tmp_path, *GOOD, signer))
    assert finding.code == "lint.refused"
    assert finding.message.startswith("untrusted.name-constraint: ")


def test_what_is_revoked_is_left_out(tmp_path: Path) -> None:
    signer = leaf(PKI.issuing, vendors=(), days=(-100, -1))
    crl = make_crl(PKI.issuing, [signer], number=2, days=(0, 60))
    assert codes(fill(tmp_path, *GOOD, signer, crl)) == []


def test_a_cross_certified_root_is_good(tmp_path: Path) -> None:
    new = make_ca("New Root")
    crossed = certify(new.key, name("New Root"), PKI.root, ca_extensions(), days=(-10, 3640))
    issuing = make_ca("New Issuing", new, permitted=[VENDOR], path_length=0, days=(-10, 3600))
    things: tuple[Entity | bytes, ...] = (new, crossed, issuing, *crls(new, issuing), leaf(issuing))
    assert codes(fill(tmp_path, *GOOD, *things)) == []


def test_below_ml_dsa(tmp_path: Path) -> None:
    pki = make_pki("ml-dsa-65")
    good: tuple[Entity | bytes, ...] = (pki.root, pki.issuing)
    good += (*crls(pki.root, pki.issuing), pki.leaf)
    assert codes(fill(tmp_path / "good", *good)) == []
    weak = leaf(pki.issuing)
    place = fill(tmp_path / "weak", *good, weak)
    assert codes(place) == ["below-ml-dsa"]
    words = 'the key is P-256, its issuer "Issuing" has ML-DSA-65'
    assert said(place, "below-ml-dsa") == [words]
    assert [one.severity for one in findings(place)] == ["warning"]


def test_above_ml_dsa(tmp_path: Path) -> None:
    strong = leaf(PKI.issuing, alg="ml-dsa-87")
    place = fill(tmp_path, *GOOD, strong)
    assert codes(place) == ["above-ml-dsa"]
    words = 'the key is ML-DSA-87, its issuer "Issuing" has P-256'
    assert said(place, "above-ml-dsa") == [words]
    assert [one.severity for one in findings(place)] == ["note"]


def below_a_dead_ca(tmp_path: Path, *more: Entity | bytes) -> Path:
    """A second issuing CA, whose end comes first, and a signer that lasts longer."""
    return fill(tmp_path, *GOOD, DYING, leaf(DYING, "second"), *crls(DYING), *more)


DYING = make_ca("Dying", PKI.root, permitted=[VENDOR], path_length=0, days=(-10, 500))


def revoking() -> bytes:
    return make_crl(PKI.root, [DYING], number=2, days=(-1, 60))


def test_ca_revoked(tmp_path: Path) -> None:
    folder = below_a_dead_ca(tmp_path, revoking())
    (found,) = findings(folder)
    assert (found.code, found.severity, found.subject) == ("lint.ca-revoked", "error", "second")
    assert found.message == 'below "Dying", a revoked CA'
    assert found.mend == (
        "another CA: fwsign pki renew issuing --new-key; then fwsign pki renew --all"
    )


def test_ca_revoked_and_what_was_below_it_replaced(tmp_path: Path) -> None:
    folder = below_a_dead_ca(tmp_path, revoking(), leaf(PKI.issuing, "second"))
    assert codes(folder) == []
    # Nobody needs a fresh CRL of the revoked CA.
    stale = make_crl(DYING, number=2, days=(-9, -1))
    assert codes(fill(tmp_path / "b", *GOOD, DYING, revoking(), stale)) == []


def test_ca_revoked_says_nothing_of_what_ended_or_was_revoked(tmp_path: Path) -> None:
    ended = leaf(DYING, "ended", days=(-9, -1))
    gone = leaf(DYING, "gone")
    lists = (revoking(), make_crl(DYING, [gone], number=2, days=(-1, 60)))
    assert codes(fill(tmp_path, *GOOD, DYING, ended, gone, *lists)) == []


def test_ca_revoked_in_the_middle(tmp_path: Path) -> None:
    upper = make_ca("Upper", PKI.root, permitted=[VENDOR], path_length=1, days=(-10, 3000))
    lower = make_ca("Lower", upper, permitted=[VENDOR], path_length=0, days=(-10, 2000))
    lists = (make_crl(PKI.root, [upper], number=2, days=(-1, 60)), *crls(upper, lower))
    folder = fill(tmp_path, *GOOD, upper, lower, leaf(lower, "second"), *lists)
    assert codes(folder) == ["ca-revoked", "ca-revoked"]
    assert {*said(folder, "ca-revoked")} == {'below "Upper", a revoked CA'}


def test_ca_revoked_of_a_cross_certificate_alone(tmp_path: Path) -> None:
    new = make_ca("New", days=(-10, 7300))
    crossed = certify(new.key, new.certificate.subject, PKI.root, ca_extensions(), days=(-10, 3650))
    issuing = make_ca("Second", new, permitted=[VENDOR], path_length=0, days=(-10, 3650))
    no_leak = x509.ReasonFlags.superseded
    list_ = make_crl(PKI.root, [crossed], number=2, days=(-1, 60), reason=no_leak)
    lists = (list_, *crls(new, issuing))
    signer = leaf(issuing, "second")
    assert codes(fill(tmp_path, *GOOD, new, crossed, issuing, signer, *lists)) == []
    # Without the new root itself there is no path left.
    alone = fill(tmp_path / "b", *GOOD, crossed, issuing, signer, *lists)
    assert codes(alone) == ["ca-revoked", "ca-revoked"]


def test_ca_expired(tmp_path: Path) -> None:
    folder = fill(tmp_path, *GOOD, DYING, leaf(DYING, "second"))
    assert said(folder, "ca-expired", days=501) == [
        f'below "Dying", a CA that expired {DYING.certificate.not_valid_after_utc:%Y-%m-%d}'
    ]
    assert "ca-expired" not in codes(folder, days=499)


def test_ca_expired_for_a_root_and_tls_alone(tmp_path: Path) -> None:
    root = make_ca("Short Root", days=(-10, 100))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    server = leaf(root, "server", extensions=leaf_extensions(usages=usages))
    folder = fill(tmp_path, root, server, leaf(root, "signer"))
    found = [one for one in findings(folder, days=101) if one.code == "lint.ca-expired"]
    assert [one.subject for one in found] == ["server"]
