"""Verifying touches nothing outside: an audit hook sees no file, socket, process or import."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import fwsign
from support import NOW, PAYLOAD, component, make_manifest, make_pki, sign_with

SCRIPT = """
import base64, io, json, sys
from datetime import datetime
given = json.loads(sys.stdin.read())
sys.path.insert(0, given["source"])
from fwsign.errors import FwsignError
from fwsign.verify import Anchor, DevicePolicy, Verifier
envelope, root, payload = (base64.b64decode(given[key]) for key in ("envelope", "root", "payload"))
at = datetime.fromisoformat(given["at"])
if given["warm"]:
    Verifier([Anchor.from_certificate(root)]).verify(envelope, at=at)
events, listening = [], True
def hook(event, arguments):
    if listening:
        events.append(event)
sys.addaudithook(hook)
anchor = Anchor.from_certificate(root)
policy = DevicePolicy(vendor="acme.example", product="gateway-x1", min_sequence=1)
verifier = Verifier([anchor], policy)
release = verifier.verify(envelope, at=at)
for component in release.components:
    release.receive(component, io.BytesIO(payload), io.BytesIO())
for spot in range(0, len(envelope), 9):
    try:
        verifier.verify(envelope[:spot] + b"\\xff" + envelope[spot + 1:], at=at)
    except FwsignError:
        pass
listening = False
print(json.dumps(sorted(set(events))))
"""

ALLOWED = {"object.__getattr__", "object.__setattr__", "sys._getframe", "code.__new__"}


def events(alg: str, *, warm: bool) -> set[str]:
    pki = make_pki(alg)
    parts = component(), component(file="b.bin", uri="#b.bin")
    envelope = sign_with(pki, make_manifest(*parts), integrated={"#b.bin": PAYLOAD})
    given = {
        "source": str(Path(fwsign.__file__).parents[1]),
        "envelope": base64.b64encode(envelope).decode(),
        "root": base64.b64encode(pki.root.der).decode(),
        "payload": base64.b64encode(PAYLOAD).decode(),
        "at": NOW.isoformat(),
        "warm": warm,
    }
    run = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return set(json.loads(run.stdout))


def test_verifying_touches_nothing_outside() -> None:
    for alg in ("p256", "ed25519", "ml-dsa-65"):
        assert events(alg, warm=True) - ALLOWED == set()


def test_the_first_verification_reads_no_more_than_modules() -> None:
    found = events("p256", warm=False)
    outside = ("socket", "subprocess", "urllib", "shutil", "tempfile", "os.system", "os.exec")
    assert [event for event in found if event.startswith(outside)] == []
