# SPDX-License-Identifier: Apache-2.0
"""Find the signer: one of a PKI directory, or a key with its chain."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fwsign.cli import inputs, keyfiles, ui
from fwsign.errors import Failed, Untrusted
from fwsign.keys import shown, signer_from_uri
from fwsign.signing.envelope import Identity, check_clock, check_margin, known_time
from fwsign.x509.anchor import Anchor
from fwsign.x509.constraints import dns_names, is_domain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fwsign.x509.certificate import Certificate

DEFAULT_SIGNER = "release"
_ELSEWHERE = "if another holds it: fwsign digest writes what they sign, and fwsign attach adds it"


class FoundSigner(NamedTuple):
    """A found signer, whose key is not opened yet.

    Args:
        uri: the URI of the key.
        chain: DER certificates, leaf first, up to and without the anchor.
        anchor: the anchor that devices pin.
        crls: DER CRLs.
        of_pki: whether it is an entry of a PKI, whose key another may hold.
    """

    uri: str
    chain: tuple[bytes, ...]
    anchor: Anchor
    crls: tuple[bytes, ...]
    of_pki: bool = False

    @property
    def name(self) -> str:
        """The signer's name in its certificate."""
        leaf = self._leaf
        return leaf.name if leaf else shown(self.uri)

    @property
    def spki(self) -> str:
        """The SHA-256 of the signer's public key, in hex."""
        return Anchor.from_certificate(self.chain[0]).spki

    @property
    def vendors(self) -> tuple[str, ...]:
        """The vendors in the signer's certificate."""
        leaf = self._leaf
        return tuple(filter(is_domain, dns_names(leaf))) if leaf else ()

    @property
    def _leaf(self) -> "Certificate | None":
        return Anchor.from_certificate(self.chain[0]).certificate


class Signing(NamedTuple):
    """A signer, the anchors that devices pin, and where the key is, without any secret."""

    identity: Identity
    anchor: Anchor
    place: str


def from_pki(directory: Path, name: str, crls: "Sequence[Path]") -> FoundSigner:
    """Take a signer from a PKI directory, with the CRLs of its path."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from fwsign.pki.certificates import common_name
    from fwsign.pki.directory import Pki

    pki = Pki(directory)
    now = inputs.now()
    chain, root = pki.path(name, at=now), pki.anchor(name, at=now)
    if not chain:  # a root has no path, which the verifier would refuse for what it is
        raise Untrusted(
            "untrusted.ca-as-leaf", f'"{common_name(root)}" is a CA, it may not sign releases'
        )
    for old in set(pki.issuers(name)) - set(pki.issuers(name, at=now)):
        end = pki.crl(old).next_update_utc
        stale = end is not None and end < now
        why = f"its CRL is stale since {end:%Y-%m-%d}" if stale else "what it certified has ended"
        ui.note(f'warning: devices that know only the root "{old}" refuse this: {why}')
    given = inputs.load_pem(crls, "X509 CRL", "CRL")
    anchor = Anchor.from_certificate(root.public_bytes(Encoding.DER))
    crl_list = (*pki.crls(name, at=now), *given)
    return FoundSigner(pki.key_uri(name), chain, anchor, crl_list, of_pki=True)


def from_key(uri: str, chain: Path, source: str | None, crls: "Sequence[Path]") -> FoundSigner:
    """Take a key and its certificates, in any order; devices pin the last one of the path."""
    from fwsign.pki.paths.build import in_order  # a PKI directory has an order

    leaf, *others = keyfiles.certificates(chain, source)
    if not others:
        raise Failed(
            "io.format",
            f"{chain} has one certificate, expected the leaf and at least its issuer",
            expected="two certificates or more",
            found="one",
        )
    certificates = list(in_order(leaf, others, inputs.now()))
    if len(certificates) < 2:
        name = Anchor.from_certificate(leaf).name
        raise Failed(
            "io.format",
            f'{chain} has {len(others) + 1} certificates, but none that has issued "{name}"',
            expected="the leaf and at least its issuer",
            found="certificates of others",
        )
    anchor = Anchor.from_certificate(certificates[-1])
    parsed = anchor.certificate
    if parsed is not None and parsed.parsed.issuer == parsed.parsed.subject:
        certificates.pop()  # an envelope never carries the anchor
    given = tuple(inputs.load_pem(crls, "X509 CRL", "CRL"))
    return FoundSigner(uri, tuple(certificates), anchor, given)


def check(found: FoundSigner, now: "datetime", *, allow_example_keys: bool, force: bool) -> None:
    """Refuse a signer whose path signing would refuse: all that can be told without its key.

    Raises:
        FwsignError: as `fwsign.signing.envelope.sign`.
    """
    from fwsign.pki.paths.purpose import judge  # where nothing is signed
    from fwsign.x509.crl import parse_crl

    crls = [parse_crl(crl) for crl in found.crls]
    if not force:
        check_clock(crls, now)
    at = known_time(crls, now)
    accepted = judge(
        found.chain,
        [found.anchor],
        purpose="codesign",
        at=at,
        profile="compat",
        crls=found.crls,
        allow_example_keys=allow_example_keys,
    )
    if not force:
        check_margin([crl for issued in accepted.issued for crl in issued.newest], at)


def opened(found: FoundSigner, source: str | None) -> Signing:
    """Open a signer's key."""
    from fwsign.keys.held import place_of  # where something is signed

    asks = inputs.passphrase_source(source, f"the key {shown(found.uri)}")
    try:
        signer = signer_from_uri(found.uri, asks)
    except Failed as error:
        if error.code != "io.missing" or not found.of_pki or Path(found.uri).exists():
            raise
        raise error.with_hint(_ELSEWHERE) from None
    place = place_of(signer, found.uri)
    return Signing(Identity(signer, found.chain, found.crls), found.anchor, place)
