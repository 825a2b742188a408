"""`fwsign sign` with keys of one's own, of other PKIs, and with those that everyone knows."""

import json
import shutil
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import EXAMPLE, good, refused, run
from fwsign.cli import inputs
from fwsign.keys.file import encode_private_key
from support import (
    CODE_SIGNING,
    NOW,
    PAYLOAD,
    ca_extensions,
    certify,
    key_usage,
    make_ca,
    make_crl,
    make_leaf,
    name,
    new_key,
)


def release(envelope: object = "build.bin.suit", *more: object) -> Any:
    """What `fwsign verify --json` says of an envelope."""
    return json.loads(good("verify", envelope, "--json", *more))["release"]


PEM_END = b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_chain_in_any_order_and_with_another_path_signs(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """Stranger's certificate for Issuing leads nowhere; the root's own is found in any order."""
    root = make_ca()
    issuing = make_ca("Issuing", root, path_length=0)
    subject = issuing.certificate.subject
    stray = certify(issuing.key, subject, make_ca("Stranger"), ca_extensions(path_length=0))
    leaf = make_leaf(issuing)
    (tmp_path / "build.bin").write_bytes(PAYLOAD)
    (tmp_path / "own.key").write_bytes(encode_private_key(leaf.key, None))
    entities = [(leaf, issuing, stray, root)[number] for number in order]
    pem = [one.certificate.public_bytes(Encoding.PEM) for one in entities]
    (tmp_path / "chain.pem").write_bytes(b"".join(pem))
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    good("sign", "build.bin", "--key", "own.key", "--chain", "chain.pem", "--product", "x1")
    seen = json.loads(good("verify", "build.bin.suit", "--anchor", "root.pem", "--json"))
    assert seen["verdict"] == "verified"


class TestOwnKey:
    @pytest.fixture(autouse=True)
    def _own(self, tmp_path: Path) -> None:
        root = make_ca()
        issuing = make_ca("Issuing", root, path_length=0)
        leaf = make_leaf(issuing)
        (tmp_path / "build.bin").write_bytes(PAYLOAD)
        (tmp_path / "own.key").write_bytes(encode_private_key(leaf.key, None))
        entities = (leaf, issuing, root)
        chain = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in entities)
        (tmp_path / "chain.pem").write_bytes(chain)
        (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))

    def test_a_key_with_its_chain_signs(self) -> None:
        own = ("--key", "own.key", "--chain", "chain.pem", "--product", "x1")
        found = run("sign", "build.bin", *own)
        assert found.status == 0
        warning = "no CRLs in the envelope: devices cannot tell whether it is revoked"
        assert f"fwsign: warning: {warning}\n" in found.err
        seen = json.loads(good("verify", "build.bin.suit", "--anchor", "root.pem", "--json"))
        assert seen["unchecked"] == ["revocation", "vendor", "product", "rollback"]

    @pytest.mark.parametrize("more", [("--key", "own.key"), ("--chain", "chain.pem")])
    def test_key_and_chain_go_together(self, more: tuple[str, ...]) -> None:
        refused(
            run("sign", "build.bin", "--product", "x1", *more),
            2,
            "--key and --chain go together",
            "--pki and --signer name a signer of a PKI",
        )

    @pytest.mark.parametrize("option", ["--pki", "--signer"])
    def test_a_key_excludes_a_signer_of_a_pki(self, option: str) -> None:
        own = ("--key", "own.key", "--chain", "chain.pem", "--product", "x1")
        refused(
            run("sign", "build.bin", *own, option, "x"),
            2,
            f"--key and {option} exclude each other",
            "fwsign sign --help shows how",
        )

    def test_the_key_of_another_certificate_is_refused(self, tmp_path: Path) -> None:
        other = make_leaf(make_ca())
        (tmp_path / "own.key").write_bytes(encode_private_key(other.key, None))
        found = run(
            "sign", "build.bin", "--key", "own.key", "--chain", "chain.pem", "--product", "x"
        )
        refused(
            found,
            5,
            'the key is not that of certificate "release"',
            "give the certificate of this key first in --chain",
        )

    def test_a_chain_of_one_certificate_is_refused(self) -> None:
        found = run(
            "sign", "build.bin", "--key", "own.key", "--chain", "root.pem", "--product", "x"
        )
        refused(
            found,
            5,
            "root.pem has one certificate, expected the leaf and at least its issuer",
        )

    def test_a_chain_without_the_issuer_of_the_leaf_is_refused(self, tmp_path: Path) -> None:
        leaf = (tmp_path / "chain.pem").read_bytes().split(b"-----END")[0] + PEM_END
        (tmp_path / "odd.pem").write_bytes(leaf + (tmp_path / "root.pem").read_bytes())
        found = run("sign", "build.bin", "--key", "own.key", "--chain", "odd.pem", "--product", "x")
        refused(found, 5, 'odd.pem has 2 certificates, but none that has issued "release"')

    def test_a_key_of_a_kind_that_there_is_not_is_refused(self) -> None:
        own = ("--key", "gopher:///alias/x", "--chain", "chain.pem", "--product", "x1")
        refused(
            run("sign", "build.bin", *own),
            5,
            'no key backend for "gopher:", there are file:, awskms:, openbao:, pkcs11:, '
            "ssh-agent:, vault:",
        )


class TestExampleKeys:
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        (tmp_path / "build.bin").write_bytes(PAYLOAD)

    def test_they_do_not_sign_by_themselves(self, tmp_path: Path) -> None:
        refused(
            run("sign", "build.bin", "--pki", EXAMPLE, "--product", "x1"),
            1,
            'the path of "release" has a published example key, which anyone can use',
            "make your own PKI: fwsign init; for tests: --allow-example-keys",
        )
        assert [path.name for path in tmp_path.iterdir()] == ["build.bin"]

    def test_typed_they_sign_and_it_shows(self) -> None:
        allow = "--allow-example-keys"
        shutil.copytree(EXAMPLE, "example")  # it gets a line in its log
        found = run("sign", "build.bin", "--pki", "example", "--product", "x1", allow)
        warning = "signed with a published example key, which anyone can use"
        assert f"fwsign: warning: {warning}\n" in found.err
        anchor = ("--anchor", EXAMPLE / "ca.crt")
        assert run("verify", "build.bin.suit", *anchor).status == 1
        assert f"  note       {warning}\n" in good("verify", "build.bin.suit", *anchor, allow)
        assert release("build.bin.suit", *anchor, allow)["notes"] == [warning]

    def test_neither_fwsign_toml_nor_the_environment_can_allow_them(self, tmp_path: Path) -> None:
        arguments = ("sign", "build.bin", "--pki", EXAMPLE, "--product", "x1")
        assert run(*arguments, env={"FWSIGN_ALLOW_EXAMPLE_KEYS": "1"}).status == 1
        (tmp_path / "fwsign.toml").write_text('allow_example_keys = "yes"\n')
        assert run(*arguments).status == 5


class TestEasyRsa:
    """A root that issues signers itself, with the habits of easy-rsa: nothing is critical."""

    @pytest.fixture(autouse=True)
    def _easy_rsa(self, tmp_path: Path) -> None:
        habits = [(x509.BasicConstraints(ca=True, path_length=None), False)]
        usage = (key_usage("key_cert_sign", "crl_sign"), False)
        root = certify(new_key(), name("Easy-RSA CA"), None, [*habits, usage], days=(-10, 3650))
        leaf = make_leaf(
            root,
            "build",
            extensions=[
                (x509.BasicConstraints(ca=False, path_length=None), False),
                (x509.ExtendedKeyUsage([CODE_SIGNING]), False),
                (key_usage("digital_signature"), False),
            ],
        )
        (tmp_path / "build.bin").write_bytes(PAYLOAD)
        (tmp_path / "own.key").write_bytes(encode_private_key(leaf.key, None))
        (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
        chain = b"Certificate:\n    Data: ...\n" + leaf.certificate.public_bytes(Encoding.PEM)
        (tmp_path / "chain.pem").write_bytes(chain + (tmp_path / "root.pem").read_bytes())
        (tmp_path / "crl.der").write_bytes(make_crl(root, number=None))

    def sign(self) -> str:
        own = ("--key", "own.key", "--chain", "chain.pem", "--crl", "crl.der")
        found = run("sign", "build.bin", *own, "--product", "x1", "--vendor", "acme.example")
        assert found.status == 0, found
        return found.err

    def test_signing_says_what_devices_need(self) -> None:
        said = self.sign()
        assert (
            "warning: devices need the profile compat: "
            'basicConstraints of CA "Easy-RSA CA" is not critical\n'
        ) in said
        assert (
            'warning: certificate "build" names no vendor: devices must pin acme.example for key '
        ) in said

    def test_strict_refuses_and_compat_lists_what_it_forgave(self) -> None:
        self.sign()
        anchor = ("verify", "build.bin.suit", "--anchor", "root.pem", "--vendor", "acme.example")
        refused(
            run(*anchor),
            1,
            'basicConstraints of CA "Easy-RSA CA" is not critical',
            "PKIs that easy-rsa or openssl made need --profile compat",
        )
        found = good(*anchor, "--profile", "compat")
        assert '  note       extended key usage of "build" is not critical\n' in found

    def test_without_a_vendor_nothing_says_whose_it_is(self) -> None:
        self.sign()
        anchor = ("verify", "build.bin.suit", "--anchor", "root.pem", "--profile", "compat")
        found = run(*anchor)
        assert (found.status, found.out) == (1, "")
        assert '"build" may sign for no vendor' in found.err


class TestCrls:
    def test_crls_that_go_stale_within_a_day_are_refused(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = NOW + timedelta(days=89, hours=1)
        monkeypatch.setattr(inputs, "now", lambda: late)
        refused(
            run("sign", "build.bin"),
            3,
            'CRL of "Acme Issuing CA" goes stale 2027-02-20 12:00, less than a day from now',
            "make new ones with: fwsign pki crl; --force takes them all the same",
        )
        assert not (project / "build.bin.suit").exists()
        assert "warning: CRL" in run("sign", "build.bin", "--force").err
        good("pki", "crl")
        assert "warning" not in run("sign", "build.bin", "--force").err

    @pytest.mark.usefixtures("project")
    @pytest.mark.parametrize(("days", "warned"), [(60, False), (61, True), (88, True)])
    def test_crls_that_go_stale_within_a_month_are_named(
        self, monkeypatch: pytest.MonkeyPatch, days: int, *, warned: bool
    ) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days))
        line = (
            'fwsign: warning: CRL of "Acme Issuing CA" goes stale 2027-02-20: devices refuse the '
            "release from then on, until fwsign staple puts in a newer one\n"
        )
        found = run("sign", "build.bin")
        assert (found.status, line in found.err) == (0, warned)
        assert ("warning" in found.err) == warned

    def test_a_crl_that_is_stale_cannot_be_forced(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(91))
        found = run("sign", "build.bin", "--force")
        assert (found.status, found.errors[0]) == (
            3,
            'error: CRL of "Acme Issuing CA" was to be replaced by 2027-02-20, it is 2027-02-21',
        )
        assert not (project / "build.bin.suit").exists()

    def test_a_crl_of_a_stranger_is_refused(self, project: Path) -> None:
        (project / "other.crl").write_bytes(make_crl(make_ca("Stranger")))
        refused(
            run("sign", "build.bin", "--crl", "other.crl"),
            5,
            "a CRL given belongs to no issuer in the signer's path",
            "leave it out, or give the CRL of an issuer of the signer",
        )
        assert not (project / "build.bin.suit").exists()

    def test_a_file_without_a_crl_is_refused(self) -> None:
        good("init", "p", "--org", "A", "--vendor", "a.example", "--no-passphrase")
        Path("x.bin").write_bytes(PAYLOAD)
        found = run("sign", "x.bin", "--pki", "p/pki", "--product", "x", "--crl", "p/pki/ca.crt")
        refused(found, 5, "p/pki/ca.crt has no CRL, it has CERTIFICATE")

    @pytest.mark.usefixtures("project")
    def test_a_signer_that_was_revoked_is_refused(self) -> None:
        good("pki", "revoke", "release", "--reason", "keyCompromise")
        refused(
            run("sign", "build.bin"),
            1,
            'certificate "release" revoked 2026-11-22 (key compromise)',
            "sign with another signer: --signer NAME, or --key and --chain",
        )

    @pytest.mark.usefixtures("project")
    def test_a_certificate_that_expires_soon_is_told(self) -> None:
        good("pki", "issue", "signer", "short", "--for", "20d", "--no-passphrase")
        found = run("sign", "build.bin", "--signer", "short")
        assert 'fwsign: warning: certificate "short" expires 2026-12-12\n' in found.err


class TestClock:
    """A clock that is behind what the CRLs prove."""

    @pytest.fixture(autouse=True)
    def _behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW - timedelta(days=3))

    def test_it_is_refused(self, project: Path) -> None:
        refused(
            run("sign", "build.bin"),
            5,
            "the clock is wrong: it says 2026-11-19 12:00, "
            'but the CRL of "Acme Issuing CA" was made 2026-11-22 12:00',
            "set the clock: sequence numbers come from it, and devices refuse lower ones than "
            "they have seen; --force signs all the same",
        )
        assert not (project / "build.bin.suit").exists()

    @pytest.mark.usefixtures("project")
    def test_it_can_be_forced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = run("sign", "build.bin", "--force")
        assert found.status == 0
        assert "compat" not in found.err
        assert (
            "fwsign: warning: the clock is wrong, CRLs were made 2026-11-22: devices may have seen "
            "higher sequence numbers than 1795089600\n"
        ) in found.err
        monkeypatch.setattr(inputs, "now", lambda: NOW)
        good("verify", "build.bin.suit")

    @pytest.mark.usefixtures("project")
    def test_an_hour_is_how_clocks_differ(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW - timedelta(hours=1))
        found = run("sign", "build.bin")
        assert (found.status, "warning" in found.err) == (0, False)
        monkeypatch.setattr(inputs, "now", lambda: NOW - timedelta(hours=1, seconds=1))
        assert run("sign", "build.bin", "--output", "late.suit").status == 5


def test_a_key_that_is_elsewhere_has_a_way(project: Path) -> None:
    (project / "pki/private/release.key").unlink()
    found = run("sign", "build.bin")
    assert found.status == 5
    assert "cannot read pki/private/release.key: no such file" in found.errors[0]
    hint = "if another holds it: fwsign digest writes what they sign, and fwsign attach adds it"
    assert found.errors[1] == f"hint: {hint}"
    assert not (project / "build.bin.suit").exists()
