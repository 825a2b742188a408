"""`fwsign verify`: which device, which time, which anchor."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.kit import good, refused, run
from fwsign.cli import inputs
from support import (
    DAY,
    NOW,
    PAYLOAD,
    VENDOR,
    make_ca,
    make_crl,
    make_envelope,
    make_manifest,
    make_pki,
    sign_with,
)

SEQUENCE = int(NOW.timestamp())
MISSING = "put it beside the envelope, name it, or use --manifest-only"
OTHER = "this is not the file that was signed; fetch it again"


@pytest.mark.usefixtures("signed")
class TestDevice:
    @pytest.mark.parametrize(
        ("option", "value", "message", "hint"),
        [
            (
                "--vendor",
                "other.example",
                'the release is for vendor "acme.example", this device is "other.example"',
                "--vendor, or fwsign.toml, says whose device this is",
            ),
            (
                "--product",
                "x2",
                'the release is for product "gateway-x1", this device is "x2"',
                "--product, or fwsign.toml, says what this device is",
            ),
        ],
    )
    def test_another_device_is_refused(
        self, option: str, value: str, message: str, hint: str
    ) -> None:
        refused(run("verify", "build.bin.suit", option, value), 4, message, hint)

    def test_rollback_is_refused(self) -> None:
        found = run("verify", "build.bin.suit", "--min-sequence", SEQUENCE + 1)
        assert (found.status, found.errors[1]) == (4, "hint: install the newest release")
        assert str(SEQUENCE) in found.errors[0]

    def test_with_a_floor_nothing_is_left_unchecked(self) -> None:
        found = good("verify", "build.bin.suit", "--min-sequence", SEQUENCE)
        assert "unchecked" not in found

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--min-sequence", "-1", "-1 is less than 0"),
            ("--min-sequence", "x", '"x" is not a whole number'),
            ("--require", "0", "0 is not in the range 1 to 8"),
            ("--require", "9", "9 is not in the range 1 to 8"),
        ],
    )
    def test_numbers_out_of_range_are_usage_errors(
        self, option: str, value: str, words: str
    ) -> None:
        found = run("verify", "build.bin.suit", option, value)
        refused(found, 2, f"{option}: {words}", "fwsign verify --help shows how")

    def test_a_product_needs_a_vendor(self, tmp_path: Path) -> None:
        (tmp_path / "fwsign.toml").write_text('pki = "pki"\n')
        refused(
            run("verify", "build.bin.suit", "--product", "gateway-x1"),
            2,
            "--product without a vendor",
            "name it with --vendor DOMAIN, or in fwsign.toml",
        )

    def test_require_counts_distinct_signers(self) -> None:
        refused(
            run("verify", "build.bin.suit", "--require", 2),
            1,
            "the policy demands 2 distinct signers, found 1",
            "more people must sign: fwsign cosign ENVELOPE; or the policy asks for too many",
        )

    def test_two_signers_are_enough_for_two(self, tmp_path: Path) -> None:
        first, second = make_pki(), make_pki(common="Second ")
        signers = [(pki.leaf, [pki.issuing], pki.crls) for pki in (first, second)]
        (tmp_path / "two.suit").write_bytes(make_envelope(make_manifest(), signers))
        for name, pki in (("1.pem", first), ("2.pem", second)):
            (tmp_path / name).write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
        anchors = ("--anchor", "1.pem", "--anchor", "2.pem")
        assert "note " in good("verify", "two.suit", *anchors, "--require", 2)
        found = run("verify", "two.suit", "--anchor", "1.pem", "--require", 2)
        assert (found.status, "Second Root" in found.err) == (1, True)


@pytest.mark.usefixtures("signed")
class TestTime:
    def test_at_takes_the_place_of_the_clock(self) -> None:
        refused(
            run("verify", "build.bin.suit", "--at", "2027-06-01T00:00:00Z"),
            3,
            'CRL of "Acme Issuing CA" was to be replaced by 2027-02-20, it is 2027-06-01',
            "make new ones with: fwsign pki crl; and for signed files: fwsign staple ENVELOPE",
        )

    def test_a_release_past_its_time_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        good("sign", "build.bin", "--force", "--not-after", "1d")
        monkeypatch.setattr(inputs, "now", lambda: NOW + 2 * DAY)
        refused(
            run("verify", "build.bin.suit"),
            3,
            "the release was to be used before 2026-11-23T12:00:00+00:00, "
            "it is 2026-11-24T12:00:00+00:00",
            "sign a newer release: fwsign sign FILE --not-after TIME",
        )

    def test_a_clock_that_is_behind_is_told(self) -> None:
        found = good("verify", "build.bin.suit", "--at", "2026-11-01T00:00:00Z")
        assert "  note       freshness unproven: the clock is behind\n" in found


class TestRevocation:
    def test_a_signer_revoked_later_is_refused_with_the_crl(self, signed: Path) -> None:
        good("pki", "revoke", "release", "--reason", "superseded")
        good("verify", "build.bin.suit")
        crl = signed / "pki/crl/issuing.pem"
        refused(
            run("verify", "build.bin.suit", "--crl", crl),
            1,
            'certificate "release" revoked 2026-11-22 (superseded)',
            "do not install this; sign again with a signer that is not revoked",
        )
        off = good("verify", "build.bin.suit", "--crl", crl, "--revocation", "off")
        assert "  unchecked  revocation (--revocation off)\n" in off

    def test_without_crls_it_is_unchecked_unless_required(self, tmp_path: Path) -> None:
        pki = make_pki()
        (tmp_path / "x.suit").write_bytes(sign_with(pki, crls=()))
        (tmp_path / "build.bin").write_bytes(PAYLOAD)
        (tmp_path / "ca.pem").write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
        plain = ("verify", "x.suit", "--anchor", "ca.pem")
        assert "  unchecked  revocation (no CRLs: staple them, or give --crl)\n" in good(*plain)
        required = run(*plain, "--revocation", "require")
        assert (required.status, required.errors[1]) == (
            3,
            "hint: put it into the envelope with: fwsign staple ENVELOPE --crl PEM",
        )
        for number, crl in enumerate(pki.crls):
            (tmp_path / f"{number}.crl").write_bytes(crl)
        good(*plain, "--revocation", "require", "--crl", "0.crl", "--crl", "1.crl")

    @pytest.mark.usefixtures("signed")
    def test_a_crl_that_is_of_no_use_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "other.crl").write_bytes(make_crl(make_ca("Stranger")))
        refused(
            run("verify", "build.bin.suit", "--crl", "other.crl"),
            5,
            "a CRL given belongs to no issuer in the signer's path",
            "leave it out, or give the CRL of an issuer of the signer",
        )

    @pytest.mark.usefixtures("signed")
    @pytest.mark.parametrize(
        ("option", "hint"),
        [
            (("--profile", "loose"), ('"loose" is not a profile', "choose strict or compat")),
            (
                ("--revocation", "no"),
                (
                    '--revocation "no" is not a choice',
                    "choose require, off, or allow-stale:TIME as in allow-stale:30d",
                ),
            ),
            (
                ("--revocation", "allow-stale:soon"),
                (
                    '--revocation "allow-stale:soon" is not a choice',
                    "choose require, off, or allow-stale:TIME as in allow-stale:30d",
                ),
            ),
            (
                ("--require-token",),
                ("--require-token without an authority", "say whom to believe: --tsa-anchor PEM"),
            ),
        ],
    )
    def test_a_choice_that_there_is_not(
        self, option: tuple[str, str], hint: tuple[str, str]
    ) -> None:
        refused(run("verify", "build.bin.suit", *option), 2, *hint)


class TestAnchors:
    @pytest.mark.usefixtures("signed")
    def test_the_wrong_root_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "other.pem").write_bytes(
            make_ca("Other Root").certificate.public_bytes(Encoding.PEM)
        )
        refused(
            run("verify", "build.bin.suit", "--anchor", "other.pem"),
            1,
            'the path ends at issuer "Acme Root CA", the anchors are "Other Root"',
            "give the right root with --anchor PEM",
        )

    def test_without_any_nobody_is_trusted(self, signed: Path) -> None:
        (signed / "fwsign.toml").unlink()
        refused(
            run("verify", "build.bin.suit"),
            2,
            "no anchor given, and no fwsign.toml found",
            "name a root with --anchor PEM; your own PKI is made by: fwsign init",
        )

    def test_a_bare_key_with_a_vendor(self, tmp_path: Path) -> None:
        pki = make_pki()
        (tmp_path / "x.suit").write_bytes(make_envelope(make_manifest(), [(pki.leaf, [], ())]))
        (tmp_path / "build.bin").write_bytes(PAYLOAD)
        key = pki.issuing.certificate.public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "key.pem").write_bytes(pem)
        found = good("verify", "x.suit", "--anchor", "key.pem", "--vendor", VENDOR)
        assert "  signer     release < P-256 key, ESP256\n" in found


class TestEnvelopes:
    def test_a_file_that_is_no_envelope(self, signed: Path) -> None:
        found = run("verify", "build.bin")
        assert (found.status, found.errors[1]) == (
            1,
            "hint: did you mean build.bin.suit?",
        )
        (signed / "empty").write_bytes(b"")
        assert run("verify", "empty").status == 1

    @pytest.mark.usefixtures("project")
    def test_one_that_is_too_large(self, tmp_path: Path) -> None:
        with (tmp_path / "huge.suit").open("wb") as file:
            file.truncate(33 * 1024 * 1024)
        refused(run("verify", "huge.suit"), 5, "huge.suit is larger than 33554432 bytes")

    @pytest.mark.parametrize("position", [10, 60, -5])
    def test_any_byte_changed_is_refused(self, signed: Path, position: int) -> None:
        data = bytearray((signed / "build.bin.suit").read_bytes())
        data[position] ^= 1
        (signed / "build.bin.suit").write_bytes(data)
        found = run("verify", "build.bin.suit")
        assert (found.status, found.out) == (1, "")
        assert len(found.errors) <= 2

    def test_names_that_would_deceive_are_escaped(self, tmp_path: Path) -> None:
        root = make_ca("Root\nverified  x\x1b[2K\u202e")
        pki = make_pki()
        (tmp_path / "x.suit").write_bytes(sign_with(pki))
        (tmp_path / "ca.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
        found = run("verify", "x.suit", "--anchor", "ca.pem")
        assert r'"Root\nverified  x\x1b[2K\u202e"' in found.err
