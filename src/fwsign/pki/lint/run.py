# SPDX-License-Identifier: Apache-2.0
"""Check any PKI for faults that devices will refuse, or that will cause trouble.

Nothing is written. Certificates that are revoked, or below a revoked CA, are left out of all rules
but `lint.ca-revoked`.
The codes are in `fwsign.pki.lint.rules`.
"""

import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.keys import Passphrase
from fwsign.keys.published import is_published
from fwsign.pki.lint import (
    certificates as lint_certificates,
)
from fwsign.pki.lint import (
    crls as lint_crls,
)
from fwsign.pki.lint import (
    fate as lint_fate,
)
from fwsign.pki.lint import (
    files as lint_files,
)
from fwsign.pki.lint import (
    log as lint_log,
)
from fwsign.pki.lint import (
    paths as lint_paths,
)
from fwsign.pki.lint.files import Folder, Seen, SeenKey
from fwsign.pki.lint.paths import Tree
from fwsign.pki.lint.rule import SEVERITIES, Rule
from fwsign.pki.lint.rules import RULES, Finding, found

__all__ = ["RULES", "SEVERITIES", "Finding", "Report", "Rule", "lint"]


class Report(NamedTuple):
    """The number of things that were checked, and the findings.

    Args:
        certificates: how many.
        crls: how many.
        keys: how many private keys.
        findings: the worst first.
    """

    certificates: int
    crls: int
    keys: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(one.severity == "note" for one in self.findings)

    def count(self, severity: str) -> int:
        """The number of findings of a severity."""
        return sum(one.severity == severity for one in self.findings)


def lint(place: Path, *, now: datetime, passphrase: Passphrase | None = None) -> Report:
    """Check one file, or all certificates, CRLs and private keys below a folder.

    Args:
        place: the PKI of fwsign, easy-rsa, openssl, or any folder; or one file.
        now: the aware time to judge at.
        passphrase: called for PKCS#12 that is encrypted; None leaves it locked.

    Raises:
        Failed: `io.*`: the place itself cannot be read; `key.*`: a single PKCS#12 file cannot be
            opened. Unreadable files below a folder are findings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd names and serials, which lint reports better
        return _look_over(lint_files.read(place, passphrase), place, now)


def _look_over(folder: Folder, place: Path, now: datetime) -> Report:
    tree = lint_paths.link(folder.certificates)
    lists = lint_crls.link(folder)
    revoked = lists.revoked(tree)
    fates = lint_fate.judge(tree, revoked, now)
    gone = revoked | fates.below_revoked
    idle = lint_fate.idle(tree, fates, revoked, now)
    findings = [
        *(found("lint.damaged", one.file.name, one.file, one.what) for one in folder.damaged),
        *(found("lint.locked", file.name, file, "PKCS#12, encrypted") for file in folder.locked),
        *fates.findings,
        *_certificates(tree, gone, idle, now),
        *lint_paths.check(tree, gone),
        *lint_crls.check(folder, tree, lists, now, fates.dead | idle),
        *lint_crls.check_keys(tree, lists, fates.dead, revoked),
        *lint_log.check(place, tree.certificates, gone),
        *_keys(folder),
    ]
    blamed = {one.file for one in findings if one.severity == "error"}
    faulty = frozenset(one.der for one in folder.certificates if one.file in blamed)
    findings += lint_paths.refusals(tree, gone, faulty)
    findings.sort(key=lambda one: SEVERITIES.index(one.severity))
    sizes = (len(folder.certificates), len(folder.crls), len(folder.keys))
    return Report(*sizes, tuple(findings))


def _certificates(
    tree: Tree, revoked: frozenset[bytes], idle: frozenset[bytes], now: datetime
) -> Iterator[Finding]:
    latest: dict[x509.Name, datetime] = {}
    for one in tree.certificates:
        last = one.parsed.not_valid_after_utc
        who = one.parsed.subject  # it may have come from another CA since
        latest[who] = max(last, latest.get(who, last))
    for one in tree.certificates:
        if one.der not in revoked:
            renewed = latest[one.parsed.subject] > one.parsed.not_valid_after_utc
            above = bool(tree.below(one)) or (one.is_ca and not _is_meant_to_sign(one))
            yield from lint_certificates.check(
                one, above=above, now=now, renewed=renewed or one.der in idle
            )


def _is_meant_to_sign(ca: Seen) -> bool:
    usage = ca.extension(x509.KeyUsage)
    code = ExtendedKeyUsageOID.CODE_SIGNING in ca.usages
    return code and usage is not None and usage.value.digital_signature


def _keys(folder: Folder) -> Iterator[Finding]:
    for key in folder.keys:
        subject = key.file.stem
        if key.exposed:
            yield found("lint.key-readable", subject, key.file, "others can read or write the file")
        if key.spki and (whose := is_published(key.spki)):
            words = f"this is {whose}, which is published"
            yield found("lint.published-key", subject, key.file, words)
        if not key.encrypted:
            yield found("lint.key-plain", subject, key.file, "no passphrase")
        elif key.weakness is not None:
            yield found("lint.key-weak-kdf", subject, key.file, key.weakness)
    roots = [key for key in folder.keys if _is_of_root(key, folder)]
    if roots and len(folder.keys) > len(roots):
        yield found(
            "lint.root-key-here", roots[0].file.stem, roots[0].file, "beside the keys of signers"
        )


def _is_of_root(key: SeenKey, folder: Folder) -> bool:
    """Tell whether a key is a root's, by its public half, or by its name if it is encrypted."""
    roots = [one for one in folder.certificates if one.is_root and one.is_ca]
    if key.spki is not None:
        return key.spki in {one.spki for one in roots}
    return key.file.stem in {one.file.stem for one in roots} | {"cakey"}
