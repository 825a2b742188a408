# SPDX-License-Identifier: Apache-2.0
"""The facts about a release and its signers that receipts and --json share, each under one name.

The order of fields is that of --json; receipts are canonical and have their own.
"""

from datetime import UTC, datetime
from typing import Any, Final

from fwsign.format.attachments import Attachment
from fwsign.format.channel import Channel
from fwsign.format.component import Component
from fwsign.format.native import BY_HASH, StatedNative
from fwsign.format.notice import Notice
from fwsign.format.permit import Permit
from fwsign.format.suit import Manifest
from fwsign.format.text import Text
from fwsign.verify.verified import VerifiedRelease, VerifiedSigner

_OF_A_RELEASE: Final = (
    *("product", "version", "sequence_number"),
    *("class", "advisories", "support_until"),
)


def rfc3339(seconds: int | None) -> str | None:
    """Format a time in seconds since 1970 for programs; None if there is none."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds is not None else None


def content_facts(manifest: Manifest, text: Text | None) -> dict[str, Any]:
    """Return what a manifest and its text say of the whole release; None stands for unknown."""
    return {
        "vendor": text.vendor if text else None,
        "product": text.product if text else None,
        "version": text.version if text else None,
        "description": text.description if text else None,
        **(text.notice if text else Notice()).as_json(),
        "sequence_number": manifest.sequence_number,
        "use_before": rfc3339(manifest.use_before),
    }


def notice_words(notice: Notice) -> str:
    """Return a notice in one line for people; empty if the release has none."""
    about, advisories, until = notice
    fixes = f" ({', '.join(advisories)})" if advisories else ""
    parts = (about and f"{about} release{fixes}", until and f"supported until {until}")
    return ", ".join(filter(None, parts))


def attachment_facts(attachment: Attachment) -> dict[str, Any]:
    """Return an attachment's name, media type, size and digest."""
    return {
        "name": attachment.name,
        "type": attachment.media_type,
        "size": attachment.size,
        "digest": attachment.digest.value.hex(),
    }


def native_words(stated: StatedNative) -> str:
    """Return what a release states of a native signature, in one line for people."""
    version = (
        "" if stated.security_version is None else f", security version {stated.security_version}"
    )
    keys = ", ".join(f"{one.hex()[:16]}..." for one in stated.key_digests)
    left = "; its boot loader has the keys, no signature is checked here"
    return f"{stated.kind}{version}, by {keys}{left if stated.kind in BY_HASH else ''}"


def component_facts(component: Component) -> dict[str, Any]:
    """Return a component's name, size, digest and uri; and of its ciphertext if it is encrypted."""
    carried = component.carried
    secret = {"size": carried.size, "digest": carried.digest.value.hex()}
    return {
        "name": component.name,
        "size": component.size,
        "digest": component.digest.value.hex(),
        "uri": component.uri,
        **({"encrypted": secret} if component.encrypted else {}),
    }


def release_facts(release: VerifiedRelease) -> dict[str, Any]:
    """Return the facts that identify a release, its notice, and the roles that were met."""
    content = content_facts(release.manifest, release.text)
    met = [str(one) for one in release.demands]
    return {
        "manifest_digest": release.manifest_digest.hex(),
        "vendor": release.vendor,  # as verified, also where the text was cut off
        **{name: content[name] for name in _OF_A_RELEASE},
        **({"policy": met} if met else {}),
    }


def channel_facts(channel: Channel) -> dict[str, Any]:
    """Return what a channel says."""
    return {
        "vendor": channel.vendor,
        "product": channel.product,
        "name": channel.name,
        "number": channel.number,
        "expires": rfc3339(channel.expires),
        "hold": channel.hold,
        "releases": [
            {
                "manifest_digest": one.manifest_digest.hex(),
                "sequence_number": one.sequence_number,
                "share": one.rollout.share,
                "cohorts": list(one.rollout.cohorts),
                "from": rfc3339(one.rollout.start),
                "until": rfc3339(one.rollout.until),
            }
            for one in channel.releases
        ],
    }


def installed_facts(release: VerifiedRelease) -> dict[str, Any]:
    """Return a release's identity, and its components and signers as gateways name them."""
    parts = [component_facts(one) for one in release.components]
    return {
        **release_facts(release),
        "components": [
            {"name": one["name"], "sha256": one["digest"], "size": one["size"]} for one in parts
        ],
        "signers": [signer_facts(one) for one, _ in release.counted],
    }


def signer_facts(signer: VerifiedSigner) -> dict[str, Any]:
    """Return a signature's signer, algorithm and time; None stands for unknown."""
    path = signer.path
    return {
        "name": path.name if path else None,
        "key": path.keys[0] if path else None,
        "algorithm": signer.algorithm,
        "signed_at": signer.signed_at.isoformat() if signer.signed_at else None,
    }


def time_facts(release: VerifiedRelease, at: datetime) -> dict[str, Any]:
    """Return the time at which a release was judged, and the source of that time.

    Args:
        release: the release.
        at: the clock's time.
    """
    proven = {one.signed_at for one in release.signers}
    if release.now == at:
        source = "the clock"
    elif release.now in proven:
        source = "a time-stamp token"
    else:
        source = "what is known to have passed: CRLs, and the memory"
    return {"judged_at": release.now.isoformat(), "source": source}


def permit_facts(permit: Permit) -> dict[str, Any]:
    """Return what a permit says."""
    return {
        "vendor": permit.vendor,
        "product": permit.product,
        "device": permit.device,
        "release": permit.release.hex(),
        "sequence_number": permit.sequence_number,
        "id": permit.id.hex(),
        "made": rfc3339(permit.made),
        "expires": rfc3339(permit.expires),
    }
