# SPDX-License-Identifier: Apache-2.0
"""The clients of a collector: whose certificates count, and the files that say so.

OpenSSL has checked that a client has its key, and a path to a root. Here the verify path judges
the certificate again, with CRLs that may have come since the collector was started.
"""

import hashlib
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.collect.judge import CollectorTrust
from fwsign.errors import Failed, FwsignError, Stale
from fwsign.pki.paths.purpose import belonging, judge_pool
from fwsign.x509.anchor import Anchor

LOOK_SECONDS: Final = 10.0
"""Seconds between two looks at the files of CRLs."""

KNOWN_SECONDS: Final = 60.0
"""Seconds for which the verdict on a client counts, unless there are other CRLs."""
MAX_KNOWN: Final = 10_000
"""Clients whose verdicts are kept."""

Load = Callable[[Sequence[Path]], tuple[bytes, ...]]
"""Reads CRLs, in DER, from PEM files."""


class HeldCrls:
    """CRLs in files, which are read again when they change; safe in several threads.

    Args:
        paths: the files.
        load: reads them.
        tell: told, in words, when they cannot be read; those from before count then.

    Raises:
        FwsignError: as `load`.
    """

    def __init__(self, paths: Sequence[Path], load: Load, tell: Callable[[str], object]) -> None:
        self._paths, self._load, self._tell = paths, load, tell
        self._lock = threading.Lock()
        self._seen, self._crls = self._look(), load(paths) if paths else ()
        self._next = time.monotonic() + LOOK_SECONDS

    def get(self) -> tuple[bytes, ...]:
        """Return the CRLs of now."""
        if not self._paths:
            return ()
        with self._lock:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + LOOK_SECONDS
                self._read_again()
            return self._crls

    def _read_again(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        try:
            self._crls, self._seen = self._load(self._paths), seen
        except FwsignError as error:
            self._tell(f"the CRLs from before still count: {error.message}")

    def _look(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                facts = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
        return found


class Clients(NamedTuple):
    """Whose connections and receipts count.

    Args:
        roots: the roots of TLS clients' certificates.
        pool: CAs between these and the clients.
        anchors: the roots of the certificates that sign receipts.
        crls: the CRLs of both.
        stations: the names of clients that may hand in receipts of others.
        unsigned: take receipts without a signature.
    """

    roots: tuple[Anchor, ...]
    pool: tuple[bytes, ...]
    anchors: tuple[Anchor, ...]
    crls: HeldCrls
    stations: Collection[str] = ()
    unsigned: bool = False

    def name_of(self, chain: Sequence[bytes], now: datetime) -> str:
        """Return the name of a client by the certificates that it showed.

        Args:
            chain: in DER, its own first.
            now: the collector's clock.

        Raises:
            FwsignError: its certificate does not count.
        """
        pool = (*chain[1:], *self.pool)
        held = self.crls.get()
        crls = belonging(held, (*chain, *pool), self.roots)
        found = judge_pool(chain[0], pool, self.roots, purpose="client", at=now, crls=crls).verdict
        if isinstance(found, FwsignError):
            raise found
        name = found.path.name
        if held and not found.revocation_checked:
            what = f'none of the CRLs is by an issuer of client "{name:.80}"'
            raise Stale("stale.crl-missing", what, expected="a CRL of each CA", found="none")
        return name

    def trust(self) -> CollectorTrust:
        """Return what receipts are judged by now."""
        return CollectorTrust(self.anchors, self.crls.get(), self.stations, self.unsigned)


class ClientNames:
    """The verdicts on clients of the last minute; safe in several threads.

    A long CRL takes a tenth of a second to read, and a client may ask again at once.

    Args:
        clients: judges them.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def name_of(self, chain: Sequence[bytes], now: datetime) -> str:
        """Return the name of a client, as `Clients.name_of`."""
        key = hashlib.sha256(b"".join(chain)).digest()
        crls = self._clients.crls.get()
        with self._lock:
            known = self._known.get(key)
        if known is None or not known.counts(crls, now):
            known = self._judged(chain, crls, now)
            with self._lock:
                self._known[key] = known
                self._known.move_to_end(key)
                if len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)
        if isinstance(known.found, FwsignError):
            raise known.found.with_traceback(None)
        return known.found

    def _judged(self, chain: Sequence[bytes], crls: tuple[bytes, ...], now: datetime) -> "_Verdict":
        try:
            return _Verdict(self._clients.name_of(chain, now), crls, now)
        except FwsignError as refusal:
            return _Verdict(refusal, crls, now)


class _Verdict(NamedTuple):
    """A client's name, or its refusal, with the CRLs and the time of the judgement."""

    found: str | FwsignError
    crls: tuple[bytes, ...]
    at: datetime

    def counts(self, crls: tuple[bytes, ...], now: datetime) -> bool:
        """Tell whether it still counts: these are the same CRLs, and it is not old."""
        return self.crls is crls and abs((now - self.at).total_seconds()) < KNOWN_SECONDS


def split_roots(certificates: Sequence[bytes]) -> tuple[tuple[Anchor, ...], tuple[bytes, ...]]:
    """Return the roots among certificates, and the others.

    Args:
        certificates: in DER.

    Raises:
        Failed: `io.format`: none is a root; FwsignError: one cannot be read.
    """
    from fwsign.x509.certificate import parse_certificate

    parsed = [(data, parse_certificate(data)) for data in certificates]
    roots = [data for data, one in parsed if one.parsed.subject == one.parsed.issuer]
    if not roots:
        raise Failed(
            "io.format",
            "there is no root among the certificates for clients",
            expected="a root of TLS clients, such as ca.crt of the PKI",
            found=f"{len(parsed)} others",
        )
    others = tuple(data for data, _ in parsed if data not in roots)
    return tuple(map(Anchor.from_certificate, roots)), others


def require_clients(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let a server's TLS settings refuse clients without a certificate."""
    context.verify_mode = ssl.CERT_REQUIRED
    return context
