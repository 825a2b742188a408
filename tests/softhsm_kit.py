"""A real SoftHSM2 with a token, for the tests of all who hold keys in one.

    def test_one(softhsm: SoftHsm) -> None:
        key = softhsm.make("p256", "release")  # a URI
        cli.run("sign", "a.bin", "--key", key, "--chain", chain, "--pass", softhsm.pass_file)

The library reads its configuration once in a process, so one folder serves all tests. Programs that
a test starts want `softhsm.environment`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.keys.file import new_private_key
from support import absent, require_package, require_program, rsa_key

PIN: Final = "1793-fwsign"
SO_PIN: Final = "5820-officer"
TOKEN: Final = "fwsign tests"
OTHER: Final = "another token"
"""A second token, with the same PIN."""
LEAVING: Final = "leaving token"
"""A third one, which a test deletes."""
_MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
)


class SoftHsm:
    """A folder with tokens of SoftHSM2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pin = PIN
        self.token = TOKEN
        self.pin_file = folder / "pin"
        self.pin_file.write_text(f"{PIN}\n", encoding="utf-8")
        self.pass_file = f"file:{self.pin_file}"
        self.environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        settings = f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n"
        (folder / "softhsm2.conf").write_text(settings, encoding="utf-8")
        self._ids = count(1)
        self._known: dict[str, Any] = {}
        self._shared: dict[str, str] = {}

    @property
    def module(self) -> str:
        """The path of the library."""
        found = next(filter(os.path.exists, _MODULES), None)
        return found or absent("the library of SoftHSM2 is not installed")

    def uri(self, label: str, *, token: str = TOKEN, **query: str) -> str:
        """Return the URI of a key by its label; `query` adds to the query, as `pin_source`."""
        asked = {"module-path": self.module}
        asked |= {name.replace("_", "-"): value for name, value in query.items()}
        words = "&".join(f"{name}={quote(value)}" for name, value in asked.items())
        return f"pkcs11:token={quote(token)};object={quote(label)}?{words}"

    def make(self, alg: str, label: str, *, token: str = TOKEN) -> str:
        """Put a new key into a token and return its URI; p521 and secp256k1 are algorithms, too."""
        key = rsa_key(int(alg[3:])) if alg.startswith("rsa") else _new(alg)
        return self.put(key, label, token=token)

    def put(self, key: Any, label: str, *, token: str = TOKEN, public: bool = True) -> str:
        """Import a private key of cryptography's and return its URI."""
        identifier = f"{next(self._ids):04x}"
        path = self.folder / f"{identifier}.p8"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        place = ("--import", path, "--token", token, "--label", label, "--id", identifier)
        self.run(*place, "--pin", PIN, *(() if public else ("--no-public-key",)))
        self._known[label] = key.public_key()
        return self.uri(label, token=token)

    def once(self, alg: str, label: str, *, again: bool = False) -> str:
        """Return the URI of a key that tests share; `again` makes one more with its label."""
        wanted = f"{label} again" if again else label
        if wanted not in self._shared:
            self._shared[wanted] = self.make(alg, label)
        return self._shared[wanted]

    def facts(self, token: str) -> dict[str, str]:
        """Return serial, slot and slot's description of a token, as a URI has them."""
        for part in self.run("--show-slots").split("\nSlot ")[1:]:
            known = dict(re.findall(r"^ +([A-Z][^:]*): *(.*?) *$", part, re.MULTILINE))
            if known["Label"] == token:
                about = {"serial": known["Serial number"], "slot": part.split()[0]}
                return {**about, "description": quote(known["Description"])}
        raise AssertionError(token)

    def generate(self, kind: str, label: str, *more: str) -> str:
        """Have the token make a key, once, with pkcs11-tool; `kind` is one of its key types."""
        if label not in self._shared:
            identifier = f"{next(self._ids):04x}"
            login = ("--module", self.module, "--token-label", TOKEN, "--login", "--pin", PIN)
            made = ("--keypairgen", "--key-type", kind, "--label", label, "--id", identifier)
            self.run(*login, *made, *more, program="pkcs11-tool")
            self._shared[label] = self.uri(label)
        return self._shared[label]

    def list(self, label: str) -> str:
        """Return what pkcs11-tool says of a private key by its label."""
        login = ("--module", self.module, "--token-label", TOKEN, "--login", "--pin", PIN)
        told = self.run(*login, "--list-objects", "--type", "privkey", program="pkcs11-tool")
        parts = told.split("Private Key Object")
        wanted = re.compile(f"label: *{re.escape(label)}\n")
        return "".join(one for one in parts if wanted.search(one))

    def add_certificate(self, path: Path, label: str) -> None:
        """Put a certificate in DER beside the key that `put` has put there last."""
        identifier = f"{next(self._ids) - 1:04x}"
        login = ("--module", self.module, "--token-label", TOKEN, "--login", "--pin", PIN)
        thing = ("--write-object", path, "--type", "cert", "--label", label, "--id", identifier)
        self.run(*login, *thing, program="pkcs11-tool")

    def public_key(self, label: str) -> Any:
        """Return the public half of a key that `make` or `put` has put there."""
        return self._known[label]

    def new_token(self, label: str) -> None:
        """Make a token; a process that has used the library before does not see it."""
        self.run("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN)

    def run(self, *arguments: object, program: str = "softhsm2-util") -> str:
        """Run a program with these tokens."""
        done = subprocess.run(
            [require_program(program), *map(str, arguments)],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _new(alg: str) -> Any:
    curves = {"p521": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}
    return ec.generate_private_key(curves[alg]) if alg in curves else new_private_key(alg)


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """Return SoftHSM2 with its tokens; this process and its children use them."""
    require_program("softhsm2-util")
    require_package("pkcs11")
    made = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    made.new_token(TOKEN)
    made.new_token(OTHER)
    made.new_token(LEAVING)
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ.update(made.environment)
    yield made
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture(autouse=True)
def _logged_out() -> Iterator[None]:
    """Log out after each test: a command ends with its process, a test does not."""
    yield
    if (login := sys.modules.get("fwsign.keys.pkcs11_login")) is not None:
        login.end_all()
