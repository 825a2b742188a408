# SPDX-License-Identifier: Apache-2.0
"""Trust updates and CRLs from the addresses of [follow], each by the rules that it always has.

A CRL alone does not say whose it is. It counts only if it verifies under an issuer in the path of a
signer that was verified here, for this vendor, up to an anchor that is still in the list. So the
certificates of the last verified release are remembered, and their path is validated anew.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.errors import Failed, FwsignError
from fwsign.format.cose import MAX_CRL_SIZE
from fwsign.gateway import trust as trust_updates
from fwsign.gateway.config.device import Device, Tell
from fwsign.gateway.follow.places import content
from fwsign.gateway.follow_memory import may_retag
from fwsign.gateway.run.session import demands, opened, trusted
from fwsign.keys import Signer
from fwsign.memory.state import State
from fwsign.trust.envelope import MAX_UPDATE_SIZE
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.chain import validate_path
from fwsign.x509.revocation import CrlReader, Issued

TAGS: Final = "follow tags"
"""The memory's name for the tags of the addresses."""
CHAINS: Final = "follow chains"
"""The memory's name for the certificates of the signers that were verified last."""
MAX_CHAINS_SIZE: Final = 64 * 1024
"""Bytes of these certificates; a path of three takes two thousand."""
MAX_TRUST_SIZE: Final = 8 * MAX_UPDATE_SIZE
"""Bytes of a file of trust updates."""
_PEM: Final = b"-----BEGIN X509 CRL-----"


class _KnownTag(NamedTuple):
    """The tag of an address, what the verdict on its content depended on, and when it was kept."""

    tag: str
    basis: str
    tagged: int


class Updates(NamedTuple):
    """The updates from addresses.

    Args:
        device: the device.
        at: the clock's time, for receipts.
        signer: signs receipts.
        tell: told of redirects.
    """

    device: Device
    at: datetime
    signer: Signer | None
    tell: Tell

    def apply(self) -> list[str]:
        """Apply what is new at the addresses; return notes. A failure stops nothing else."""
        rules = self.device.follow
        notes = []
        if rules.trust is not None:
            notes += self._tried(rules.trust, self._trust)
        for address in rules.crls if self.device.policy.revocation != "off" else ():
            notes += self._tried(address, self._crls)
        return notes

    def _tried(self, address: str, take: Callable[[str, bytes], list[str]]) -> list[str]:
        """Take what is at an address, if it is new; return notes."""
        limit = MAX_TRUST_SIZE if take == self._trust else _most(MAX_CRL_SIZE)
        try:
            with opened(self.device) as state:
                tags, basis = _tags(state), self._basis(state)
            known = tags.get(address)
            if known is not None and known.basis != basis:
                known = None
            tag = known.tag if known is not None else None
            found, data = self._changed(address, tag, limit, anchors=take == self._trust)
            notes = take(address, data) if data is not None else []
            news = (
                bool(notes) or known is None or (found != tag and may_retag(known.tagged, self.at))
            )
            if not news:  # a device that asks every minute must not wear the disk out
                return []
            with opened(self.device) as state:
                now = _KnownTag(found, self._basis(state), int(self.at.timestamp()))
                _write_tag(state, self.device, address, now)
        except FwsignError as error:
            return [f"{address}: {error.message}"]
        return notes

    def _changed(
        self, address: str, tag: str | None, limit: int, *, anchors: bool
    ) -> tuple[str, bytes | None]:
        """Fetch what is at an address, if it is new, with its tag; see `content`.

        A list of anchors may be what sets a time floor right that is far ahead. So where the floor
        refuses its server, the clock alone judges the server, as if there were no floor (ADR 37).
        """
        from fwsign.gateway.https.server_dates import is_wrong

        rules = self.device.fetch
        try:
            return content(address, tag, rules, self.tell, limit)
        except Failed as error:
            if not anchors or error.code != "io.fetch-connect" or not is_wrong(rules.since):
                raise
        return content(address, tag, rules._replace(since=None), self.tell, limit)

    def _basis(self, state: State) -> str:
        """Return what a verdict on an update depends on: the list of anchors, and the chains."""
        trust = trusted(self.device, state)
        return json.dumps([trust.epoch, trust.number, len(state.remembered(CHAINS) or "")])

    def _trust(self, address: str, data: bytes) -> list[str]:
        done = trust_updates.apply(self.device, data, self.at, self.signer)
        if done.after.number == done.before.number:
            return []
        return [f"{address}: the list of anchors has number {done.after.number} now"]

    def _crls(self, address: str, data: bytes) -> list[str]:
        with opened(self.device) as state:
            issued = [one for found in self._collected(state, _split(data)) for one in found]
            if not any(one.crls for one in issued):
                return [f"{address}: no CRL of an issuer that is known here"]
            if state.learn(issued):
                return [f"{address}: a newer CRL is held now"]
        return []

    def _collected(self, state: State, crls: Sequence[bytes]) -> Iterator[tuple[Issued, ...]]:
        """Yield the certificates of each known path, with those CRLs that verify for it."""
        anchors, policy = demands(self.device, state)
        vendor = trusted(self.device, state).vendor
        for chain in read_chains(state):
            try:
                path = validate_path(chain, anchors, profile=policy.profile)
                if vendor in policy.vendors_of(path):
                    yield CrlReader(policy.profile, crls).collect(path).issued
            except FwsignError:  # an anchor was removed: what it vouched for teaches nothing
                continue


def remember_chains(state: State, release: VerifiedRelease) -> bool:
    """Remember the certificates of a verified release's signers; return whether they are new."""
    chains, left = [], MAX_CHAINS_SIZE
    for _, path in release.counted:
        chain = [one.parsed.public_bytes(Encoding.DER) for one in path.certificates]
        left -= sum(map(len, chain))
        if chain and left >= 0:
            chains.append([base64.b64encode(one).decode() for one in chain])
    text = json.dumps(chains)
    if not chains or text == state.remembered(CHAINS):
        return False
    state.remember(CHAINS, text)
    return True


def read_chains(state: State) -> list[list[bytes]]:
    """Return these certificates; none if they cannot be read, since they are only a hint."""
    try:
        found = json.loads(state.remembered(CHAINS) or "[]")
        return [[base64.b64decode(one, validate=True) for one in chain] for chain in found if chain]
    except (ValueError, TypeError, RecursionError):
        return []


def _split(data: bytes) -> tuple[bytes, ...]:
    """Return the CRLs of a file: one in DER, or several in PEM."""
    if _PEM not in data:
        return (data,)
    found = []
    for part in data.split(_PEM)[1:]:
        body, end, _ = part.partition(b"-----END X509 CRL-----")
        try:
            found.append(base64.b64decode(b"".join(body.split()), validate=True))
        except ValueError:
            end = b""
        if not end:
            raise Failed("io.format", "this is not a CRL in PEM", found="damaged PEM")
    return tuple(found)


def _most(size: int) -> int:
    """Return the bytes of a CRL in PEM."""
    return size * 3 // 2


def _tags(state: State) -> dict[str, _KnownTag]:
    try:
        found = json.loads(state.remembered(TAGS) or "{}")
        return {
            str(key): _KnownTag(str(tag), str(basis), int(tagged))
            for key, (tag, basis, tagged) in found.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def _write_tag(state: State, device: Device, address: str, known: _KnownTag) -> None:
    """Remember the tag of an address; those of addresses no longer followed are forgotten."""
    rules, tags = device.follow, _tags(state)
    followed = {one: tags[one] for one in (*rules.crls, rules.trust) if one in tags}
    before = followed.get(address)
    if before is None or before != known._replace(tagged=before.tagged):
        followed[address] = known
    if followed != tags:
        state.remember(TAGS, json.dumps(followed))
