# SPDX-License-Identifier: Apache-2.0
"""Lines that a client handed in: which of them count, and whose they are.

The judgement is that of `fwsign.receipts.chain`. Added is the question who may hand in what: a
client its own receipts, and a station that the operator named those of others too.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from fwsign.errors import FwsignError, Malformed, Untrusted, check_limit
from fwsign.receipts.chain import (
    Receipt,
    check_device,
    device_of,
    judge_lines,
    parse_line,
    pruned_of,
)
from fwsign.x509.anchor import Anchor

MAX_BODY: Final = 1024 * 1024
"""Bytes of one batch of lines."""
MAX_LINES: Final = 1000
"""Lines of one batch."""
MAX_NAME: Final = 512
"""Bytes of a device's name: PostgreSQL has an index of them."""
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class CollectorTrust(NamedTuple):
    """What a collector demands of receipts.

    Args:
        anchors: the roots of devices' certificates.
        crls: their CRLs, in DER; none: revocation is not judged.
        stations: the names of clients that may hand in receipts of others.
        unsigned: take receipts without a signature: they are a log, not evidence.
    """

    anchors: tuple[Anchor, ...]
    crls: tuple[bytes, ...] = ()
    stations: Collection[str] = ()
    unsigned: bool = False


class NewLine(NamedTuple):
    """A line that counts.

    Args:
        line: the line itself.
        receipt: its content, digest and signer.
        parent: the digest of the line before it; of a record of pruned lines, that of the last
            one of them. None at the beginning of a chain.
        follows: the digest that the line after it names: its own, but of such a record its parent.
    """

    line: str
    receipt: Receipt
    parent: str | None
    follows: str


class JudgedBatch(NamedTuple):
    """The lines of a batch that count, and the reason why the others do not.

    Args:
        owner: the device whose chain it is; None if no line counts.
        lines: those before the first wrong one.
        refusal: the reason; None if all lines count.
        refused: the first wrong line.
    """

    owner: str | None
    lines: tuple[NewLine, ...]
    refusal: FwsignError | None = None
    refused: str = ""


def split(body: bytes) -> list[str]:
    """Return the lines of a batch, without newlines.

    Raises:
        Malformed: `malformed.size`, `malformed.receipt`: there are none, or it is not UTF-8.
    """
    check_limit(len(body), MAX_BODY, f"a batch of {len(body)} bytes")
    try:
        lines = body.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        lines = []
    check_limit(len(lines), MAX_LINES, f"a batch of {len(lines)} lines")
    if not lines or not lines[0]:
        raise Malformed(
            "malformed.receipt",
            "the batch is not lines of receipts",
            expected="lines as fwsign receipts export writes them",
            found=f"{body[:40]!r}",
        )
    return lines


def judge_batch(lines: Sequence[str], client: str, trust: CollectorTrust) -> JudgedBatch:
    """Judge consecutive lines of one chain, which may begin anywhere in it.

    Args:
        lines: at least one.
        client: the name in the certificate of the TLS client.
        trust: the collector's demands.
    """
    good: list[NewLine] = []
    owner: str | None = None
    try:
        after = _previous(lines[0])
        how: Any = {"after": after, "dates": False, "unsigned": trust.unsigned}
        found = judge_lines(lines, (), trust.anchors, crls=trust.crls, **how)
        for line, receipt in zip(lines, found, strict=True):
            named = _owner(owner, receipt, client, trust)
            if owner not in (None, named):
                break  # enrolled under another name: the rest is another device's, and comes again
            owner = named
            good.append(_new_line(line, receipt, first=not good and after is None))
    except FwsignError as refusal:
        return JudgedBatch(owner, tuple(good), refusal, lines[len(good)])
    return JudgedBatch(owner, tuple(good))


def _previous(line: str) -> str | None:
    """Return the digest that the first line of a batch names; those after it are compared.

    Raises:
        Malformed: `malformed.receipt`.
    """
    found: str | None = parse_line(line, 1)["previous"]
    if found is not None and not _DIGEST.fullmatch(found):
        raise Malformed(
            "malformed.receipt",
            "receipt 1 names no digest as that of the line before",
            expected="64 hex digits",
            found=f"{found!r:.40}",
        )
    return found


def _owner(known: str | None, receipt: Receipt, client: str, trust: CollectorTrust) -> str:
    """Return the device whose receipt it is.

    Raises:
        Untrusted: `untrusted.receipt`: another device signed it, or another one handed it in.
        Malformed: `malformed.receipt`: no database keeps such a name.
    """
    named = device_of(receipt.content)
    owner = named or known or receipt.signer or client
    if "\0" in owner or len(owner.encode()) > MAX_NAME:
        raise Malformed(
            "malformed.receipt",
            f"the receipt names device {owner!r:.80}",
            expected=f"a name of at most {MAX_NAME} bytes without NUL",
            found=f"{owner!r:.80}",
        )
    check_device(owner, owner, [receipt.signer] if receipt.signer is not None else [])
    if client != owner and client not in trust.stations:
        raise Untrusted(
            "untrusted.receipt",
            f'the receipts of device "{owner:.80}" came from "{client:.80}"',
            expected=owner,
            found=client,
        )
    return owner


def _new_line(line: str, receipt: Receipt, *, first: bool) -> NewLine:
    pruned = pruned_of(receipt.content, 1) if first else None
    if pruned is not None:
        return NewLine(line, receipt, pruned[1], pruned[1])
    return NewLine(line, receipt, receipt.content["previous"], receipt.digest)
