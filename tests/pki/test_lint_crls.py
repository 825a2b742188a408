"""Each rule about CRLs has its test here, named after it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from lint_kit import TEN_YEARS, codes, crls, fill, leaf, make_pki
from support import (
    NOW,
    VENDOR,
    Entity,
    ca_extensions,
    certify,
    der,
    make_ca,
    make_crl,
    name,
    parts,
    resign,
    signing_hash,
)

PKI = make_pki()
GOOD: tuple[Entity | bytes, ...] = (PKI.root, PKI.issuing, *crls(PKI.root), PKI.leaf)


def with_crl(tmp_path: Path, crl: bytes) -> list[str]:
    return codes(fill(tmp_path, *GOOD, crl))


def crl(**more: Any) -> bytes:
    return make_crl(PKI.issuing, **{"days": (-1, 60), **more})


def edited(field: int) -> bytes:
    """Take out a field of the signed part of a CRL."""
    fields = parts(parts(crl())[0])
    del fields[field]
    return resign(fields, PKI.issuing.key)


def test_a_good_crl_has_no_findings(tmp_path: Path) -> None:
    assert with_crl(tmp_path, crl()) == []


def test_crl_missing(tmp_path: Path) -> None:
    assert codes(fill(tmp_path, *GOOD)) == ["crl-missing"]


def test_crl_number(tmp_path: Path) -> None:
    assert with_crl(tmp_path, crl(number=None)) == ["crl-number"]


def test_crl_next_update(tmp_path: Path) -> None:
    assert with_crl(tmp_path, edited(4)) == ["crl-next-update"]


def test_crl_stale(tmp_path: Path) -> None:
    assert with_crl(tmp_path, crl(days=(-9, -1))) == ["crl-stale"]


def test_crl_expires_soon(tmp_path: Path) -> None:
    assert with_crl(tmp_path, crl(days=(-1, 29))) == ["crl-expires-soon"]
    assert with_crl(tmp_path, crl(days=(-1, 31))) == []


def test_crl_extension(tmp_path: Path) -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    assert with_crl(tmp_path, crl(extensions=[(strange, True)])) == ["crl-extension"]


def test_crl_entry_with_a_critical_extension(tmp_path: Path) -> None:
    entry = (
        x509.RevokedCertificateBuilder()
        .serial_number(PKI.leaf.certificate.serial_number)
        .revocation_date(NOW)
        .add_extension(x509.CRLReason(x509.ReasonFlags.superseded), critical=True)
        .build()
    )
    parsed = x509.load_der_x509_crl(crl())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(parsed.issuer)
        .last_update(parsed.last_update_utc)
        .next_update(datetime(2027, 2, 1, tzinfo=UTC))
        .add_revoked_certificate(entry)
    )
    for extension in parsed.extensions:
        builder = builder.add_extension(extension.value, extension.critical)

    made = der(builder.sign(PKI.issuing.key, signing_hash(PKI.issuing.key)))
    assert with_crl(tmp_path, made) == ["crl-extension"]


def test_crl_partial(tmp_path: Path) -> None:
    delta = x509.DeltaCRLIndicator(1)
    assert with_crl(tmp_path, crl(extensions=[(delta, True)])) == ["crl-partial"]
    point = x509.IssuingDistributionPoint(None, None, False, True, None, False, False)
    assert with_crl(tmp_path, crl(extensions=[(point, True)])) == ["crl-partial"]


def test_crl_version(tmp_path: Path) -> None:
    assert "crl-version" in with_crl(tmp_path, edited(0))


def test_crl_signature(tmp_path: Path) -> None:
    forged = crl(signer=PKI.root)
    assert codes(fill(tmp_path, *GOOD, crl(), forged)) == ["crl-signature"]


def test_crl_orphan(tmp_path: Path) -> None:
    foreign = make_crl(make_ca("Foreign"), days=(-1, 60))
    assert codes(fill(tmp_path, *GOOD, crl(), foreign)) == ["crl-orphan"]


def test_crl_unknown(tmp_path: Path) -> None:
    gone = [leaf(PKI.issuing, "gone"), leaf(PKI.issuing, "gone too")]
    assert with_crl(tmp_path, crl(revoked=gone)) == ["crl-unknown"]


def test_the_crl_of_a_ca_that_was_renewed_is_judged_once(tmp_path: Path) -> None:
    made = [leaf(PKI.issuing, "revoked"), leaf(PKI.issuing, "gone")]
    extensions = ca_extensions(path_length=0, permitted=[VENDOR])
    renewed = certify(PKI.issuing.key, name("Issuing"), PKI.root, extensions, days=TEN_YEARS)
    known = (*GOOD, renewed, made[0])
    assert codes(fill(tmp_path / "all", *known, crl(revoked=made[:1]))) == []
    assert codes(fill(tmp_path / "gone", *known, crl(revoked=made))) == ["crl-unknown"]
    stale = crl(revoked=made[:1], days=(-9, -1))
    assert codes(fill(tmp_path / "stale", *known, stale)) == ["crl-stale"]


def test_only_the_newest_crl_of_a_ca_counts(tmp_path: Path) -> None:
    old = crl(number=None, days=(-90, -30))
    assert codes(fill(tmp_path, *GOOD, old, crl())) == []


def test_a_crl_alone_is_not_compared_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "one.crl").write_bytes(crl())
    assert codes(tmp_path / "one.crl") == ["crl-orphan"]


def alone(tmp_path: Path, crl: bytes) -> list[str]:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "one.crl").write_bytes(crl)
    assert codes(tmp_path) == codes(tmp_path / "one.crl")
    return codes(tmp_path)


def test_a_crl_alone_is_judged_for_what_can_be_seen_of_it(tmp_path: Path) -> None:
    assert alone(tmp_path, crl(days=(-900, -800))) == ["crl-orphan", "crl-stale"]
    assert alone(tmp_path, edited(4)) == ["crl-next-update", "crl-orphan"]
    assert alone(tmp_path, crl(number=None)) == ["crl-number", "crl-orphan"]
    delta = [(x509.DeltaCRLIndicator(1), True)]
    assert alone(tmp_path, crl(extensions=delta)) == ["crl-orphan", "crl-partial"]
    assert alone(tmp_path, crl()) == ["crl-orphan"]


def test_an_older_crl_beside_a_newer_one_of_the_same_absent_ca(tmp_path: Path) -> None:
    stale = crl(days=(-9, -1))
    assert codes(fill(tmp_path, stale, crl(number=2))) == ["crl-orphan", "crl-orphan"]
    other = make_crl(make_ca("Other"), days=(-9, -1))
    found = codes(fill(tmp_path / "b", other, crl(number=2)))
    assert found == ["crl-orphan", "crl-orphan", "crl-stale"]
