# SPDX-License-Identifier: Apache-2.0
"""Issue certificates for a directory of requests: all are judged first, then the CA is opened once.

A run that was killed has issued some of them. The next one finds those, by name and key, and goes
on with the rest.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from fwsign.errors import Failed, FwsignError
from fwsign.files import exclusive, io_error, read_bytes
from fwsign.names import peer_name, signer_name
from fwsign.pki import profiles
from fwsign.pki.authority import open_authority
from fwsign.pki.ca_limits import permitted_leaf
from fwsign.pki.devices import devices_in, refuse_known_device
from fwsign.pki.directory import Pki
from fwsign.pki.entry_names import TLS
from fwsign.pki.extras import NO_EXTRAS
from fwsign.pki.issuance import refuse_taken, refuse_unable, write_entry
from fwsign.pki.leaked import leaked_keys, refuse_leaked
from fwsign.pki.leaves import Leaf, leaf_certificate, leaf_of
from fwsign.pki.log import Origin
from fwsign.pki.one_use import refuse_other_use, uses_of
from fwsign.pki.request import REQUEST_LIMIT, CertificateRequest, parse_request
from fwsign.pki.validity import period_of
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from fwsign.keys import Passphrase
    from fwsign.pki.extras import Extras

SUFFIXES: Final = (".csr", ".req", ".p10", ".pem", ".der")
"""The endings of files that are taken for requests."""
BATCH_LIMIT: Final = 20_000
"""Requests in one batch."""


class Wanted(NamedTuple):
    """A request that can be granted."""

    leaf: Leaf
    period: tuple[datetime, datetime]
    request: CertificateRequest


class JudgedRequest(NamedTuple):
    """A file, the name that its certificate gets, and the verdict: at most one of the two is set.

    With neither, the same certificate was issued before, for the same key.
    """

    file: Path
    name: str
    wanted: Wanted | None = None
    error: FwsignError | None = None


class Terms(NamedTuple):
    """The conditions of a batch: as for `fwsign.pki.issuance.issue`.

    A certificate is named after its file, which the request may not contradict; with
    `named_by_requests`, after its CN.
    """

    kind: str
    named_by_requests: bool = False
    domains: Sequence[str] = ()
    more: Extras = NO_EXTRAS
    lifetime: timedelta | None = None
    compat: bool = False


def requests_in(directory: Path) -> tuple[Path, ...]:
    """Return the files of a directory that are taken for requests, sorted.

    Raises:
        Failed: `io.*`; `io.missing` if there is none, `io.format` for more than `BATCH_LIMIT`.
    """
    try:
        found = sorted(
            one
            for one in directory.iterdir()
            if one.suffix.lower() in SUFFIXES and not one.name.startswith(".") and one.is_file()
        )
    except OSError as error:
        raise io_error(error, directory) from error
    if not found:
        raise Failed(
            "io.missing",
            f"{directory} has no file with a certificate request",
            expected=f"files that end with {', '.join(SUFFIXES)}",
            found="none",
        )
    if len(found) > BATCH_LIMIT:
        raise Failed(
            "io.format",
            f"{directory} has {len(found)} requests, at most {BATCH_LIMIT} go into one batch",
            expected=f"at most {BATCH_LIMIT}",
            found=len(found),
        )
    return tuple(found)


def judge(
    pki_dir: str | os.PathLike[str], files: Sequence[Path], terms: Terms, *, now: datetime
) -> tuple[JudgedRequest, ...]:
    """Judge requests by the rules of `issue`, and against each other; nothing is written.

    Raises:
        Failed: for what concerns all of them, such as a CA that may not issue; a refusal of one
            request is in the result.
    """
    pki, now = Pki(pki_dir), profiles.utc(now)
    ca = pki.issuing(terms.kind)
    refuse_unable(pki, ca, now)
    judging = _Judging(pki, ca, terms, now)
    return tuple(map(judging.judge, files))


def issue_judged(
    pki_dir: str | os.PathLike[str],
    judged: Sequence[JudgedRequest],
    ca_passphrase: Passphrase,
    *,
    kind: str,
    now: datetime,
) -> tuple[Path, ...]:
    """Issue what can be granted; return the paths. The others are left out.

    Args:
        pki_dir: the PKI.
        judged: the result of `judge`.
        ca_passphrase: called once if the key of the issuing CA is encrypted.
        kind: that of the terms.
        now: the time of `judge`, for the log.

    Raises:
        Failed: as `issue`; the certificates before a failure are issued.
    """
    pki = Pki(pki_dir)
    ca = pki.issuing(kind)
    issuer = open_authority(pki, ca, ca_passphrase)
    paths = []
    with exclusive(pki.directory):
        names = {one.lower(): one for one in pki.names()}
        devices = devices_in(pki) if kind == "idevid" else {}
        for one in judged:
            if one.wanted is None:
                continue
            refuse_taken(pki, one.name, names, lambda _: False)
            leaf, period, request = one.wanted
            if leaf.device:
                refuse_known_device(leaf, devices)
            issued = leaf_certificate(leaf, request.public_key, period, issuer)
            write_entry(pki, one.name, issued, now, origin=Origin(request=request.digest))
            names[one.name.lower()] = one.name
            paths.append(pki.certificate_path(one.name))
    return tuple(paths)


class _Judging:
    """What is known of the PKI and of the requests before."""

    def __init__(self, pki: Pki, ca: str, terms: Terms, now: datetime) -> None:
        self._pki, self._ca, self._terms, self._now = pki, ca, terms, now
        self._issuer = pki.certificate(ca)
        self._names = {one.lower(): one for one in pki.names()}
        self._devices = devices_in(pki) if terms.kind == "idevid" else {}
        self._revoked = _revoked(pki)
        self._leaked, self._uses = leaked_keys(pki), uses_of(pki, terms.kind)
        self._taken: dict[str, Path] = {}
        self._keys: dict[str, Path] = {}

    def judge(self, file: Path) -> JudgedRequest:
        name = file.stem
        try:
            compat = self._terms.compat if self._terms.kind in TLS else None
            request = parse_request(read_bytes(file, REQUEST_LIMIT), str(file), compat=compat)
            name = self._name(file, request)
            key = key_digest(request.public_key)
            refuse_leaked(request.public_key, str(file), self._leaked)
            refuse_other_use(request.public_key, str(file), self._uses)
            self._refuse_twice(file, name, key)
            if self._is_issued(name, request):
                return JudgedRequest(file, name)
            refuse_taken(self._pki, name, self._names, self._is_revoked)
            leaf = permitted_leaf(self._pki, self._ca, self._leaf(name, request))
            if leaf.device:
                refuse_known_device(leaf, self._devices)
                self._devices[leaf.device.serial_number] = name
            period = period_of(leaf, self._issuer, self._terms.lifetime, self._now)
        except FwsignError as error:
            return JudgedRequest(file, name, error=error)
        return JudgedRequest(file, name, Wanted(leaf, period, request))

    def _name(self, file: Path, request: CertificateRequest) -> str:
        """Return the name for a request's certificate."""
        check = peer_name if self._terms.kind in TLS else signer_name
        said = request.common_name
        if self._terms.named_by_requests:
            return check(said or "")
        name = check(file.stem)
        if said is not None and said != name:
            raise Failed(
                "state.policy",
                f'it asks for the name "{said[:80]}", its file is called "{name}"',
                expected=name,
                found=said[:80],
                hint="--names cn takes the names in the requests",
            )
        return name

    def _refuse_twice(self, file: Path, name: str, key: str) -> None:
        """Refuse a name or key that another request of the batch has."""
        for what, value, seen in (
            (f'the name "{name}"', name.lower(), self._taken),
            ("its key", key, self._keys),
        ):
            first = seen.setdefault(value, file)
            if first != file:
                raise Failed(
                    "state.pki-exists",
                    f"{what} is also that of {first}",
                    expected="each name and key once",
                    found=first,
                )

    def _is_issued(self, name: str, request: CertificateRequest) -> bool:
        """Tell whether what is asked for is there, for this key, and neither revoked nor over."""
        if name not in self._names.values():
            return False
        there = self._pki.certificate(name)
        if there.public_key() != request.public_key or self._is_revoked(name):
            return False
        leaf = leaf_of(there)
        wanted = permitted_leaf(self._pki, self._ca, self._leaf(name, request))
        same = leaf is not None and leaf._replace(subject=None) == wanted
        return same and there.not_valid_after_utc > self._now

    def _is_revoked(self, name: str) -> bool:
        return self._pki.certificate(name).serial_number in self._revoked

    def _leaf(self, name: str, request: CertificateRequest) -> Leaf:
        terms = self._terms
        if terms.kind == "server":
            return Leaf("server", name, request.domains, request.addresses, more=terms.more)
        device = request.device if terms.kind == "idevid" else None
        return Leaf(terms.kind, name, tuple(terms.domains), device=device, more=terms.more)


def _revoked(pki: Pki) -> frozenset[int]:
    """Return the serial numbers that are revoked, as far as known here, by one look at each CRL."""
    serials = {entry.serial_number for entry in pki.noted()}
    for ca in pki.authorities():
        with suppress(Failed):  # it may be elsewhere
            serials |= {entry.serial_number for entry in pki.crl(ca)}
    return frozenset(serials)
