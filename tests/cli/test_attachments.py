"""SBOMs, VEX and provenance of a release: signed, shown and checked, and never installed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run, tree
from fwsign.format.envelope import decode_envelope, encode_envelope
from support import PAYLOAD

DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
SPDX = json.dumps({"spdxVersion": "SPDX-2.3", "name": "build"})
TYPE = "application/spdx+json"
SIGN = ("sign", "build.bin", "--sequence", "7")


def provenance(digest: str = DIGEST, algorithm: str = "sha256") -> str:
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "build.bin", "digest": {algorithm: digest}}],
            "predicateType": "https://slsa.dev/provenance/v1",
        }
    )


@pytest.fixture(autouse=True)
def _documents(project: Path) -> None:
    (project / "sbom.json").write_text(SPDX)
    (project / "slsa.json").write_text(provenance())


def released(*arguments: object) -> tuple[Any, Any]:
    """What `verify --json` says: the release, and what was not checked."""
    told = json.loads(good("verify", "build.bin.suit", *arguments, "--json"))
    return told["release"], told["unchecked"]


class TestBeside:
    @pytest.fixture(autouse=True)
    def _signed(self) -> None:
        good(*SIGN, "--attach", "sbom.json", "--attach", "slsa.json")

    def test_they_are_signed_and_checked(self) -> None:
        release, unchecked = released()
        assert [(one["name"], one["type"], one["file"]) for one in release["attachments"]] == [
            ("sbom.json", TYPE, "sbom.json"),
            ("slsa.json", "application/vnd.in-toto+json", "slsa.json"),
        ]
        assert release["attachments"][0]["digest"] == hashlib.sha256(SPDX.encode()).hexdigest()
        assert "attachment" not in unchecked
        assert f"  attachment sbom.json, {TYPE}, sbom.json\n" in good("verify", "build.bin.suit")

    def test_one_that_is_not_there_is_unchecked(self, project: Path) -> None:
        (project / "sbom.json").unlink()
        release, unchecked = released()
        assert [one["file"] for one in release["attachments"]] == [None, "slsa.json"]
        assert "attachment" in unchecked
        told = good("verify", "build.bin.suit")
        assert f"  attachment sbom.json, {TYPE}, not here\n" in told
        assert "  unchecked  attachment (it is not here)\n" in told

    def test_one_that_was_changed_is_refused(self, project: Path) -> None:
        (project / "sbom.json").write_text(SPDX.replace("build", "other"))
        found = run("verify", "build.bin.suit")
        words = 'the attachment "sbom.json" is not the one that was signed'
        assert (found.status, found.errors[0]) == (1, f"error: {words}")
        told = json.loads(run("verify", "build.bin.suit", "--json").out)
        assert (told["code"], told["verdict"]) == ("tampered.attachment", "refused")

    def test_one_elsewhere_is_given(self, project: Path) -> None:
        (project / "sub").mkdir()
        (project / "sbom.json").rename(project / "sub/sbom.json")
        release, unchecked = released("sub/sbom.json")
        assert release["attachments"][0]["file"] == "sub/sbom.json"
        assert "attachment" not in unchecked
        release, unchecked = released("build.bin", "sub/sbom.json")
        assert release["attachments"][0]["file"] == "sub/sbom.json"
        (project / "sub/sbom.json").write_text("{}")
        assert run("verify", "build.bin.suit", "sub/sbom.json").status == 1

    def test_one_twice_is_refused(self, project: Path) -> None:
        (project / "sub").mkdir()
        (project / "sub/sbom.json").write_text(SPDX)
        found = run("verify", "build.bin.suit", "sbom.json", "sub/sbom.json")
        assert found.status == 2
        words = 'two files for the attachment "sbom.json": sbom.json and sub/sbom.json'
        assert found.errors[0] == f"error: {words}"

    def test_one_that_is_too_large_is_refused_unread(self, project: Path) -> None:
        with (project / "sbom.json").open("r+b") as file:
            file.truncate(1 << 40)
        found = run("verify", "build.bin.suit")
        assert (found.status, found.errors[0]) == (
            5,
            "error: sbom.json is larger than 16777216 bytes",
        )

    def test_show_lists_them(self) -> None:
        shown = good("show", "build.bin.suit")
        assert f"attachments\n  name: sbom.json\n  type: {TYPE}\n" in shown
        told = json.loads(good("show", "build.bin.suit", "--json"))["content"][0]
        assert [one["inside"] for one in told["attachments"]] == [False, False]

    def test_a_text_that_was_cut_off_takes_them_along(self, project: Path) -> None:
        path = project / "build.bin.suit"
        path.write_bytes(encode_envelope(decode_envelope(path.read_bytes())._replace(text=None)))
        assert released()[0]["attachments"] == []

    def test_none_is_written(self, project: Path) -> None:
        (project / "out").mkdir()
        good("verify", "build.bin.suit", "--attachments", "out")
        assert not list((project / "out").iterdir())


class TestInside:
    @pytest.fixture(autouse=True)
    def _signed(self, project: Path) -> None:
        good(*SIGN, "--attach", "sbom.json", "--embed-attachments", "--embed")
        (project / "sbom.json").unlink()

    def test_they_are_checked_with_the_envelope(self) -> None:
        release, unchecked = released()
        assert release["attachments"][0]["file"] == "build.bin.suit"
        assert "attachment" not in unchecked
        told = json.loads(good("show", "build.bin.suit", "--json"))["content"][0]
        assert [one["inside"] for one in told["attachments"]] == [True]

    def test_they_are_written_out(self, project: Path) -> None:
        (project / "out").mkdir()
        for _ in range(2):
            good("verify", "build.bin.suit", "--attachments", "out")
            assert tree(project / "out") == {"sbom.json": SPDX.encode()}

    def test_they_replace_nothing(self, project: Path) -> None:
        (project / "out").mkdir()
        (project / "out/sbom.json").write_text("mine")
        found = run("verify", "build.bin.suit", "--attachments", "out")
        refused(found, 5, "cannot write out/sbom.json: exists already")
        assert (project / "out/sbom.json").read_text() == "mine"

    def test_of_a_bad_envelope_nothing_is_written(self, project: Path) -> None:
        path = project / "build.bin.suit"
        old = decode_envelope(path.read_bytes())
        path.write_bytes(encode_envelope(old._replace(integrated={"#sbom.json": b"{}"})))
        (project / "out").mkdir()
        assert run("verify", "build.bin.suit", "--attachments", "out").status == 1
        assert not list((project / "out").iterdir())

    def test_one_given_is_judged_all_the_same(self, project: Path) -> None:
        (project / "sub").mkdir()
        (project / "sub/sbom.json").write_text("{}")
        assert run("verify", "build.bin.suit", "sub/sbom.json").status == 1

    def test_another_beside_does_not_matter(self, project: Path) -> None:
        (project / "sbom.json").write_text("{}")
        assert released()[0]["attachments"][0]["file"] == "build.bin.suit"

    def test_they_may_be_taken_out(self, project: Path) -> None:
        path = project / "build.bin.suit"
        old = decode_envelope(path.read_bytes())
        inside = {"#build.bin": PAYLOAD}
        path.write_bytes(encode_envelope(old._replace(integrated=inside)))
        release, unchecked = released()
        assert release["attachments"][0]["file"] is None
        assert "attachment" in unchecked

    def test_signing_again_changes_nothing(self, project: Path) -> None:
        (project / "sbom.json").write_text(SPDX)
        before = tree(project)
        good(*SIGN, "--attach", "sbom.json", "--embed-attachments", "--embed")
        assert tree(project) == before
        (project / "sbom.json").write_text(SPDX + "\n")
        found = run(*SIGN, "--attach", "sbom.json", "--embed-attachments", "--embed")
        assert "exists already, with another text" in found.errors[0]


def test_a_gateway_and_a_flasher_install_none(project: Path) -> None:
    good(*SIGN, "--attach", "sbom.json", "--embed-attachments")
    (project / "target").mkdir()
    where = ("--target-dir", "target", "--state", "state.db")
    device = ("--anchor", "pki/ca.crt", "--vendor", "acme.example", "--product", "gateway-x1")
    good("device", "init", *device, *where, "--config", "device.toml")
    good("install", "build.bin.suit", "--config", "device.toml")
    found = [one.name for one in (project / "target").rglob("*") if one.is_file()]
    assert "build.bin" in found
    assert "sbom.json" not in found


class TestSubjects:
    @pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
    def test_a_provenance_of_the_payload_is_attached(self, project: Path, algorithm: str) -> None:
        digest = hashlib.new(algorithm, PAYLOAD).hexdigest()
        (project / "slsa.json").write_text(provenance(digest, algorithm))
        found = run(*SIGN, "--attach", "slsa.json")
        assert (found.status, "is about other files" in found.err) == (0, False)

    @pytest.mark.parametrize(
        ("digest", "algorithm"), [("00" * 32, "sha256"), (DIGEST, "sha512"), ("00", "md5")]
    )
    def test_one_of_other_files_is_refused(
        self, project: Path, digest: str, algorithm: str
    ) -> None:
        (project / "slsa.json").write_text(provenance(digest, algorithm))
        before = tree(project)
        found = run(*SIGN, "--attach", "slsa.json")
        words = "slsa.json (SLSA provenance) is about other files: it names none of the payloads"
        hint = "attach that of this build; --accept attachment signs it all the same"
        refused(found, 4, words, hint)
        assert tree(project) == before
        found = run(*SIGN, "--attach", "slsa.json", "--accept", "attachment")
        assert (found.status, f"fwsign: warning: {words}\n" in found.err) == (0, True)

    def test_each_release_needs_one_of_its_payloads(self, project: Path) -> None:
        (project / "other.bin").write_bytes(b"other")
        found = run("sign", "build.bin", "other.bin", "--attach", "slsa.json")
        assert found.status == 4
        good("sign", "build.bin", "other.bin", "--attach", "slsa.json", "--output", "both.suit")

    def test_an_sbom_of_other_files_is_only_remarked(self, project: Path) -> None:
        hashes = [{"alg": "SHA-256", "content": "00" * 32}]
        bom = {"bomFormat": "CycloneDX", "specVersion": "1.6"}
        bom["metadata"] = {"component": {"hashes": hashes}}  # type: ignore[assignment]
        (project / "bom.json").write_text(json.dumps(bom))
        found = run(*SIGN, "--attach", "bom.json", "--json")
        (warning,) = [w for w in json.loads(found.out)["warnings"] if "bom.json" in w]
        words = "(SBOM, CycloneDX 1.6) is about other files: it names none of the payloads"
        assert warning == f"bom.json {words}"


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "status", "words"),
        [
            (b"", 5, "x.json is empty"),
            (b"hello", 5, "x.json is no document that fwsign recognises"),
            (b'{"a": 1, "a": 2}', 1, "x.json: a document with the key 'a' twice"),
        ],
    )
    def test_other_files_are_refused(
        self, project: Path, content: bytes, status: int, words: str
    ) -> None:
        (project / "x.json").write_bytes(content)
        before = tree(project)
        found = run(*SIGN, "--attach", "x.json")
        assert (found.status, found.errors[0], found.out) == (status, f"error: {words}", "")
        assert tree(project) == before

    def test_a_type_can_be_typed(self, project: Path) -> None:
        (project / "NEWS.md").write_text("# 2.4.1\n")
        good(*SIGN, "--attach", "text/markdown=NEWS.md")
        assert released()[0]["attachments"][0]["type"] == "text/markdown"

    def test_a_wrong_type_is_refused(self) -> None:
        found = run(*SIGN, "--attach", "text/plain=sbom.json")
        words = f"error: sbom.json is {TYPE}, not text/plain"
        assert (found.status, found.errors[0]) == (5, words)

    def test_a_file_whose_name_has_the_form_of_both(self, project: Path) -> None:
        (project / "text").mkdir()
        (project / "text/a=sbom.json").write_text(SPDX)
        found = run(*SIGN, "--attach", "text/a=sbom.json")
        words = 'error: the name "a=sbom.json" is not allowed for an attachment, expected 1 to 100'
        assert found.status == 2
        assert found.errors[0].startswith(words)

    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (("--attach", "absent.json"), 5, "cannot read absent.json: no such file or directory"),
            (
                ("--attach", "sbom.json", "--attach", "sbom.json"),
                2,
                "--attach: 'sbom.json' twice, expected names that differ in more than case",
            ),
            (("--embed-attachments",), 2, "--embed-attachments without --attach"),
            (("--attach", "a/b=build.bin"), 5, "'build.bin' twice, expected names that differ"),
        ],
    )
    def test_arguments(self, arguments: tuple[str, ...], status: int, words: str) -> None:
        found = run(*SIGN, *arguments)
        assert (found.status, found.out) == (status, "")
        assert words in found.errors[0]

    def test_several_envelopes_write_none(self) -> None:
        good(*SIGN)
        found = run("verify", "build.bin.suit", "build.bin.suit", "--attachments", ".")
        refused(found, 2, "--attachments with several envelopes", "verify them one by one")

    def test_a_release_without_any(self) -> None:
        good(*SIGN)
        found = run("verify", "build.bin.suit", "--attachments", ".")
        assert (found.status, found.errors[0]) == (5, "error: the release has no attachments")

    def test_a_text_that_was_cut_off_does_not_say_that_there_were_none(self, project: Path) -> None:
        good(*SIGN, "--attach", "sbom.json")
        path = project / "build.bin.suit"
        path.write_bytes(encode_envelope(decode_envelope(path.read_bytes())._replace(text=None)))
        found = run("verify", "build.bin.suit", "--attachments", ".")
        words = "the text was cut off, which names the attachments if there are any"
        refused(found, 5, words, "ask for the envelope as it was signed")


def test_a_dry_run_and_json_name_them(project: Path) -> None:
    before = tree(project)
    told = good(*SIGN, "--attach", "sbom.json", "--dry-run")
    assert f"  attachment sbom.json, {TYPE}, {len(SPDX)} bytes\n" in told
    assert tree(project) == before
    (one,) = json.loads(good(*SIGN, "--attach", "sbom.json", "--json"))["envelopes"]
    assert [(a["name"], a["type"]) for a in one["attachments"]] == [("sbom.json", TYPE)]
