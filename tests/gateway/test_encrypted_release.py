"""A gateway installs what is encrypted to its group, and keeps the plaintext to itself."""

import contextlib
import hashlib
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from flash.kit import MemoryBoard, esp_image
from fwsign.errors import FwsignError
from fwsign.flash import backends
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import flash_identifier
from fwsign.gateway.target.sources import ReleasePlace
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway
from secret_kit import BLOCK, GROUP, LARGE, OTHER, STEP, described, encrypted, write_key
from support import NOW, make_ca, refused


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway of the group."""
    found = make_gateway(tmp_path)
    join(found, GROUP)
    return found


def join(gateway: Gateway, key: Any, more: str = "") -> Path:
    path = write_key(gateway.base / "group.key", key)
    gateway.configure(f'[[decrypt]]\nkey = "{path}"\n{more}')
    return path


def release(gateway: Gateway, number: int, files: dict[str, bytes], **more: Any) -> Path:
    """Sign encrypted files."""
    folder = gateway.base / f"secret-{number}"
    folder.mkdir()
    made = {name: encrypted(data, **more) for name, data in files.items()}
    for name, (_, ciphertext) in made.items():
        (folder / f"{name}.enc").write_bytes(ciphertext)
    parts, lists, inside = described({name: one for name, (one, _) in made.items()})
    path = folder / "update.suit"
    return gateway.sign(path, number, parts, integrated=inside, block_lists=lists)


def plaintext_in(gateway: Gateway) -> list[str]:
    """The files of the target that have a part of the plaintext."""
    found = [path for path in gateway.target.rglob("*") if path.is_file()]
    return [path.name for path in found if LARGE[:64] in path.read_bytes()]


# --- installing -----------------------------------------------------------------------------


def test_what_is_encrypted_to_its_group_is_installed(gateway: Gateway) -> None:
    files = {"app.tar": LARGE, "small.cfg": b"a = 1\n", "none": b""}
    envelope = release(gateway, 7, files)
    assert gateway.install(envelope, dry_run=True).verdict == "dry run"
    assert gateway.installed is None
    assert gateway.install(envelope).verdict == "installed"
    assert gateway.installed == files
    assert gateway.floor == 7
    assert gateway.install(envelope).verdict == "already installed"
    modes = {path.stat().st_mode & 0o777 for path in (gateway.target / "current").iterdir()}
    assert modes == {0o600}


def test_the_receipt_names_ciphertext_and_plaintext_and_no_secret(gateway: Gateway) -> None:
    gateway.install(release(gateway, 7, {"app.tar": LARGE}))
    with State.open(gateway.base / "state.db") as state:
        text = "\n".join(map(str, state.receipt_lines()))
    number = f"{GROUP.private_numbers().private_value:x}"
    assert number not in text
    assert LARGE[:16].hex() not in text


def test_a_device_outside_the_group_installs_nothing(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    join(gateway, OTHER)
    envelope = release(gateway, 7, {"app.tar": LARGE})
    with refused("unsuitable.recipient", "this device has"):
        gateway.install(envelope)
    assert (gateway.installed, gateway.floor, plaintext_in(gateway)) == (None, None, [])
    assert gateway.results[-1] == ("refused", "unsuitable.recipient")


def test_a_device_without_a_group_is_told_the_same(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    envelope = release(gateway, 7, {"app.tar": LARGE})
    for dry_run in (True, False):
        with refused("unsuitable.recipient", 'of "app.tar" is encrypted, and no key was given'):
            gateway.install(envelope, dry_run=dry_run)
    assert (gateway.installed, gateway.floor) == (None, None)


# --- cut short, and attacked ----------------------------------------------------------------


def test_an_interrupted_install_goes_on_after_the_last_block(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = release(gateway, 7, {"app.tar": LARGE})
    payload = envelope.parent / "app.tar.enc"
    content = payload.read_bytes()

    class Gone(Exception):
        pass

    def write(self: Any, data: bytes, taken: list[int] = []) -> None:  # noqa: B006 - a counter
        taken.append(len(data))
        if len(taken) > 2:
            raise Gone
        os.write(self._handle, data)

    with monkeypatch.context() as patch, pytest.raises(Gone):  # noqa: PT012 - one statement inside
        patch.setattr("fwsign.gateway.target.stage._File.write", write)
        gateway.install(envelope)
    staged = gateway.target / ".fwsign/stage/files/app.tar"
    assert staged.read_bytes() == LARGE[: 2 * STEP]
    assert staged.stat().st_mode & 0o777 == 0o600
    payload.write_bytes(bytes(2 * BLOCK) + content[2 * BLOCK :])  # only the rest is there
    gateway.install(None)
    assert gateway.installed == {"app.tar": LARGE}


@pytest.mark.parametrize("at", [0, BLOCK, 4 * BLOCK + 5])
def test_no_plaintext_of_a_refused_payload_stays(gateway: Gateway, at: int) -> None:
    envelope = release(gateway, 7, {"app.tar": LARGE})
    payload = envelope.parent / "app.tar.enc"
    content = bytearray(payload.read_bytes())
    content[at] ^= 1
    good = payload.read_bytes()
    payload.write_bytes(content)
    with refused("tampered.block", f"block {at // BLOCK} of 4096 bytes"):
        gateway.install(envelope)
    assert plaintext_in(gateway) == []
    payload.write_bytes(good)
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": LARGE}


@pytest.mark.parametrize("inside", [True, False])
def test_no_plaintext_stays_that_is_not_what_was_signed(gateway: Gateway, inside: bool) -> None:
    """The signer's statements contradict each other: what is decrypted has another digest."""
    one, ciphertext = encrypted(LARGE, whole=1 << 20)
    one = one._replace(image=Digest(-16, hashlib.sha256(b"another").digest()))
    (part,), lists, members = described({"app.tar": one})
    if inside:
        part = part._replace(uri="#app.tar.enc")
        members["#app.tar.enc"] = ciphertext
    (gateway.base / "app.tar.enc").write_bytes(ciphertext)
    path = gateway.base / "update.suit"
    gateway.sign(path, 7, [part], integrated=members, block_lists=lists)
    with refused("tampered.plaintext", 'decrypted payload of "app.tar" has digest'):
        gateway.install(path)
    assert plaintext_in(gateway) == []
    assert gateway.installed is None


def test_the_plaintext_as_payload_is_refused(gateway: Gateway) -> None:
    envelope = release(gateway, 7, {"app.tar": LARGE})
    (envelope.parent / "app.tar.enc").write_bytes(LARGE)
    with refused("tampered.block", "block 0"):
        gateway.install(envelope)
    assert gateway.installed is None


def test_staged_plaintext_that_was_changed_is_fetched_again(gateway: Gateway) -> None:
    envelope = release(gateway, 7, {"app.tar": LARGE})
    stage = gateway.target / ".fwsign/stage"
    (stage / "files").mkdir(parents=True)
    (stage / "envelope").write_bytes(envelope.read_bytes())
    (stage / "files/app.tar").write_bytes(LARGE[:STEP] + b"x" * STEP)
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": LARGE}


def test_a_newer_release_does_not_look_for_ciphertext_in_old_files(gateway: Gateway) -> None:
    gateway.install(release(gateway, 7, {"app.tar": LARGE}))
    gateway.install(release(gateway, 8, {"app.tar": LARGE + b"more"}))
    assert gateway.installed == {"app.tar": LARGE + b"more"}


# --- commands and boards --------------------------------------------------------------------


def test_a_command_gets_the_plaintext(gateway: Gateway) -> None:
    code = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    words = [sys.executable, "-c", code, str(gateway.base / "got")]
    gateway.configure(f'[exec]\n"app.tar" = {json.dumps(words)}\n')
    gateway.install(release(gateway, 7, {"app.tar": LARGE}))
    assert (gateway.base / "got").read_bytes() == LARGE


def test_a_board_gets_the_plaintext(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    board, image = MemoryBoard(), esp_image()

    @contextlib.contextmanager
    def attached(*_: object) -> Any:
        yield board.connect

    monkeypatch.setattr(backends, "attached", attached)
    gateway.configure('[flash]\nesp32c3 = "sim:esp32c3"\n')
    one, ciphertext = encrypted(image)
    (gateway.base / "app.bin.enc").write_bytes(ciphertext)
    _, lists, inside = described({"app.bin": one})
    place = flash_identifier("esp32c3", 0x10000)
    part = Component(place, one.image, one.size, "app.bin.enc", one.encrypted)
    path = gateway.base / "update.suit"
    gateway.install(gateway.sign(path, 3, [part], integrated=inside, block_lists=lists))
    assert board.holds({"esp32c3@0x10000": image})


# --- keys -----------------------------------------------------------------------------------


def test_a_key_that_others_can_read_is_refused(gateway: Gateway) -> None:
    (gateway.base / "group.key").chmod(0o640)
    with refused("io.config", "group.key can be read by other users: mode 0640"):
        gateway.install(release(gateway, 7, {"app.tar": LARGE}))


def test_a_key_with_a_passphrase_is_refused(gateway: Gateway) -> None:
    locked = GROUP.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (gateway.base / "group.key").write_bytes(locked)
    with refused("key.passphrase-missing", "has a passphrase, and nobody is there") as caught:
        gateway.install(release(gateway, 7, {"app.tar": LARGE}))
    path = gateway.base / "group.key"
    assert caught.value.hint == f"fwsign key passwd {path} --no-passphrase"


def test_a_key_is_needed_only_for_what_is_encrypted(gateway: Gateway) -> None:
    (gateway.base / "group.key").unlink()
    gateway.install(gateway.release(7, {"app.tar": b"plain"}))
    assert gateway.installed == {"app.tar": b"plain"}
    with refused("io.missing", "group.key"):
        gateway.install(release(gateway, 8, {"app.tar": LARGE}))


def test_a_certificate_is_compared_with_its_key(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    place = tmp_path / "group.crt"
    join(gateway, GROUP, f'certificate = "{place}"\n')
    envelope = release(gateway, 7, {"app.tar": LARGE})
    root = make_ca("Root")
    place.write_bytes(root.certificate.public_bytes(Encoding.PEM))
    with refused("key.mismatch", "group.crt is for key", "group.key is"):
        gateway.install(envelope)
    place.write_bytes(b"nothing")
    with refused("io.config", "group.crt is not a certificate in PEM"):
        gateway.install(envelope)
    place.write_bytes(_certificate(root).public_bytes(Encoding.PEM))
    gateway.install(envelope)
    assert gateway.installed == {"app.tar": LARGE}


def _certificate(root: Any) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        root.certificate.subject,
        root.certificate.subject,
        GROUP.public_key(),
        7,
        NOW - timedelta(1),
        NOW + timedelta(1),
    )
    from cryptography.hazmat.primitives import hashes

    return builder.sign(root.key, hashes.SHA256())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[decrypt]]\nkey = "group.key"\n', "an absolute path"),
        ("[[decrypt]]\n", "decrypt 1: key"),
        ('[[decrypt]]\nkey = "/a"\nother = 1\n', "other"),
        ('[[decrypt]]\nkey = "/a"\n' * 2, "a key that is there once"),
        ("".join(f'[[decrypt]]\nkey = "/{one}"\n' for one in range(17)), "at most 16 tables"),
        ("decrypt = 1\n", "decrypt"),
    ],
)
def test_the_settings_are_strict(tmp_path: Path, text: str, words: str) -> None:
    gateway = make_gateway(tmp_path)
    if text.startswith("decrypt"):
        gateway.config.write_text(text + gateway.config.read_text())
    else:
        gateway.configure(text)
    with pytest.raises(FwsignError) as caught:
        gateway.device  # noqa: B018 - it is read here
    assert caught.value.code == "io.config"
    assert words in caught.value.message


def test_in_a_published_place_the_ciphertext_has_its_own_name() -> None:
    one, ciphertext = encrypted()
    (part,), *_ = described({"app.tar": one})
    place = ReleasePlace("/srv/stable.channel", "00" * 32, 7).payload(part)
    assert place == f"/srv/sha256/{hashlib.sha256(ciphertext).hexdigest()}"
