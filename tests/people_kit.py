"""People who sign: leaves with units, blocks under any chain, and policies by their roles."""

import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from fwsign.verify.rule import parse_rule
from fwsign.verify.signer_policy import Role, SignerPolicy
from fwsign.verify.verified import VerifiedRelease
from hostile import close, encoded, spki
from support import (
    Entity,
    certify,
    der,
    leaf_extensions,
    make_block,
    make_crl,
    name,
    new_key,
    signed_digest,
    verify,
)


def person(
    issuer: Entity, common: str, *units: str, key: Any = None, alg: str = "p256", **more: Any
) -> Entity:
    """Issue a leaf with a name and units; `more` goes to `certify`."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, one) for one in units]
    subject = x509.Name([*name(common), *parts])
    return certify(key or new_key(alg), subject, issuer, leaf_extensions(), **more)


def block(leaf: Entity, *above: Entity, root: Entity, revoked: Sequence[Entity] = ()) -> bytes:
    """Make a block of a leaf, with the CRLs of its chain's issuers."""
    crls = [make_crl(one, [ca for ca in (leaf, *revoked) if ca in revoked]) for one in above]
    chain = [leaf.der, *(one.der for one in above)]
    return make_block(signed_digest(encoded()), leaf.key, chain, [*crls, make_crl(root)])


def policy(text: str | None, *algorithms: Any, **roles: dict[str, Any]) -> SignerPolicy:
    """Make a policy; underscores in a role's label stand for hyphens."""
    known = tuple(Role(label.replace("_", "-"), **role) for label, role in roles.items())
    return SignerPolicy(known, parse_rule(text) if text else None, algorithms)


def judge(
    signers: SignerPolicy, blocks: Sequence[bytes], *roots: Entity, **more: Any
) -> VerifiedRelease:
    """Verify an envelope with these blocks as a device with this policy."""
    return verify(close(encoded(), *blocks), roots, signers=signers, **more)


def key(entity: Entity) -> str:
    """Return the digest of an entity's key, as a role names it."""
    return spki(entity.key)


def key_of(certificate: x509.Certificate) -> str:
    """Return the digest of a certificate's key, as a role names it."""
    return hashlib.sha256(der(certificate.public_key())).hexdigest()
