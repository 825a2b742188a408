# SPDX-License-Identifier: Apache-2.0
"""Lint rules about certificates and their issuers, and the verifier's refusals."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.errors import FwsignError
from fwsign.format.cose import key_name, kind_of
from fwsign.format.library import PARSE_ERRORS
from fwsign.pki.lint.certificates import judged_for, signs_code
from fwsign.pki.lint.files import Seen
from fwsign.pki.lint.rules import Finding, found
from fwsign.pki.paths.build import find_paths
from fwsign.pki.paths.end import PathEnd, PathLink, path_ends
from fwsign.pki.profiles import NO_END
from fwsign.pki.report.linking import ISSUER_LIMIT
from fwsign.pki.view.words import shown_serial
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import display_name, parse_anchor, parse_certificate
from fwsign.x509.chain import validate_path
from fwsign.x509.roles import Use

_CODE = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


class Tree(NamedTuple):
    """The issuer of each certificate, by DER; roots issued themselves."""

    certificates: Sequence[Seen]
    issuers: Mapping[bytes, Seen]
    """The one that counts for rules about a pair."""
    makers: Mapping[bytes, Sequence[Seen]]
    """All of them: several if a CA was renewed or cross-signed."""
    children: Mapping[bytes, Sequence[Seen]]
    forged: Sequence[Seen]
    orphans: Sequence[Seen]

    def below(self, ca: Seen) -> Sequence[Seen]:
        """The certificates that a CA has issued, without its own."""
        return self.children.get(ca.der, ())

    def path(self, certificate: Seen) -> list[Seen]:
        """A certificate and those above it that are here."""
        above = [certificate]
        while (issuer := self.issuers.get(above[-1].der)) is not None and issuer not in above:
            above.append(issuer)
        return above

    def ends(self, revoked: frozenset[bytes]) -> dict[bytes, PathEnd[bytes]]:
        """When the path of each certificate ends, by DER."""
        return path_ends(
            {
                one.der: PathLink(
                    [ca.der for ca in self.makers.get(one.der, ())],
                    one.parsed.not_valid_after_utc,
                    one.der in revoked,
                    tls=one.is_tls,
                )
                for one in self.certificates
            }
        )


def link(certificates: Sequence[Seen]) -> Tree:
    """Find the issuer of each certificate."""
    named: dict[x509.Name, list[Seen]] = defaultdict(list)
    for one in certificates:
        named[one.parsed.subject].append(one)
    issuers: dict[bytes, Seen] = {}
    makers: dict[bytes, list[Seen]] = {}
    forged: list[Seen] = []
    orphans: list[Seen] = []
    for one in certificates:
        # A root is its own issuer; this is preferred to a certificate by another root.
        candidates = sorted(
            named.get(one.parsed.issuer, []), key=lambda ca: (ca is not one, not ca.is_root)
        )
        makers[one.der] = [ca for ca in candidates[:ISSUER_LIMIT] if _issued(ca, one)]
        issuer = next(iter(makers[one.der]), None)
        wanted = one.key_identifiers[1]
        fitting = [ca for ca in candidates if wanted in (None, ca.key_identifiers[0])]
        if issuer is not None:
            issuers[one.der] = issuer
        elif any(_can_tell(ca, one) for ca in fitting):
            forged.append(one)
        elif fitting:  # a weak algorithm, which only lint.signature-weak reports
            issuers[one.der] = fitting[0]
            makers[one.der] = fitting[:1]
        else:
            orphans.append(one)
    children: dict[bytes, list[Seen]] = defaultdict(list)
    for one in certificates:
        if (above := issuers.get(one.der)) is not None and above is not one:
            children[above.der].append(one)
    return Tree(certificates, issuers, makers, children, forged, orphans)


def check(tree: Tree, revoked: frozenset[bytes]) -> Iterator[Finding]:
    """Find faults between certificates; `revoked` holds the DER of those to leave out."""
    for one in tree.forged:
        words = f'the signature is not by "{display_name(one.parsed.issuer)}"'
        yield found("lint.signature", one.name, one.file, words)
    for one in tree.orphans:
        words = f'its issuer "{display_name(one.parsed.issuer)}" is not here'
        yield found("lint.issuer-absent", one.name, one.file, words)
    alive = [one for one in tree.certificates if one.der not in revoked]
    yield from _twice(tree.certificates, alive)
    for one in alive:
        issuer = tree.issuers.get(one.der)
        if issuer is not None and issuer is not one:
            yield from _pair(one, issuer)
        if below := [child for child in tree.below(one) if child.der not in revoked]:
            yield from _issuer(one, below, tree)


def refusals(tree: Tree, revoked: frozenset[bytes], blamed: frozenset[bytes]) -> Iterator[Finding]:
    """Run the verifier on each signer whose path has no error yet, so that none is missed."""
    for leaf in tree.certificates:
        path = tree.path(leaf)
        if leaf.der in revoked or any(one.der in blamed for one in path):
            continue
        chain = [one.der for one in path[:-1]] if path[-1].is_root else [one.der for one in path]
        use = judged_for(leaf)
        try:
            for one in path:
                (parse_anchor if one.is_root else parse_certificate)(one.der)
            if chain and path[-1].is_root and not leaf.is_ca and use:
                anchors = [Anchor.from_certificate(path[-1].der)]
                validate_path(chain, anchors, profile="compat", use=use)
        except FwsignError as error:
            if _has_another_path(leaf, tree, use or "codeSigning"):
                continue
            yield found("lint.refused", leaf.name, leaf.file, f"{error.code}: {error.message}")


def _has_another_path(leaf: Seen, tree: Tree, use: Use) -> bool:
    authorities = [one.der for one in tree.certificates if one.is_ca]
    roots = [one.der for one in tree.certificates if one.is_root]
    try:
        anchors = [Anchor.from_certificate(root) for root in roots]
        paths = find_paths(leaf.der, authorities, anchors, use=use, profile="compat")
        return any(paths)
    except FwsignError:
        return False


def _issued(ca: Seen, certificate: Seen) -> bool:
    try:
        certificate.parsed.verify_directly_issued_by(ca.parsed)
    except (InvalidSignature, UnsupportedAlgorithm, *PARSE_ERRORS):
        return False
    return True


def _can_tell(ca: Seen, certificate: Seen) -> bool:
    try:
        certificate.parsed.verify_directly_issued_by(ca.parsed)
    except InvalidSignature:
        return True
    except (UnsupportedAlgorithm, *PARSE_ERRORS):
        return False
    return True


def _twice(certificates: Sequence[Seen], alive: Sequence[Seen]) -> Iterator[Finding]:
    serials: dict[tuple[x509.Name, int], Seen] = {}
    for one in certificates:
        first = serials.setdefault((one.parsed.issuer, one.fields.serial), one)
        if first is not one:
            words = (
                f'serial number {shown_serial(one.fields.serial)} is also that of "{first.name}"'
            )
            yield found("lint.serial-twice", one.name, one.file, f"{words}, {first.file}")
    names: dict[x509.Name, Seen] = {}
    for one in alive:
        first = names.setdefault(one.parsed.subject, one)
        if first.spki != one.spki:
            code = "lint.ca-name-twice" if one.is_ca and first.is_ca else "lint.name-twice"
            yield found(code, one.name, one.file, f"another key than that of {first.file}")


def _pair(one: Seen, issuer: Seen) -> Iterator[Finding]:
    wanted, there = one.key_identifiers[1], issuer.key_identifiers[0]
    if wanted is not None and there is not None and wanted != there:
        words = f'it names issuer key {wanted.hex()}, "{issuer.name}" has {there.hex()}'
        yield found("lint.aki-mismatch", one.name, one.file, words)
    yield from _mixture(one, issuer)
    last, above = one.parsed.not_valid_after_utc, issuer.parsed.not_valid_after_utc
    if last > above and last != NO_END:
        words = f'valid until {last:%Y-%m-%d}, its issuer "{issuer.name}" until {above:%Y-%m-%d}'
        yield found("lint.outlives-issuer", one.name, one.file, words)


def _mixture(one: Seen, issuer: Seen) -> Iterator[Finding]:
    """Name a path with keys that a quantum computer breaks, and others."""
    try:
        keys = [seen.parsed.public_key() for seen in (one, issuer)]
    except (UnsupportedAlgorithm, *PARSE_ERRORS):  # lint.key names it
        return
    names, kinds = [key_name(key) for key in keys], [kind_of(key) for key in keys]
    lasts = [kind is not None and kind.family == "ML-DSA" for kind in kinds]
    if lasts[0] != lasts[1]:
        code = "lint.below-ml-dsa" if lasts[1] else "lint.above-ml-dsa"
        words = f'the key is {names[0]}, its issuer "{issuer.name}" has {names[1]}'
        yield found(code, one.name, one.file, words)


def _issuer(ca: Seen, below: Sequence[Seen], tree: Tree) -> Iterator[Finding]:
    if not ca.is_ca:
        words = f'it is not a CA, but has issued "{below[0].name}"'
        yield found("lint.issuer-not-ca", ca.name, ca.file, words)
    endless = [one for one in below if one.parsed.not_valid_after_utc == NO_END]
    if endless:
        last = ca.parsed.not_valid_after_utc
        words = f'{len(endless)} below it have no end date, such as "{endless[0].name}", and end '
        words += f"with it, {last:%Y-%m-%d}"
        yield found("lint.no-end", ca.name, ca.file, words)
    basic = ca.extension(x509.BasicConstraints)
    limit = basic.value.path_length if basic else None
    depth = max(_depth(child, tree, {ca.der}) for child in below)
    if limit is not None and depth > limit:
        words = f"it allows {limit} CAs below it, there are {depth}"
        yield found("lint.path-length", ca.name, ca.file, words)
    signers = [one for one in below if not one.is_ca and signs_code(one)]
    if signers and ca.extension(x509.NameConstraints) is None:
        words = f'no name constraints, and it issues signers such as "{signers[0].name}"'
        yield found("lint.constraints-absent", ca.name, ca.file, words)
    if ca.usages and _CODE.isdisjoint(ca.usages) and (signer := _signer_below(ca, tree)):
        words = f'no codeSigning, but "{signer.name}" is below it'
        yield found("lint.ca-eku", ca.name, ca.file, words)


def _depth(one: Seen, tree: Tree, seen: set[bytes]) -> int:
    if not one.is_ca or one.der in seen:
        return 0
    return 1 + max((_depth(child, tree, seen | {one.der}) for child in tree.below(one)), default=0)


def _signer_below(ca: Seen, tree: Tree) -> Seen | None:
    return next(
        (
            one
            for one in tree.certificates
            if not one.is_ca and _CODE & {*one.usages} and ca in tree.path(one)[1:]
        ),
        None,
    )
