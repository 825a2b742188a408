# SPDX-License-Identifier: Apache-2.0
"""The page of a signature request, for people on both sides of an air gap to read and compare.

It has no name of a file and no time of day, so that it is the same wherever it is made.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fwsign.cli.ui import clean
from fwsign.errors import FwsignError, Tampered
from fwsign.files import open_plain
from fwsign.format.algorithms import ALGORITHMS, SHA256
from fwsign.format.envelope import MAX_ENVELOPE_SIZE
from fwsign.format.notice import Notice
from fwsign.format.payload import digest
from fwsign.pki.report.columns import wrap
from fwsign.receipts.facts import content_facts, native_words, notice_words
from fwsign.signing.fingerprint import groups, words
from fwsign.signing.request import is_request, signers_of

if TYPE_CHECKING:
    from fwsign.signing.request import Request

_WIDTH: Final = 13
_ROOM: Final = 64
"""Columns of a value: a line then fits on a terminal with 80 columns."""
_IN_A_ROW: Final = 8
"""Groups of digits in a line, which then fits on a page of paper."""
_WORDS_IN_A_ROW: Final = 4


def kind_of(envelope: bytes) -> str:
    """Say whether an envelope is a request, for `fwsign show`."""
    if is_request(envelope):
        return "signature request: fwsign digest --show FILE prints the page to compare"
    return "SUIT envelope, not verified here"


def told(error: Tampered, path: Path) -> Tampered:
    """Return the refusal of an envelope, with a hint where it is a request."""
    if error.code == "tampered.signature":
        with contextlib.suppress(FwsignError), open_plain(path, "files") as file:
            # A pipe, which is refused here, can be read only once.
            if is_request(file.read(MAX_ENVELOPE_SIZE)):
                return error.with_hint(
                    "it waits for its signature: fwsign attach REQUEST SIGNATURE"
                )
    return error


def page(wanted: "Request", seen: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield the lines of a request's page.

    Args:
        wanted: the request.
        seen: what is known of each component's payload here, by the component's name; None where
            nobody has looked.
    """
    facts = content_facts(wanted.manifest, wanted.text)
    yield "what is to be signed"
    yield ""
    if wanted.text is None:
        yield from _line("text", "was cut off: vendor, product and version are not known")
    yield from _line("product", " ".join(filter(None, (facts["product"], facts["version"]))))
    yield from _line("vendor", facts["vendor"])
    yield from _line("sequence", _sequence(facts["sequence_number"]))
    yield from _line("use before", facts["use_before"])
    notice = Notice(facts["class"], tuple(facts["advisories"]), facts["support_until"])
    yield from _line("notice", notice_words(notice))
    yield from _line("description", facts["description"])
    for one in wanted.manifest.components:
        yield from _line("component", f"{one.name}, {one.size} bytes, payload {one.uri}")
        yield from _rows("  digest", groups(one.digest.value), _IN_A_ROW)
        yield from _line("  here", (seen or {}).get(one.name))
    yield from _further(wanted)
    yield from _rows("manifest", groups(wanted.manifest_digest), _IN_A_ROW)
    yield ""
    yield from _signer(wanted)
    yield ""
    sha256 = digest(SHA256, wanted.message)
    yield from _line("to sign", f"{len(wanted.message)} bytes, which have this SHA-256:")
    yield from _rows("  digits", groups(sha256), _IN_A_ROW)
    yield from _rows("  words", [f"{one:<8}" for one in words(sha256)], _WORDS_IN_A_ROW)


def _further(wanted: "Request") -> Iterator[str]:
    """Yield what the text states of native signatures and documents."""
    if wanted.text is None:
        return
    for one, native in zip(wanted.manifest.components, wanted.text.native, strict=False):
        if native is not None:
            yield from _line("native", f"{one.name}: {native_words(native)}")
            for key in native.key_digests:
                yield from _rows("  key", groups(key), _IN_A_ROW)
    for document in wanted.text.attachments:
        yield from _line(
            "document", f"{document.name}, {document.size} bytes, {document.media_type}"
        )
        yield from _rows("  digest", groups(document.digest.value), _IN_A_ROW)


def _signer(wanted: "Request") -> Iterator[str]:
    leaf, own = wanted.leaf, ALGORITHMS[wanted.block.algorithm]
    yield from _line("signer", f"{leaf.name}, with {own.name}")
    yield from _rows("  key", groups(bytes.fromhex(leaf.spki)), _IN_A_ROW)
    issuer, end = leaf.parsed.issuer.rfc4514_string(), leaf.parsed.not_valid_after_utc
    yield from _line("  certified", f"by {issuer} until {end:%Y-%m-%d}")
    for other in signers_of(wanted.signed).values():
        yield from _line("signed by", f"{other.name}, which is not verified here")


def _sequence(number: int) -> str:
    try:
        time = datetime.fromtimestamp(number, UTC)
    except (ValueError, OverflowError, OSError):
        return str(number)
    return f"{number}, as a time {time:%Y-%m-%d %H:%M:%S} UTC"


def _line(name: str, value: str | None) -> Iterator[str]:
    """Yield a value in lines that no terminal breaks: a text must not look like another row."""
    if value:
        for number, part in enumerate(wrap([clean(value)], _ROOM, " ")):
            yield f"  {'' if number else name:<{_WIDTH}}{part}"


def _rows(name: str, items: Iterable[str], width: int) -> Iterator[str]:
    """Yield items in rows; the first row has the name."""
    every = list(items)
    for at in range(0, len(every), width):
        yield f"  {name if not at else '':<{_WIDTH}}{' '.join(every[at : at + width]).rstrip()}"
