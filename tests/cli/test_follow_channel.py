"""`fwsign follow`, `install` and `device status` with a channel: transcripts."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cli.kit import good, refused, run
from cli.test_follow import INIT, configure
from fwsign.cli import inputs
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.format.rollout import Rollout
from fwsign.format.suit import decode_manifest
from fwsign.gateway.config.device import load
from fwsign.gateway.follow_memory import write_attempts, write_seen
from fwsign.gateway.run.session import opened
from fwsign.keys.file import FileSigner
from fwsign.signing.channel import sign
from fwsign.signing.envelope import Identity
from fwsign.x509.anchor import Anchor
from support import DAY, NOW, PRODUCT, VENDOR

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")
SEQUENCE = int(NOW.timestamp())
EXPIRES = NOW + 7 * DAY
LINE = f"  channel    stable, number {{}}, until {EXPIRES:%Y-%m-%d %H:%M} UTC"


@pytest.fixture
def place(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway, and a place with one release for it."""
    monkeypatch.setenv("FWSIGN_DEVICE", str(project / "device.toml"))
    (project / "files").mkdir()
    good(*INIT)
    good("pki", "issue", "channel", "rollout", "--no-passphrase")
    found = project / "place"
    for name in ("releases", "sha256"):
        (found / name).mkdir(parents=True)
    good("sign", "build.bin", "--version", "2.4.1", "-o", "one.suit")
    data = Path("one.suit").read_bytes()
    decoded = decode_envelope(data)
    (part,) = decode_manifest(decoded.manifest).components
    (found / f"releases/{check_manifest_digest(decoded).hex()}.suit").write_bytes(data)
    (found / f"sha256/{part.digest.value.hex()}").write_bytes(Path("build.bin").read_bytes())
    configure(project, f'[follow]\naddress = "{found}/stable.channel"')
    return found


def publish(place: Path, number: int, share: int = 10_000, hold: str | None = None) -> None:
    """Sign a channel with the release that is there."""
    pki = place.parent / "pki"
    key = load_pem_private_key((pki / "private/rollout.key").read_bytes(), None)
    chain = tuple(
        x509.load_pem_x509_certificate((pki / f"issued/{name}.crt").read_bytes()).public_bytes(
            Encoding.DER
        )
        for name in ("rollout", "issuing")
    )
    crls = tuple(
        x509.load_pem_x509_crl((pki / f"crl/{name}.pem").read_bytes()).public_bytes(Encoding.DER)
        for name in ("issuing", "ca")
    )
    (envelope,) = (place / "releases").iterdir()
    one = ChannelRelease(bytes.fromhex(envelope.stem), SEQUENCE, Rollout(bytes(16), share))
    expires = int(EXPIRES.timestamp())
    channel = Channel(VENDOR, PRODUCT, "stable", number, expires, (one,), hold)
    anchor = Anchor.from_pem((pki / "ca.crt").read_bytes())
    data, _ = sign(channel, [Identity(FileSigner(key), chain, crls)], [anchor], at=NOW)  # type: ignore[arg-type]
    (place / "stable.channel").write_bytes(data)


def test_a_channel_is_followed(place: Path) -> None:
    publish(place, 1)
    assert good("follow", "--check").splitlines() == [
        f"offered  gateway-x1 2.4.1, sequence {SEQUENCE}",
        "  size       800 bytes, at most 800 of them to fetch",
        LINE.format(1),
    ]
    assert good("follow", "--once").splitlines()[0] == (
        f"installed  gateway-x1 2.4.1, sequence {SEQUENCE}"
    )
    found = run("follow", "--once")
    assert found.out.splitlines() == [
        f"nothing new  gateway-x1 2.4.1, sequence {SEQUENCE}",
        LINE.format(1),
    ]
    publish(place, 2)
    assert good("follow", "--once").splitlines() == [
        f"nothing new  gateway-x1 2.4.1, sequence {SEQUENCE}",
        LINE.format(2),
    ]


def test_a_rollout_that_leaves_this_device_out_says_why(place: Path) -> None:
    publish(place, 1, share=0)
    found = run("follow", "--once")
    assert found.status == 0
    first, second, third = found.out.splitlines()
    assert (first, second) == ("waiting  no release for this device", LINE.format(1))
    words = f"  not now    release {SEQUENCE}: the rollout is for 0 %, this device is at "
    assert third.startswith(words)
    assert "next:" not in found.err
    said = json.loads(good("follow", "--check", "--json"))
    assert (said["verdict"], said["would_install"]) == ("waiting", False)
    assert [one["name"] for one in said["obstacles"]] == ["rollout"]
    channel = said["channel"]
    assert (channel["name"], channel["number"], channel["hold"]) == ("stable", 1, None)
    assert channel["expires"] == EXPIRES.isoformat()
    (one,) = channel["releases"]
    assert (one["sequence_number"], one["in"]) == (SEQUENCE, False)
    assert one["why_not"].startswith("the rollout is for 0 %")


def test_a_release_that_failed_is_named_while_it_waits(place: Path) -> None:
    publish(place, 1)
    (payload,), (envelope,) = (list((place / one).iterdir()) for one in ("sha256", "releases"))
    content = payload.read_bytes()
    payload.write_bytes(content[::-1])
    assert run("follow", "--once").status == 1
    lines = good("follow", "--once").splitlines()
    assert lines[0] == f"waiting  gateway-x1 2.4.1, sequence {SEQUENCE}"
    assert lines[1] == "  size       800 bytes, at most 800 of them to fetch"
    assert lines[3].startswith("  not now    it failed once, the next try is in ")
    publish(place, 2)
    envelope.write_bytes(Path("build.bin").read_bytes())  # nothing is known of the release
    with opened(load(place.parent / "device.toml")) as state:
        write_attempts(state, None)
        write_seen(state, None)
    assert run("follow", "--once").status == 1
    assert good("follow", "--once").splitlines()[0] == f"waiting  release {SEQUENCE}"


def test_the_status_says_what_the_channel_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(good("device", "status", "--json"))["channel"] is None
    publish(place, 4, hold="it drains batteries")
    good("follow", "--once")
    said = good("device", "status").splitlines()
    assert f"channel     stable, number 4, until {EXPIRES.isoformat()}" in said
    assert "on hold     the channel is held: it drains batteries" in said
    assert f"release     sequence {SEQUENCE}: for this device" in said
    found = json.loads(good("device", "status", "--json"))["channel"]
    assert (found["number"], found["hold"], found["expired"]) == (4, "it drains batteries", False)
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days=8))
    assert f"channel     stable, number 4, expired {EXPIRES.isoformat()}" in good(
        "device", "status"
    )


def test_a_frozen_channel_is_exit_status_3(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(place, 1)
    good("follow", "--once")
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days=8))
    found = run("follow", "--once")
    assert found.status == 3
    assert found.errors[0].startswith("error: the channel was to be used before 20")
    assert (place.parent / "files/current/build.bin").exists()


def test_a_channel_is_installed_by_its_address(place: Path) -> None:
    publish(place, 1, hold="it drains batteries")
    channel = place / "stable.channel"
    refused(
        run("install", channel),
        4,
        f"the channel stable, number 1, until {EXPIRES:%Y-%m-%d %H:%M} UTC has no release for this "
        "device: the channel is held: it drains batteries",
        "fwsign device status shows what the channel says; or name the release's envelope",
    )
    publish(place, 2)
    refused(
        run("install", channel, "build.bin"),
        2,
        "a channel has no payloads of its own",
        "name the channel alone: its payloads lie beside it",
    )
    assert good("install", channel, "--check").splitlines()[0].startswith("offered  gateway-x1")
    assert good("install", channel, "--dry-run").startswith("dry run  gateway-x1")
    assert good("install", "place/stable.channel").startswith("installed  gateway-x1")


def test_the_receipt_of_a_typed_channel_that_is_refused_is_signed(place: Path) -> None:
    """A collector takes no unsigned line, and none after it."""
    good("key", "new", "device.key", "--no-passphrase")
    good("key", "convert", "device.key", "device.pub", "--to", "public")
    path = place.parent / "device.toml"
    path.unlink()
    (place.parent / "state.db").unlink()
    good(*INIT, "--device-key", "device.key")
    publish(place, 1)
    channel = place / "stable.channel"
    channel.rename(place / "beta.channel")
    refused(
        run("install", place / "beta.channel"),
        4,
        'this is the channel "stable", this device follows "beta"',
    )
    out = good("receipts", "verify", "--config", path, "--key", "device.pub")
    assert out.startswith("verified  2 receipts, signed by ")


def test_cohorts_in_device_toml_are_names(place: Path) -> None:
    path = place.parent / "device.toml"
    text = path.read_text()
    for wrong in ('["Pilot"]', '["a", "a"]', '["a b"]', "[" + '"x",' * 33 + "]"):
        path.write_text(f"{text}cohorts = {wrong}\n")
        what = "a list of at most 32 names of a-z, 0-9 and -, each once"
        refused(run("follow", "--once"), 5, f'{path}: "follow.cohorts" is not {what}')
    path.write_text(f'{text}cohorts = ["pilot", "a-1"]\n')
    publish(place, 1)
    assert good("follow", "--once").startswith("installed")


def test_what_is_published_is_followed(place: Path) -> None:
    """From the file to the gateway by commands alone, and to the next release."""
    (place.parent / "next.bin").write_bytes(b"next")
    good("sign", "next.bin", "--version", "2.5.0", "--sequence", SEQUENCE + 1)
    good("channel", "make", "stable", "next.bin.suit")
    good("publish", "next.bin.suit", "--to", "published", "--channel", "stable.channel")
    address = "published/stable.channel"
    assert good("follow", address, "--once").splitlines()[0] == (
        f"installed  gateway-x1 2.5.0, sequence {SEQUENCE + 1}"
    )
    good("channel", "make", "stable", "--hold", "it drains batteries")
    good("publish", "--to", "published", "--channel", "stable.channel")
    assert good("follow", address, "--once").startswith("nothing new  gateway-x1 2.5.0")
