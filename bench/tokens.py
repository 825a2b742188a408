# SPDX-License-Identifier: Apache-2.0
"""Keys in tokens and services, for `bench/run`: make them, and sign many releases in one login.

usage: tokens.py make DIR            makes a SoftHSM2 token and a PKI in DIR; prints settings, JSON
       tokens.py sign DIR COUNT      signs COUNT releases in one login; prints seconds of each
       tokens.py serve DIR           runs OpenBao with a key for the PKI in DIR until standard
                                     input ends; prints the key's URI as a line
"""

import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from fwsign.keys import open_key
from fwsign.keys.held import HeldSigner
from fwsign.pki import Pki
from fwsign.signing import Identity, ReleaseFile, Text, describe, file_identifier, sign
from fwsign.verify import Anchor

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PIN, TOKEN = "271828", "bench"
VENDOR, PRODUCT = "acme.example", "bench"


def main() -> None:
    """Do what was asked for."""
    what, place, *more = sys.argv[1:]
    if what == "make":
        print(json.dumps(make(Path(place))))
    elif what == "serve":
        serve(Path(place))
    else:
        print(json.dumps(signed(Path(place), int(more[0]))))


def make(place: Path) -> dict[str, str]:
    """Make a token with a key, and its certificate; return what programs need to use it."""
    module = next((one for one in MODULES if Path(one).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        return {}
    (place / "tokens").mkdir(parents=True)
    (place / "softhsm2.conf").write_text(f"directories.tokendir = {place / 'tokens'}\n")
    (place / "pin").write_text(PIN)
    os.environ["SOFTHSM2_CONF"] = str(place / "softhsm2.conf")
    token = ("--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", PIN)
    subprocess.run(("softhsm2-util", *token), check=True, capture_output=True)
    uri = f"pkcs11:token={TOKEN};object=release?module-path={module}"
    fwsign = (sys.executable, "-m", "fwsign")
    about = ("--org", "Acme", "--vendor", VENDOR, "--product", PRODUCT, "--no-passphrase")
    secret = ("--pass", f"file:{place / 'pin'}")
    for command in (
        ("init", place, *about),
        ("key", "new", uri, *secret),
        ("pki", "issue", "signer", "held", "--pki", place / "pki", "--from-key", uri, *secret),
    ):
        subprocess.run((*fwsign, *command), check=True, capture_output=True)
    issued = place / "pki" / "issued"
    parts = (issued / "held.crt", issued / "issuing.crt", place / "pki" / "ca.crt")
    (place / "chain.pem").write_bytes(b"".join(part.read_bytes() for part in parts))
    return {"uri": uri, "SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}


def signed(place: Path, count: int) -> list[float]:
    """Sign releases of small files with one login; return the seconds that each took."""
    os.environ["SOFTHSM2_CONF"] = str(place / "softhsm2.conf")
    module = next(one for one in MODULES if Path(one).exists())
    uri = f"pkcs11:token={TOKEN};object=release?module-path={module}"
    pki, now = Pki(place / "pki"), datetime.now(UTC)
    anchors = [Anchor.from_pem((place / "pki" / "ca.crt").read_bytes())]
    file = place / "release.bin"
    file.write_bytes(os.urandom(4096))
    held = open_key(uri, PIN.encode)
    identity = Identity(HeldSigner(held), pki.path("held"), pki.crls("held"))
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        release = describe(
            [ReleaseFile(file, file_identifier("release.bin"))],
            Text(VENDOR, PRODUCT, "1.0"),
            sequence_number=int(now.timestamp()),
        )
        sign(release, [identity], anchors, at=now)
        taken.append(time.perf_counter() - begin)
    held.close()
    return taken


def serve(place: Path) -> None:
    """Run OpenBao's server for development, over TLS, and certify a key in it."""
    folder = place / "bao"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    token = secrets.token_hex(16)
    (folder / "token").write_text(token)
    options = ("-dev-tls", f"-dev-tls-cert-dir={folder}", "-dev-no-store-token")
    own = (f"-dev-listen-address={address}", f"-dev-root-token-id={token}")
    server = subprocess.Popen(
        (str(Path(sys.executable).parent / "bao"), "server", "-dev", *options, *own),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    try:
        ca = folder / "vault-ca.pem"
        while not _answers(address, ca, token, "sys/mounts/transit", {"type": "transit"}):
            if server.poll() is not None:
                sys.exit("bench: error: OpenBao has ended")
            time.sleep(0.1)
        _answers(address, ca, token, "transit/keys/release", {"type": "ecdsa-p256"})
        uri = f"openbao://{address}/release?ca={ca}&token-file={folder / 'token'}"
        issue = ("pki", "issue", "signer", "service", "--pki", place / "pki", "--from-key", uri)
        subprocess.run((sys.executable, "-m", "fwsign", *issue), check=True, capture_output=True)
        issued = place / "pki" / "issued"
        parts = (issued / "service.crt", issued / "issuing.crt", place / "pki" / "ca.crt")
        (place / "service.pem").write_bytes(b"".join(part.read_bytes() for part in parts))
        print(uri, flush=True)
        sys.stdin.read()
    finally:
        server.terminate()
        server.wait()


def _answers(address: str, ca: Path, token: str, what: str, body: dict[str, str]) -> bool:
    """Send a request, and tell whether the server takes it."""
    try:
        request = urllib.request.Request(
            f"https://{address}/v1/{what}",
            json.dumps(body).encode(),
            {"X-Vault-Token": token},
            method="POST",
        )
        trust = ssl.create_default_context(cafile=ca)
        with urllib.request.urlopen(request, context=trust):  # noqa: S310 - https alone
            return True
    except OSError:  # it is not up yet
        return False


if __name__ == "__main__":
    main()
