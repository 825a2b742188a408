# SPDX-License-Identifier: Apache-2.0
"""Receipts: records of actions on devices, one JSON object per line, in a chain.

A line is the canonical JSON of RFC 8785, in UTF-8; texts, whole numbers, booleans, null, arrays and
objects only. `previous` is the SHA-256, in hex, of the line before without its newline; the first
line has null. `jws` is a detached compact JWS (RFC 7515 appendix F) over the same object without
`jws`; its header has alg, kid (SHA-256 of the public key, in hex), typ, and x5c where the key
is certified.

The first line may be a record of pruned lines instead: `kind` is "pruned", and `pruned` has the
number of the receipts that were there before, and the digest of the last one of them, which the
next line names.

Unsigned lines are a log, not evidence: any writer of the file can rewrite it. Signatures prove each
line and its place. Only a head proves that the end is there: it is the digest of the last line,
kept elsewhere.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed, FwsignError, Malformed, Tampered, Untrusted
from fwsign.keys import Signer
from fwsign.receipts import jws
from fwsign.receipts.canonical import canonical
from fwsign.receipts.line_trust import LineTrust
from fwsign.verify.policy import DevicePolicy
from fwsign.x509.anchor import Anchor

MAX_LINE: Final = 64 * 1024
"""Bytes; an ML-DSA-87 signature with its chain of three takes 35 thousand."""

_TYPE: Final = "fwsign-receipt+json"
_PRUNED: Final = "pruned"
_DIGEST: Final = re.compile("[0-9a-f]{64}")


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
        pruned: the number of older receipts that were removed, as the first line says.
        device: the device that the lines name, None if they name none.
    """

    receipts: int
    signed: int
    signers: tuple[str, ...]
    head: str | None
    since: int | None
    pruned: int = 0
    device: str | None = None


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


def pruning(receipts: int, head: str) -> dict[str, Any]:
    """Return the record that takes the place of pruned lines, without `previous`."""
    return {"kind": _PRUNED, "pruned": {"receipts": receipts, "head": head}}


def pruned_before(line: str) -> int | None:
    """Return the number of receipts that a line says were pruned; None if it is another line."""
    found = pruned_of(parse_line(line, 1), 1)
    return found[0] if found else None


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
    lines: Iterable[str],
    keys: Sequence[Anchor] = (),
    anchors: Sequence[Anchor] = (),
    *,
    crls: Sequence[bytes] = (),
    after: str | None = None,
    dates: bool = True,
    unsigned: bool = False,
) -> Iterator[Receipt]:
    """Judge and yield each line; refuse at the first wrong one.

    Canonical form and chain are always checked. If a key or anchor is given, each line needs a
    signature. Nothing proves when a receipt was made: dates and revocation are checked with CRLs
    alone.

    Args:
        lines: the lines without newlines, from the first one on.
        keys: the signing keys, as anchors.
        anchors: roots; a path from `x5c` to one of them counts for the purpose "client", on the
            day on which its last certificate was issued.
        crls: in DER, one of each issuer of such paths: no certificate may be revoked, and each
            must be valid when the receipt says that it was made.
        after: the digest of the line before the first one; None from the beginning of the chain.
        dates: with CRLs, judge the dates of certificates too, by the clocks that receipts name.
        unsigned: let lines without a signature pass; they have no signer.

    Raises:
        Malformed: `malformed.receipt`, and for certificates and CRLs.
        Tampered: `tampered.receipt-chain`, `tampered.signature`, and for certificates.
        Untrusted: `untrusted.receipt`, `untrusted.example-key`, and for certificates.
        Stale: `stale.crl-missing`, `stale.certificate`, `stale.not-yet-valid`.
    """
    previous = after
    device: str | None = None
    trust = LineTrust(keys, anchors, {}, set(), crls, dates=dates, unsigned=unsigned)
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
        device = _same_device(device, content, number)
        digest = line_digest(line)
        pruned = pruned_of(content, number + (after is not None))
        previous = pruned[1] if pruned else digest
        yield Receipt(content, digest, found.kid if found else None, signer)


def verify_lines(
    lines: Iterable[str],
    keys: Sequence[Anchor] = (),
    anchors: Sequence[Anchor] = (),
    head: str | None = None,
    device: str | None = None,
    *,
    crls: Sequence[bytes] = (),
) -> Summary:
    """Judge a whole chain, in constant memory; see `judge_lines`.

    Args:
        lines: the lines without newlines.
        keys: the signing keys, as anchors.
        anchors: roots of the signers' certificates.
        head: a digest that was exported before, in hex; its line must still be there, or be the
            last one that was pruned.
        device: the device that the lines must name; a certificate of the signer must be its.
        crls: as for `judge_lines`.

    Raises:
        Tampered: `tampered.receipt-head`, and as `judge_lines`.
        Untrusted: `untrusted.receipt` for another device, and as `judge_lines`.
    """
    count = signed = pruned = 0
    signers: dict[str, None] = {}
    certified: dict[str, None] = {}  # those whose key was not given
    pins = {one.spki for one in keys}
    last = since = named = None
    for count, receipt in enumerate(judge_lines(lines, keys, anchors, crls=crls), 1):
        last = receipt.digest
        signed += receipt.claim is not None
        if receipt.signer is not None:
            signers[receipt.signer] = None
            if receipt.claim not in pins:
                certified[receipt.signer] = None
        named = device_of(receipt.content) or named
        if gone := pruned_of(receipt.content, count):
            pruned = gone[0]
            since = 0 if gone[1] == head else None
        else:
            since = 0 if last == head else None if since is None else since + 1
    if head is not None and since is None:
        earlier = f", and {pruned} older ones were pruned" if pruned else ""
        raise Tampered(
            "tampered.receipt-head",
            f"none of {count} receipts is the head {head[:16]}{earlier}: the end was cut off or "
            "rewritten",
            expected=head,
            found=last,
        )
    if device is not None and count:
        check_device(device, named, certified)
    return Summary(count, signed, tuple(signers), last, since, pruned, named)


def device_of(content: Mapping[str, Any]) -> str | None:
    """Return the id of the device that a receipt names; None if it names none."""
    match content.get("device"):
        case {"id": str(found)}:
            return found
    return None


def _same_device(known: str | None, content: Mapping[str, Any], number: int) -> str | None:
    """Return the device of the lines so far; only an enrolment changes it."""
    found = device_of(content)
    enrolled = str(content.get("result")).startswith("enrolled")
    if found is None or known is None or found == known or enrolled:
        return found or known
    raise Tampered(
        "tampered.receipt-chain",
        f'receipt {number} is of device "{found:.80}", those before it are of "{known:.80}"',
        expected=known,
        found=found,
    )


def check_device(device: str, named: str | None, certified: Iterable[str]) -> None:
    """Refuse receipts of another device, or that another device's certificate signed.

    Args:
        device: the device that they must be of.
        named: the device that they name; None if they name none.
        certified: the names in the certificates that signed them.

    Raises:
        Untrusted: `untrusted.receipt`.
    """
    if named != device:
        raise Untrusted(
            "untrusted.receipt",
            f'the receipts are of device "{named or "unknown"}", not of "{device}"',
            expected=device,
            found=named,
            hint="find out whose record this is, and where that of the device is",
        )
    for signer in certified:
        if signer != device:
            raise Untrusted(
                "untrusted.receipt",
                f'the receipts of device "{device}" are signed by the certificate of "{signer}"',
                expected=device,
                found=signer,
                hint="if that key is the device's after all, pin it: --key PEM",
            )


def pruned_of(content: Mapping[str, Any], number: int) -> tuple[int, str] | None:
    """Return number and last digest of the pruned lines that a record stands for."""
    if content.get("kind") != _PRUNED or number > 1:
        return None
    match content.get(_PRUNED):
        case {"receipts": int(count), "head": str(head)} if count > 0 and _DIGEST.fullmatch(head):
            return (count, head) if count is not True else None
    return None


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
