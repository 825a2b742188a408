"""`fwsign publish`: transcripts."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import channel_kit
from bucket_kit import KEYS, make_bucket, moto
from cli.kit import command, environment, good, program, refused, run
from fwsign.format.channel import Channel, ChannelRelease
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.format.rollout import Rollout
from fwsign.format.suit import decode_manifest
from fwsign.keys.file import FileSigner
from fwsign.signing.channel import sign
from fwsign.signing.envelope import Identity
from fwsign.x509.anchor import Anchor
from support import NOW, PAYLOAD, Entity, Pki, require_package

BLOB = f"sha256/{hashlib.sha256(PAYLOAD).hexdigest()}"


def make_channel(project: Path, number: int, *envelopes: str, at: datetime = NOW) -> Path:
    """Write a channel that names envelopes, signed by a new signer of the project's PKI."""
    named = []
    for one in envelopes:
        decoded = decode_envelope((project / one).read_bytes())
        sequence = decode_manifest(decoded.manifest).sequence_number
        digest = check_manifest_digest(decoded)
        named.append(ChannelRelease(digest, sequence, Rollout(channel_kit.SALT)))
    named.sort(key=lambda one: one.sequence_number)
    until = int((at + timedelta(days=7)).timestamp())
    made = Channel("acme.example", "gateway-x1", "stable", number, until, tuple(named))
    pki = rollout_pki(project)
    crls = tuple(
        x509.load_pem_x509_crl((project / f"pki/crl/{name}.pem").read_bytes()).public_bytes(
            serialization.Encoding.DER
        )
        for name in ("issuing", "ca")
    )
    chain = (pki.leaf.der, pki.issuing.der)
    anchors = [Anchor.from_certificate(pki.root.der)]
    identity = Identity(FileSigner(pki.leaf.key), chain, crls)
    data, _ = sign(made, [identity], anchors, at=at)
    path = project / "stable.channel"
    path.write_bytes(data)
    return path


def rollout_pki(project: Path) -> Pki:
    """Return the project's CAs, with a leaf for channels."""

    def entity(certificate: Path, key: Path) -> Entity:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        return Entity(private, x509.load_pem_x509_certificate(certificate.read_bytes()))

    base = project / "pki"
    root = entity(base / "ca.crt", base / "private/ca.key")
    issuing = entity(base / "issued/issuing.crt", base / "private/issuing.key")
    if not (base / "issued/rollout.crt").exists():
        good("pki", "issue", "channel", "rollout", "--no-passphrase")
    return Pki(root, issuing, entity(base / "issued/rollout.crt", base / "private/rollout.key"))


def release_of(project: Path, envelope: str = "build.bin.suit") -> str:
    digest = check_manifest_digest(decode_envelope((project / envelope).read_bytes()))
    return f"releases/{digest.hex()}.suit"


def test_publish_into_a_folder(signed: Path) -> None:
    make_channel(signed, 1, "build.bin.suit")
    words = ("publish", "build.bin.suit", "--to", "served", "--channel", "stable.channel")
    release = release_of(signed)
    assert good(*words, "--dry-run") == (
        f"would write   {BLOB}\nwould write   {release}\nwould write   stable.channel\n"
        "would publish  3 to write  0 there  served\n"
    )
    assert not (signed / "served").exists()
    assert good(*words) == (
        f"written     {BLOB}\nwritten     {release}\nwritten     stable.channel\n"
        "published  3 written  0 there  served\n"
    )
    served = signed / "served"
    assert (served / BLOB).read_bytes() == PAYLOAD
    assert (served / release).read_bytes() == (signed / "build.bin.suit").read_bytes()
    assert (served / "stable.channel").read_bytes() == (signed / "stable.channel").read_bytes()
    assert good(*words, "--check").endswith("published  0 written  3 there  served\n")


def test_a_release_alone_is_not_offered_yet(signed: Path) -> None:
    assert signed.is_dir()
    found = run("publish", "build.bin.suit", "--to", "served")
    assert found.err == "fwsign: next: fwsign channel make stable build.bin.suit\n"


def test_of_an_encrypted_payload_the_ciphertext_is_published(project: Path) -> None:
    good("pki", "issue", "encryption", "fleet", "--no-passphrase")
    good("sign", "build.bin", "--encrypt-to", "fleet")
    (project / "build.bin").unlink()
    good("publish", "build.bin.suit", "--to", "served", "--check")
    (blob,) = (project / "served/sha256").iterdir()
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert blob.read_bytes() == (project / "build.bin.enc").read_bytes()
    assert all(
        PAYLOAD[:16] not in one.read_bytes()
        for one in (project / "served").rglob("*")
        if one.is_file()
    )
    again = good("publish", "build.bin.suit", "--to", "served", "--check")
    assert again.endswith("published  0 written  2 there  served\n")


def test_json_has_each_path(signed: Path) -> None:
    make_channel(signed, 1, "build.bin.suit")
    words = ("publish", "build.bin.suit", "--to", "served", "--channel", "stable.channel")
    answer = json.loads(good(*words, "--json"))
    assert answer["verdict"] == "published"
    assert answer["place"] == "served"
    assert answer["guarded"] is True
    assert [one["outcome"] for one in answer["paths"]] == ["written"] * 3
    assert [one["path"] for one in answer["paths"]] == [BLOB, release_of(signed), "stable.channel"]
    assert json.loads(good(*words, "--json"))["guarded"] is None


def test_nothing_is_published_that_does_not_verify(signed: Path) -> None:
    (signed / "build.bin").write_bytes(PAYLOAD[:-1] + b"x")
    found = run("publish", "build.bin.suit", "--to", "served")
    assert found.status == 1
    assert 'payload of "build.bin" has digest' in found.err
    (signed / "build.bin").unlink()
    found = run("publish", "build.bin.suit", "--to", "served")
    refused(
        found,
        5,
        'the payload of "build.bin" is not there: build.bin',
        "put it beside the envelope, or name it",
    )
    data = (signed / "build.bin.suit").read_bytes()
    (signed / "build.bin.suit").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run("publish", "build.bin.suit", "--to", "served").status == 1
    assert not (signed / "served").exists()


def test_a_stranger_publishes_nothing(signed: Path) -> None:
    other = signed / "other"
    good("init", other, "--org", "B", "--vendor", "b.example", "--no-passphrase")
    anchor = ("--anchor", other / "pki/ca.crt", "--vendor", "acme.example")
    found = run("publish", "build.bin.suit", "--to", "served", *anchor)
    refused(
        found,
        1,
        'the path ends at issuer "Acme Root CA", the anchors are "B Root CA"',
        "give the right root with --anchor PEM",
    )
    make_channel(signed, 1, "build.bin.suit")
    found = run("publish", "--channel", "stable.channel", "--to", "served", *anchor)
    assert found.status == 1
    assert not (signed / "served").exists()


def test_a_channel_over_nothing(signed: Path) -> None:
    make_channel(signed, 1, "build.bin.suit")
    digest = release_of(signed).removeprefix("releases/").removesuffix(".suit")
    refused(
        run("publish", "--channel", "stable.channel", "--to", "served"),
        5,
        f'the channel "stable" names the release {digest}, which is neither given nor in served',
        "give its envelope, too; or make a channel without it",
    )


def test_a_release_is_no_channel_and_the_reverse(signed: Path) -> None:
    make_channel(signed, 1, "build.bin.suit")
    found = run("publish", "--channel", "build.bin.suit", "--to", "served")
    assert found.status in (1, 4)
    found = run("publish", "stable.channel", "--to", "served")
    assert found.status in (1, 4)
    found = run(
        *("publish", "build.bin.suit", "--to", "served"),
        *("--channel", "stable.channel", "--channel", "stable.channel"),
    )
    refused(found, 2, 'two channels called "stable"', "fwsign publish --help shows how")


def test_an_older_channel_is_refused(signed: Path) -> None:
    words = ("publish", "build.bin.suit", "--to", "served", "--channel", "stable.channel")
    make_channel(signed, 7, "build.bin.suit")
    good(*words)
    make_channel(signed, 6, "build.bin.suit")
    found = run(*words)
    assert found.status == 4
    assert "stable.channel in served has number 7" in found.errors[0]
    assert found.errors[1] == "hint: make one with a number above 7"


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ((), "nothing to publish", "name envelopes, or a channel with --channel FILE"),
        (
            ("build.bin.suit", "--older", "7d"),
            "--older without --collect-garbage",
            "fwsign publish --help shows how",
        ),
        (
            ("build.bin.suit", "--collect-garbage"),
            "--collect-garbage publishes nothing",
            "publish first, then collect",
        ),
        (
            ("--collect-garbage", "--older", "7"),
            '"7" is not a span of time',
            "write 30min, 12h, 90d, 4w, 2y",
        ),
    ],
)
def test_options_that_make_no_sense(
    signed: Path, words: tuple[str, ...], error: str, hint: str
) -> None:
    assert signed.is_dir()
    refused(run("publish", *words, "--to", "served"), 2, error, hint)


def test_a_place_of_an_unknown_kind(signed: Path) -> None:
    assert signed.is_dir()
    places = "a folder, s3://BUCKET/..., gs://BUCKET/..., az://CONTAINER/... or oci://HOST/NAME"
    for scheme in ("https", "ftp"):
        refused(
            run("publish", "build.bin.suit", "--to", f"{scheme}://updates.acme.example/x1"),
            5,
            f'nothing can be published to "{scheme}://"',
            f"name {places}",
        )


@pytest.mark.parametrize(("place", "library"), [("s3://b", "obstore"), ("oci://h/n", "urllib3")])
def test_a_missing_library_names_the_extra(
    signed: Path, monkeypatch: pytest.MonkeyPatch, place: str, library: str
) -> None:
    assert signed.is_dir()
    for name in [*sys.modules]:
        if name.startswith(("fwsign.publish.bucket", "fwsign.publish.registry")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    scheme = place.partition(":")[0]
    refused(
        run("publish", "build.bin.suit", "--to", place),
        5,
        f"places of {scheme}:// need the library {library}, which is not installed",
        "pip install 'fwsign[publish]'",
    )


def test_collect_garbage(signed: Path) -> None:
    make_channel(signed, 1)
    good("publish", "build.bin.suit", "--to", "served", "--channel", "stable.channel")
    words = ("publish", "--to", "served", "--collect-garbage")
    assert good(*words) == "removed  0 of 2  0 bytes  served\n"
    paths = [release_of(signed), BLOB]
    sizes = sum((signed / "served" / path).stat().st_size for path in paths)
    lines = "".join(f"would remove  {path}\n" for path in paths)
    end = f"2 of 2  {sizes} bytes  served\n"
    assert good(*words, "--older", "0d", "--dry-run") == f"{lines}would remove  {end}"
    answer = json.loads(good(*words, "--older", "0d", "--json"))
    assert [one["path"] for one in answer["paths"]] == paths
    assert (answer["verdict"], answer["kept"]) == ("removed", 0)
    assert sorted(one.name for one in (signed / "served").iterdir() if one.is_file()) == [
        ".lock",
        "stable.channel",
    ]


@pytest.mark.parametrize(("year", "word"), [(2099, "ahead of"), (1970, "behind")])
def test_collect_garbage_with_a_wrong_clock(
    signed: Path, monkeypatch: pytest.MonkeyPatch, year: int, word: str
) -> None:
    make_channel(signed, 1)
    good("publish", "build.bin.suit", "--to", "served")
    (signed / "served/stable.channel").write_bytes((signed / "stable.channel").read_bytes())
    clock = datetime(year, 1, 2, tzinfo=UTC).timestamp()
    monkeypatch.setattr("fwsign.cli.publish.command.time", SimpleNamespace(time=lambda: clock))
    found = run("publish", "--to", "served", "--collect-garbage")
    assert found.out == "removed  0 of 2  0 bytes  served\n"
    days = abs(clock - time.time()) // 86400
    assert f"the clock here is {days:.0f} days {word} that of served: the earlier" in found.err
    assert sorted(one.name for one in (signed / "served").iterdir()) == [
        ".lock",
        "releases",
        "sha256",
        "stable.channel",
    ]


def test_a_full_disk_leaves_nothing_partial(today: Path) -> None:
    resource = pytest.importorskip("resource")
    (today / "build.bin").write_bytes(bytes(3 << 20))
    good("sign", "build.bin")
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    found = program("publish", "build.bin.suit", "--to", "served", preexec_fn=limit)
    assert found.returncode == 5, found
    assert "fwsign: error: cannot write served/sha256/" in found.stderr
    assert "file too large" in found.stderr
    assert [one for one in (today / "served").rglob("*") if one.is_file()] == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_publisher_leaves_what_followers_can_use(today: Path, how: signal.Signals) -> None:
    (today / "build.bin").write_bytes(os.urandom(1 << 20) * 24)
    good("sign", "build.bin")
    make_channel(today, 1, "build.bin.suit", at=datetime.now(UTC))
    words = ("publish", "build.bin.suit", "--to", "served", "--channel", "stable.channel")
    child = subprocess.Popen(
        command(words), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    payloads = today / "served/sha256"
    end = time.monotonic() + 30
    while not (payloads.is_dir() and any(payloads.iterdir())) and time.monotonic() < end:
        time.sleep(0.001)
    child.send_signal(how)
    if child.wait() == 0:
        return  # it was quicker than the signal
    assert child.returncode in (-9, 130, 143)
    if how != signal.SIGKILL:
        assert list(payloads.iterdir()) == []
    assert not (today / "served/stable.channel").exists()
    assert program(*words).returncode == 0
    held = [one for one in payloads.iterdir() if not one.name.startswith(".")]
    assert [one.stat().st_size for one in held] == [24 << 20]
    swept = program("publish", "--to", "served", "--collect-garbage", "--older", "0d")
    assert swept.returncode == 0
    assert [one.name for one in payloads.iterdir()] == [held[0].name]


def test_publish_into_a_bucket_as_a_program(today: Path) -> None:
    require_package("obstore")
    good("sign", "build.bin")
    make_channel(today, 1, "build.bin.suit", at=datetime.now(UTC))
    (today / "server").mkdir()
    with moto(today / "server") as address:
        make_bucket(address, "updates")
        place = ("--to", "s3://updates/x1", "--channel", "stable.channel")
        words = ("publish", "build.bin.suit", *place, "--json")
        env = {**KEYS, "AWS_ENDPOINT_URL": address}
        found = program(*words, env=env)
        assert found.returncode == 0, found
        answer = json.loads(found.stdout)
        assert [one["outcome"] for one in answer["paths"]] == ["written"] * 3
        wrong = program(*words, env={**env, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
        assert wrong.returncode == 5
        refusal = json.loads(wrong.stdout)
        assert refusal["code"] == "io.place"
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in found.stderr + wrong.stderr + wrong.stdout
