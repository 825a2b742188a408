"""With --json there is exactly one object on standard output, whatever happens."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.kit import Result, run
from fwsign.verify.verifier import Verifier

REFUSED = [
    "verdict",
    "code",
    "step",
    "message",
    "expected",
    "found",
    "hint",
    "unchecked",
    "release",
]


def one_object(found: Result) -> Any:
    """Parse standard output, which has to be one object of the keys that it always has."""
    parsed = json.loads(found.out)
    assert list(parsed) == REFUSED
    assert found.out.isascii()
    return parsed


def refusal(found: Result, status: int, code: str) -> Any:
    parsed = one_object(found)
    assert (found.status, parsed["verdict"], parsed["code"]) == (status, "refused", code)
    assert (parsed["unchecked"], parsed["release"]) == ([], None)
    hints = [f"hint: {parsed['hint']}"] if parsed["hint"] else []
    assert found.errors == [f"error: {parsed['message']}", *hints]
    return parsed


@pytest.mark.usefixtures("signed")
class TestVerify:
    def test_verified(self) -> None:
        found = run("verify", "build.bin.suit", "--json")
        parsed = one_object(found)
        assert (found.status, found.err, parsed["verdict"]) == (0, "", "verified")
        assert [parsed[key] for key in REFUSED[1:7]] == [None] * 6
        assert parsed["unchecked"] == ["rollback"]
        assert list(parsed["release"]) == [
            "manifest_digest",
            "vendor",
            "product",
            "version",
            "sequence_number",
            "class",
            "advisories",
            "support_until",
            "description",
            "use_before",
            "judged_at",
            "components",
            "attachments",
            "signers",
            "policy",
            "anchors",
            "notes",
        ]

    def test_tampered(self, tmp_path: Path) -> None:
        (tmp_path / "build.bin").write_bytes(b"")
        parsed = refusal(run("verify", "build.bin.suit", "--json"), 1, "tampered.payload-size")
        assert (parsed["step"], parsed["expected"], parsed["found"]) == (10, "800 bytes", "0 bytes")

    def test_malformed(self) -> None:
        parsed = refusal(run("verify", "build.bin", "--json"), 1, "malformed.cbor")
        assert parsed["step"] == 1

    def test_stale(self) -> None:
        arguments = ("verify", "build.bin.suit", "--at", "2029-01-01T00:00:00Z", "--json")
        refusal(run(*arguments), 3, "stale.certificate")

    def test_unsuitable(self) -> None:
        arguments = ("verify", "--json", "build.bin.suit", "--product", "x2")
        parsed = refusal(run(*arguments), 4, "unsuitable.product")
        assert (parsed["expected"], parsed["found"]) == ("x2", "gateway-x1")

    def test_missing_file(self) -> None:
        refusal(run("verify", "absent", "--json"), 5, "io.missing")

    def test_missing_payload(self, tmp_path: Path) -> None:
        (tmp_path / "build.bin").unlink()
        refusal(run("verify", "build.bin.suit", "--json"), 5, "io.payload-missing")

    def test_mistake_in_fwsign_toml(self, tmp_path: Path) -> None:
        (tmp_path / "fwsign.toml").write_text("x = 1\n")
        refusal(run("verify", "build.bin.suit", "--json"), 5, "io.config")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("verify", "--json"),
            ("verify", "build.bin.suit", "--json", "--nope"),
            ("verify", "build.bin.suit", "--json", "--require", "x"),
            ("verify", "build.bin.suit", "--json", "--at", "soon"),
            ("verify", "build.bin.suit", "--json", "--profile", "x"),
            ("verify", "build.bin.suit", "--json", "pki/ca.crt"),
            ("sign", "build.bin", "--json", "--output", "-"),
            ("nope", "--json"),
            ("--json",),
            ("verify", "a\0b", "--json"),
        ],
    )
    def test_usage(self, arguments: tuple[str, ...]) -> None:
        refusal(run(*arguments), 2, "usage")

    def test_internal_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("no\x1b[2J way")

        monkeypatch.setattr(Verifier, "verify", broken)
        found = run("verify", "build.bin.suit", "--json")
        parsed = json.loads(found.out)
        assert (found.status, parsed["code"]) == (70, "internal")
        assert found.err == (
            "fwsign: error: internal error: RuntimeError: no\\x1b[2J way\n"
            "fwsign: hint: please report this; FWSIGN_DEBUG=1 shows where it came from\n"
        )
        debug = run("verify", "build.bin.suit", env={"FWSIGN_DEBUG": "1"})
        assert "Traceback (most recent call last)" in debug.err

    def test_interrupted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Verifier, "verify", interrupted)
        refusal(run("verify", "build.bin.suit", "--json"), 130, "interrupted")

    def test_a_file_called_like_the_option_asks_for_nothing(self) -> None:
        found = run("verify", "--", "--json")
        assert (found.status, found.out) == (5, "")


class TestShow:
    def test_content(self, signed: Path) -> None:
        for name in ("build.bin.suit", "build.bin", "pki/ca.crt", "pki/private/ca.key"):
            found = run("show", signed / name, "--json")
            parsed = json.loads(found.out)
            assert (found.status, parsed["file"]) == (0, f"{signed}/{name}")
            assert parsed["content"][0]["kind"]

    def test_refusals(self, tmp_path: Path) -> None:
        refusal(run("show", "absent", "--json"), 5, "io.missing")
        refusal(run("show", tmp_path, "--json"), 5, "io.directory")
        (tmp_path / "x.suit").write_bytes(b"\xd8\x6b\xa0")
        refusal(run("show", "x.suit", "--json"), 1, "malformed.envelope")
