# SPDX-License-Identifier: Apache-2.0
"""Judge a certificate for a purpose: code signing, channels, time stamps, TLS, encryption.

The verify path's own code judges the path: `chain.validate_path` with the purpose, dates, CRLs.
For TLS, cryptography's verifier gives a second opinion, as a client or server would. It differs:

- it judges a server by one name: the one that is asked for, or the first in the certificate;
- it refuses names that are no domain names to every library, as with an underscore: then it is not
  asked either;
- an anchor's dates count there;
- it refuses Ed25519 CAs: then it is not asked, and the result notes that.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.verification import Criticality, ExtensionPolicy

from fwsign.errors import FwsignError, Malformed, Untrusted
from fwsign.format.cose import key_kind
from fwsign.format.library import PARSE_ERRORS
from fwsign.keys.published import is_published
from fwsign.pki.paths.build import find_paths, in_order
from fwsign.x509.anchor import Anchor
from fwsign.x509.chain import CertificationPath, check_dates, validate_path
from fwsign.x509.constraints import host_names
from fwsign.x509.crl import Crl, parse_crl
from fwsign.x509.revocation import CrlReader, Issued, updates
from fwsign.x509.roles import Profile, Use

Purpose: TypeAlias = Literal["codesign", "channel", "timestamp", "server", "client", "encryption"]
PURPOSES: Final[Mapping[Purpose, Use]] = MappingProxyType(
    {
        "codesign": "codeSigning",
        "channel": "configSigning",
        "timestamp": "timeStamping",
        "server": "serverAuth",
        "client": "clientAuth",
        "encryption": "keyAgreement",
    }
)
"""Purposes by their names on the command line."""
_TLS: Final = ("server", "client")
Host: TypeAlias = x509.DNSName | x509.IPAddress
"""What a client calls a server by."""


class AcceptedPath(NamedTuple):
    """An accepted path, the CRLs that count, and notes for the reader."""

    path: CertificationPath
    issued: tuple[Issued, ...]
    now: datetime
    revocation_checked: bool
    notes: tuple[str, ...]


class Judgement(NamedTuple):
    """The judged chain, and the verdict."""

    chain: tuple[bytes, ...]
    verdict: AcceptedPath | FwsignError


def judge_pool(
    leaf: bytes,
    pool: Sequence[bytes],
    anchors: Sequence[Anchor],
    *,
    purpose: Purpose,
    at: datetime,
    profile: Profile = "strict",
    crls: Sequence[bytes] = (),
    host: Host | None = None,
    allow_example_keys: bool = False,
) -> Judgement:
    """Judge a leaf by the first acceptable path from a pool; return a refusal as a value.

    Args: as `judge`, with certificates in any order.
    """
    judged = partial(
        _judged,
        anchors=anchors,
        purpose=purpose,
        at=at,
        profile=profile,
        crls=crls,
        host=host,
        allow_example_keys=allow_example_keys,
    )
    use, refused = PURPOSES[purpose], None
    try:
        lists = [parse_crl(data) for data in dict.fromkeys(crls)]
        fits = partial(_check_step, at=at, crls=lists, profile=profile)
        for found in find_paths(leaf, pool, anchors, use=use, profile=profile, fits=fits):
            judgement = judged(found.chain)
            if isinstance(judgement.verdict, AcceptedPath):
                return judgement
            refused = refused or judgement
        return refused or judged(in_order(leaf, pool, at))
    except FwsignError as error:  # an input that is not a certificate or CRL
        return Judgement((leaf,), error)


def belonging(
    crls: Sequence[bytes], certificates: Sequence[bytes], anchors: Sequence[Anchor]
) -> tuple[bytes, ...]:
    """Return the CRLs that name an issuer in a pool, and those that name none that can be read.

    The form of another CA's CRL, such as a standby's in the same bundle, says nothing of a path.
    """
    if not all(one.certificate for one in anchors):  # a bare key has no name to compare
        return tuple(crls)
    named = {one.certificate.subject for one in anchors if one.certificate}
    for data in certificates:
        with suppress(*PARSE_ERRORS):
            parsed = x509.load_der_x509_certificate(data)
            named |= {parsed.subject, parsed.issuer}
    return tuple(crl for crl in crls if _issuer_of(crl) in {None, *named})


def _issuer_of(crl: bytes) -> x509.Name | None:
    try:
        return x509.load_der_x509_crl(crl).issuer
    except PARSE_ERRORS:
        return None


def _judged(chain: tuple[bytes, ...], **how: Any) -> Judgement:
    try:
        return Judgement(chain, judge(chain, **how))
    except FwsignError as error:
        return Judgement(chain, error)


def _check_step(
    step: CertificationPath, *, at: datetime, crls: Sequence[Crl], profile: Profile
) -> None:
    """Refuse a certificate and issuer that `judge` would refuse in any path."""
    check_dates(step, at, not_before=False)
    own = [crl.data for crl in crls if crl.is_by_issuer_of(step.certificates[0])]
    reader = CrlReader(profile, own)
    issued = reader.collect(step).issued
    if any(one.crls for one in issued):
        reader.check(issued, at)


def judge(
    chain: Sequence[bytes],
    anchors: Sequence[Anchor],
    *,
    purpose: Purpose,
    at: datetime,
    profile: Profile = "strict",
    crls: Sequence[bytes] = (),
    host: Host | None = None,
    allow_example_keys: bool = False,
) -> AcceptedPath:
    """Judge a path for a purpose, at a time, with the CRLs given.

    Args:
        chain: DER certificates, leaf first.
        anchors: the trusted roots and keys.
        purpose: a key of `PURPOSES`.
        at: an aware time.
        profile: `strict` or `compat`.
        crls: CRLs in DER; if one belongs to an issuer of the path, every issuer needs one.
        host: the name or address that a client calls a server by; None: any that it has.
        allow_example_keys: accept published keys.

    Raises:
        Malformed, Tampered, Untrusted, Stale: as `fwsign.x509.chain` and `fwsign.x509.crl`;
            `untrusted.example-key`: a published key; `untrusted.vendor`: another host.
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
    reader = CrlReader(profile, crls)
    issued, forgiven = reader.collect(path)
    now = max([at, *updates(issued)])
    check_dates(path, now, not_before=at >= now)
    if purpose in _TLS:
        if host is not None:
            _check_host(path, host)
        forgiven += _ask(path, purpose, now, host)
    at_hand = any(one.crls for one in issued)
    if at_hand:
        reader.check(issued, now)
    behind = ["freshness unproven: the clock is behind"] if at < now else []
    known = dict.fromkeys(f"the path has {whose}, which anyone can use" for _, whose in published)
    notes = (*behind, *known, *path.forgiven, *forgiven)
    return AcceptedPath(path, issued, now, at_hand or not path.certificates, notes)


def _check_host(path: CertificationPath, host: Host) -> None:
    """Refuse a server that has not the name that a client calls it by (RFC 9525 section 6)."""
    names = host_names(path.certificates[0])
    if any(_fits(name, host) for name in names):
        return
    what = "domain" if isinstance(host, x509.DNSName) else "address"
    found, wanted = ", ".join(f'"{name.value}"' for name in names), str(host.value)
    raise Untrusted(
        "untrusted.vendor",
        f'"{path.name}" is for {found}, not for "{wanted}": a different {what}',
        expected=wanted,
        found=", ".join(str(name.value) for name in names),
        hint=f"issue one for it: fwsign pki issue server NAME "
        f"{'--host' if isinstance(host, x509.DNSName) else '--ip'} {wanted}",
    )


def _fits(name: Host, host: Host) -> bool:
    if not isinstance(name, x509.DNSName) or not isinstance(host, x509.DNSName):
        return name == host
    has, asked = name.value.lower(), host.value.lower()
    head, _, above = asked.partition(".")
    # A wildcard stands for one label, below a domain of two or more.
    return has == asked or (bool(head) and "." in above and has == f"*.{above}")


def _ask(
    path: CertificationPath, purpose: Purpose, now: datetime, host: Host | None
) -> tuple[str, ...]:
    """Ask cryptography's verifier about the path; return notes."""
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
            name = host or host_names(leaf)[0]
            if isinstance(name, x509.DNSName) and name.value.startswith("*."):
                name = x509.DNSName(f"any{name.value[1:]}")
            try:
                verifier = builder.build_server_verifier(name)
            except ValueError:
                words = f'not every TLS library takes the name "{name.value}"'
                return (f"{words}: judged by our own rules only",)
            verifier.verify(leaf.parsed, above)
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
