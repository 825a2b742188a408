"""A URI in a file that came with a repository: it gets no token, and runs no library."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bao_kit import Bao
from cli.kit import good, refused, run
from fwsign.cli import config
from fwsign.keys import open_key
from fwsign.keys.file import encode_private_key
from fwsign.keys.written import WrittenUri, check
from softhsm_kit import SoftHsm
from support import new_key
from support import refused as fails

SECRET = "hvs.secret-of-the-user"
INIT = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")
KNOW = "if you know this server, set BAO_ADDR to it, or give the URI as an argument"


class Listener:
    """A server of somebody else: it only notes what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            with one, contextlib.suppress(TimeoutError):
                one.settimeout(0.2)  # a body may come after its headers
                while data := one.recv(65536):
                    self.heard += data

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


@pytest.fixture
def stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steering: None
) -> Iterator[Listener]:
    del no_steering
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAO_TOKEN", SECRET)
    monkeypatch.setenv("BAO_ADDR", "https://bao.acme.example:8200")
    good("init", ".", *INIT)
    Path("a.bin").write_bytes(b"firmware")
    Path("chain.pem").write_bytes(
        b"".join(
            Path(f"pki/{one}.crt").read_bytes()
            for one in ("issued/release", "issued/issuing", "ca")
        )
    )
    one = Listener()
    yield one
    one.close()


def told(file: object, address: str) -> str:
    return (
        f"{file} sends the token of its key to {address}, "
        "which BAO_ADDR or VAULT_ADDR does not name"
    )


WAYS = {
    "token of the environment": "",
    "any variable": "&role=a&jwt-env=BAO_TOKEN",
    "any file": "&token-file=secret",
    "a role": "&role-id=a&secret-id-file=secret",
    "a JWT in a file": "&role=a&jwt-file=secret",
}


@pytest.mark.parametrize("way", WAYS)
def test_settings_do_not_choose_who_gets_a_secret(way: str, stranger: Listener) -> None:
    Path("secret").write_text(SECRET)
    uri = f"openbao:release?address={stranger.address}{WAYS[way]}"
    Path("fwsign.toml").write_text(
        f'vendor = "acme.example"\nproduct = "x1"\nkey = "{uri}"\nchain = "chain.pem"\n'
    )
    refused(run("sign", "a.bin"), 5, told("fwsign.toml", stranger.address), KNOW)
    assert not Path("a.bin.suit").exists()
    assert stranger.heard == b""
    run("sign", "a.bin", "--key", uri, "--chain", "chain.pem")
    assert SECRET.encode() in stranger.heard  # who types an address means it


def test_nor_do_keys_of_native_signatures(stranger: Listener) -> None:
    uri = f"vault:boot?address={stranger.address}"
    with Path("fwsign.toml").open("a", encoding="utf-8") as file:
        file.write(f'[native]\nkind = "esp-secure-boot-v2"\nkeys = ["{uri}"]\n')
    (key,) = config.load().native.keys
    words = (
        f"fwsign.toml sends the token of its key to {stranger.address}, "
        "which VAULT_ADDR does not name"
    )
    with fails("key.unsupported", words) as found:
        open_key(key, lambda: None)
    assert found.value.hint == KNOW.replace("BAO", "VAULT")
    assert stranger.heard == b""


@pytest.mark.parametrize(
    "words",
    [
        ("sign", "a.bin"),
        ("pki", "crl"),
        ("pki", "issue", "signer", "more", "--no-passphrase"),
        ("pki", "revoke", "release", "--reason", "superseded"),
    ],
)
def test_nor_does_a_pki(words: tuple[str, ...], stranger: Listener) -> None:
    names = ("release", "issuing", "ca")
    before = {one: Path(f"pki/crl/{one}.pem").read_bytes() for one in names[1:]}
    for one in names:
        Path(f"pki/private/{one}.uri").write_text(f"openbao:x?address={stranger.address}\n")
    found = run(*words)
    assert found.status == 5
    assert stranger.address in found.errors[0]
    assert "BAO_ADDR or VAULT_ADDR does not name" in found.errors[0]
    assert stranger.heard == b""
    assert before == {one: Path(f"pki/crl/{one}.pem").read_bytes() for one in names[1:]}


def test_a_server_that_the_environment_names(bao: Bao, no_steering: None, tmp_path: Path) -> None:
    del no_steering
    uri = WrittenUri(bao.make("p256", "of-a-file"), tmp_path)
    host = f"openbao://127.0.0.1:{bao.port}/of-a-file?ca={bao.ca}&token-file={bao.token_file}"
    with fails("key.unsupported", told(tmp_path, bao.address)):
        open_key(uri, lambda: None)
    for name, address in (
        ("BAO_ADDR", bao.address),
        ("BAO_ADDR", f"{bao.address}/"),
        ("VAULT_ADDR", bao.address.upper().replace("HTTPS", "https")),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, address)
            open_key(uri, lambda: None).close()
            open_key(WrittenUri(host), lambda: None).close()
    for address in ("https://127.0.0.1", f"http://127.0.0.1:{bao.port}", "nonsense", "http://evil"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BAO_ADDR", address)
            with fails("key.unsupported", "does not name"):
                open_key(uri, lambda: None)
    open_key(str(uri), lambda: None).close()


def test_a_name_alone_goes_to_the_server_of_the_environment() -> None:
    for uri in ("openbao:release", "openbao://release", "vault:transit/release?token-file=x"):
        check(WrittenUri(uri))


@pytest.mark.skipif(os.name == "nt", reason="folders of the system are others")
def test_a_library_that_a_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FWSIGN_PKCS11_MODULE", raising=False)
    library = tmp_path / "evil.so"
    library.write_bytes(b"")
    beside = Path("/usr/lib/..") / "../" / library.relative_to("/")
    for path in (library, beside, Path("/usr/library.so"), Path("evil.so")):
        uri = WrittenUri(f"pkcs11:object=ca?module-path={path}", "ca.uri")
        words = (
            f"ca.uri runs the library {path}, which is in no folder of the system, and "
            "FWSIGN_PKCS11_MODULE does not name it"
        )
        with fails("key.unsupported", words) as found:
            open_key(uri, lambda: None)
        hint = (
            "if you know this library, set FWSIGN_PKCS11_MODULE to it, "
            "or give the URI as an argument"
        )
        assert found.value.hint == hint
    known = WrittenUri(f"pkcs11:object=ca?module-path={library}")
    monkeypatch.setenv("FWSIGN_PKCS11_MODULE", str(library))
    check(known)
    monkeypatch.setenv("FWSIGN_PKCS11_MODULE", str(tmp_path / "other.so"))
    with fails("key.unsupported", "does not name it"):
        check(known)
    check(str(known))


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:object=ca",
        "pkcs11:object=ca?module-name=softhsm2",
        "pkcs11:object=ca?module-path=/usr/lib/softhsm/libsofthsm2.so",
        "PKCS11:object=ca?module-path=/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
        "ssh-agent:release",
        "awskms:///alias/release",
    ],
)
def test_other_places_that_a_file_names(uri: str) -> None:
    check(WrittenUri(uri))


def test_a_pin_is_no_token(softhsm: SoftHsm, stranger: Listener, tmp_path: Path) -> None:
    """One option for several keys: what opens a token or a file is not sent to a service."""
    given = {"BAO_TOKEN": "", "PIN": softhsm.pin, "HOME": str(tmp_path)}
    service = f"openbao:issuing?address={stranger.address}"
    (tmp_path / "locked.key").write_bytes(encode_private_key(new_key(), softhsm.pin.encode()))
    for root in (softhsm.make("p256", "pin-no-token"), "locked.key"):
        found = run(
            *("pki", "init", "other", *INIT[:4], "--root-key", root, "--pass", "env:PIN"),
            *("--key", f"issuing={service}"),
            env=given,
        )
        message = (
            f"no token for {stranger.address}: none in BAO_TOKEN or VAULT_TOKEN or "
            "~/.vault-token, and none was given"
        )
        refused(
            found, 5, message, "bao login gets one; token-file=FILE in the URI names a file with it"
        )
        assert not Path("other").exists()
    assert stranger.heard == b""
    run("pki", "key", "issuing", service, "--pass", "env:PIN", env=given)
    assert softhsm.pin.encode() in stranger.heard  # for a service alone it is the token
