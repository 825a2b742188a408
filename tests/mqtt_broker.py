"""A second broker as a program: moat-lib-mqtt, with mutual TLS, a CRL, and the ACL of the tests."""

import ssl
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.tls import TLSAttribute, TLSListener
from moat.lib.mqtt import ReasonCode
from moat.lib.mqtt.async_broker import AsyncMQTTBroker, MQTTAuthorizer

HINTS, RECEIPTS = "fwsign/acme.example/", "fwsign/receipts/"


def client_of(stream: Any) -> str:
    """Return the common name of a client's certificate."""
    certificate = stream.extra(TLSAttribute.peer_certificate)  # noqa: S610 - not of Django
    return str(dict(part[0] for part in certificate["subject"])["commonName"])


class Acl(MQTTAuthorizer):
    """The rules of the file that mosquitto reads in the other tests."""

    async def authorize_publish(
        self, topic: str, client_id: str, username: str | None, stream: Any
    ) -> ReasonCode:
        """Only the publisher gives hints; each device sends its own receipts."""
        del client_id, username
        name = client_of(stream)
        allowed = (
            (name == "publisher" and topic.startswith(HINTS))
            or (name == "collector" and topic.startswith(RECEIPTS) and topic.endswith("/ack"))
            or topic == RECEIPTS + name
        )
        return ReasonCode.SUCCESS if allowed else ReasonCode.NOT_AUTHORIZED

    async def authorize_subscribe(
        self, pattern: Any, client_id: str, username: str | None, stream: Any
    ) -> ReasonCode:
        """Hints are for all; answers are for the device, and receipts for the collector."""
        del client_id, username
        name, topic = client_of(stream), str(pattern.pattern)
        allowed = (
            topic.startswith(HINTS)
            or topic == f"{RECEIPTS}{name}/ack"
            or (name == "collector" and topic == RECEIPTS + "+")
        )
        return ReasonCode.SUCCESS if allowed else ReasonCode.NOT_AUTHORIZED


def main(place: Path, port: int) -> None:
    """Serve."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "broker.pem", place / "pki/private/broker.key")
    context.load_verify_locations(place / "pki/ca.crt")
    context.load_verify_locations(place / "pki/crl/bundle.pem")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    anyio.run(serve, context, port)


async def serve(context: ssl.SSLContext, port: int) -> None:
    """Listen; the library's own way to listen does not suit newer versions of anyio."""
    broker = AsyncMQTTBroker(authorizers=[Acl()])
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    await TLSListener(plain, context).serve(broker.serve_client)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
