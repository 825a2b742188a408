"""Folders with certificates, CRLs and keys for lint, good but for what a test makes wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fwsign.pki.lint.run import Finding, lint
from support import (
    DAY,
    NOW,
    VENDOR,
    Entity,
    certify,
    key_usage,
    leaf_extensions,
    make_ca,
    make_crl,
    make_leaf,
    name,
    new_key,
    parts,
    tlv,
)

TWO_YEARS, TEN_YEARS = (-10, 720), (-10, 3650)


class Pki(NamedTuple):
    """Root, issuing CA, signer; as our own."""

    root: Entity
    issuing: Entity
    leaf: Entity


def make_pki(alg: str = "p256") -> Pki:
    """Make a PKI that lints clean."""
    root = make_ca(alg=alg, days=(-10, 7300))
    issuing = make_ca("Issuing", root, alg, path_length=0, permitted=[VENDOR], days=TEN_YEARS)
    return Pki(root, issuing, make_leaf(issuing, alg=alg, days=TWO_YEARS))


def leaf(issuer: Entity, common: str = "other", **more: Any) -> Entity:
    """Make a signer that lives as long as ours; serial and such go to `certify`."""
    own = {one: more.pop(one) for one in ("serial", "identifiers") if one in more}
    if not own:
        return make_leaf(issuer, common, **{"days": TWO_YEARS, **more})
    extensions = more.pop("extensions", leaf_extensions())
    return certify(new_key(), name(common), issuer, extensions, days=TWO_YEARS, **own)


def weakly_signed(entity: Entity, issuer: Entity) -> bytes:
    """Sign a certificate again, with ECDSA and SHA-1."""
    fields = parts(parts(entity.der)[0])
    algorithm = bytes.fromhex("300906072a8648ce3d0401")
    fields[2] = algorithm
    tbs = tlv(0x30, *fields)
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA1()))  # noqa: S303 - it is the point
    return tlv(0x30, tbs, algorithm, tlv(3, b"\0", signature))


def ca(issuer: Entity | None, common: str, extensions: Any, **more: Any) -> Entity:
    """Make a CA of exactly these extensions."""
    return certify(new_key(), name(common), issuer, extensions, days=TEN_YEARS, **more)


def crls(*authorities: Entity) -> list[bytes]:
    """Make a good CRL of each CA."""
    return [make_crl(one, days=(-1, 60)) for one in authorities]


def fill(folder: Path, *things: Entity | bytes) -> Path:
    """Write certificates as they are issued, and CRLs as DER."""
    folder.mkdir(exist_ok=True)
    for number, thing in enumerate(things):
        if isinstance(thing, Entity):
            pem = thing.certificate.public_bytes(Encoding.PEM)
            (folder / f"{number}.crt").write_bytes(pem)
        else:
            (folder / f"{number}.crl").write_bytes(thing)
    return folder


def plain_key(key: Any) -> bytes:
    """Write a key without passphrase."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def findings(place: Path, days: int = 0) -> tuple[Finding, ...]:
    """Lint, some days from now."""
    return lint(place, now=NOW + days * DAY).findings


def codes(place: Path, days: int = 0) -> list[str]:
    """Return the codes of all findings, without their `lint.`."""
    return sorted(one.code.removeprefix("lint.") for one in findings(place, days))


def said(place: Path, code: str, days: int = 0) -> Sequence[str]:
    """Return the messages of all findings of a code."""
    return [one.message for one in findings(place, days) if one.code == f"lint.{code}"]


CA_USAGE = key_usage("key_cert_sign", "crl_sign")
