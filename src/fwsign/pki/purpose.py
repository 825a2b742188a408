# SPDX-License-Identifier: Apache-2.0
"""Would a certificate be accepted for a purpose: code signing, time stamps, TLS?

The path is judged by the verify path itself: `chain.validate_path` with the purpose, dates, CRLs.
For TLS cryptography's own verifier is asked as well, as the second opinion of a client or server:

- a server is asked for the first name in its certificate; which one a client asks for, nobody knows
  here;
- an anchor's dates count there;
- it takes no Ed25519 CA: then it is not asked, and the result notes that.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.verification import Criticality, ExtensionPolicy

from fwsign.certificate import PARSE_ERRORS, parse_certificate
from fwsign.chain import Anchor, Path, Profile, Use, check_dates, validate_path
from fwsign.constraints import host_names
from fwsign.cose import key_kind
from fwsign.crl import Issued, check_revocation, collect
from fwsign.errors import Malformed, Untrusted
from fwsign.pki.known_keys import is_published

Purpose: TypeAlias = Literal["codesign", "timestamp", "server", "client"]
PURPOSES: Final[Mapping[Purpose, Use]] = MappingProxyType(
    {
        "codesign": "codeSigning",
        "timestamp": "timeStamping",
        "server": "serverAuth",
        "client": "clientAuth",
    }
)
"""Purposes by the names that the command line has for them."""
_TLS: Final = ("server", "client")


class Accepted(NamedTuple):
    """A path that would be accepted, the CRLs that count, and what the reader should know."""

    path: Path
    issued: tuple[Issued, ...]
    now: datetime
    revocation_checked: bool
    notes: tuple[str, ...]


def in_order(leaf: bytes, pool: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return a leaf and the certificates above it that are in a pool, nearest first.

    Raises:
        Malformed: `malformed.certificate`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    rest = [(data, parse_certificate(data)) for data in dict.fromkeys(pool) if data != leaf]
    chain, last = [leaf], parse_certificate(leaf)
    while last.parsed.issuer != last.parsed.subject:
        found = [
            (data, one)
            for data, one in rest
            if one.parsed.subject == last.parsed.issuer and data not in chain
        ]
        # Two CAs of one name are told apart by their keys.
        found.sort(key=lambda item: item[1].subject_key != last.authority_key)
        if not found:
            break
        chain.append(found[0][0])
        last = found[0][1]
    return tuple(chain)


def leaf_of(certificates: Sequence[bytes]) -> bytes:
    """Return the first certificate that has issued none of the others, for bundles in no order.

    Raises:
        Malformed: `malformed.certificate`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    parsed = [parse_certificate(data).parsed for data in certificates]
    issuers = {one.issuer for one in parsed if one.issuer != one.subject}
    both = zip(certificates, parsed, strict=True)
    return next((data for data, one in both if one.subject not in issuers), certificates[0])


def judge(
    chain: Sequence[bytes],
    anchors: Sequence[Anchor],
    *,
    purpose: Purpose,
    at: datetime,
    profile: Profile = "strict",
    crls: Sequence[bytes] = (),
    allow_example_keys: bool = False,
) -> Accepted:
    """Judge a path for a purpose, at a time, with the CRLs given.

    Args:
        chain: DER certificates, leaf first.
        anchors: what is trusted.
        purpose: a key of `PURPOSES`.
        at: an aware time.
        profile: `strict` or `compat`.
        crls: CRLs in DER; where one belongs to an issuer of the path, every issuer needs one.
        allow_example_keys: accept published keys.

    Raises:
        Malformed, Tampered, Untrusted, Stale: as `fwsign.chain` and `fwsign.crl`;
            `untrusted.example-key`: a published key.
    """
    at = at.astimezone(UTC).replace(microsecond=0)
    path = validate_path(chain, anchors, profile=profile, use=PURPOSES[purpose])
    published = [(key, whose) for key in path.keys if (whose := is_published(key))]
    if published and not allow_example_keys:
        raise Untrusted(
            "untrusted.example-key",
            f'the path of "{path.name}" has {published[0][1]}, which anyone can use',
            found=published[0][0],
        )
    forgiven = list(path.forgiven)
    issued = collect(path, crls, profile, forgiven)
    now = max([at, *(crl.this_update for one in issued for crl in one.crls)])
    check_dates(path, now, not_before=at >= now)
    if purpose in _TLS:
        forgiven += _ask(path, purpose, now)
    at_hand = any(one.crls for one in issued)
    if at_hand:
        check_revocation(issued, now)
    behind = ["freshness unproven: the clock is behind"] if at < now else []
    known = dict.fromkeys(f"the path has {whose}, which anyone can use" for _, whose in published)
    notes = (*behind, *known, *forgiven)
    return Accepted(path, issued, now, at_hand or not path.certificates, notes)


def _ask(path: Path, purpose: Purpose, now: datetime) -> tuple[str, ...]:
    """Put the path to cryptography's verifier; return what should be noted."""
    root = path.anchor.certificate
    assert root is not None  # noqa: S101 - no bare key is an anchor for TLS
    if any(key_kind(one.key) == "Ed25519" for one in (*path.certificates[1:], root)):
        return ("an Ed25519 CA, which not every TLS library takes: judged by our own rules only",)
    authorities = ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, Criticality.AGNOSTIC, None
    )
    leaves = ExtensionPolicy.permit_all()
    if purpose == "server":
        leaves = leaves.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    leaf = path.certificates[0]
    try:
        builder = (
            verification.PolicyBuilder()
            .store(verification.Store([root.parsed]))
            .time(now)
            .extension_policies(ca_policy=authorities, ee_policy=leaves)
        )
        above = [one.parsed for one in path.certificates[1:]]
        if purpose == "server":
            name = host_names(leaf)[0]
            if isinstance(name, x509.DNSName) and name.value.startswith("*."):
                name = x509.DNSName(f"any{name.value[1:]}")
            builder.build_server_verifier(name).verify(leaf.parsed, above)
        else:
            builder.build_client_verifier().verify(leaf.parsed, above)
    except verification.VerificationError as error:
        raise Untrusted(
            "untrusted.issuer", f'the path of "{path.name}" is refused by the TLS rules: {error}'
        ) from None
    except PARSE_ERRORS as error:
        raise Malformed(
            "malformed.certificate", f'certificate "{path.name}" cannot be judged: {error}'
        ) from None
    return ()
