"""`fwsign verify`: which file is the payload of what, and whether it is the signed one."""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cli.kit import good, refused, run
from support import (
    NOW,
    PAYLOAD,
    component,
    make_ca,
    make_manifest,
    make_pki,
    sign_with,
)

SEQUENCE = int(NOW.timestamp())
MISSING = "put it beside the envelope, name it, or use --manifest-only"
OTHER = "this is not the file that was signed; fetch it again"


class TestPayloads:
    def test_one_payload_may_have_another_name(self, signed: Path) -> None:
        (signed / "build.bin").rename(signed / "downloaded")
        assert "..., downloaded\n" in good("verify", "build.bin.suit", "downloaded")

    def test_the_payload_is_looked_for_beside_the_envelope(self, signed: Path) -> None:
        (signed / "sub").mkdir()
        for name in ("build.bin", "build.bin.suit"):
            (signed / name).rename(signed / "sub" / name)
        assert "..., sub/build.bin\n" in good("verify", "sub/build.bin.suit")

    def test_another_file_is_refused(self, signed: Path) -> None:
        other = b"x" * len(PAYLOAD)
        (signed / "build.bin").write_bytes(other)
        found, expected = (hashlib.sha256(data).hexdigest() for data in (other, PAYLOAD))
        refused(
            run("verify", "build.bin.suit"),
            1,
            f'payload of "build.bin" has digest {found}, the signed one is {expected}',
            OTHER,
        )

    @pytest.mark.parametrize(("size", "words"), [(799, "799 bytes"), (801, "more than 800 bytes")])
    def test_another_size_is_refused(self, signed: Path, size: int, words: str) -> None:
        (signed / "build.bin").write_bytes((PAYLOAD * 2)[:size])
        refused(
            run("verify", "build.bin.suit"),
            1,
            f'payload of "build.bin" has {words}, the signed size is 800',
            OTHER,
        )

    def test_a_missing_payload_is_its_own_error(self, signed: Path) -> None:
        (signed / "build.bin").unlink()
        refused(
            run("verify", "build.bin.suit"),
            5,
            'the payload of "build.bin" is not there: build.bin',
            MISSING,
        )
        found = json.loads(run("verify", "build.bin.suit", "--json").out)
        assert (found["code"], found["step"], found["expected"], found["found"]) == (
            "io.payload-missing",
            10,
            "build.bin",
            "nothing",
        )

    def test_manifest_only_lists_it_as_unchecked(self, signed: Path) -> None:
        (signed / "build.bin").unlink()
        found = good("verify", "build.bin.suit", "--manifest-only")
        assert "  unchecked  payload (it is not here)\n" in found
        assert "..., not here\n" in found

    def test_manifest_only_still_judges_what_is_here(self, signed: Path) -> None:
        (signed / "build.bin").write_bytes(b"")
        assert run("verify", "build.bin.suit", "--manifest-only").status == 1

    def test_a_payload_that_was_named_must_be_there(self, signed: Path) -> None:
        refused(
            run("verify", "build.bin.suit", "absent", "--manifest-only"),
            5,
            "cannot read absent: no such file or directory",
        )
        assert (signed / "build.bin").exists()

    @pytest.mark.usefixtures("signed")
    def test_a_directory_is_no_payload(self) -> None:
        refused(run("verify", "build.bin.suit", "pki"), 5, "cannot read pki: is a directory")

    def test_an_embedded_payload_is_checked_and_so_is_the_file_given(self, project: Path) -> None:
        good("sign", "build.bin", "--embed")
        (project / "build.bin").write_bytes(b"other")
        good("verify", "build.bin.suit")
        found = run("verify", "build.bin.suit", "build.bin")
        assert (found.status, found.errors[1]) == (1, f"hint: {OTHER}")

    def test_each_of_several_is_found_by_its_name(self, project: Path) -> None:
        (project / "web.tar").write_bytes(b"pages")
        good("sign", "build.bin", "web.tar", "--output", "all.suit")
        (project / "sub").mkdir()
        (project / "web.tar").rename(project / "sub/web.tar")
        assert "..., sub/web.tar\n" in good("verify", "all.suit", "sub/web.tar")
        refused(
            run("verify", "all.suit", "pki/ca.crt.txt"),
            2,
            'the release has no payload called "ca.crt.txt"',
            "it has build.bin, web.tar",
        )
        refused(
            run("verify", "all.suit", "web.tar", "sub/web.tar"),
            2,
            'two payloads for "web.tar": web.tar and sub/web.tar',
            "fwsign verify --help shows how",
        )

    @pytest.mark.parametrize(
        "uris",
        [
            ("https://a.example/x.bin", "https://b.example/x.bin"),
            ("https://a.example/", "https://a.example/.."),
            ("https://a.example/?x.bin", "https://a.example/x?y=/../../../etc/passwd"),
        ],
    )
    def test_urls_name_no_place_outside_the_envelopes_directory(
        self, tmp_path: Path, uris: tuple[str, str]
    ) -> None:
        pki = make_pki()
        parts = [component(file=f"{n}.bin", uri=uri) for n, uri in enumerate(uris)]
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub/x.suit").write_bytes(sign_with(pki, make_manifest(*parts)))
        (tmp_path / "ca.pem").write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
        found = run("verify", "sub/x.suit", "--anchor", "ca.pem")
        assert found.status == 5
        assert found.errors[0].startswith('error: the payload of "0.bin" is not there: sub/')

    @pytest.mark.usefixtures("signed")
    @pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
    def test_a_certificate_is_no_payload(self, tmp_path: Path, form: Encoding) -> None:
        text = b"Certificate:\n    Data:\n" if form is Encoding.PEM else b""
        (tmp_path / "ca.cer").write_bytes(text + make_ca().certificate.public_bytes(form))
        for arguments in (("build.bin.suit", "ca.cer"), ("ca.cer",)):
            refused(
                run("verify", *arguments),
                2,
                f"ca.cer is a certificate, not {'a payload' if arguments[1:] else 'an envelope'}",
                "did you mean --anchor ca.cer?",
            )

    def test_an_image_with_a_certificate_in_it_is_a_payload(self, project: Path) -> None:
        pem = make_ca().certificate.public_bytes(Encoding.PEM)
        (project / "net.bin").write_bytes(b"\0code\0" + pem + b"\0")
        good("sign", "net.bin")
        good("verify", "net.bin.suit", "net.bin")
