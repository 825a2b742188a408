"""Keys in a TPM 2.0, by libtpm2_pkcs11, which swtpm stands in for.

Without a resource manager a TPM has room for three objects, so one process at a time uses it here,
and `tpm2_flushcontext` clears up after each.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import good
from fwsign.cli import inputs
from fwsign.errors import Failed
from fwsign.format.cose import key_name
from fwsign.keys import open_key
from fwsign.keys.stand_in import private_key
from keys.contract import NAMES, raw_signatures
from support import NOW, PAYLOAD, absent, make_ca, make_leaf, require_package, require_program

PIN: Final = b"1793-fwsign"
TOKEN: Final = "fwsign tpm"
ALGORITHMS: Final = ("p256", "p384", "rsa3072")
MODULES: Final = (
    "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
)


class Tpm:
    """A token in a TPM."""

    def __init__(self, folder: Path, module: str) -> None:
        self.module = module
        self.pin = folder / "pin"
        self.pin.write_bytes(PIN)
        tool = ("pkcs11-tool", "--module", module)
        self.run(*tool, "--slot-index", "0", "--init-token", "--label", TOKEN, "--so-pin", "so-pin")
        officer = ("--login", "--login-type", "so", "--so-pin", "so-pin")
        self.run(*tool, "--token-label", TOKEN, *officer, "--init-pin", "--pin", PIN.decode())

    def run(self, *command: str) -> None:
        """Run a program that uses the TPM, and clear up after it."""
        require_program(command[0])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        subprocess.run(["tpm2_flushcontext", "-t"], check=True, capture_output=True)

    def uri(self, label: str) -> str:
        """Return the URI of a key."""
        return f"pkcs11:token={quote(TOKEN)};object={label}?module-path={self.module}"


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    """Return a TPM with a token in it, whose keys `fwsign key new` has made."""
    require_package("pkcs11")
    require_program("tpm2_flushcontext")
    module = next(filter(os.path.exists, MODULES), None) or absent("no libtpm2_pkcs11.so")
    folder = tmp_path_factory.mktemp("tpm")
    (folder / "state").mkdir()
    (folder / "store").mkdir()
    socket = folder / "socket"
    program = subprocess.Popen(
        [
            require_program("swtpm"),
            "socket",
            "--tpm2",
            *("--tpmstate", f"dir={folder / 'state'}"),
            *("--server", f"type=unixio,path={socket}"),
            *("--ctrl", f"type=unixio,path={folder / 'socket.ctrl'}"),
            *("--flags", "not-need-init,startup-clear"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    tcti = f"swtpm:path={socket}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TPM2_PKCS11_STORE", str(folder / "store"))
        patch.setenv("TPM2_PKCS11_TCTI", tcti)
        patch.setenv("TPM2TOOLS_TCTI", tcti)
        patch.setenv("TPM2_PKCS11_LOG_LEVEL", "0")
        try:
            while not socket.exists():
                assert program.poll() is None, "swtpm has ended"
                time.sleep(0.02)
            yield Tpm(folder, module)
        finally:
            program.terminate()
            program.wait()


def test_keys_made_there_sign(tpm: Tpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test for all: the library is initialised once in a process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "now", lambda: NOW)
    passing = ("--pass", f"file:{tpm.pin}")
    with pytest.raises(Failed) as caught:
        open_key(tpm.uri("none"), lambda: b"wrong")
    found = (caught.value.code, caught.value.message)
    assert found == ("key.passphrase", f'wrong PIN for the token "{TOKEN}"')
    for alg in ALGORITHMS:
        uri = good("key", "new", tpm.uri(alg), "--alg", alg, *passing).strip()
        held = open_key(uri, lambda: PIN)
        assert key_name(held.public_key) == NAMES[alg]
        assert [*raw_signatures(held)]
        held.close()
    held = open_key(tpm.uri("p256"), lambda: PIN)
    root = make_ca()
    entities = (make_leaf(root, key=private_key(held)), root)
    held.close()
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
    (tmp_path / "chain.pem").write_bytes(pem)
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "a.bin").write_bytes(PAYLOAD)
    own = ("--key", tpm.uri("p256"), "--chain", "chain.pem", "--product", "x1")
    good("sign", "a.bin", *own, *passing)
    good("verify", "a.bin.suit", "--anchor", "root.pem")
