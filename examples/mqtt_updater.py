#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A gateway's updater that an MQTT message wakes.

The message is a hint and nothing more: its content is not read, so whoever publishes it can make
the gateway look for an update, and can decide nothing. The address of the envelope is fixed here,
and `install` verifies everything. A flood of hints causes one look at a time. The result goes to
TOPIC/result/CLIENT-ID.

    mqtt_updater.py https://updates.acme.example/x1/update.suit --config /etc/fwsign/device.toml \
        --broker broker.acme.example --topic updates/x1 --client-id gateway-7 \
        --ca ca.crt --cert gateway-7.pem --key gateway-7.key

It needs the package paho-mqtt. docs/pki.md tells how to make the certificates.
"""

import argparse
import json
import queue
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fwsign.errors import FwsignError
from fwsign.gateway import InstallRequest, Sources, load
from fwsign.gateway.install import install


def look(config: Path, envelope: str) -> dict[str, str | int]:
    """Install the release at an address, if it is right for this gateway, and tell the result."""
    try:
        device = load(config)
        sources = Sources(envelope, (), device.fetch, tell)
        done = install(InstallRequest(device, datetime.now(UTC), tell=tell), sources)
    except FwsignError as error:
        return {"result": "refused", "code": error.code, "message": error.message}
    return {"result": done.verdict, "sequence": done.release.manifest.sequence_number}


def tell(message: str) -> None:
    """Print a message for people."""
    print(message, file=sys.stderr, flush=True)


def connect(given: argparse.Namespace, hints: "queue.Queue[None]") -> mqtt.Client:
    """Return a client that connects, again and again, and turns each message into a hint."""

    def subscribe(
        client: mqtt.Client, _: object, __: object, reason: ReasonCode, ___: Properties | None
    ) -> None:
        tell(f"connected: {reason}")
        client.subscribe(given.topic, qos=1)

    def hear(_: mqtt.Client, __: object, ___: mqtt.MQTTMessage) -> None:
        try:
            hints.put_nowait(None)
        except queue.Full:
            return  # a look is due already

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id=given.client_id, protocol=mqtt.MQTTv5
    )
    context = ssl.create_default_context(cafile=given.ca)
    context.load_cert_chain(given.cert, given.key)
    client.tls_set_context(context)
    client.on_connect, client.on_message = subscribe, hear
    client.reconnect_delay_set(1, 300)
    host, _, port = given.broker.partition(":")
    client.connect_async(host, int(port or 8883))
    return client


def main() -> None:
    """Look for an update at the start and after each hint, until stopped."""
    parser = argparse.ArgumentParser(description="install updates when an MQTT message tells so")
    parser.add_argument("envelope", help="address or path of the envelope")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--broker", required=True, metavar="HOST[:PORT]")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--ca", required=True, metavar="PEM")
    parser.add_argument("--cert", required=True, metavar="PEM")
    parser.add_argument("--key", required=True, metavar="PEM")
    given = parser.parse_args()
    hints: queue.Queue[None] = queue.Queue(maxsize=1)
    hints.put(None)  # a message may have been lost while this did not run
    client = connect(given, hints)
    client.loop_start()
    while True:
        hints.get()
        result = json.dumps(look(given.config, given.envelope))
        tell(result)
        client.publish(f"{given.topic}/result/{given.client_id}", result, qos=1)


if __name__ == "__main__":
    main()
