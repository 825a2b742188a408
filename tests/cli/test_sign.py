"""`fwsign sign`: whose key, which files, and what the envelope says of them."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run, tree
from fwsign.cli import inputs
from fwsign.keys import ALGORITHMS
from support import DAY, NOW, PAYLOAD

SEQUENCE = int(NOW.timestamp())


def release(envelope: object = "build.bin.suit", *more: object) -> Any:
    """What `fwsign verify --json` says of an envelope."""
    return json.loads(good("verify", envelope, "--json", *more))["release"]


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_algorithm_signs(tmp_path: Path, alg: str) -> None:
    good(
        "pki", "init", "pki", "--org", "A", "--vendor", "a.example", "--no-passphrase", "--alg", alg
    )
    (tmp_path / "x.bin").write_bytes(PAYLOAD)
    good("sign", "x.bin", "--pki", "pki", "--product", "x1")
    found = release("x.bin.suit", "--anchor", "pki/ca.crt")
    names = {
        "p256": "ESP256",
        "p384": "ESP384",
        "ed25519": "Ed25519",
        "rsa3072": "PS256",
        "rsa4096": "PS256",
        "ml-dsa-65": "ML-DSA-65",
        "ml-dsa-87": "ML-DSA-87",
    }
    assert found["signers"][0]["algorithm"] == names[alg]


@pytest.mark.parametrize("alg", ["p256", "ed25519"])
def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alg: str
) -> None:
    good("init", ".", "--org", "A", "--vendor", "a.example", "--no-passphrase", "--alg", alg)
    (tmp_path / "x.bin").write_bytes(PAYLOAD)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    good("sign", "x.bin")
    first = (tmp_path / "x.bin.suit").read_bytes()
    monkeypatch.setattr(inputs, "now", lambda: NOW + DAY)
    good("sign", "x.bin", "--force")
    assert (tmp_path / "x.bin.suit").read_bytes() == first
    assert release("x.bin.suit")["sequence_number"] == 1700000000


@pytest.mark.usefixtures("project")
class TestNumbers:
    def test_sequence_is_taken_before_source_date_epoch(self) -> None:
        good("sign", "build.bin", "--sequence", 7, env={"SOURCE_DATE_EPOCH": "1700000000"})
        assert release()["sequence_number"] == 7

    def test_a_sequence_more_than_a_day_ahead_needs_force(self) -> None:
        ahead = SEQUENCE + 86401
        refused(
            run("sign", "build.bin", "--sequence", ahead),
            2,
            f"sequence number {ahead} is more than a day ahead of the time, {SEQUENCE}",
            "devices would refuse what you sign until then; --force if you mean it",
        )
        good("sign", "build.bin", "--sequence", ahead, "--force")
        assert release()["sequence_number"] == ahead

    def test_a_day_ahead_is_fine(self) -> None:
        good("sign", "build.bin", "--sequence", SEQUENCE + 86400)

    @pytest.mark.parametrize("number", [-1, 2**53])
    def test_a_sequence_out_of_range_is_refused(self, number: int) -> None:
        refused(
            run("sign", "build.bin", f"--sequence={number}", "--force"),
            2,
            f"sequence number {number}, expected 0 to {2**53 - 1}",
            "fwsign sign --help shows how",
        )

    @pytest.mark.parametrize("version", ["9" * 70_000, "\u20ac" * 86])
    def test_a_version_that_no_receipt_could_hold_is_refused(self, version: str) -> None:
        refused(
            run("sign", "build.bin", "--version", version),
            2,
            f"a version of {len(version.encode())} bytes, at most 256 are allowed",
            "fwsign sign --help shows how",
        )
        good("sign", "build.bin", "--version", version[:85])
        assert release()["version"] == version[:85]

    def test_a_sequence_that_is_no_number_is_refused(self) -> None:
        found = run("sign", "build.bin", "--sequence", "1.5")
        assert found.status == 2
        assert '"1.5" is not a whole number' in found.err

    @pytest.mark.parametrize("epoch", ["yesterday", "-1", "9" * 5000, "1e9"])
    def test_a_wrong_source_date_epoch_is_refused(self, epoch: str) -> None:
        refused(
            run("sign", "build.bin", env={"SOURCE_DATE_EPOCH": epoch}),
            2,
            f'SOURCE_DATE_EPOCH is "{epoch[:40]}", expected seconds since 1970',
            "set it right, or unset it: unset SOURCE_DATE_EPOCH; --sequence goes before it",
        )

    def test_not_after_as_a_span_and_as_a_time(self) -> None:
        good("sign", "build.bin", "--not-after", "90d")
        assert release()["use_before"] == (NOW + timedelta(90)).isoformat()
        good("sign", "build.bin", "--force", "--not-after", "2027-01-01T00:00:00+01:00")
        assert release()["use_before"] == "2026-12-31T23:00:00+00:00"
        assert "  use before 2026-12-31T23:00:00+00:00\n" in good("verify", "build.bin.suit")

    @pytest.mark.parametrize("time", ["0d", "2026-11-22T12:00:00Z", "2020-01-01T00:00:00Z"])
    def test_not_after_in_the_past_is_refused(self, time: str) -> None:
        refused(
            run("sign", "build.bin", "--not-after", time),
            2,
            f"--not-after {time} is in the past: it is 2026-11-22T12:00:00+00:00",
            "fwsign sign --help shows how",
        )

    @pytest.mark.parametrize(
        ("time", "error", "hint"),
        [
            ("soon", "is not a time", "write 2026-11-22T12:00:00Z, or 30min, 12h, 90d, 4w, 2y"),
            ("99999y", "is out of range", "times are in the years 1 to 9999"),
            ("2027-01-01", "has no time zone", "write 2027-01-01T00:00:00Z if it is UTC"),
        ],
    )
    def test_a_time_that_cannot_be_is_refused(self, time: str, error: str, hint: str) -> None:
        refused(run("sign", "build.bin", "--not-after", time), 2, f'"{time}" {error}', hint)


@pytest.mark.usefixtures("project")
class TestWords:
    def test_version_and_description_are_signed(self) -> None:
        good("sign", "build.bin", "--version", "2.4.1-rc.3", "--description", "fixes Bluetooth")
        found = release()
        assert (found["version"], found["description"]) == ("2.4.1-rc.3", "fixes Bluetooth")
        assert "  release    gateway-x1 2.4.1-rc.3, acme.example" in good(
            "verify", "build.bin.suit"
        )

    @pytest.mark.parametrize("option", ["--version", "--description"])
    @pytest.mark.parametrize("text", ["", "a\nb", "\x1b[2J", "\udcff"])
    def test_text_that_cannot_be_shown_is_refused(self, option: str, text: str) -> None:
        found = run("sign", "build.bin", option, text)
        assert found.status == 2
        assert found.errors[0].endswith("is not a line of printable text")
        assert "\x1b" not in found.err

    def test_vendor_and_product_of_the_command_line_come_first(self) -> None:
        good("sign", "build.bin", "--vendor", "acme.example", "--product", "other")
        assert release("build.bin.suit", "--product", "other")["product"] == "other"

    @pytest.mark.parametrize("option", ["--vendor", "--product"])
    def test_a_name_that_cannot_be_is_a_usage_error(self, option: str) -> None:
        found = run("sign", "build.bin", option, "My Board")
        assert found.status == 2
        assert found.errors[0].startswith(f'error: {option[2:]} "My Board" is not')

    def test_a_vendor_that_the_signer_may_not_sign_for_is_refused(self, project: Path) -> None:
        refused(
            run("sign", "build.bin", "--vendor", "other.example"),
            1,
            '"release" may sign for acme.example, the manifest is for other.example',
            "issue one: fwsign pki issue signer NAME --vendor DOMAIN",
        )
        assert not (project / "build.bin.suit").exists()

    def test_without_a_product_there_is_no_release(self, project: Path) -> None:
        (project / "fwsign.toml").write_text('pki = "pki"\n')
        refused(
            run("sign", "build.bin"),
            2,
            "no product given",
            "name it with --product NAME, or in fwsign.toml, which fwsign init makes",
        )

    def test_the_vendor_is_the_signers_only_domain(self, project: Path) -> None:
        (project / "fwsign.toml").unlink()
        good("sign", "build.bin", "--pki", "pki", "--product", "x1")
        assert release("build.bin.suit", "--anchor", "pki/ca.crt")["vendor"] == "acme.example"

    def test_of_several_domains_one_must_be_chosen(self, project: Path) -> None:
        vendors = ("--vendor", "a.acme.example", "--vendor", "b.acme.example")
        good("pki", "issue", "signer", "two", "--no-passphrase", *vendors)
        (project / "fwsign.toml").unlink()
        arguments = ("sign", "build.bin", "--pki", "pki", "--product", "x1", "--signer", "two")
        refused(
            run(*arguments),
            2,
            "the signer's certificate names a.acme.example, b.acme.example",
            "say which with --vendor DOMAIN",
        )
        good(*arguments, "--vendor", "b.acme.example")


class TestSeveral:
    @pytest.fixture(autouse=True)
    def _files(self, project: Path) -> None:
        (project / "app.bin").write_bytes(b"application")
        (project / "web.tar").write_bytes(b"pages")

    def test_each_file_gets_its_own_envelope(self) -> None:
        assert run("sign", "app.bin", "web.tar") == (
            0,
            "app.bin.suit\nweb.tar.suit\n",
            """\
fwsign: app.bin: 11 bytes, payload app.bin
fwsign: web.tar: 5 bytes, payload web.tar
fwsign: next: fwsign verify app.bin.suit
""",
        )
        numbers = {release(f"{name}.suit")["sequence_number"] for name in ("app.bin", "web.tar")}
        assert numbers == {SEQUENCE}

    def test_output_makes_them_components_of_one_release(self) -> None:
        assert good("sign", "app.bin", "web.tar", "--output", "all.suit") == "all.suit\n"
        names = [component["name"] for component in release("all.suit")["components"]]
        assert names == ["app.bin", "web.tar"]

    def test_output_elsewhere_names_the_payloads_in_what_comes_next(self, project: Path) -> None:
        (project / "out").mkdir()
        found = run("sign", "app.bin", "--output", "out/all.suit")
        assert "next: fwsign verify out/all.suit app.bin\n" in found.err
        good("verify", "out/all.suit", "app.bin")

    @pytest.mark.parametrize("where", ["", "out/"])
    def test_of_several_a_renamed_one_is_to_be_copied_before_it_verifies(
        self, where: str, project: Path
    ) -> None:
        (project / "out").mkdir()
        (project / "my app.bin").write_bytes(b"firmware")
        names = ("--name", "my app.bin=app2.bin")
        found = run("sign", "my app.bin", "app.bin", *names, "--output", f"{where}all.suit")
        other = ("app.bin",) if where else ()
        assert found.err.endswith(
            f"fwsign: my app.bin is looked for as {where}app2.bin: copy it there\n"
            f"fwsign: next: fwsign verify {' '.join((f'{where}all.suit', *other))}\n"
        )
        assert run("verify", f"{where}all.suit", *other).status == 5
        (project / "my app.bin").rename(project / f"{where}app2.bin")
        good("verify", f"{where}all.suit", *other)

    def test_the_same_file_twice_is_refused(self, project: Path) -> None:
        other = os.path.join("..", project.name, "app.bin")  # noqa: PTH118 - Path would lose ..
        refused(
            run("sign", "app.bin", other),
            2,
            f"app.bin and {other} are the same file",
            "give each once",
        )

    def test_names_that_differ_in_case_alone_are_refused_in_one_release(
        self, project: Path
    ) -> None:
        (project / "more").mkdir()
        (project / "more/APP.bin").write_bytes(b"other")
        refused(
            run("sign", "app.bin", "more/APP.bin", "--output", "all.suit"),
            2,
            "app.bin and more/APP.bin have the same name",
            "--name FILE=NAME gives one another name",
        )
        good("sign", "app.bin", "more/APP.bin", "--name", "APP.bin=b.bin", "-o", "all.suit")
        assert [
            one["name"] for one in release("all.suit", "app.bin", "--manifest-only")["components"]
        ] == ["app.bin", "b.bin"]
        good("sign", "app.bin", "more/APP.bin")

    def test_a_file_that_is_missing_leaves_no_envelope_of_the_others(self, project: Path) -> None:
        before = tree(project)
        refused(
            run("sign", "app.bin", "absent", "web.tar"),
            5,
            "cannot read absent: no such file or directory",
        )
        assert tree(project) == before


class TestEmptyFiles:
    """What a failed build leaves behind."""

    def test_they_are_refused(self, project: Path) -> None:
        (project / "empty.bin").write_bytes(b"")
        before = tree(project)
        for names in (("empty.bin",), ("build.bin", "empty.bin", "--output", "all.suit")):
            refused(
                run("sign", *names),
                5,
                "empty.bin is empty",
                "did the build fail? --allow-empty signs it all the same",
            )
        assert run("sign", "empty.bin", "--force").status == 5
        assert tree(project) == before

    def test_they_can_be_meant(self, project: Path) -> None:
        (project / "empty.bin").write_bytes(b"")
        good("sign", "empty.bin", "--allow-empty")
        assert "empty.bin, 0 bytes" in good("verify", "empty.bin.suit")


def test_a_sequence_number_below_that_of_what_is_replaced_is_told(project: Path) -> None:
    del project
    good("sign", "build.bin", "--sequence", "7")
    line = (
        "fwsign: warning: build.bin.suit had sequence number 7, now 6: "
        "devices that have seen the old one refuse it\n"
    )
    for number, told in (("7", False), ("6", True), ("8", False)):
        found = run("sign", "build.bin", "--sequence", number, "--force")
        assert (found.status, line in found.err, "warning" in found.err) == (0, told, told)


NOTICE = (
    *("--class", "security", "--advisory", "CVE-2026-1234", "--advisory", "ACME:7"),
    *("--support-until", "2031-12-31"),
)


def test_a_notice_is_signed_and_shown(project: Path) -> None:
    words = "notice     security release (CVE-2026-1234, ACME:7), supported until 2031-12-31"
    assert f"  {words}" in good("sign", "build.bin", *NOTICE, "--dry-run").splitlines()
    good("sign", "build.bin", *NOTICE)
    assert f"  {words}" in good("verify", "build.bin.suit").splitlines()
    said = {
        "class": "security",
        "advisories": ["CVE-2026-1234", "ACME:7"],
        "support_until": "2031-12-31",
    }
    release = json.loads(good("verify", "build.bin.suit", "--json"))["release"]
    assert {name: release[name] for name in said} == said
    (shown,) = json.loads(good("show", "build.bin.suit", "--json"))["content"]
    assert shown["class"] == "security"
    assert shown["advisories"] == said["advisories"]
    assert shown["support until"] == "2031-12-31"
    del project


def test_a_release_without_notice_says_so(signed: Path) -> None:
    release = json.loads(good("verify", "build.bin.suit", "--json"))["release"]
    assert (release["class"], release["advisories"], release["support_until"]) == (None, [], None)
    assert "notice" not in good("verify", "build.bin.suit")
    del signed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--class", "urgent"), "class 'urgent', expected security or feature"),
        (("--advisory", "CVE-1"), "advisories in a release of class none, expected security"),
        (("--class", "security", "--advisory", "a b"), "advisory 'a b', expected at most 64 of"),
        (("--support-until", "5y"), "end of support '5y', expected a date as 2031-12-31"),
    ],
)
def test_a_notice_that_no_device_accepts_is_a_usage_error(
    project: Path, given: tuple[str, ...], words: str
) -> None:
    found = run("sign", "build.bin", *given)
    assert found.status == 2
    assert found.errors[0].startswith(f"error: {words}")
    assert found.errors[1] == "hint: as in: --class security --advisory CVE-2026-1234"
    assert not (project / "build.bin.suit").exists()
