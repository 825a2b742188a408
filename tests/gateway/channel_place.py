"""A published place with channels, in a folder or on a server, and a gateway that follows one."""

import secrets
from pathlib import Path
from typing import Any

from channel_kit import identity
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.format.rollout import Rollout
from fwsign.format.suit import decode_manifest
from fwsign.signing.channel import sign
from fwsign.x509.roles import CONFIG_SIGNING
from gateway.follow_kit import FEATURE, Follower, release
from gateway.kit import pki, usual_crls
from support import DAY, NOW, PRODUCT, VENDOR, Pki, make_leaf

SALT = bytes(range(16))


class Place:
    """A published place in a folder.

    Args:
        base: its directory.
        follower: the gateway whose releases it has.
    """

    def __init__(self, base: Path, follower: Follower) -> None:
        self.base, self.follower = base, follower
        self.signer = Pki(*pki()[:2], make_leaf(pki().issuing, "rollout", usages=[CONFIG_SIGNING]))
        for name in ("releases", "sha256"):
            (base / name).mkdir(parents=True, exist_ok=True)

    def release(self, number: int, **more: Any) -> ChannelRelease:
        """Publish a release for all devices; return it as a channel names it."""
        work = self.follower.gateway.base / "signed"
        work.mkdir(exist_ok=True)
        path = release(self.follower.gateway, work / f"{number}.suit", number, FEATURE, **more)
        return self.publish(path)

    def publish(self, envelope: Path) -> ChannelRelease:
        """Publish an envelope and its payloads."""
        data = envelope.read_bytes()
        decoded = decode_envelope(data)
        found, manifest = check_manifest_digest(decoded), decode_manifest(decoded.manifest)
        (self.base / f"releases/{found.hex()}.suit").write_bytes(data)
        for one in manifest.components:
            payload = (envelope.parent / one.uri).read_bytes()
            (self.base / f"sha256/{one.digest.value.hex()}").write_bytes(payload)
        return ChannelRelease(found, manifest.sequence_number, Rollout(SALT))

    def channel(self, number: int, *releases: ChannelRelease, **more: Any) -> Path:
        """Publish a channel; `more` replaces its fields, `file` and `signer`."""
        file, signer = more.pop("file", None), more.pop("signer", self.signer)
        in_order = tuple(sorted(releases, key=lambda one: one.sequence_number))
        expires = int((NOW + 7 * DAY).timestamp())
        one = Channel(VENDOR, PRODUCT, "stable", number, expires, in_order)._replace(**more)
        crls = usual_crls()
        data, _ = sign(one, [identity(signer, crls)], [signer.root.anchor], at=NOW, force=True)
        path = self.base / f"{file or one.name}.channel"
        path.write_bytes(data)
        return path

    def envelope(self, one: ChannelRelease) -> Path:
        """Return the file of a release's envelope."""
        return self.base / f"releases/{one.manifest_digest.hex()}.suit"

    def payloads(self) -> list[Path]:
        """Return the files of all payloads."""
        return sorted((self.base / "sha256").iterdir())


def rolled_out(one: ChannelRelease, **more: Any) -> ChannelRelease:
    """Return a release with another rollout, such as `share=0`."""
    return one._replace(rollout=one.rollout._replace(**more))


def new_salt() -> bytes:
    """Return a salt."""
    return secrets.token_bytes(16)
