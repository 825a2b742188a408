# SPDX-License-Identifier: Apache-2.0
"""Receipts: records of actions on devices, one JSON object per line, in a chain.

A line is the canonical JSON of RFC 8785, in UTF-8; texts, whole numbers, booleans, null, arrays and
objects only. `previous` is the SHA-256, in hex, of the line before without its newline; the first
line has null. `jws` is a detached compact JWS (RFC 7515 appendix F) over the same object without
`jws`; its header has alg, kid (SHA-256 of the public key, in hex), typ, and x5c where the key
is certified.

Unsigned lines are a log, not evidence: any writer of the file can rewrite it. Signatures prove each
line and its place. Only a head proves that the end is there: it is the digest of the last line,
kept elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Untrusted
from fwsign.format.cose import PublicKey
from fwsign.keys import Signer
from fwsign.receipts import jws
from fwsign.receipts.canonical import canonical
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import parse_certificate
from fwsign.x509.chain import CertificationPath

MAX_LINE: Final = 64 * 1024
"""Bytes; an ML-DSA-87 signature with its chain of three takes 35 thousand."""

_TYPE: Final = "fwsign-receipt+json"


class Receipt(NamedTuple):
    """A decoded line of a chain.

    Args:
        content: the object, with `previous` and `jws`.
        digest: SHA-256 of the line, in hex; that of the last line is the head.
        claim: SHA-256 in hex of the key that the line names as its signer; None if unsigned.
        signer: the verified signer, None before verification.
    """

    content: Mapping[str, Any]
    digest: str
    claim: str | None
    signer: str | None = None


class Summary(NamedTuple):
    """A summary of a whole chain.

    Args:
        receipts: the number of receipts.
        signed: the number of receipts with a signature.
        signers: the verified signers, each once; none if no key was given.
        head: the digest of the last line, None for an empty chain.
        since: the number of receipts after the requested head, None if none was requested.
    """

    receipts: int
    signed: int
    signers: tuple[str, ...]
    head: str | None
    since: int | None


def make_line(
    receipt: Mapping[str, Any],
    previous: str | None,
    signer: Signer | None = None,
    chain: Sequence[bytes] = (),
) -> str:
    """Return a receipt as a line, without newline.

    Args:
        receipt: the facts: texts, whole numbers, booleans, None, sequences, dicts.
        previous: digest of the line before, None for the first one.
        signer: signs the line.
        chain: the signer's certificates, DER, leaf first, without the anchor; none for a bare key.

    Raises:
        Failed: `state.receipt`; `key.mismatch`, `key.failed`, `key.*` of the signer.
        Malformed, Untrusted: for a certificate of the chain.
    """
    try:
        if taken := receipt.keys() & {"previous", "jws"}:
            raise ValueError(f'"{min(taken)}" is not for the caller to set')
        content = {**receipt, "previous": previous}
        line = canonical(content)
        if signer is not None:
            line = canonical({**content, "jws": jws.sign(line.encode(), signer, chain, _TYPE)})
        if (size := len(line.encode())) > MAX_LINE:
            raise ValueError(f"it has {size} bytes, at most {MAX_LINE} are allowed")
    except (ValueError, RecursionError) as error:
        raise Failed("state.receipt", f"not a receipt: {error}") from None
    return line


def waivers(policy: DevicePolicy) -> tuple[str, ...]:
    """Return the names of the checks that a policy leaves out or loosens, as in receipts."""
    loosened = {
        "revocation": policy.revocation == "off",
        "stale": bool(policy.allow_stale),
        "compat": policy.profile == "compat",
        "example-keys": policy.allow_example_keys,
    }
    return tuple(name for name, is_so in loosened.items() if is_so)


def line_digest(line: str) -> str:
    """Return the SHA-256 of a line, without newline, in hex."""
    return hashlib.sha256(line.encode()).hexdigest()


def judge_lines(
    lines: Iterable[str], keys: Sequence[Anchor] = (), anchors: Sequence[Anchor] = ()
) -> Iterator[Receipt]:
    """Judge and yield each line; refuse at the first wrong one.

    Canonical form and chain are always checked. If a key or anchor is given, each line needs a
    signature. Dates and revocation are not checked: nothing proves when a receipt was made.

    Args:
        lines: the lines without newlines, from the first one on.
        keys: the signing keys, as anchors.
        anchors: roots; a path from `x5c` to one of them counts for the purpose "client", on the
            day on which its last certificate was issued.

    Raises:
        Malformed: `malformed.receipt`, and for certificates.
        Tampered: `tampered.receipt-chain`, `tampered.signature`, and for certificates.
        Untrusted: `untrusted.receipt`, `untrusted.example-key`, and for certificates.
    """
    previous = None
    trust = _Trust(keys, anchors, {})
    for number, line in enumerate(lines, 1):
        content = parse_line(line, number)
        if content["previous"] != previous:
            expected, named = (one or "none" for one in (previous, content["previous"]))
            raise Tampered(
                "tampered.receipt-chain",
                f"receipt {number} names {named:.16} as the one before it, that is {expected:.16}",
                expected=expected,
                found=named,
            )
        try:
            found = jws.parse(content["jws"], _TYPE) if "jws" in content else None
            signer = trust.verify(content, found) if keys or anchors else None
        except FwsignError as error:
            message = f"receipt {number}: {error.message}"
            raise type(error)(
                error.code, message, expected=error.expected, found=error.found
            ) from None
        previous = line_digest(line)
        yield Receipt(content, previous, found.kid if found else None, signer)


def verify_lines(
    lines: Iterable[str],
    keys: Sequence[Anchor] = (),
    anchors: Sequence[Anchor] = (),
    head: str | None = None,
) -> Summary:
    """Judge a whole chain; see `judge_lines`.

    Args:
        lines: the lines without newlines.
        keys: the signing keys, as anchors.
        anchors: roots of the signers' certificates.
        head: a digest that was exported before, in hex; its line must still be there.

    Raises:
        Tampered: `tampered.receipt-head`, and as `judge_lines`.
    """
    count = signed = 0
    signers: dict[str, None] = {}
    last = since = None
    for count, receipt in enumerate(judge_lines(lines, keys, anchors), 1):  # noqa: B007 - the last
        last = receipt.digest
        signed += receipt.claim is not None
        if receipt.signer is not None:
            signers[receipt.signer] = None
        since = 0 if last == head else None if since is None else since + 1
    if head is not None and since is None:
        raise Tampered(
            "tampered.receipt-head",
            f"none of {count} receipts is the head {head[:16]}: the end was cut off or rewritten",
            expected=head,
            found=last,
        )
    return Summary(count, signed, tuple(signers), last, since)


def parse_line(line: str, number: int) -> dict[str, Any]:
    """Read a line, strictly; chain and signature are not judged.

    Args:
        line: any text, without newline.
        number: the line's number, from 1, for messages.

    Raises:
        Malformed: `malformed.receipt`.
    """
    try:
        content = json.loads(line)
        if not isinstance(content, dict) or canonical(content) != line or len(line) > MAX_LINE:
            content = {}
    except (ValueError, RecursionError):
        content = {}
    if not isinstance(content.get("previous", 0), str | None):
        raise Malformed(
            "malformed.receipt",
            f"receipt {number} is not a line of canonical JSON with the digest of the one before",
            expected='{...,"previous":...}',
            found=f"{line!r:.40}",
        )
    return content


class _Trust(NamedTuple):
    """Keys, anchors, and the paths validated so far: most lines of a file share one path."""

    keys: Sequence[Anchor]
    anchors: Sequence[Anchor]
    paths: dict[tuple[bytes, ...], CertificationPath]

    def verify(self, content: Mapping[str, Any], found: jws.Jws | None) -> str:
        """Verify a line's signature and return its signer."""
        if found is None:
            raise Untrusted("untrusted.receipt", "it is not signed", expected="a JWS", found="none")
        if found.kid in EXAMPLE_SPKI:
            what = "it is signed by a published key, which anyone can use"
            raise Untrusted("untrusted.example-key", what, found=found.kid)
        key, name = self._key(found)
        line = canonical({name: value for name, value in content.items() if name != "jws"})
        found.verify(line.encode(), key)
        return name

    def _key(self, found: jws.Jws) -> tuple[PublicKey, str]:
        for one in self.keys:
            if one.spki == found.kid:
                return one.key, one.certificate.name if one.certificate else one.spki
        if not found.chain or not self.anchors:
            raise Untrusted(
                "untrusted.receipt",
                f"it is signed by key {found.kid:.16}, which was not given",
                expected=", ".join(one.spki for one in (*self.keys, *self.anchors)),
                found=found.kid,
            )
        if found.chain not in self.paths:
            self.paths[found.chain] = _validate(found.chain, self.anchors)
        path = self.paths[found.chain]
        if path.keys[0] != found.kid:
            what = f'kid is not the key of certificate "{path.name}"'
            raise Tampered("tampered.signature", what, expected=path.keys[0], found=found.kid)
        return path.certificates[0].key, path.name


def _validate(chain: Sequence[bytes], anchors: Sequence[Anchor]) -> CertificationPath:
    from fwsign.pki.paths.purpose import judge  # few receipts carry certificates

    issued = max(parse_certificate(data).not_before for data in chain)
    return judge(chain, anchors, purpose="client", at=issued).path
