"""A gateway that follows an address, with its clock and its uptime in the test's hand."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fwsign.format import cbor
from fwsign.format.component import Digest
from fwsign.format.notice import Notice
from fwsign.format.payload import digest
from fwsign.format.text import Text, encode_text
from fwsign.gateway.config.device import load
from fwsign.gateway.follow.known import FollowRequest
from fwsign.gateway.follow.polling import Polled, check, poll
from fwsign.gateway.run.uptime import Uptime
from gateway.kit import Gateway, make_gateway
from support import DAY, NOW, PRODUCT, VENDOR, component

FEATURE, SECURITY = Notice("feature"), Notice("security", ("CVE-2026-1234",), "2031-12-31")


class Follower:
    """A gateway and the directory that it follows.

    Args:
        base: an empty directory.
        follow: lines of the table [follow].
        more: more lines of device.toml, after it.
    """

    def __init__(self, base: Path, follow: str = "", more: str = "") -> None:
        self.gateway = make_gateway(base)
        self.offers = base / "offers"
        self.offers.mkdir()
        self.address = str(self.offers)
        self.at, self.uptime = NOW, Uptime("one", 1000)
        self.said: list[str] = []
        self.gateway.configure(f"[follow]\n{follow}\n{more}")

    def offer(self, number: int, notice: Notice | None = FEATURE, **more: Any) -> Path:
        """Put a release into the directory; its only file has its number."""
        return release(self.gateway, self.offers / f"{number}.suit", number, notice, **more)

    def request(self) -> FollowRequest:
        device = load(self.gateway.config)
        device = device._replace(fetch=device.fetch._replace(pause_seconds=0))
        return FollowRequest(
            device,
            self.address,
            lambda: self.at,
            tell=self.said.append,
            uptime=lambda: self.uptime,
        )

    def poll(self) -> Polled:
        return poll(self.request())

    def check(self) -> Polled:
        return check(self.request())

    def waits(self, number: int) -> Uptime:
        """Let seconds pass."""
        self.uptime = self.uptime._replace(seconds=self.uptime.seconds + number)
        return self.uptime

    @property
    def installed(self) -> Mapping[str, bytes] | None:
        return self.gateway.installed


def release(gateway: Gateway, path: Path, number: int, notice: Notice | None, **more: Any) -> Path:
    """Sign a release with a text, and put its payload beside it."""
    data = more.pop("data", f"release {number}".encode())
    name = f"app{number}.bin"
    part = component(data, name)
    (path.parent / name).write_bytes(data)
    text = encode_text(
        Text(VENDOR, more.get("product", PRODUCT), "2.4.1", None, notice or Notice()), (part,)
    )
    signed = Digest(-16, digest(-16, cbor.byte_string_head(len(text)), text))
    if more.pop("severed", False):
        more["text"] = None
    else:
        more["text"] = text
    return gateway.sign(path, number, [part], version=(2, 4, 1), text_digest=signed, **more)


def days(number: int) -> datetime:
    """Return a time some days after the usual one."""
    return NOW + number * DAY
