"""Trust updates and CRLs that `fwsign follow` fetches from addresses."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwsign.format.cose import MAX_CRL_SIZE
from fwsign.gateway.follow import updates as follow_updates
from fwsign.gateway.run.session import opened, trusted
from gateway.follow_kit import Follower
from gateway.kit import crls, namesake, pki
from gateway.server import Server
from support import make_crl, make_leaf, refused


def follower(tmp_path: Path, server: Server, **more: Any) -> Follower:
    lines = f'crls = ["{server.url("/issuing.crl")}", "{server.url("/root.crl")}"]'
    if "trust" in more:
        lines += f'\ntrust = "{server.url("/trust")}"'
    return Follower(tmp_path, lines, f'[fetch]\nca = "{server.ca}"')


def publish(server: Server, number: int, **more: Any) -> None:
    issuing, root = crls(number, **more)
    server.files.update({"/issuing.crl": issuing, "/root.crl": root})


def pem(data: bytes) -> bytes:
    return x509.load_der_x509_crl(data).public_bytes(Encoding.PEM)


def test_a_revocation_at_an_address_stops_the_release(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server)
    publish(server, 9)
    own.offer(40)
    assert own.poll().verdict == "installed"
    publish(server, 10, revoked=[pki().leaf])
    own.offer(41)  # with the CRLs of before
    with refused("untrusted.revoked"):
        own.poll()
    with refused("untrusted.revoked"):  # also without the addresses
        own.gateway.install(own.offers / "41.suit")


def test_the_first_release_is_judged_by_the_addresses_too(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server)
    publish(server, 9, revoked=[pki().leaf])
    own.offer(40)
    with refused("untrusted.revoked"):
        own.poll()
    assert own.installed is None


@pytest.mark.parametrize("form", [lambda data: data, pem, lambda data: pem(data) * 2])
def test_crls_come_in_der_and_in_pem(tmp_path: Path, server: Server, form: Any) -> None:
    own = follower(tmp_path, server)
    own.offer(40)
    own.poll()
    publish(server, 9)
    server.files["/issuing.crl"] = form(server.files["/issuing.crl"])
    said = [one.rpartition(": ")[2] for one in own.poll().notes]
    assert said[:2] == ["a newer CRL is held now"] * 2


def test_older_and_equal_crls_change_nothing(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server)
    publish(server, 9)
    own.offer(40)
    own.poll()
    before = (own.gateway.base / "state.db").read_bytes()
    assert own.poll().notes == ()
    publish(server, 8, revoked=[pki().leaf])
    assert own.poll().notes == ()
    assert (own.gateway.base / "state.db").read_bytes() == before


def test_a_foreign_or_forged_crl_teaches_nothing(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server)
    own.offer(40)
    own.poll()
    stranger = namesake(pki().issuing)
    server.files["/issuing.crl"] = make_crl(stranger, [pki().leaf], number=99)
    server.files["/root.crl"] = make_crl(pki().issuing, [pki().leaf], number=99, signer=stranger)
    found = own.poll()
    words = "no CRL of an issuer that is known here"
    assert [one.rpartition(": ")[2] for one in found.notes] == [words] * 2
    with opened(own.gateway.device) as state:
        assert state.policy(own.gateway.device.policy, None)[0].held != ()
    own.offer(41)
    assert own.poll().verdict == "installed"


def test_a_signer_for_another_vendor_teaches_nothing(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server)
    publish(server, 99, revoked=[pki().leaf])
    other = make_leaf(pki().issuing, vendors=("other.example",))
    with opened(own.gateway.device) as state:
        text = json.dumps([[base64.b64encode(one.der).decode() for one in (other, pki().issuing)]])
        state.remember(follow_updates.CHAINS, text)
    words = "no CRL of an issuer that is known here"
    assert [one.rpartition(": ")[2] for one in own.poll().notes] == [words] * 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"junk", "CRL"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n", "this is not a CRL in PEM"),
        (b"-----BEGIN X509 CRL-----\n*\n-----END X509 CRL-----\n", "this is not a CRL in PEM"),
        (b"x" * (2 * MAX_CRL_SIZE), "at most"),
    ],
)
def test_what_is_no_crl_is_a_note(tmp_path: Path, server: Server, data: bytes, words: str) -> None:
    own = follower(tmp_path, server)
    own.offer(40)
    own.poll()
    publish(server, 9)
    server.files["/issuing.crl"] = data
    own.offer(41)
    found = own.poll()
    assert words in found.notes[0]
    assert "a newer CRL is held now" in found.notes[1]  # the other address counts all the same
    assert found.verdict == "installed"


@pytest.mark.parametrize("text", ["x", "{}", "[1]", '[["*"]]', '{"a": 1}', "[[]]"])
def test_damaged_hints_are_no_hints(tmp_path: Path, server: Server, text: str) -> None:
    own = follower(tmp_path, server)
    publish(server, 9)
    with opened(own.gateway.device) as state:
        state.remember(follow_updates.CHAINS, text)
        state.remember(follow_updates.TAGS, text)
    own.offer(40)
    assert own.poll().verdict == "installed"


def test_crls_are_not_fetched_if_they_are_not_used(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server)
    path = own.gateway.config
    path.write_text(path.read_text().replace('"require"', '"off"'))
    own.offer(40)
    own.poll()
    assert server.requests == []


def test_a_trust_update_comes_before_the_release(tmp_path: Path, server: Server) -> None:
    own = follower(tmp_path, server, trust=True)
    publish(server, 9)
    server.files["/trust"] = b"junk"
    own.offer(40)
    found = own.poll()
    assert found.verdict == "installed"
    assert any("/trust: " in one for one in found.notes)
    with opened(own.gateway.device) as state:
        assert trusted(own.gateway.device, state).number == 0
