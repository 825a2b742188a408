# SPDX-License-Identifier: Apache-2.0
"""Killed at each step, a PKI stays whole, and the next run puts it right."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.pki.acceptance import accept
from fwsign.pki.directory import Pki
from fwsign.pki.offline import create_requests, sign_request
from fwsign.pki.renewal import renew
from fwsign.pki.request import parse_request
from fwsign.pki.rotation import rotate, standby
from pki_kit import (
    NEW,
    NOW,
    at_file_event,
    check_whole,
    fork,
    issue,
    make,
    needs_fork,
    no_passphrase,
    run_myself,
)
from support import new_key, stride


def again(pki: Path, name: str, *, other: bool = False) -> Path:
    key = NEW if other else None
    return renew(pki, name, new_key=key, ca_passphrase=no_passphrase, now=NOW)


def turn(pki: Path) -> object:
    return rotate(pki, root_key=NEW, new_key=NEW, passphrase=lambda _: None, now=NOW)


def take(pki: Path, root: Path) -> object:
    reader = Pki(root)
    blobs = [
        reader.root.public_bytes(Encoding.DER),
        reader.certificate("issuing").public_bytes(Encoding.DER),
        reader.crl("ca").public_bytes(Encoding.DER),
    ]
    return accept(pki, blobs, passphrase=no_passphrase, now=NOW)


def ask(pki: Path) -> tuple[Path, Path]:
    return create_requests(pki, org="Acme", vendor="acme.example", new_key=NEW)


def kill_everywhere(base: Path, what: str, pki: Path, action: Callable[[], object]) -> None:
    """Kill an action at its first file event, its second, and so on, until it lives."""
    step, lived = 0, False
    while not lived:
        step += stride(7)
        lived = fork(action, partial(at_file_event, step))
        if (pki / "ca.crt").exists():
            check_whole(pki, set())
    print(what, step)  # for the test that started this
    assert base.exists()


def kill(base: Path) -> None:
    root = make(base / "root", root_only=True).directory
    away = base / "away"
    kill_everywhere(base, "csr", away, lambda: None if away.exists() else ask(away))
    request = parse_request((away / "reqs/issuing.csr").read_bytes(), "x")
    certify = partial(
        sign_request,
        root,
        request,
        permitted=["acme.example"],
        root_passphrase=no_passphrase,
        now=NOW,
    )
    certify()
    kill_everywhere(base, "sign-ca", base, certify)  # each time a renewal
    assert Pki(root).names() == ("issuing",)
    kill_everywhere(base, "accept", away, partial(take, away, root))
    issue(away, "release")
    check_whole(away, set())

    pki = make(base / "pki").directory
    for what, other in (("renew", False), ("new-key", True)):
        kill_everywhere(base, what, pki, partial(again, pki, "release", other=other))
    kill_everywhere(base, "issuing", pki, partial(again, pki, "issuing"))
    kill_elsewhere(base, pki)
    kill_rotations(base, pki)


def kill_elsewhere(base: Path, pki: Path) -> None:
    """Kill a renewal for a key that is elsewhere, each time of a fresh copy; then run it again."""
    elsewhere = new_key().public_key()
    step, lived = 0, False
    while not lived:
        step += stride(7)
        copy = Path(shutil.copytree(pki, base / f"elsewhere-{step}"))
        action = partial(renew, copy, "release", new_key=elsewhere, ca_passphrase=no_passphrase)
        lived = fork(partial(action, now=NOW), partial(at_file_event, step))
        found = Pki(copy)
        key = found.key_path("release")
        renewed = found.certificate("release").public_key() == elsewhere
        assert renewed is not key.exists(), (step, key)
        if not renewed:
            check_whole(copy, set())
            action(now=NOW)
        assert not Pki(copy).key_path("release").exists()
        assert [*(copy / "private").glob("release.key.*")]  # nothing is lost
        shutil.rmtree(copy)
    print("elsewhere", step)  # for the test that started this


def kill_rotations(base: Path, pki: Path) -> None:
    """Kill a rotation at each step, each time of a fresh copy; then run it again."""
    spare = Path(shutil.copytree(pki, base / "spare"))
    standby(spare, new_key=NEW, now=NOW)
    for what, origin, root in (("new-root", pki, "ca-2"), ("rotate", spare, "standby")):
        step, lived = 0, False
        while not lived:
            step += stride(9)
            copy = Path(shutil.copytree(origin, base / f"{what}-{step}"))
            lived = fork(partial(turn, copy), partial(at_file_event, step))
            check_whole(copy, set())
            if Pki(copy).issuing() == "issuing":  # killed before the last certificate
                turn(copy)
            assert Pki(copy).roots() == ("ca", root)  # one rotation, however often it is run
            issue(copy, "next")
            assert Pki(copy).issuers("next") == ("issuing-2", root, "ca")
            assert Pki(copy).issuing("client") == "issuing-tls-2"
            assert Pki(copy).issuers("issuing-tls-2") == (root, "ca")
            shutil.rmtree(copy)
        print(what, step)  # for the test that started this


@needs_fork
def test_killed_at_each_step_the_pki_stays_whole(tmp_path: Path) -> None:
    steps = run_myself(__file__, "kill", tmp_path)
    names = {"csr", "sign-ca", "accept", "renew", "new-key", "issuing", "elsewhere"}
    assert set(steps) == {*names, "rotate", "new-root"}
    assert all(count > 10 for count in steps.values()), steps


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
