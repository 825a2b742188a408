# SPDX-License-Identifier: Apache-2.0
"""`fwsign hint`: tell a broker that a channel has changed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.options import JSON, KEY_PASS

if TYPE_CHECKING:
    from fwsign.format.channel import Channel
    from fwsign.mqtt.address import Broker

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign hint www/stable.channel --to mqtts://broker.acme.example --ca pki/ca.crt \\",
        "    --cert publisher.pem --key pki/private/publisher.key",
    ),
)
def hint(
    channel: Annotated[
        Path, typer.Argument(readable=False, metavar="CHANNEL", help="The channel, published.")
    ],
    *,
    to: Annotated[str, typer.Option("--to", metavar="mqtts://HOST[:PORT]", help="The broker.")],
    ca: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="PEM",
            help="The roots to judge the broker by. Default: the system's.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="PEM",
            help="The certificate to show the broker, then those of its CAs.",
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(readable=False, metavar="PEM", help="The key of --cert.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Default: fwsign/VENDOR/PRODUCT/CHANNEL."),
    ] = None,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Tell a broker that a channel has changed.

    Gateways that watch it then poll. The broker keeps the hint for those who connect later. A hint
    has the channel's name and number and is not signed: a gateway that hears it looks at the
    channel itself, and verifies that.
    """
    if (cert is None) != (key is None):
        ui.usage("--cert and --key belong together", "give both, or none")
    if topic is not None and (not topic or set(topic) & set("+#\0") or not topic.isprintable()):
        ui.usage("the topic of a hint has no + and #", "name one topic")
    from fwsign.gateway.config.fetch_rules import FetchRules  # after the line was understood
    from fwsign.gateway.https.credentials import ClientKey
    from fwsign.mqtt.hint import Hint, encode_hint, topic_of
    from fwsign.mqtt.link import Link
    from fwsign.mqtt.terms import LinkTerms

    broker, found = _broker(to), _channel(channel)
    place = topic or topic_of(found.vendor, found.product, found.name)
    rules = FetchRules(ca=ca, client_cert=cert, client_key=key)
    names = ClientKey("--cert", "--key", inputs.passphrase_source(pass_, "the client's key"))
    one = Hint(found.name, found.number)
    with Link(broker, rules, LinkTerms(client=names)) as link:
        link.publish(place, encode_hint(one), retain=True)
    if as_json:
        facts = {"broker": broker.url, "topic": place, **one._asdict()}
        ui.print_json({"verdict": "hinted", **facts})
        return
    ui.painted("hinted", "green", f"{one.channel} {one.number} at {broker.url}, topic {place}")


def _broker(typed: str) -> "Broker":
    from fwsign.mqtt.address import EXPECTED, read_broker

    broker = read_broker(typed)
    if broker is None:
        shown = "the address after --to" if "@" in typed else f'the address "{typed}"'
        ui.usage(f"{shown} is not that of a broker with TLS", f"expected {EXPECTED}")
    return broker


def _channel(path: Path) -> "Channel":
    """Read a channel; devices refuse one that expired, so there is a warning."""
    from fwsign.files import read_bytes
    from fwsign.format.channel import read_channel
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE, decode_envelope

    with inputs.expecting_envelope(path, ".channel"):
        found = read_channel(decode_envelope(read_bytes(path, MAX_ENVELOPE_SIZE)))
    if found.expires <= inputs.now().timestamp():
        ended = datetime.fromtimestamp(found.expires, UTC).isoformat()
        ui.note(f"warning: this channel expired {ended}: devices refuse it")
    return found
