"""`fwsign pki` over the years: kinds, renewals, expiry, other roots, offline roots."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import good, refused, run, tree
from fwsign.cli import inputs
from fwsign.keys.file import load_private_key
from fwsign.pki.directory import Pki
from fwsign.pki.index import serial_text
from pki_kit import before_tls
from support import NOW, new_key, signing_hash

NAMES = ("--org", "Acme", "--vendor", "acme.example")

NOTHING = (
    "fwsign: no certificate in use ends before 2027-02-20, "
    "and no CRL is in the last third of its time\n"
)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(700))


def request(path: Path, *names: str, alg: str = "p256") -> Path:
    key = new_key(alg)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        found = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(found, critical=False)
    path.write_bytes(builder.sign(key, signing_hash(key)).public_bytes(Encoding.PEM))
    return path


@pytest.mark.usefixtures("project")
class TestKinds:
    def test_server(self) -> None:
        issue = ("pki", "issue", "server", "broker.acme.example", "--ip", "192.0.2.7")
        assert run(*issue, "--no-passphrase") == (
            0,
            "pki/issued/broker.acme.example.crt\n",
            (
                "fwsign: the server sends pki/issued/broker.acme.example.crt and "
                "pki/issued/issuing-tls.crt, in this order\n"
                "fwsign: the other side trusts pki/ca.crt\n"
            ),
        )

    def test_client_and_tsa(self) -> None:
        good("pki", "issue", "client", "gateway-0017", "--no-passphrase", "--alg", "ed25519")
        assert run("pki", "issue", "tsa", "tsa", "--no-passphrase", "--for", "1y") == (
            0,
            "pki/issued/tsa.crt\n",
            "",
        )

    def test_host_outside_the_domains_of_the_ca(self) -> None:
        before_tls(Path("pki"))
        refused(
            run("pki", "issue", "server", "b", "--host", "b.plant.test", "--no-passphrase"),
            5,
            'host "b.plant.test" is outside what the CA "Acme Issuing CA" is limited to: '
            "acme.example",
            "widen it, with the root's key: fwsign pki renew issuing --permit b.plant.test",
        )

    def test_server_without_a_name(self) -> None:
        before_tls(Path("pki"))
        refused(
            run("pki", "issue", "server", "b", "--no-passphrase"),
            5,
            'server "b" has no host name and no address: clients look for one',
            'give it --host NAME or --ip ADDR; to let clients call it "b": '
            "fwsign pki renew issuing --permit b",
        )

    def test_an_address_that_is_none(self) -> None:
        refused(
            run("pki", "issue", "server", "b", "--ip", "192.0.2", "--no-passphrase"),
            2,
            '"192.0.2" is not an address',
            "write 192.0.2.7 or 2001:db8::7",
        )

    def test_an_address_as_the_name(self) -> None:
        refused(
            run("pki", "issue", "server", "192.0.2.7", "--no-passphrase"),
            5,
            'host "192.0.2.7" is not a domain name such as "acme.example": it is an address, '
            "not a name",
            "give an address with --ip 192.0.2.7, and choose another NAME",
        )

    def test_permitted_domains(self, tmp_path: Path) -> None:
        good("pki", "init", "p2", *NAMES, "--permit", "plant.test", "--no-passphrase")
        server = ("pki", "issue", "server", "b.plant.test", "--pki", "p2", "--no-passphrase")
        assert good(*server) == "p2/issued/b.plant.test.crt\n"
        assert (tmp_path / "p2/private/b.plant.test.key").exists()

    def test_a_request(self, tmp_path: Path) -> None:
        request(tmp_path / "b.csr", "b.acme.example")
        found = run("pki", "issue", "server", "b", "--csr", "b.csr")
        assert found.status == 0
        assert "fwsign: hosts, as the request asks: b.acme.example\n" in found.err
        assert not (tmp_path / "pki/private/b.key").exists()

    def test_a_weak_request(self, tmp_path: Path) -> None:
        request(tmp_path / "b.csr", alg="rsa2048")
        found = run("pki", "issue", "client", "b", "--csr", "b.csr")
        assert (found.status, found.out) == (5, "")
        assert found.errors[0].startswith("error: the key of b.csr is RSA-2048, expected P-256")

    def test_a_key_that_exists(self, tmp_path: Path) -> None:
        (tmp_path / "pki/private/release.key").rename(tmp_path / "mine.key")
        found = run("pki", "issue", "signer", "mine", "--from-key", "mine.key")
        assert found == (
            0,
            "pki/issued/mine.crt\n",
            "fwsign: next: fwsign sign FILE --signer mine\n",
        )
        assert not (tmp_path / "pki/private/mine.key").exists()
        names = ("pki/issued/mine.crt", "pki/issued/issuing.crt", "pki/ca.crt")
        chain = b"".join((tmp_path / name).read_bytes() for name in names)
        (tmp_path / "chain.pem").write_bytes(chain)
        good("sign", "build.bin", "--key", "mine.key", "--chain", "chain.pem")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--csr", "x", "--from-key", "y"), "--csr and --key exclude each other"),
            (("--csr", "x", "--alg", "p384"), "--csr and --alg exclude each other"),
            (("--csr", "x", "--no-passphrase"), "--csr and --no-passphrase exclude each other"),
            (("--csr", "x", "--pass", "env:X"), "--csr and --pass exclude each other"),
            (("--from-key", "x", "--alg", "p384"), "--key and --alg exclude each other"),
        ],
    )
    def test_options_that_exclude_each_other(self, options: tuple[str, ...], message: str) -> None:
        found = run("pki", "issue", "client", "c", *options)
        assert (found.status, found.errors[0]) == (2, f"error: {message}")


@pytest.mark.usefixtures("project", "later")
class TestRenew:
    def test_same_key(self, project: Path) -> None:
        old = x509.load_pem_x509_certificate((project / "pki/issued/release.crt").read_bytes())
        assert run("pki", "renew", "release") == (
            0,
            "pki/issued/release.crt\n",
            (
                "fwsign: what the old one vouches for stays good until 2028-11-21: "
                "sign anew what must last longer\n"
                f"fwsign: revoke {serial_text(old.serial_number)} only if its key leaked: "
                "devices then refuse all that it vouches for\n"
            ),
        )
        good("pki", "crl")
        good("sign", "build.bin")
        revoke = ("pki", "revoke", f"{old.serial_number:x}", "--reason", "superseded")
        assert good(*revoke, "--invalidity-date", "2026-12-01T00:00:00Z") == "pki/crl/issuing.pem\n"
        good("sign", "build.bin", "--force")

    def test_a_leaked_key_is_revoked_in_all_its_certificates(self) -> None:
        old = Pki("pki").certificate("release").serial_number
        chain = Path("pki/issued/release.crt").read_bytes()
        Path("old.pem").write_bytes(chain + Path("pki/issued/issuing.crt").read_bytes())
        good("pki", "renew", "release")
        good("pki", "crl")
        verify = ("pki", "verify", "old.pem", "--purpose", "codesign")
        good(*verify)
        found = run("pki", "revoke", "release", "--reason", "keyCompromise")
        assert "has the same key" not in found.err
        assert 'certificate "release" revoked 2028-10-22 (key compromise)' in run(*verify).err
        assert Pki("pki").crl("issuing").get_revoked_certificate_by_serial_number(old)

    def test_other_certificates_of_a_leaked_key_are_named(self) -> None:
        old = Pki("pki").certificate("release").serial_number
        good("pki", "renew", "release")
        found = run("pki", "revoke", f"{old:X}", "--reason", "keyCompromise")
        new = Pki("pki").certificate("release").serial_number
        assert found.err.splitlines()[0] == (
            f'fwsign: warning: {new:X}, by "issuing", has the same key and stays good: '
            "revoke it, too, if the key leaked"
        )

    def test_new_key(self, project: Path) -> None:
        good("pki", "renew", "release", "--new-key", "--pass", "env:P", env={"P": "new"})
        load_private_key(project / "pki/private/release.key", lambda: b"new")
        assert (project / "pki/private/release.key.unused-1").exists()
        good("pki", "crl")
        good("sign", "build.bin", "--pass", "env:P", env={"P": "new"})

    def test_the_issuing_ca(self) -> None:
        good("pki", "renew", "issuing", "--for", "5y")
        assert run("pki", "renew", "issuing", "--new-key", "--no-passphrase", "--pki", "pki") == (
            0,
            "pki/issued/issuing-2.crt\n",
            (
                'fwsign: the CA "issuing-2" issues from now on; what the old one issued '
                "stays good until 2033-10-21 at most\n"
                "fwsign: next: fwsign pki renew NAME --pki pki, for each signer\n"
            ),
        )
        found = run("pki", "renew", "issuing", "--new-key", "--no-passphrase", "--for", "5y")
        assert found.status == 2

    def test_no_command_is_offered_that_revokes_what_was_signed(self) -> None:
        good("pki", "crl")
        good("sign", "build.bin")
        found = run("pki", "renew", "release")
        assert "--reason" not in found.err
        good("pki", "crl")
        good("staple", "build.bin.suit")
        good("verify", "build.bin.suit")

    def test_one_that_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(2 * 365 + 30))
        good("pki", "crl")
        assert run("pki", "renew", "release").err == (
            "fwsign: the old one ended 2028-11-21: devices refuse it, whatever it vouches for\n"
        )

    def test_one_that_was_revoked(self) -> None:
        good("pki", "revoke", "release", "--reason", "keyCompromise")
        found = run("pki", "renew", "release", "--new-key", "--no-passphrase")
        assert found.err == (
            "fwsign: the old one was revoked 2028-10-22: "
            "devices refuse it, whatever it vouches for\n"
        )

    def test_the_key_of_one_that_was_revoked_is_not_certified_again(self) -> None:
        good("pki", "revoke", "release", "--reason", "keyCompromise")
        words = 'certificate "release" was revoked 2028-10-22: only a new key can be certified'
        refused(run("pki", "renew", "release"), 5, words, "--new-key makes one")

    def test_an_issuing_ca_that_was_revoked(self) -> None:
        good("pki", "revoke", "issuing", "--reason", "cACompromise")
        found = run("pki", "renew", "issuing", "--new-key", "--no-passphrase")
        assert (
            'fwsign: the CA "issuing-2" issues from now on; '
            "the old one was revoked 2028-10-22, and nothing that it issued counts\n"
        ) in found.err

    def test_a_server(self, project: Path) -> None:
        good("pki", "issue", "server", "b.acme.example", "--no-passphrase")
        path = project / "pki/issued/b.acme.example.crt"
        old = x509.load_pem_x509_certificate(path.read_bytes())
        assert run("pki", "renew", "b.acme.example").err == (
            f"fwsign: the old one is good until {old.not_valid_after_utc:%Y-%m-%d}: "
            f"revoke {serial_text(old.serial_number)} when the new one is in use\n"
            "fwsign: next: fwsign pki export chain b.acme.example FILE\n"
        )

    def test_all_names_the_next_command_once(self) -> None:
        for name in ("a.acme.example", "b.acme.example"):
            good("pki", "issue", "server", name, "--no-passphrase")
        found = run("pki", "renew", "--all", "--pki", "pki").err
        line = (
            "fwsign: next: fwsign pki export chain NAME FILE --pki pki, for each server and client"
        )
        assert found.splitlines()[-1] == line
        assert found.count("export chain") == 1

    def test_a_signer_has_no_path_to_send(self) -> None:
        assert "export chain" not in run("pki", "renew", "release").err

    def test_a_root(self) -> None:
        refused(
            run("pki", "renew", "ca"),
            5,
            "a root is not renewed: devices would have to learn of it, as of a new one",
            "make another root: fwsign pki standby; go over to it: fwsign pki rotate",
        )

    @pytest.mark.parametrize(
        ("arguments", "key", "whose"),
        [
            (("renew", "issuing"), "ca", "the root"),
            (("revoke", "issuing", "--reason", "superseded"), "ca", "the root"),
            (("renew", "release"), "issuing", 'the CA "issuing"'),
        ],
    )
    def test_a_key_that_is_elsewhere(
        self, project: Path, arguments: tuple[str, ...], key: str, whose: str
    ) -> None:
        (project / f"pki/private/{key}.key").unlink()
        refused(
            run("pki", *arguments),
            5,
            f"cannot read pki/private/{key}.key: no such file or directory",
            f"put the key of {whose} there for this command, or run it where that key is",
        )

    @pytest.mark.parametrize("name", ["issuing-tls", "sn-1"])
    def test_what_is_for_tls_alone_has_no_envelopes(self, name: str) -> None:
        good("pki", "issue", "idevid", "sn-1", "--serial-number", "SN-1", "--no-passphrase")
        assert run("pki", "revoke", name, "--reason", "cACompromise").err == (
            "fwsign: bring the CRL to the other side of TLS: pki/crl/bundle.pem\n"
        )

    def test_no_reason_to_revoke(self) -> None:
        # Whoever pastes the hint must not revoke the signer of all releases.
        refused(
            run("pki", "revoke", "sensor-7"),
            2,
            "missing option --reason",
            "as in: fwsign pki revoke sensor-8 --reason cessationOfOperation",
        )

    def test_options_of_a_new_key(self) -> None:
        refused(
            run("pki", "renew", "release", "--no-passphrase"),
            2,
            "--pass, --no-passphrase, --kdf and --alg are for --new-key",
            "add --new-key",
        )

    def test_an_invalidity_date_to_come(self) -> None:
        revoke = ("pki", "revoke", "release", "--reason", "keyCompromise")
        found = run(*revoke, "--invalidity-date", "90d")
        assert found.status == 2
        assert found.errors[0].startswith("error: --invalidity-date 90d is in the future")


@pytest.mark.usefixtures("project")
class TestExpire:
    def test_nothing(self) -> None:
        assert run("pki", "expire") == (0, "", NOTHING)
        found = json.loads(good("pki", "expire", "--json"))
        assert found == {"at": "2026-11-22T12:00:00+00:00", "ending": []}

    @pytest.mark.usefixtures("later")
    def test_something(self) -> None:
        assert run("pki", "expire") == (
            3,
            (
                "2027-02-20  610 days ago     CRL issuing  pki/crl/issuing.pem\n"
                "2027-02-20  610 days ago     CRL issuing-tls  pki/crl/issuing-tls.pem\n"
                "2027-12-27  300 days ago     CRL ca  pki/crl/ca.pem\n"
                "2028-11-21  in 30 days       certificate release  pki/issued/release.crt\n"
            ),
            (
                "fwsign: renew certificates with: fwsign pki renew NAME; a root with: "
                "fwsign pki rotate\n"
                "fwsign: make new CRLs with: fwsign pki crl\n"
            ),
        )
        found = run("pki", "expire", "--within", "1h", "--json")
        assert found.status == 3
        ended = [(one["name"], one["expired"]) for one in json.loads(found.out)["ending"]]
        assert ended == [("issuing", True), ("issuing-tls", True), ("ca", True)]

    def test_a_time_in_the_past(self) -> None:
        found = run("pki", "expire", "--within", "2020-01-01T00:00:00Z")
        assert found.status == 2


@pytest.mark.usefixtures("project")
class TestOtherRoots:
    def test_rotate(self, project: Path) -> None:
        good("sign", "build.bin")
        found = run("pki", "rotate", "--no-passphrase")
        assert found.out == (
            "pki/ca-2.crt\npki/issued/ca-2-by-ca.crt\npki/issued/issuing-tls-2.crt\n"
            "pki/issued/issuing-2.crt\n"
        )
        assert "fwsign: give pki/ca-2.crt to new devices, beside those before\n" in found.err
        good("pki", "renew", "release")
        good("staple", "build.bin.suit")  # its path has fewer CAs than there are CRLs
        good("verify", "build.bin.suit")
        good("sign", "build.bin", "--force")
        for root in ("ca", "ca-2"):
            anchor = project / f"pki/{root}.crt"
            good("verify", "build.bin.suit", "--anchor", anchor, "--revocation", "require")
        assert len(good("pki", "crl").splitlines()) == 6

    def test_standby_and_a_lost_root(self, project: Path) -> None:
        assert run("pki", "standby", "--pass", "env:S", env={"S": "spare"}) == (
            0,
            "pki/standby.crt\n",
            (
                "fwsign: give pki/standby.crt to every device, beside pki/ca.crt\n"
                "fwsign: keep pki/private/standby.key offline, not where the key of the first root "
                "is\n"
            ),
        )
        (project / "pki/private/ca.key").unlink()
        rotate = ("pki", "rotate", "--no-passphrase", "--standby-pass", "env:S")
        found = run(*rotate, env={"S": "spare"})
        assert found.out == (
            "pki/standby.crt\npki/issued/issuing-tls-2.crt\npki/issued/issuing-2.crt\n"
        )
        assert (
            'fwsign: warning: devices that know only "ca" refuse what is signed from now on\n'
            in found.err
        )
        good("pki", "renew", "release")
        good("sign", "build.bin")
        good("verify", "build.bin.suit")

    def test_a_lost_root_and_no_standby(self, project: Path) -> None:
        (project / "pki/private/ca.key").unlink()
        before = tree(project)
        refused(
            run("pki", "rotate", "--no-passphrase"),
            5,
            'the key of the root "Acme Root CA" is not here and there is no standby: devices '
            "would not know a new root",
            "bring pki/private/ca.key here from where the root is, and take it away afterwards; "
            "or fwsign pki standby, and rotate when devices know it",
        )
        assert tree(project) == before


class TestOfflineRoot:
    def test_from_root_to_signed_release(self, tmp_path: Path) -> None:
        assert run("pki", "init", "root", *NAMES, "--root-only", "--no-passphrase") == (
            0,
            "root\n",
            (
                'fwsign: root "Acme Root CA": give root/ca.crt to every device\n'
                "fwsign: keep root/private/ca.key offline; signing does not need it\n"
                "fwsign: warning: keys in root/private have no passphrase\n"
                "fwsign: next, where certificates are issued: fwsign pki csr pki --org Acme "
                "--vendor acme.example\n"
            ),
        )
        assert run("pki", "csr", "pki", *NAMES, "--pass", "env:P", env={"P": "ca"}) == (
            0,
            "pki/reqs/issuing.csr\npki/reqs/issuing-tls.csr\n",
            (
                "fwsign: next, where the root is: fwsign pki sign-ca issuing.csr --pki DIR "
                "--permit acme.example\n"
                "fwsign: next, where the root is: fwsign pki sign-ca issuing-tls.csr --pki DIR "
                "--tls\n"
            ),
        )
        sign = ("pki", "sign-ca", "pki/reqs/issuing.csr", "--pki", "root")
        refused(
            run(*sign),
            2,
            "no domain is given that the CA may issue for",
            "the request asks for --permit acme.example",
        )
        found = run(*sign, "--permit", "acme.example", "--for", "5y")
        assert (found.status, found.out) == (0, "root/issued/issuing.crt\n")
        assert "root/ca.crt root/issued/issuing.crt root/crl/ca.pem" in found.err
        answer = ("root/ca.crt", "root/issued/issuing.crt", "root/crl/ca.pem")
        env = {"P": "ca"}
        found = run("pki", "accept", "pki", *answer, "--ca-pass", "env:P", env=env)
        assert found == (
            0,
            "pki/crl/issuing.pem\npki/crl/ca.pem\npki/issued/issuing.crt\npki/ca.crt\n",
            "fwsign: next: fwsign pki issue signer release --pki pki\n",
        )
        issue = ("pki", "issue", "signer", "release", "--pki", "pki", "--no-passphrase")
        good(*issue, "--ca-pass", "env:P", env=env)
        (tmp_path / "build.bin").write_bytes(b"x")
        good("sign", "build.bin", "--pki", "pki", "--product", "x1")
        good("verify", "build.bin.suit", "--anchor", "root/ca.crt", "--revocation", "require")
        assert good("pki", "accept", "pki", "root/crl/ca.pem") == "pki/crl/ca.pem\n"

    def test_what_is_neither_certificate_nor_crl(self, tmp_path: Path) -> None:
        good("pki", "csr", "pki", *NAMES, "--no-passphrase")
        (tmp_path / "x").write_text("hello")
        found = run("pki", "accept", "pki", "x")
        assert (found.status, found.out) == (5, "")
        assert found.errors[0].startswith("error: x has no certificate or CRL")
