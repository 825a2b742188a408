"""A CA is revoked or expires: each command says that what is below it is dead."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from cli.kit import good, refused, run
from fwsign.cli import inputs
from fwsign.keys.file import load_private_key
from fwsign.pki.report import inventory, page
from pki_kit import before_tls
from support import CODE_SIGNING, NOW, Entity, leaf_extensions, make_ca, make_crl, make_leaf

REVOKE = ("pki", "revoke", "issuing", "--reason", "keyCompromise")
SILENT = (
    "fwsign: no certificate in use ends before 2027-02-20, "
    "and no CRL is in the last third of its time\n"
)


@pytest.fixture
def stolen(project: Path) -> Path:
    """A project whose issuing CA was revoked; it has issued everything."""
    before_tls(project / "pki")
    good("pki", "issue", "server", "b.acme.example", "--no-passphrase")
    good(*REVOKE)
    return project


def issuing_of(project: Path) -> Entity:
    """The issuing CA of a project, to issue what fwsign would not."""
    key = load_private_key(project / "pki/private/issuing.key", lambda: None)
    pem = (project / "pki/issued/issuing.crt").read_bytes()
    return Entity(key, x509.load_pem_x509_certificate(pem))


def place(path: Path, entity: Entity) -> None:
    path.write_bytes(entity.certificate.public_bytes(Encoding.PEM))


def at(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(inputs, "now", lambda: NOW + timedelta(days))


def standings() -> dict[str, str]:
    found: dict[str, Any] = json.loads(good("pki", "show", "--json"))
    return {one["name"]: one["standing"] for one in found["certificates"]}


@pytest.mark.usefixtures("stolen")
class TestRevokedCa:
    def test_show(self, stolen: Path) -> None:
        found = good("pki", "show", env={"COLUMNS": "100"})
        assert found.splitlines()[0] == (
            "4 certificates, 2 CRLs, 2 below a revoked CA, 1 revoked, as of 2026-11-22 12:00 UTC"
        )
        assert "issuing  CA  REVOKED (keyCompromise)" in found
        line = next(one for one in found.splitlines() if "release  signer" in one)
        assert "release  signer  DEAD" in line
        assert line.endswith("░░░░░░░░░░ its CA was revoked 2026-11-22")
        assert found.count('! below "issuing": its CA was revoked 2026-11-22') == 2
        drawn = page.render(inventory.read(stolen / "pki"), NOW)
        assert drawn.count('<span class="chip bad">DEAD</span>') == 2
        words = "below &quot;issuing&quot;: its CA was revoked 2026-11-22"
        assert drawn.count(f'<dt>Path</dt><dd><span class="fault">{words}</span></dd>') == 2
        assert "release: below a revoked CA, 2026-11-22 to 2028-11-21" in drawn

    def test_json(self) -> None:
        assert standings() == {
            "b.acme.example": "below a revoked CA",
            "ca": "valid",
            "issuing": "revoked",
            "release": "below a revoked CA",
        }
        found = json.loads(good("pki", "show", "--json"))["certificates"]
        by_name = {one["name"]: one for one in found}
        assert by_name["release"]["ended_by"] == by_name["issuing"]["sha256"]
        assert by_name["issuing"]["ended_by"] is None

    def test_lint(self) -> None:
        found = run("pki", "lint", "--json")
        report = json.loads(found.out)
        errors = [one for one in report["findings"] if one["severity"] != "note"]
        assert (found.status, report["verdict"]) == (3, "findings")
        assert [(one["code"], one["subject"], one["message"]) for one in errors] == [
            ("lint.ca-revoked", "b.acme.example", 'below "Acme Issuing CA", a revoked CA'),
            ("lint.ca-revoked", "release", 'below "Acme Issuing CA", a revoked CA'),
        ]

    def test_expire(self) -> None:
        assert run("pki", "expire", "--pki", "pki") == (
            3,
            (
                "2026-11-22  dead             certificate b.acme.example  "
                'pki/issued/b.acme.example.crt, below "issuing", which was revoked\n'
                "2026-11-22  dead             certificate release  "
                'pki/issued/release.crt, below "issuing", which was revoked\n'
            ),
            (
                "fwsign: replace what is below a revoked CA: fwsign pki renew issuing --new-key "
                "--pki pki; then fwsign pki renew --all --pki pki\n"
            ),
        )
        found = json.loads(run("pki", "expire", "--within", "1h", "--json").out)["ending"]
        assert [
            (one["name"], one["expired"], one["below"], one["below_revoked"]) for one in found
        ] == [
            ("b.acme.example", True, "issuing", True),
            ("release", True, "issuing", True),
        ]

    @pytest.mark.parametrize(
        ("name", "purpose"), [("release", "codesign"), ("b.acme.example", "server")]
    )
    def test_verify(self, name: str, purpose: str) -> None:
        found = run("pki", "verify", f"pki/issued/{name}.crt", "--purpose", purpose)
        assert (found.status, found.errors[0]) == (
            1,
            'error: certificate "Acme Issuing CA" revoked 2026-11-22 (key compromise)',
        )

    def test_renew_all_before_there_is_another_ca(self) -> None:
        refused(
            run("pki", "renew", "--all"),
            5,
            'the CA "Acme Issuing CA" was revoked 2026-11-22',
            "fwsign pki renew issuing --new-key makes another one",
        )

    def test_recovery(self) -> None:
        found = run("pki", "renew", "issuing", "--new-key", "--no-passphrase")
        assert found.err == (
            'fwsign: the CA "issuing-2" issues from now on; the old one was revoked 2026-11-22, '
            "and nothing that it issued counts\n"
            "fwsign: next: fwsign pki renew --all\n"
        )
        assert "fwsign pki renew issuing" not in run("pki", "expire").err
        words = (
            'fwsign: the old one is below "issuing", which was revoked 2026-11-22: '
            "devices refuse it, whatever it vouches for\n"
        )
        names = ("b.acme.example", "release")
        out = "".join(f"pki/issued/{name}.crt\n" for name in names)
        after = "fwsign: next: fwsign pki export chain NAME FILE, for each server and client\n"
        assert run("pki", "renew", "--all") == (0, out, words * 2 + after)
        assert run("pki", "expire") == (0, "", SILENT)
        assert good("pki", "lint").splitlines()[-1].startswith("clean")
        for name, purpose in zip(names, ("server", "codesign"), strict=True):
            good("pki", "verify", f"pki/issued/{name}.crt", "--purpose", purpose)
            assert standings()[name] == "valid"
        good("pki", "crl")
        good("sign", "build.bin")
        good("verify", "build.bin.suit")

    def test_silence_years_later(self, stolen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        good("pki", "renew", "issuing", "--new-key", "--no-passphrase")
        good("pki", "renew", "--all")
        (stolen / "pki/private/issuing.key").unlink()  # and with it the CRL
        at(monkeypatch, 300)
        good("pki", "crl")
        assert run("pki", "expire").status == 0
        assert good("pki", "lint").splitlines()[-1].startswith("clean")

    def test_what_has_ended_below_it_needs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        at(monkeypatch, 3 * 365)
        found = json.loads(run("pki", "expire", "--json").out)["ending"]
        assert [(one["kind"], one["name"]) for one in found] == [("CRL", "ca")]
        assert standings()["release"] == "expired"


class TestRenewAll:
    def test_revoked_ones_stay_as_they_are(self, project: Path) -> None:
        good("pki", "issue", "client", "c", "--no-passphrase")
        good("pki", "revoke", "c", "--reason", "superseded")
        before = (project / "pki/issued/c.crt").read_bytes()
        found = run("pki", "renew", "--all")
        assert (found.status, found.out) == (0, "pki/issued/release.crt\n")
        assert found.err.startswith('fwsign: "c" was revoked 2026-11-22: left as it is\n')
        assert (project / "pki/issued/c.crt").read_bytes() == before

    def test_new_keys(self, project: Path) -> None:
        before = (project / "pki/private/release.key").read_bytes()
        good("pki", "renew", "--all", "--new-key", "--no-passphrase")
        assert (project / "pki/private/release.key").read_bytes() != before
        assert (project / "pki/private/release.key.unused-1").read_bytes() == before

    def test_one_that_cannot_be_renewed_does_not_stop_the_others(self, project: Path) -> None:
        good("pki", "issue", "server", "b.acme.example", "--no-passphrase")
        other = make_leaf(issuing_of(project), "a", vendors=["other.test"])
        place(project / "pki/issued/a.crt", other)
        found = run("pki", "renew", "--all")
        assert found.status == 5
        assert found.out == "pki/issued/b.acme.example.crt\npki/issued/release.crt\n"
        assert found.errors[0] == (
            'error: "a" was not renewed: vendor "other.test" is outside what the CA '
            '"Acme Issuing CA" is limited to: acme.example'
        )

    def test_one_of_another_kind(self, project: Path) -> None:
        both = leaf_extensions(usages=[ExtendedKeyUsageOID.SERVER_AUTH, CODE_SIGNING])
        place(project / "pki/issued/a.crt", make_leaf(issuing_of(project), "a", extensions=both))
        found = run("pki", "renew", "--all")
        assert (found.status, found.out) == (0, "pki/issued/release.crt\n")
        words = 'warning: "a" is of no kind that can be renewed: left as it is'
        assert found.err.splitlines()[0] == f"fwsign: {words}"

    @pytest.mark.usefixtures("stolen")
    def test_a_second_ca_that_is_good(self) -> None:
        renew = ("pki", "renew", "issuing", "--new-key", "--no-passphrase")
        good(*renew)
        assert run(*renew).err.startswith(
            'fwsign: the CA "issuing-3" issues from now on; what "issuing-2" issued stays good '
            "until 2036-11-21 at most\n"
        )

    @pytest.mark.usefixtures("project")
    def test_usage(self) -> None:
        hint = "fwsign pki renew --help shows how"
        refused(run("pki", "renew"), 2, "expected NAME or --all", hint)
        words = "NAME and --all exclude each other"
        refused(run("pki", "renew", "release", "--all"), 2, words, hint)


@pytest.mark.usefixtures("project")
class TestExpiredCa:
    def test_every_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        at(monkeypatch, 9 * 365)
        good("pki", "renew", "release", "--for", "300d")
        at(monkeypatch, 11 * 365)
        found = standings()
        assert [found[name] for name in ("ca", "issuing", "release")] == [
            "valid",
            "expired",
            "expired",
        ]
        refused(
            run("pki", "renew", "--all"),
            5,
            'the CA "Acme Issuing CA" expired 2036-11-21, it is 2037-11-19',
            "fwsign pki renew issuing, with the root's key",
        )
        assert "certificate issuing" in run("pki", "expire").out
        good("pki", "renew", "issuing", "--new-key", "--no-passphrase")
        good("pki", "renew", "--all")
        good("pki", "crl")
        (line,) = run("pki", "expire").out.splitlines()  # the expired CA was replaced
        assert "certificate issuing-tls" in line
        good("pki", "renew", "issuing-tls", "--new-key", "--no-passphrase")
        assert run("pki", "expire").status == 0

    def test_expire_and_show_of_a_leaf_that_lasts_longer(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        days = (-1, 12 * 365)
        place(project / "pki/issued/long.crt", make_leaf(issuing_of(project), "long", days=days))
        assert '! it ends with "issuing"' in good("pki", "show", env={"COLUMNS": "100"})
        at(monkeypatch, 10 * 365 - 30)
        found = json.loads(run("pki", "expire", "--json").out)["ending"]
        ended = {one["name"]: (one["end"][:10], one["below"]) for one in found}
        assert ended["issuing"] == ("2036-11-21", None)
        assert ended["long"] == ("2036-11-21", "issuing")
        assert 'long  pki/issued/long.crt, below "issuing"\n' in run("pki", "expire").out

    def test_expire_with_a_stray_certificate_and_without_a_crl(self, project: Path) -> None:
        place(project / "pki/issued/stray.crt", make_leaf(make_ca("Other"), "stray"))
        (project / "pki/crl/issuing.pem").unlink()
        assert run("pki", "expire").status == 0

    def test_a_root_counts_for_tls_alone(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        root = make_ca(days=(-10, -1))
        server = leaf_extensions(usages=[ExtendedKeyUsageOID.SERVER_AUTH])
        place(tmp_path / "x/ca.crt", root)
        place(tmp_path / "x/signer.crt", make_leaf(root, "signer"))
        place(tmp_path / "x/server.crt", make_leaf(root, "server", extensions=server))
        found = json.loads(good("pki", "show", "x", "--json"))["certificates"]
        assert {one["name"]: one["standing"] for one in found} == {
            "ca": "expired",
            "server": "below an expired CA",
            "signer": "valid",
        }
        anchor = ("--anchor", "x/ca.crt")
        assert run("pki", "verify", "x/server.crt", *anchor, "--purpose", "server").status == 1
        assert run("pki", "verify", "x/signer.crt", *anchor).status == 0

    def test_a_leaf_that_lasts_longer(self, tmp_path: Path) -> None:
        root = make_ca()
        short = make_ca("Short", root, days=(-10, -1), path_length=0)
        for name, one in (("ca", root), ("short", short), ("leaf", make_leaf(short))):
            data = one.certificate.public_bytes(Encoding.PEM)
            (tmp_path / "x").mkdir(exist_ok=True)
            (tmp_path / f"x/{name}.crt").write_bytes(data)
        found = good("pki", "show", "x", env={"COLUMNS": "100"})
        assert "leaf  signer  DEAD" in found
        assert '! below "short": its CA ended 2026-11-21' in found
        certificates = json.loads(good("pki", "show", "x", "--json"))["certificates"]
        assert {one["name"]: one["standing"] for one in certificates}["leaf"] == (
            "below an expired CA"
        )
        codes = [
            one["code"] for one in json.loads(run("pki", "lint", "x", "--json").out)["findings"]
        ]
        assert "lint.ca-expired" in codes
        found_ = run("pki", "verify", "x/leaf.crt", "x/short.crt", "--anchor", "x/ca.crt")
        assert found_.status == 3


class TestOtherRoots:
    @pytest.mark.usefixtures("project")
    def test_a_revoked_cross_certificate_harms_nothing_below(self) -> None:
        good("pki", "rotate", "--no-passphrase")
        good("pki", "renew", "release")
        good("pki", "revoke", "ca-2-by-ca", "--reason", "superseded")
        found = standings()
        assert (found["ca-2-by-ca"], found["issuing-2"], found["release"]) == (
            "revoked",
            "valid",
            "valid",
        )
        assert run("pki", "expire").status == 0
        assert good("pki", "lint").splitlines()[-1].startswith("clean")
        paths = ("pki/issued/release.crt", "pki/issued/issuing-2.crt", "--anchor", "pki/ca-2.crt")
        good("pki", "verify", *paths)

    @pytest.mark.usefixtures("project")
    def test_a_bundle_with_the_crl_of_a_standby(self) -> None:
        good("pki", "standby", "--no-passphrase")
        paths = ("pki/issued/release.crt", "pki/issued/issuing.crt", "--anchor", "pki/ca.crt")
        note = "2 CRLs given belong to no issuer in the path: not used"
        found = json.loads(good("pki", "verify", *paths, "--crl", "pki/crl/bundle.pem", "--json"))
        assert (found["notes"], found["unchecked"]) == ([note], [])
        found = good("pki", "verify", paths[0], "--crl", "pki/crl/bundle.pem")
        assert f"  note       {note}\n" in found
        refused(
            run("pki", "verify", *paths, "--crl", "pki/crl/standby.pem"),
            5,
            "a CRL given belongs to no issuer in the path",
            "leave it out, or give the CRL of an issuer of the signer",
        )

    @pytest.mark.usefixtures("project")
    def test_a_bundle_with_a_crl_that_would_be_refused(self, tmp_path: Path) -> None:
        foreign = x509.load_der_x509_crl(make_crl(make_ca("Foreign"), number=None))
        bundle = (tmp_path / "pki/crl/bundle.pem").read_bytes()
        (tmp_path / "b.pem").write_bytes(foreign.public_bytes(Encoding.PEM) + bundle)
        assert "verified" in good("pki", "verify", "pki/issued/release.crt", "--crl", "b.pem")

    @pytest.mark.usefixtures("stolen")
    def test_a_bundle_still_revokes(self) -> None:
        paths = ("pki/issued/release.crt", "pki/issued/issuing.crt", "--anchor", "pki/ca.crt")
        found = run("pki", "verify", *paths, "--crl", "pki/crl/bundle.pem")
        assert (found.status, "untrusted.revoked" in found.err) == (1, True)


class TestOfflineRoot:
    def test_a_stale_crl_of_the_root(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project / "pki/private/ca.key").rename(project / "ca.key")
        found = run("pki", "crl")
        assert (found.status, found.out) == (0, "pki/crl/issuing.pem\npki/crl/issuing-tls.pem\n")
        assert "to ship" in found.err
        at(monkeypatch, 401)
        found = run("pki", "crl")
        assert (found.status, found.out) == (3, "pki/crl/issuing.pem\npki/crl/issuing-tls.pem\n")
        assert found.errors == [
            (
                'error: the CRL of CA "ca" is stale since 2027-12-27, and its key is not here: '
                "devices refuse what is below that CA"
            ),
            (
                "hint: bring pki/private/ca.key here, run fwsign pki crl again, and take it away "
                "afterwards"
            ),
        ]
        assert "to ship" not in found.err
        (project / "ca.key").rename(project / "pki/private/ca.key")
        assert "to ship" in run("pki", "crl").err

    def test_the_root_is_on_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("--org", "Acme", "--vendor", "acme.example", "--no-passphrase")
        good("pki", "init", "root", *names, "--root-only")
        good("pki", "csr", "pki", *names)
        good("pki", "sign-ca", "pki/reqs/issuing.csr", "--pki", "root", "--permit", "acme.example")
        good("pki", "accept", "pki", "root/ca.crt", "root/issued/issuing.crt", "root/crl/ca.pem")
        at(monkeypatch, 401)
        found = run("pki", "crl", "--pki", "pki")
        assert (found.status, found.errors[1]) == (
            3,
            "hint: fwsign pki crl where that key is, then here: fwsign pki accept pki FILE",
        )
        good("pki", "crl", "--pki", "root")
        good("pki", "accept", "pki", "root/crl/ca.pem")
        good("pki", "crl", "--pki", "pki")

    def test_a_crl_alone_in_show(self, tmp_path: Path) -> None:
        (tmp_path / "x.crl").write_bytes(make_crl(make_ca(), days=(-900, -800)))
        assert "STALE" in good("pki", "show", "x.crl")
        found = run("pki", "lint", "x.crl")
        assert (found.status, "lint.crl-stale" in found.out) == (3, True)
