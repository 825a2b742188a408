"""fwsign sign --tsa, verify --tsa-anchor and --require-token, show and staple with tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cli.kit import good, refused, run
from fwsign.cli import inputs
from fwsign.keys.file import FileSigner, load_private_key
from support import DAY, NOW, Entity, make_crl
from tsa_kit import Tsa, make_tsa, token_in, with_tokens
from tsa_server import rejected, serving, stamping


def of_project(project: Path) -> Tsa:
    """Issue an authority in the project's PKI."""
    good("pki", "issue", "tsa", "tsa-1", "--no-passphrase")
    key = load_pem_private_key((project / "pki/private/tsa-1.key").read_bytes(), None)
    certificates = [
        x509.load_pem_x509_certificate((project / "pki" / name).read_bytes())
        for name in ("issued/tsa-1.crt", "issued/issuing.crt", "ca.crt")
    ]
    leaf, issuing, root = (Entity(key, one) for one in certificates)
    return Tsa(root, leaf, (issuing,))


@pytest.fixture
def foreign(project: Path) -> Tsa:
    """An authority of others: root.pem is its root, tsa.pem the CRL of that."""
    tsa = make_tsa()
    (project / "root.pem").write_bytes(tsa.root.certificate.public_bytes(Encoding.PEM))
    (project / "tsa.crl").write_bytes(tsa.crls[0])
    return tsa


def sign_with(tsa: Tsa, *options: object, **more: Any) -> str:
    with serving(stamping(tsa, **more)) as (url, _):
        return good("sign", "build.bin", "--tsa", url, *options)


FOREIGN = ("--tsa-anchor", "root.pem", "--crl", "tsa.crl")


def test_an_authority_of_the_same_pki(project: Path) -> None:
    sign_with(of_project(project))
    found = good("verify", "build.bin.suit", "--tsa-anchor", "pki/ca.crt", "--require-token")
    assert "  signed     2026-11-22 12:00:00+00:00 or before, says tsa-1\n" in found


def test_an_authority_of_others(foreign: Tsa) -> None:
    sign_with(foreign, *FOREIGN)
    options = ("--tsa-anchor", "root.pem", "--json")
    (signer,) = json.loads(good("verify", "build.bin.suit", *options))["release"]["signers"]
    assert (signer["signed_at"], signer["tsa"]) == ("2026-11-22T12:00:00+00:00", "TSA 1")
    found = good("verify", "build.bin.suit")
    assert "note       time-stamp token not counted: no time-stamping authority is pinned" in found
    (signer,) = json.loads(good("verify", "build.bin.suit", "--json"))["release"]["signers"]
    assert (signer["signed_at"], signer["tsa"]) == (None, None)


def test_signing_again_keeps_a_token_and_asks_nobody(foreign: Tsa, project: Path) -> None:
    more = (*FOREIGN, "--sequence", "7")
    sign_with(foreign, *more)
    before = (project / "build.bin.suit").read_bytes()
    nobody = "http://127.0.0.1:9/"
    good("sign", "build.bin", "--tsa", nobody, *more)
    assert (project / "build.bin.suit").read_bytes() == before


def test_signing_again_with_a_token_where_there_was_none_is_refused(foreign: Tsa) -> None:
    del foreign
    good("sign", "build.bin", "--sequence", "7")
    found = run(
        "sign", "build.bin", "--tsa", "http://127.0.0.1:9/", "--sequence", "7", *FOREIGN[:2]
    )
    words = 'build.bin.suit exists already, and devices refuse it: "release" gives no time-stamp'
    assert (found.status, found.out) == (5, "")
    assert found.errors[0].startswith(f"error: {words}")


def test_sign_tells_when_and_who(foreign: Tsa) -> None:
    with serving(stamping(foreign)) as (url, _):
        found = run("sign", "build.bin", "--tsa", url, *FOREIGN)
    assert "time stamp: 2026-11-22 12:00:00+00:00 by TSA 1" in found.err


def test_show_tells_when_and_who(foreign: Tsa) -> None:
    sign_with(foreign, *FOREIGN)
    (envelope,) = json.loads(good("show", "build.bin.suit", "--json"))["content"]
    stamp = envelope["blocks"][0]["time stamp"]
    assert stamp["time"] == "2026-11-22T12:00:00+00:00"
    assert [one["subject"] for one in stamp["certificates"]] == ["O=Acme,CN=TSA 1"]
    assert "time: 2026-11-22T12:00:00+00:00\n" in good("show", "build.bin.suit")


def test_show_says_what_it_cannot_read(signed: Path) -> None:
    path = signed / "build.bin.suit"
    path.write_bytes(with_tokens(path.read_bytes(), b"token"))
    found = good("show", "build.bin.suit")
    assert "not readable: time-stamp token: no element of type 0x30 at byte 0\n" in found
    assert "algorithm: ESP256\n" in found


def test_nothing_is_written_without_a_token_that_counts(foreign: Tsa, project: Path) -> None:
    del foreign
    stranger = make_tsa()
    with serving(stamping(stranger)) as (url, _):
        found = run("sign", "build.bin", "--tsa", url, *FOREIGN)
        refused(found, 1, found.errors[0].removeprefix("error: "), found.errors[1][6:])
        assert 'the path ends at issuer "TSA Root"' in found.err
        assert run("sign", "build.bin", "--tsa", url).status == 1
    with serving(lambda _: rejected(2, "not today")) as (url, _):
        refused(
            run("sign", "build.bin", "--tsa", url),
            5,
            "the authority refuses: rejection 'not today'",
            "is the address right, and the authority reachable from here?",
        )
    assert not (project / "build.bin.suit").exists()


def test_crls_of_the_authority_are_needed(foreign: Tsa) -> None:
    with serving(stamping(foreign)) as (url, _):
        found = run("sign", "build.bin", "--tsa", url, "--tsa-anchor", "root.pem")
    assert found.status == 3
    assert 'no CRL of "TSA Root", the issuer of "TSA 1"' in found.err


def test_options_that_need_each_other(project: Path) -> None:
    del project
    found = run("sign", "build.bin", "--tsa-anchor", "x.pem")
    refused(found, 2, "--tsa-anchor without --tsa", "fwsign sign --help shows how")


def test_a_token_is_demanded(signed: Path, foreign: Tsa) -> None:
    del signed, foreign
    options = ("--tsa-anchor", "root.pem", "--require-token")
    found = run("verify", "build.bin.suit", *options)
    assert (found.status, '"release" gives no time-stamp token' in found.err) == (1, True)


def test_a_signer_that_was_superseded_later_still_counts(
    foreign: Tsa, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_with(foreign, *FOREIGN)
    monkeypatch.setattr(inputs, "now", lambda: NOW + DAY)
    good("pki", "revoke", "release", "--reason", "superseded")
    good("staple", "build.bin.suit")
    good("verify", "build.bin.suit", "--tsa-anchor", "root.pem")
    found = run("verify", "build.bin.suit")
    assert (found.status, "(superseded)" in found.err) == (1, True)


def test_newer_crls_of_the_authority_are_stapled(foreign: Tsa, project: Path) -> None:
    sign_with(foreign, *FOREIGN)
    options = ("--tsa-anchor", "root.pem", "--require-token")
    token = token_in((project / "build.bin.suit").read_bytes())
    (project / "new.crl").write_bytes(make_crl(foreign.root, [foreign.leaf], number=2))
    good("staple", "build.bin.suit", "--crl", "new.crl")
    assert token_in((project / "build.bin.suit").read_bytes()) == token
    found = run("verify", "build.bin.suit", *options)
    assert (found.status, 'certificate "TSA 1" revoked' in found.err) == (1, True)


def test_an_old_crl_is_taken_for_a_while(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del signed
    monkeypatch.setattr(inputs, "now", lambda: NOW + 100 * DAY)
    assert run("verify", "build.bin.suit").status == 3
    assert run("verify", "build.bin.suit", "--revocation", "allow-stale:1d").status == 3
    found = good("verify", "build.bin.suit", "--revocation", "allow-stale:4w")
    assert 'note       stale revocation: CRL of "Acme Issuing CA" was to be replaced by' in found


def test_a_signature_from_elsewhere_is_stamped_when_it_is_attached(
    foreign: Tsa, project: Path
) -> None:
    good("digest", "build.bin", "--crl", "tsa.crl")
    key = FileSigner(load_private_key(project / "pki/private/release.key", lambda: None))
    (project / "sig").write_bytes(key.sign((project / "build.bin.tbs").read_bytes()))
    refused(
        run("attach", "build.bin.request", "sig", "--tsa-anchor", "root.pem"),
        2,
        "--tsa-anchor without --tsa",
        "fwsign attach --help shows how",
    )
    with serving(stamping(foreign)) as (url, _):
        good("attach", "build.bin.request", "sig", "--tsa", url, "--tsa-anchor", "root.pem")
    options = ("--tsa-anchor", "root.pem", "--require-token", "--json")
    (signer,) = json.loads(good("verify", "build.bin.suit", *options))["release"]["signers"]
    assert (signer["signed_at"], signer["tsa"]) == ("2026-11-22T12:00:00+00:00", "TSA 1")


def test_a_signature_that_no_authority_stamps_is_not_attached(foreign: Tsa, project: Path) -> None:
    del foreign
    good("digest", "build.bin")
    key = FileSigner(load_private_key(project / "pki/private/release.key", lambda: None))
    (project / "sig").write_bytes(key.sign((project / "build.bin.tbs").read_bytes()))
    log = (project / "pki/log.jsonl").read_bytes()
    found = run("attach", "build.bin.request", "sig", "--tsa", "http://127.0.0.1:9/")
    assert found.status == 5
    assert not (project / "build.bin.suit").exists()
    assert (project / "pki/log.jsonl").read_bytes() == log


def test_a_cosigner_has_a_token_of_its_own(project: Path) -> None:
    tsa = of_project(project)
    good("pki", "issue", "signer", "bob", "--no-passphrase")
    good("sign", "build.bin")
    with serving(stamping(tsa)) as (url, _):
        good("cosign", "build.bin.suit", "--signer", "bob", "--tsa", url)
    told = json.loads(good("verify", "build.bin.suit", "--tsa-anchor", "pki/ca.crt", "--json"))
    times = [one["signed_at"] for one in told["release"]["signers"]]
    assert times == [None, "2026-11-22T12:00:00+00:00"]


def test_a_cosigner_whose_token_does_not_count_signs_nothing(project: Path, foreign: Tsa) -> None:
    good("pki", "issue", "signer", "bob", "--no-passphrase")
    good("sign", "build.bin")
    before = (project / "build.bin.suit").read_bytes()
    with serving(stamping(foreign)) as (url, _):
        found = run("cosign", "build.bin.suit", "--signer", "bob", "--tsa", url)
    assert found.status == 1
    assert "the path ends at issuer" in found.errors[0]
    assert (project / "build.bin.suit").read_bytes() == before
