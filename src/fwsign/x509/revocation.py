# SPDX-License-Identifier: Apache-2.0
"""Revocation: choose the CRLs for a path and judge the path by them (RFC 5280 section 6.3).

A CRL belongs to an issuer by name and key. Two CAs may have one name, and a hostile CA can take the
name and the key identifier of another; only the key proves the issuer of a list.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Stale, Tampered, Untrusted, check_limit
from fwsign.format.library import PARSE_ERRORS
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import Certificate, signature_valid
from fwsign.x509.chain import CertificationPath
from fwsign.x509.crl import (
    Crl,
    HeldCrl,
    check_crl,
    check_entry,
    covers,
    newest,
    parse_crl,
    places_of,
    reading,
    show_places,
)
from fwsign.x509.roles import Profile

MAX_READING: Final = 24 * 1024 * 1024
"""Bytes of CRLs that one verification reads, counted again for each search: 0.2 s."""
_ENTRY_BY_ENTRY: Final = 16
"""Reading the extensions of all entries takes this many times longer than finding one entry."""
_CERTIFICATE_ISSUER: Final = bytes.fromhex("0603551d1d")
"""DER of the OID of certificateIssuer, an entry's extension that only indirect CRLs have."""
_CRITICAL: Final = bytes.fromhex("0101ff04")
"""DER of "critical" and the next tag. A CRL without these bytes has no critical extension."""


class Issued(NamedTuple):
    """A certificate of the path and the verified CRLs of its issuer.

    `keys` are the SPKI digests from the issuer up to the anchor.
    """

    certificate: Certificate
    issuer: Certificate | Anchor
    crls: tuple[Crl, ...]
    keys: tuple[str, ...] = ()

    @property
    def newest(self) -> tuple[Crl, ...]:
        """The CRLs that count: the newest among those that cover this certificate."""
        return newest(crl for crl in self.crls if covers(crl, self.certificate))


class Collected(NamedTuple):
    """The certificates of a path with their issuers' CRLs, and notes for the reader."""

    issued: tuple[Issued, ...]
    notes: tuple[str, ...]


class CrlReader:
    """All CRLs that one verification may use: each is parsed once, and the work is bounded.

    Args:
        profile: `compat` forgives a CRL without number.
        given: the caller's CRLs, in DER; one that belongs to no issuer is not used.
        held: CRLs of the device's memory, used only for paths that have their keys.
        off: use none at all, not even stapled ones.
    """

    def __init__(
        self,
        profile: Profile,
        given: Sequence[bytes] = (),
        held: Sequence[HeldCrl] = (),
        *,
        off: bool = False,
    ) -> None:
        self._off = off
        self._profile = profile
        self._given = tuple(dict.fromkeys(given))
        self._held = tuple(held)
        self._parsed: dict[bytes, Crl] = {}
        self._signed: dict[tuple[bytes, str], bool] = {}
        self._plain: set[bytes] = set()
        self._reading = 0

    def collect(self, path: CertificationPath, stapled: Sequence[bytes] = ()) -> Collected:
        """Find and verify the CRLs of every issuer in a path; CRLs of other issuers are ignored.

        Args:
            path: a validated path.
            stapled: the CRLs that came with its block, in DER.

        Raises:
            Malformed: `malformed.crl`, `malformed.size`.
            Tampered: `tampered.crl`, for a stapled CRL that names the issuer and its key.
            Untrusted: `untrusted.crl`, `untrusted.key-usage`, `untrusted.algorithm`.
        """
        came = [] if self._off else [self._parse(data) for data in dict.fromkeys(stapled)]
        given = [self._parse(data) for data in self._given if data not in stapled]
        if not path.certificates:  # a pinned bare key signed by itself: nothing was issued
            return Collected((), ())
        issuers = (*path.certificates[1:], path.anchor.certificate or path.anchor)
        notes: list[str] = []
        result = []
        for depth, (certificate, issuer) in enumerate(zip(path.certificates, issuers, strict=True)):
            own = [crl for crl in came if crl.is_by_issuer_of(certificate)]
            for crl in own:
                if not self._is_signed_by(crl, issuer):
                    message = f"the signature of the {crl.name} does not verify"
                    raise Tampered("tampered.crl", message)
            for crl in (one for one in given if one.is_by_issuer_of(certificate)):
                if self._is_signed_by(crl, issuer):
                    own.append(crl)
                else:
                    notes.append(f"a {crl.name} that was given is of another key, and not used")
            for crl in own:
                notes += check_crl(crl, issuer, self._profile)
            own += self._held_of(certificate, issuer)
            every = {crl.data: crl for crl in own}.values()  # one CRL may be both given and stapled
            result.append(Issued(certificate, issuer, tuple(every), path.keys[depth + 1 :]))
        return Collected(tuple(result), tuple(notes))

    def check(
        self,
        issued: Sequence[Issued],
        now: datetime,
        signed_at: datetime | None = None,
        *,
        allow_stale: timedelta = timedelta(0),
    ) -> tuple[str, ...]:
        """Check that no certificate is revoked, by a fresh CRL of each issuer.

        Args:
            issued: what `collect` found.
            now: the time at which a CRL must be fresh.
            signed_at: when the signature was made, if a time stamp proves it.
            allow_stale: how long past its next update a CRL is still taken.

        Returns:
            A note for each CRL that is past its next update.

        Raises:
            Stale: `stale.crl-missing`, `stale.crl`.
            Untrusted: `untrusted.revoked`; `untrusted.crl`, also where all CRLs of an issuer are
                for other distribution points.
            Malformed: `malformed.crl`, `malformed.size`.
        """
        for one in issued:  # every CRL first: revoked in any of them outranks stale
            for crl in _newest_parts(one.crls):
                self._check_entries(crl, one.certificate, signed_at)
        return _check_fresh(issued, now, allow_stale)

    def _parse(self, data: bytes) -> Crl:
        if data not in self._parsed:
            self._count(reading(data))
            self._parsed[data] = parse_crl(data)
        return self._parsed[data]

    def _is_signed_by(self, crl: Crl, issuer: Certificate | Anchor) -> bool:
        known = (crl.data, issuer.spki)
        if known not in self._signed:
            self._signed[known] = signature_valid(crl.signed, issuer.key)
        return self._signed[known]

    def _held_of(self, certificate: Certificate, issuer: Certificate | Anchor) -> Iterator[Crl]:
        """Yield the held CRLs of an issuer; one that does not verify is not used.

        The memory holds only CRLs that passed all checks under this key. So the issuer's
        certificate in this path does not judge them again: another CA can certify the same key.
        """
        for data in dict.fromkeys(one.data for one in self._held if one.key == issuer.spki):
            crl = self._parse(data)
            named = crl.issuer == certificate.issuer
            if named and self._is_signed_by(crl, issuer):
                yield crl

    def _check_entries(
        self, crl: Crl, certificate: Certificate, signed_at: datetime | None
    ) -> None:
        serial = certificate.parsed.serial_number
        try:
            self._refuse_odd_entries(crl)
            self._count(len(crl.data))
            if crl.parsed.get_revoked_certificate_by_serial_number(serial) is None:
                return
            self._count(len(crl.data) * _ENTRY_BY_ENTRY)
            for entry in crl.parsed:  # all entries: two may name one certificate
                if entry.serial_number == serial:
                    check_entry(entry, certificate, signed_at)
        except PARSE_ERRORS as error:
            raise Malformed("malformed.crl", f"an entry of the {crl.name}: {error}") from None

    def _refuse_odd_entries(self, crl: Crl) -> None:
        # RFC 5280 section 5.3: an unknown critical extension in any entry makes the CRL unusable.
        if crl.data in self._plain:
            return
        # Names are slow to read, and only entries of an indirect CRL have them.
        if _CERTIFICATE_ISSUER in crl.signed.tbs:
            words = f"{crl.name} has entries of other issuers (certificateIssuer)"
            raise Untrusted("untrusted.crl", f"{words}: only complete CRLs are used")
        if _CRITICAL in crl.signed.tbs:
            self._count(len(crl.data) * _ENTRY_BY_ENTRY)
            if any(found.critical for entry in crl.parsed for found in entry.extensions):
                words = f"{crl.name} has an entry with a critical extension"
                raise Untrusted("untrusted.crl", words)
        self._plain.add(crl.data)

    def _count(self, size: int) -> None:
        self._reading += size
        check_limit(self._reading, MAX_READING, f"reading {self._reading} bytes of CRLs")


def updates(issued: Sequence[Issued]) -> tuple[datetime, ...]:
    """Return the thisUpdate times of verified CRLs; each of them has passed."""
    return tuple(crl.this_update for one in issued for crl in one.crls)


def _check_fresh(
    issued: Sequence[Issued], now: datetime, allow_stale: timedelta
) -> tuple[str, ...]:
    notes = []
    for one in issued:
        if not one.crls:
            raise Stale(
                "stale.crl-missing",
                f'no CRL of "{one.issuer.name}", the issuer of "{one.certificate.name}"',
                expected=f'a CRL of "{one.issuer.name}"',
                found="none",
            )
        counting = one.newest
        if not counting:
            raise _of_another_place(one.crls[0], one.certificate)
        for crl in counting:
            if now <= crl.next_update:
                continue
            words = f"{crl.name} was to be replaced by {crl.next_update:%Y-%m-%d}"
            if now - crl.next_update > allow_stale:
                raise Stale(
                    "stale.crl",
                    f"{words}, it is {now:%Y-%m-%d}",
                    expected=f"a CRL for {now.isoformat()}",
                    found=f"one until {crl.next_update.isoformat()}",
                )
            notes.append(f"stale revocation: {words}")
    return tuple(notes)


def _newest_parts(crls: Sequence[Crl]) -> tuple[Crl, ...]:
    """Return the newest CRLs of each part of a split list; each part has its own numbers.

    A CRL that names no part is compared with the CRLs of every part.
    """
    found: dict[bytes, Crl] = {}
    for places in {crl.places: None for crl in crls if crl.places} or {(): None}:
        own = newest(crl for crl in crls if crl.places in ((), places))
        found |= {crl.data: crl for crl in own}
    return tuple(found.values())


def _of_another_place(crl: Crl, certificate: Certificate) -> Untrusted:
    here, there = show_places(crl.places), show_places(places_of(certificate))
    return Untrusted(
        "untrusted.crl",
        f'{crl.name} is that of {here}, certificate "{certificate.name}" names {there}',
        expected=there,
        found=here,
    )


def check_kept(issued: Sequence[Issued], now: datetime) -> None:
    """Check that a certificate that has expired since it was used would still be on its CRL.

    An issuer may forget revoked certificates when they expire (RFC 5280 section 3.3). Unless its
    CRL says that it does not, a time stamp does not extend a certificate past its end.

    Args:
        issued: what `collect` found.
        now: the time at which certificates may have expired.

    Raises:
        Stale: `stale.certificate`.
    """
    for one in issued:
        end = one.certificate.not_after
        kept = [crl.keeps_since is not None and crl.keeps_since <= end for crl in one.newest]
        if now > end and not (kept and all(kept)):
            raise Stale(
                "stale.certificate",
                f'certificate "{one.certificate.name}" expired {end:%Y-%m-%d}, it is '
                f'{now:%Y-%m-%d}, and no CRL of "{one.issuer.name}" says that it keeps those '
                "that expired",
                expected=f"a time until {end.isoformat()}, or a CRL with expiredCertsOnCRL",
                found=now.isoformat(),
            )
