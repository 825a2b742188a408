# SPDX-License-Identifier: Apache-2.0
"""Build certification paths from certificates in any order (RFC 4158).

A verifier takes a chain in its given order. The maker of a chain has a pool: bundles in no order,
cross-certificates, renewed CAs, several CAs of one name. The search goes breadth first from the
leaf, so that it finds the shortest path. It judges each step by the rules of `fwsign.x509.chain`
before it takes it.

The search does not reach a CA again with more names below it. A constraint that permits those
names also permits fewer, and a path length that allows the longer path also allows the shorter
one. So no path is missed, and the work grows with the number of certificates, not of paths.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from cryptography import x509

from fwsign.errors import FwsignError, Untrusted
from fwsign.format.cose import MAX_CHAIN
from fwsign.x509 import der
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate, parse_anchor, parse_certificate, signature_valid
from fwsign.x509.chain import CertificationPath, check_dates, check_link, validate_path
from fwsign.x509.roles import USES, Profile, Use, check_ca

MAX_STEPS: Final = 2000
"""Issuers that one search judges, each by one signature; then the search ends."""
MAX_NAMESAKES: Final = 100
"""CAs of one name whose signatures are tried if no path validates."""

Fits: TypeAlias = Callable[[CertificationPath], object]
"""Judges a path of one certificate and its issuer; it raises `FwsignError` to exclude it."""


class BuiltPath(NamedTuple):
    """A chain in DER, and its path."""

    chain: tuple[bytes, ...]
    path: CertificationPath


class _One(NamedTuple):
    """A certificate, its DER, and the names that constraints apply to."""

    data: bytes
    certificate: Certificate
    names: bytes


def _takes_all(_: CertificationPath) -> None:
    pass


def find_paths(
    leaf: bytes,
    pool: Sequence[bytes],
    anchors: Sequence[Anchor],
    *,
    use: Use,
    profile: Profile = "strict",
    fits: Fits = _takes_all,
) -> Iterator[BuiltPath]:
    """Yield chains that `validate_path` accepts, the shortest first.

    Args:
        leaf: the leaf, in DER.
        pool: certificates that may be above it, in DER; the first of equally good ones is taken.
        anchors: the ends of paths; an anchor that is in the pool is in no chain.
        use: what the leaf is used for.
        profile: `strict` or `compat`.
        fits: judges each certificate and its issuer in addition to `validate_path`; it accepts
            all by default.

    Raises:
        Malformed: `malformed.certificate`, for data that is not a certificate.
        Untrusted: `untrusted.*`, only for the leaf; other untrusted certificates are not used.
    """
    pinned = {one.certificate.signed for one in anchors if one.certificate is not None}
    authorities = _by_subject(pool, pinned)
    queue: deque[tuple[_One, ...]] = deque([(_one(leaf),)])
    reached: dict[bytes, list[frozenset[bytes]]] = defaultdict(list)
    steps = 0
    while queue:
        path = queue.popleft()
        chain = tuple(one.data for one in path)
        if _ends(path[-1].certificate, anchors) and (
            found := _validated(chain, anchors, use, profile, fits)
        ):
            yield found
        if len(path) == MAX_CHAIN:
            continue
        below = frozenset(one.names for one in path)
        for ca in authorities.get(path[-1].certificate.issuer, ()):
            if any(names <= below for names in reached[ca.data]):
                continue
            steps += 1
            if steps > MAX_STEPS:
                return
            if _follows(path, ca, use, profile, fits):
                reached[ca.data].append(below)
                queue.append((*path, ca))


def in_order(leaf: bytes, pool: Sequence[bytes], at: datetime | None = None) -> tuple[bytes, ...]:
    """Return a leaf and the certificates above it that are in a pool, nearest first.

    They form a valid path to a root in the pool, for a use that the leaf names. If there is none,
    the order follows the signatures alone, as far as they lead.

    Args:
        leaf: the leaf, in DER.
        pool: the other certificates, in DER.
        at: a time; a path that is valid then is preferred.

    Raises:
        Malformed: `malformed.certificate`.
        Untrusted: `untrusted.algorithm`, `untrusted.serial`.
    """
    ones = [_one(data) for data in dict.fromkeys(pool) if data != leaf]
    roots = {one.certificate.spki: one.data for one in ones if _is_root(one.certificate)}
    anchors = [Anchor.from_certificate(data) for data in roots.values()]
    dated: tuple[Fits, ...] = () if at is None else (partial(check_dates, at=at),)
    for fits in (*dated, _takes_all):
        for use in _uses(parse_certificate(leaf)):
            paths = find_paths(leaf, pool, anchors, use=use, profile="compat", fits=fits)
            if (found := next(paths, None)) is not None:
                return (*found.chain, roots[found.path.anchor.spki])
    return _by_signatures(_one(leaf), ones)


def leaf_of(certificates: Sequence[bytes]) -> bytes:
    """Return the first certificate that has issued none of the others, for files in any order.

    An unreadable certificate at the beginning is also returned: a later check names its fault.
    """
    parsed: list[tuple[bytes, x509.Certificate]] = []
    for data in certificates:
        try:
            parsed.append((data, parse_certificate(data).parsed))
        except FwsignError:
            if not parsed:
                return data
    issuers = {one.issuer for _, one in parsed if one.issuer != one.subject}
    return next((data for data, one in parsed if one.subject not in issuers), certificates[0])


def _one(data: bytes) -> _One:
    certificate = parse_anchor(data)  # it may be a root; the path is parsed strictly later
    found = certificate.extension(x509.SubjectAlternativeName)
    names = found.value.public_bytes() if found else b""
    return _One(data, certificate, certificate.subject.public_bytes() + names)


def _by_subject(
    pool: Sequence[bytes], left_out: Collection[der.Signed]
) -> dict[x509.Name, list[_One]]:
    found: dict[x509.Name, list[_One]] = defaultdict(list)
    for data in dict.fromkeys(pool):
        try:
            one = _one(data)
        except Untrusted:  # no valid path can contain it
            continue
        if one.certificate.signed not in left_out:
            found[one.certificate.subject].append(one)
    return found


def _ends(top: Certificate, anchors: Sequence[Anchor]) -> bool:
    """Tell whether a path may end here; a bare key has no name to compare."""
    ends = (one.certificate for one in anchors)
    return any(end is None or end.subject == top.issuer for end in ends)


def _validated(
    chain: tuple[bytes, ...], anchors: Sequence[Anchor], use: Use, profile: Profile, fits: Fits
) -> BuiltPath | None:
    try:
        path = validate_path(chain, anchors, use=use, profile=profile)
        fits(CertificationPath(path.certificates[-1:], path.anchor))
    except FwsignError:
        return None
    return BuiltPath(chain, path)


def _follows(path: Sequence[_One], ca: _One, use: Use, profile: Profile, fits: Fits) -> bool:
    """Tell whether a CA may stand above a path."""
    below, above = [one.certificate for one in path], ca.certificate
    try:
        check_ca(above, below, profile=profile, use=use)
        check_link(below[-1], above)
        fits(CertificationPath((below[-1],), Anchor(above.key, above.spki, above)))
    except FwsignError:
        return False
    return True


def _uses(leaf: Certificate) -> list[Use]:
    found = leaf.extension(x509.ExtendedKeyUsage)
    return [use for use, rules in USES.items() if found and rules.usage in found.value]


def _is_root(certificate: Certificate) -> bool:
    own = certificate.issuer == certificate.subject
    return own and _signed(certificate, certificate)


def _signed(certificate: Certificate, ca: Certificate) -> bool:
    try:
        return signature_valid(certificate.signed, ca.key)
    except Untrusted:  # an algorithm that is not allowed
        return False


def _by_signatures(leaf: _One, pool: Sequence[_One]) -> tuple[bytes, ...]:
    """Follow the issuers up by signature, if no path validates; the result shows the fault."""
    chain = [leaf]
    while chain[-1].certificate.issuer != chain[-1].certificate.subject:
        last = chain[-1].certificate
        named = [one for one in pool if one.certificate.subject == last.issuer]
        rest = [one for one in named if one not in chain]
        # Two CAs may share a name; their keys differ.
        rest.sort(key=lambda one: one.certificate.subject_key != last.authority_key)
        signers = (one for one in rest[:MAX_NAMESAKES] if _signed(last, one.certificate))
        above = next(signers, rest[0] if rest else None)
        if above is None:
            break
        chain.append(above)
    return tuple(one.data for one in chain)
