# SPDX-License-Identifier: Apache-2.0
"""Rules about the log of a PKI: that it is whole, and that it has what was issued."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from fwsign.errors import Failed, FwsignError
from fwsign.pki.lint.files import Seen
from fwsign.pki.lint.rules import Finding, found
from fwsign.pki.log import FILE, read_log
from fwsign.pki.places import INDEX
from fwsign.pki.profiles import BACKDATED


def check(place: Path, certificates: Iterable[Seen], gone: frozenset[bytes]) -> Iterator[Finding]:
    """Yield what is wrong with the log, and certificates that are younger and not in it.

    easy-rsa issues in a flat PKI without a log, and its index.txt has what it issued.

    Args:
        place: a PKI's directory; any other place has no log.
        certificates: those in it.
        gone: certificates that are revoked, or below a revoked CA.
    """
    file = place / FILE
    if not file.is_file():
        return
    begin, logged = None, set()
    try:
        for line in read_log(place):
            begin = begin or _time(line.content.get("clock"))
            logged.add(line.content.get("sha256"))
    except (FwsignError, ValueError) as error:
        words = error.message if isinstance(error, FwsignError) else "its first line has no time"
        code = "lint.damaged" if isinstance(error, Failed) else "lint.log"
        yield found(code, FILE, file, words)
        return
    if begin is None or (place / INDEX).is_file():
        return
    for one in certificates:
        made = one.parsed.not_valid_before_utc + BACKDATED
        if made > begin and one.der not in gone and sha256(one.der).hexdigest() not in logged:
            when = f"it begins {one.parsed.not_valid_before_utc:%Y-%m-%d %H:%M}, the log earlier"
            yield found("lint.not-logged", one.name, one.file, when)


def _time(text: object) -> datetime:
    time = datetime.fromisoformat(str(text))
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time
