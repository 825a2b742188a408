# SPDX-License-Identifier: Apache-2.0
"""Who signed a receipt: a key that was given, or one with a path to an anchor that was given."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fwsign.errors import Tampered, Untrusted
from fwsign.format.cose import PublicKey
from fwsign.receipts import jws
from fwsign.receipts.canonical import canonical
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.x509.anchor import Anchor
from fwsign.x509.certificate import parse_certificate
from fwsign.x509.chain import CertificationPath

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LineTrust(NamedTuple):
    """Keys, anchors, and the paths validated so far: most lines of a file share one path.

    `whole` are the paths of which no certificate is on a CRL at all, whatever a line's clock says:
    reading a long CRL again for each line would take longer than a device waits for an answer.
    `crls` are the CRLs of a path's issuers, in DER; without one, neither revocation nor dates are
    judged. Without `dates`, revocation alone is: a device whose clock was wrong made its receipts
    all the same. With `unsigned`, a line without a signature has no signer, and passes.
    """

    keys: Sequence[Anchor]
    anchors: Sequence[Anchor]
    paths: dict[tuple[bytes, ...], CertificationPath]
    whole: set[tuple[bytes, ...]]
    crls: Sequence[bytes] = ()
    dates: bool = True
    unsigned: bool = False

    def verify(self, content: Mapping[str, Any], found: jws.Jws | None) -> str | None:
        """Verify a line's signature and return its signer.

        Raises:
            Tampered, Untrusted, Malformed: as `fwsign.receipts.chain.judge_lines`.
        """
        if found is None and self.unsigned:
            return None
        if found is None:
            raise Untrusted("untrusted.receipt", "it is not signed", expected="a JWS", found="none")
        if found.kid in EXAMPLE_SPKI:
            what = "it is signed by a published key, which anyone can use"
            raise Untrusted("untrusted.example-key", what, found=found.kid)
        key, name = self._key(found, _clock(content))
        line = canonical({name: value for name, value in content.items() if name != "jws"})
        found.verify(line.encode(), key)
        return name

    def _key(self, found: jws.Jws, clock: datetime | None) -> tuple[PublicKey, str]:
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
        if self.crls:
            self._check_status(found.chain, path, clock)
        return path.certificates[0].key, path.name

    def _check_status(
        self, chain: tuple[bytes, ...], path: CertificationPath, clock: datetime | None
    ) -> None:
        """Refuse a path that was revoked, or not valid when the receipt says that it was made.

        Whoever holds the key says the time. That is good enough where a certificate was revoked for
        a harmless reason, since nobody else has the key then; after a leak, no receipt counts.
        """
        from fwsign.x509.chain import check_dates  # few files are judged by CRLs

        if chain not in self.whole:
            try:
                _check_lists(path, self.crls, None)
                self.whole.add(chain)
            except Untrusted:  # revoked: the time and the reason decide
                _check_lists(path, self.crls, clock)
        if clock is not None and self.dates:
            check_dates(path, clock, when="the receipt was made")


def _check_lists(path: CertificationPath, crls: Sequence[bytes], clock: datetime | None) -> None:
    from fwsign.x509.revocation import CrlReader, updates  # few files are judged by CRLs

    reader = CrlReader("compat", crls)
    issued, _ = reader.collect(path)
    # When these CRLs were made: a record is judged long after, by the newest CRLs that there are.
    reader.check(issued, min(updates(issued), default=_EPOCH), clock)


def _clock(content: Mapping[str, Any]) -> datetime | None:
    """Return when a receipt says that it was made; None if it does not say."""
    try:
        found = datetime.fromisoformat(content["clock"])
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _validate(chain: Sequence[bytes], anchors: Sequence[Anchor]) -> CertificationPath:
    from fwsign.pki.paths.purpose import judge  # few receipts carry certificates

    issued = max(parse_certificate(data).not_before for data in chain)
    return judge(chain, anchors, purpose="client", at=issued).path
