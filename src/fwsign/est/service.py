# SPDX-License-Identifier: Apache-2.0
"""The operations of EST (RFC 7030) on a PKI: from a request to an answer, without any network.

A first certificate needs an invitation and its password, or an invitation and the identity of its
device (IDevID). Another one needs the certificate that the client has. What is decided here:

1. who asks, by password or certificate; a wrong or used password is refused alike;
2. what is asked for: the request is signed by its key, which is not a published one;
3. whether the name and all alternative names are those invited, or those of the certificate;
4. whether an operator or a rule has approved it.
"""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fwsign.errors import Failed, FwsignError
from fwsign.est import invites
from fwsign.est.http import Answer, HttpRequest, Refused
from fwsign.est.peer import Peer, judge_peer
from fwsign.est.request import basic, certificate_request, demand_method, unknown
from fwsign.files import exclusive
from fwsign.names import peer_name
from fwsign.pki import profiles
from fwsign.pki.ca_limits import permitted_leaf
from fwsign.pki.directory import Pki
from fwsign.pki.extras import carried
from fwsign.pki.index import serial_text
from fwsign.pki.issuance import is_taken, refuse_unable, write_entry
from fwsign.pki.leaves import Leaf, leaf_certificate
from fwsign.pki.log import Origin
from fwsign.pki.profiles import Authority
from fwsign.pki.renewal import Replacement, replace_entry
from fwsign.pki.request import names_in
from fwsign.pki.validity import period_of
from fwsign.pki.view.entry import visible
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fwsign.est.invites import Invite
    from fwsign.est.rules import EnrolmentRules
    from fwsign.pki.request import CertificateRequest

PREFIX: Final = "/.well-known/est/"

_PKCS7: Final = {
    "Content-Type": "application/pkcs7-mime; smime-type=certs-only",
    "Content-Transfer-Encoding": "base64",
}
_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
_SHOWN: Final = 120  # characters of a name in an answer


class Client(NamedTuple):
    """The client of a connection: its address, and the certificate that it showed, in DER."""

    address: str
    certificate: bytes | None = None


class Service:
    """Answer requests on a PKI.

    Args:
        directory: the PKI's.
        issuer: the name of the CA that issues, and the CA with its opened key.
        rules: what is granted.
        clock: returns the time.
    """

    def __init__(
        self,
        directory: Path,
        issuer: tuple[str, Authority],
        rules: EnrolmentRules,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._directory = directory
        self._ca, self._authority = issuer
        self._rules = rules
        self._clock = clock

    def answer(self, request: HttpRequest, client: Client) -> Answer:
        """Return the answer to a request.

        Raises:
            Refused: with the status and the reason.
            FwsignError: the PKI cannot be used as it is.
        """
        if not request.target.startswith(PREFIX):
            raise Refused(404, f"nothing is here; EST is at {PREFIX}")
        operation = request.target.removeprefix(PREFIX)
        match operation:
            case "cacerts":
                demand_method(request, "GET")
                return self._ca_certificates()
            case "csrattrs":
                demand_method(request, "GET")
                return Answer(204, note="no attributes are asked for")
            case "simpleenroll":
                demand_method(request, "POST")
                return self._enrol(request, client)
            case "simplereenroll":
                demand_method(request, "POST")
                return self._enrol_again(request, client)
            case "serverkeygen" | "fullcmc":
                raise Refused(501, f"{operation} is not offered: keys stay where they are made")
        raise Refused(404, f"there is no operation of that name below {PREFIX}")

    def _ca_certificates(self) -> Answer:
        """Return the CAs: the one that issues, those above it, and roots by other roots."""
        pki = Pki(self._directory)
        names = (self._ca, *pki.issuers(self._ca))
        found = [pki.certificate(name) for name in names]
        found += map(x509.load_der_x509_certificate, pki.path(self._ca))
        return Answer(200, _certificates(list(dict.fromkeys(found))), _PKCS7)

    # --- a first certificate ----------------------------------------------------------------

    def _enrol(self, request: HttpRequest, client: Client) -> Answer:
        pki, now = Pki(self._directory), profiles.utc(self._clock())
        said = request.headers.get("authorization")
        peer = None
        if said is not None:
            name, password = basic(said)
            self._invited(pki, name, password, None, now)  # before the work of reading the request
            wanted = certificate_request(request, compat=self._rules.compat)
        elif client.certificate is not None:
            peer, password = judge_peer(pki, client.certificate, now), None
            if peer.leaf.kind != "idevid":
                return self._replace(
                    pki, peer, certificate_request(request, compat=self._rules.compat), client, now
                )
            wanted = certificate_request(request, compat=self._rules.compat)
            name = wanted.common_name or ""
        else:
            raise unknown()
        ca, authority = self._issuer(pki, invites.KINDS[0], now)
        with exclusive(pki.directory):
            if peer is not None:  # again: it may have been revoked while others held the lock
                judge_peer(pki, peer.certificate.public_bytes(Encoding.DER), now)
            invite = self._invited(pki, name, password, peer, now)
            key = key_digest(wanted.public_key)
            if invite.key not in (None, key):
                raise unknown()  # a password counts once
            leaf = self._granted(pki, ca, invite, wanted)
            invite = self._claimed(pki, invite, key, now)
            if invite.state == invites.WAITING:
                words = f'the request for "{invite.name}" waits for the operator\n'
                headers = {**_TEXT, "Retry-After": str(self._rules.retry_seconds)}
                return Answer(202, words.encode(), headers, f'"{invite.name}" waits, key {key}')
            period = self._period(leaf, authority, now)
            issued = leaf_certificate(leaf, wanted.public_key, period, authority)
            who = f"EST client {client.address}, {_how(invite, peer)}"
            origin = Origin(who, wanted.digest)
            with _counted(pki, invite, issued, now):
                if invite.again:
                    old = pki.certificate(invite.name)
                    replace_entry(pki, Replacement(invite.name, old, issued, now, origin))
                else:
                    write_entry(pki, invite.name, issued, now, origin=origin)
        return _issued(invite.name, issued)

    def _invited(
        self, pki: Pki, name: str, password: str | None, peer: Peer | None, now: datetime
    ) -> Invite:
        """Return the invitation that a password or a device's identity opens.

        Raises:
            Refused: 401 for any wrong password; 403 for a device that nobody has invited.
        """
        try:
            invite = invites.read(pki, peer_name(name))
        except Failed as error:
            if error.code != "state.policy":
                raise
            invite = None
        late = invite is not None and invite.state == invites.OPEN and now >= invite.until
        over = invite is None or late or invite.state in (invites.ISSUED, invites.DENIED)
        if peer is not None:
            serial_number = peer.leaf.device.serial_number if peer.leaf.device else None
            if invite is None or over or invite.device != serial_number or not serial_number:
                raise Refused(403, f'device "{serial_number}" has no open invitation as "{name}"')
            return invite
        if invite is None or password is None or not invite.opens(password):
            raise unknown()
        if invite.state == invites.DENIED:
            raise Refused(403, f'the request for "{invite.name}" was denied')
        if over:
            raise unknown()
        return invite

    def _claimed(self, pki: Pki, invite: Invite, key: str, now: datetime) -> Invite:
        """Let the first good request claim an invitation; the caller holds the lock."""
        if invite.state != invites.OPEN:
            return invite
        approved = self._rules.approves(invite.name)
        state = invites.APPROVED if approved else invites.WAITING
        claimed = invite._replace(state=state, key=key, since=now)
        if not approved:
            invites.write(pki, claimed)
        return claimed

    def _granted(self, pki: Pki, ca: str, invite: Invite, wanted: CertificateRequest) -> Leaf:
        """Return the content of the certificate: what was invited, if no more is asked for."""
        said = wanted.common_name
        if said not in (None, invite.name):
            words = f'the request is for "{_shown(said)}", the invitation for "{invite.name}"'
            raise Refused(403, words)
        if not invite.again and is_taken(pki, invite.name):
            raise Refused(403, f'"{invite.name}" has a certificate already')
        if invite.again and _is_of_revoked(pki, invite.name, wanted):
            words = f'the certificate of "{invite.name}" was revoked with this key: make another'
            raise Refused(403, words)
        leaf = invite.leaf()
        asked = wanted.alternative_names
        granted = {*map(x509.DNSName, leaf.domains), *map(x509.IPAddress, leaf.addresses)}
        if more := [name for name in asked if name not in granted]:
            raise Refused(403, f'"{invite.name}" is not invited as {_words(more[0])}')
        return permitted_leaf(pki, ca, leaf._replace(more=self._rules.more))

    # --- another certificate ----------------------------------------------------------------

    def _enrol_again(self, request: HttpRequest, client: Client) -> Answer:
        if client.certificate is None:
            raise Refused(403, "another certificate needs the one that the client has, in TLS")
        pki, now = Pki(self._directory), profiles.utc(self._clock())
        peer = judge_peer(pki, client.certificate, now)
        return self._replace(
            pki, peer, certificate_request(request, compat=self._rules.compat), client, now
        )

    def _replace(
        self, pki: Pki, peer: Peer, wanted: CertificateRequest, client: Client, now: datetime
    ) -> Answer:
        """Issue an entry's next certificate: the same kind and names (RFC 7030 s.4.2.2)."""
        if peer.leaf.kind not in invites.KINDS:
            raise Refused(403, f'"{peer.name}" is of a kind that is not renewed here')
        before = peer.certificate
        if wanted.subject != before.subject:
            words = [_shown(one.subject.rfc4514_string()) for one in (wanted, before)]
            raise Refused(403, f"the request is for {words[0]}, the certificate for {words[1]}")
        if set(wanted.alternative_names) != set(names_in(before)):
            raise Refused(403, "the request has other alternative names than the certificate")
        ca, authority = self._issuer(pki, peer.leaf.kind, now)
        with exclusive(pki.directory):
            # Again: it may have been revoked while others held the lock.
            judge_peer(pki, before.public_bytes(Encoding.DER), now)
            old = pki.certificate(peer.name)
            more = carried(pki, old, ca, self._rules.more)
            leaf = permitted_leaf(pki, ca, peer.leaf._replace(more=more))
            period = self._period(leaf, authority, now)
            issued = leaf_certificate(leaf, wanted.public_key, period, authority)
            who = f"EST client {client.address}, certificate {serial_text(before.serial_number)}"
            origin = Origin(who, wanted.digest)
            replace_entry(pki, Replacement(peer.name, old, issued, now, origin))
        return _issued(peer.name, issued)

    # --- both -------------------------------------------------------------------------------

    def _issuer(self, pki: Pki, kind: str, now: datetime) -> tuple[str, Authority]:
        """Return the CA that issues a kind, as it is now."""
        ca = pki.issuing(kind)
        certificate = pki.certificate(ca)
        if certificate.public_key() != self._authority.key.public_key():
            raise Refused(503, f'the CA "{ca}" issues now: the server has to be started again')
        refuse_unable(pki, ca, now)
        return ca, Authority(certificate, self._authority.key)

    def _period(self, leaf: Leaf, authority: Authority, now: datetime) -> tuple[datetime, datetime]:
        lifetime = self._rules.lifetime
        if lifetime is not None:
            lifetime = min(lifetime, authority.certificate.not_valid_after_utc - now)
        return period_of(leaf, authority.certificate, lifetime, now)


def _words(name: x509.GeneralName) -> str:
    return f'"{_shown(name.value)}"'


def _shown(text: object) -> str:
    return visible(str(text)[:_SHOWN])


@contextlib.contextmanager
def _counted(pki: Pki, invite: Invite, issued: x509.Certificate, now: datetime) -> Iterator[None]:
    """Count an invitation before its certificate is written, and no more if that fails.

    Before, so that no kill lets the password count for another one. A failure, such as a full
    disk, leaves it to the key that has claimed it.
    """
    invites.write(pki, invite._replace(state=invites.ISSUED, since=now))
    try:
        yield
    except FwsignError:
        with contextlib.suppress(FwsignError):
            if not is_taken(pki, invite.name) or pki.certificate(invite.name) != issued:
                invites.write(pki, invite)
        raise


def _how(invite: Invite, peer: Peer | None) -> str:
    if peer is None:
        return f'password of "{invite.name}"'
    return f"certificate {serial_text(peer.certificate.serial_number)}"


def _is_of_revoked(pki: Pki, name: str, wanted: CertificateRequest) -> bool:
    """Tell whether a request is for the key of an entry that is revoked."""
    same = pki.certificate(name).public_key() == wanted.public_key
    return same and pki.revocation(name) is not None


def _issued(name: str, certificate: x509.Certificate) -> Answer:
    body = _certificates([certificate])
    return Answer(200, body, _PKCS7, f'"{name}" has {serial_text(certificate.serial_number)}')


def _certificates(certificates: list[x509.Certificate]) -> bytes:
    """Return certificates as a PKCS#7 without signatures, in base64 of one line.

    RFC 8951 s.3.1: line ends are not added, since some clients, such as strongSwan's, read none.
    """
    return base64.b64encode(pkcs7.serialize_certificates(certificates, Encoding.DER))
