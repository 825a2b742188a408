"""`fwsign sign --native`: the signature for the chip, made before the manifest over its result."""

import json
from pathlib import Path
from typing import Any

import pytest

from bao_kit import Bao
from cli.kit import environment, good, program, refused, run, tree
from fwsign import files as atomic
from fwsign.format.envelope import decode_envelope, encode_envelope
from fwsign.format.suit import decode_manifest
from fwsign.format.text import decode_text, encode_text
from fwsign.keys.file import FileSigner, load_private_key
from images_kit import FACTORY, boot, laid_out, table
from native_kit import (
    app,
    espsecure_digest,
    espsecure_sign,
    espsecure_verifies,
    key_file,
)
from picobin_kit import unsealed
from softhsm_kit import SoftHsm
from support import require_package

KIND = "esp-secure-boot-v2"
ESP = ("--native", KIND)


@pytest.fixture
def esp(project: Path) -> Path:
    """A project with an application for an ESP32-C6, and two keys of its chips."""
    (project / "app.bin").write_bytes(app(secure_version=7))
    for name in ("p256", "p256 other"):
        key_file(project, name)
    return project


def sign(*more: object) -> Any:
    return run("sign", "app.bin", "--sequence", "7", *ESP, *more)


def with_settings(project: Path, lines: str) -> None:
    path = project / "fwsign.toml"
    path.write_text(path.read_text() + f"[native]\n{lines}\n")


def cut_text_off(envelope: Path) -> None:
    """Take away the text, as anyone may on the way, and with it what it states."""
    found = decode_envelope(envelope.read_bytes())
    envelope.write_bytes(encode_envelope(found._replace(text=None)))


def component(*arguments: object) -> Any:
    """What `verify --json` says of the only component."""
    (one,) = json.loads(good("verify", *arguments, "--json"))["release"]["components"]
    return one


class TestWithAKey:
    def test_the_signed_image_is_a_new_file_and_the_release_is_of_it(self, esp: Path) -> None:
        before = (esp / "app.bin").read_bytes()
        found = sign("--native-key", "p256.key")
        assert (found.status, found.out) == (0, "app.signed.bin.suit\n")
        assert (esp / "app.bin").read_bytes() == before
        image = (esp / "app.signed.bin").read_bytes()
        assert espsecure_verifies(image, "p256")
        digest = espsecure_digest("p256", esp).hex()
        assert f"app.signed.bin: app.bin with a native signature, {KIND}" in found.err
        assert f"native key {digest}, ECDSA P-256" in found.err
        one = component("app.signed.bin.suit")
        assert one["uri"] == "app.signed.bin"
        assert one["native"] == {"kind": KIND, "security_version": 7, "key_digests": [digest]}

    def test_verify_and_show_say_it(self, esp: Path) -> None:
        sign("--native-key", "p256.key")
        digest = espsecure_digest("p256", esp).hex()
        words = f"  native     {KIND}, security version 7, by {digest[:16]}...\n"
        assert words in good("verify", "app.signed.bin.suit")
        shown = json.loads(good("show", "app.signed.bin.suit", "--json"))["content"][0]
        assert shown["components"][0]["native signature"] == {
            "kind": KIND,
            "security version": 7,
            "key digests": [digest],
            "in the image": "the same",
        }
        image = json.loads(good("show", "app.signed.bin", "--json"))["content"][0]
        assert image["native signature"] == KIND
        assert (image["security version"], image["native keys"]) == (7, [f"{digest} ECDSA P-256"])

    def test_show_compares_with_the_image_that_is_there(self, esp: Path) -> None:
        sign("--native-key", "p256.key")

        def compared() -> str:
            shown = json.loads(good("show", "app.signed.bin.suit", "--json"))["content"][0]
            return str(shown["components"][0]["native signature"]["in the image"])

        image = esp / "app.signed.bin"
        signed = image.read_bytes()
        image.write_bytes(bytes([signed[0] ^ 1]) + signed[1:])
        assert compared() == "not compared: the image here is not the one that was signed"
        image.unlink()
        assert compared() == "not compared: the image is not here"

    def test_show_says_where_a_statement_and_its_image_differ(self, esp: Path) -> None:
        sign("--native-key", "p256.key")
        envelope = esp / "app.signed.bin.suit"
        found = decode_envelope(envelope.read_bytes())
        manifest = decode_manifest(found.manifest)
        text = decode_text(found.text or b"", manifest)
        (stated,) = text.native
        assert stated is not None
        wrong = text._replace(native=(stated._replace(security_version=8),))
        changed = encode_text(wrong, manifest.components)
        envelope.write_bytes(encode_envelope(found._replace(text=changed)))
        shown = json.loads(good("show", "app.signed.bin.suit", "--json"))["content"][0]
        words = shown["components"][0]["native signature"]["in the image"]
        assert (
            words == "differs: esp32c6@0x10000: expected security version 8, found 7 in the image"
        )

    def test_programs_are_told(self, esp: Path) -> None:
        told = json.loads(sign("--native-key", "p256.key", "--json").out)["envelopes"][0]
        digest = espsecure_digest("p256", esp).hex()
        assert told["components"][0]["native"]["key_digests"] == [digest]

    def test_three_keys_sign(self, esp: Path) -> None:
        key_file(esp, "p256 third")
        keys = ("p256.key", "p256-other.key", "file:p256-third.key")
        assert sign(*(word for key in keys for word in ("--native-key", key))).status == 0
        image = (esp / "app.signed.bin").read_bytes()
        assert all(espsecure_verifies(image, one) for one in ("p256", "p256 other", "p256 third"))
        assert len(component("app.signed.bin.suit")["native"]["key_digests"]) == 3

    def test_a_block_is_added_to_those_of_others(self, esp: Path) -> None:
        (esp / "app.bin").write_bytes(espsecure_sign(app(), "p256", folder=esp))
        assert sign("--native-key", "p256-other.key").status == 0
        image = (esp / "app.signed.bin").read_bytes()
        assert all(espsecure_verifies(image, one) for one in ("p256", "p256 other"))

    def test_another_place_for_the_image(self, esp: Path) -> None:
        (esp / "out").mkdir()
        found = sign("--native-key", "p256.key", "--native-output", "out/lamp.bin")
        assert (found.status, found.out) == (0, "out/lamp.bin.suit\n")
        assert espsecure_verifies((esp / "out/lamp.bin").read_bytes(), "p256")
        good("verify", "out/lamp.bin.suit")

    def test_images_of_a_release_are_signed_and_other_files_are_not(self, esp: Path) -> None:
        (esp / "boot.bin").write_bytes(boot("esp32c6"))
        (esp / "table.bin").write_bytes(table(*FACTORY))
        names = ("app.bin", "boot.bin", "table.bin", "build.bin")
        good("sign", *names, "-o", "all.suit", *ESP, "--native-key", "p256.key")
        found = json.loads(good("verify", "all.suit", "--json"))["release"]["components"]
        stated = {one["name"]: one.get("native", {}).get("security_version") for one in found}
        assert stated == {
            "esp32c6@0x10000": 7,
            "esp32c6@0x0": None,
            "esp32c6@0x8000": None,
            "build.bin": None,
        }
        assert [one["uri"] for one in found if "native" in one] == [
            "app.signed.bin",
            "boot.signed.bin",
        ]
        assert not (esp / "table.signed.bin").exists()

    @pytest.mark.usefixtures("esp")
    def test_target_and_name_are_typed_for_the_given_file(self) -> None:
        places = ("--target", "app.bin=esp32c6@0x20000", "--name", "app.bin=lamp.bin")
        assert sign("--native-key", "p256.key", *places).status == 0
        one = component("app.signed.bin.suit", "app.signed.bin")
        assert (one["name"], one["uri"]) == ("esp32c6@0x20000", "lamp.bin")

    def test_it_is_logged(self, esp: Path) -> None:
        sign("--native-key", "p256.key")
        log = [json.loads(one) for one in (esp / "pki/log.jsonl").read_text().splitlines()]
        kinds = [one.get("kind") or one.get("event") or one.get("what") for one in log]
        (line,) = [one for one in log if "native" in json.dumps(one) and KIND in json.dumps(one)]
        assert "p256.key" in json.dumps(line)
        assert espsecure_digest("p256", esp).hex() in json.dumps(line)
        assert kinds


class TestAgain:
    def test_the_same_changes_nothing(self, esp: Path) -> None:
        key_file(esp, "rsa3072")  # whose signatures are random
        assert sign("--native-key", "rsa3072.key").status == 0
        before = {name: one for name, one in tree(esp).items() if not name.endswith(".jsonl")}
        found = sign("--native-key", "rsa3072.key")
        assert found.status == 0
        assert "app.signed.bin unchanged: it is signed by the same keys already" in found.err
        assert {name: one for name, one in tree(esp).items() if name in before} == before

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda esp: (esp / "app.bin").write_bytes(app(code=600)), "with another image"),
            (lambda esp: (esp / "p256.key").rename(esp / "old.key"), "signed by other keys"),
            (
                lambda esp: (esp / "app.signed.bin").write_bytes(b"mine"),
                "with another image",
            ),
        ],
    )
    def test_another_file_is_not_replaced(self, change: Any, why: str, esp: Path) -> None:
        assert sign("--native-key", "p256.key").status == 0
        change(esp)
        key = "p256.key" if (esp / "p256.key").exists() else "p256-other.key"
        before = (esp / "app.signed.bin").read_bytes()
        refused(
            sign("--native-key", key),
            5,
            f"app.signed.bin exists already, {why}",
            "--force replaces images that fwsign signed natively",
        )
        assert (esp / "app.signed.bin").read_bytes() == before

    def test_force_replaces_what_is_signed_natively(self, esp: Path) -> None:
        assert sign("--native-key", "p256.key").status == 0
        assert sign("--native-key", "p256-other.key", "--force").status == 0
        assert espsecure_verifies((esp / "app.signed.bin").read_bytes(), "p256 other")

    def test_force_replaces_nothing_else(self, esp: Path) -> None:
        (esp / "app.signed.bin").write_bytes(b"mine")
        refused(
            sign("--native-key", "p256.key", "--force"),
            5,
            "app.signed.bin exists already and is no image with a native signature",
            "choose another name, or remove it yourself",
        )
        assert (esp / "app.signed.bin").read_bytes() == b"mine"

    def test_a_failing_disk_leaves_no_half_image(
        self, esp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(atomic, "_give_name", fail)
        assert sign("--native-key", "p256.key").status == 5
        assert not [one for one in tree(esp) if one.startswith("app.signed")]

    def test_a_dry_run_opens_no_key_and_writes_nothing(self, esp: Path) -> None:
        (esp / "p256.key").write_text("nothing that could be opened")
        before = tree(esp)
        found = sign("--native-key", "p256.key", "--dry-run")
        assert found.status == 0
        assert "the digest is that before the native signature, which would be in app." in found.err
        assert tree(esp) == before


class TestWithoutAKey:
    """ESP-IDF has signed it."""

    def test_what_others_signed_is_checked_and_stated(self, esp: Path) -> None:
        (esp / "app.bin").write_bytes(espsecure_sign(app(), "p256", folder=esp))
        before = (esp / "app.bin").read_bytes()
        found = sign()
        assert (found.status, found.out) == (0, "app.bin.suit\n")
        assert (esp / "app.bin").read_bytes() == before
        assert component("app.bin.suit")["native"]["security_version"] == 7

    def test_an_image_that_nobody_signed_is_refused(self, esp: Path) -> None:
        refused(
            sign(),
            1,
            f"app.bin: expected a native signature {KIND} in the image, found none",
            "--native-key URI names the key to sign with",
        )
        assert not (esp / "app.bin.suit").exists()

    def test_a_wrong_signature_is_refused(self, esp: Path) -> None:
        image = bytearray(espsecure_sign(app(), "p256", "p256 other", folder=esp))
        image[-4096 + 110] ^= 1
        (esp / "app.bin").write_bytes(image)
        for found in (sign(), run("sign", "app.bin")):  # stated or not
            assert found.status == 1
            assert f"error: app.bin: {KIND}: crc of signature 0: expected 0x" in found.err
            assert "hint: it was changed after it was signed for its chip; sign it" in found.err
            assert not (esp / "app.bin.suit").exists()

    def test_without_native_the_release_says_nothing(self, esp: Path) -> None:
        (esp / "app.bin").write_bytes(espsecure_sign(app(), "p256", folder=esp))
        good("sign", "app.bin")
        assert "native" not in component("app.bin.suit")


class TestSettings:
    def test_fwsign_toml_says_all(self, esp: Path) -> None:
        digest = espsecure_digest("p256", esp).hex()
        with_settings(
            esp,
            f'kind = "{KIND}"\nkeys = ["p256.key"]\nsecurity_version = 7\n'
            f'key_digests = ["{digest}", "{"0" * 64}"]',
        )
        good("sign", "app.bin")
        assert component("app.signed.bin.suit")["native"]["key_digests"] == [digest]

    def test_keys_are_found_from_below(self, esp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with_settings(esp, f'kind = "{KIND}"\nkeys = ["p256.key"]')
        (esp / "below").mkdir()
        monkeypatch.chdir(esp / "below")
        good("sign", "../app.bin")
        assert (esp / "app.signed.bin").exists()

    @pytest.mark.parametrize("how", ["toml", "option"])
    @pytest.mark.parametrize("stated", [6, 8])
    def test_another_security_version_is_refused(self, how: str, stated: int, esp: Path) -> None:
        more: tuple[object, ...] = ()
        if how == "toml":
            with_settings(esp, f'kind = "{KIND}"\nsecurity_version = {stated}')
        else:
            more = ("--security-version", stated)
        refused(
            sign("--native-key", "p256.key", *more),
            4,
            f"{KIND}: expected security version {stated}, found 7 in the application",
            f"build it with CONFIG_BOOTLOADER_APP_SECURE_VERSION={stated}",
        )
        assert not (esp / "app.signed.bin").exists()
        (esp / "app.bin").write_bytes(espsecure_sign(app(), "p256", folder=esp))
        found = sign(*more)  # signed by others
        assert found.status == 4
        assert f"app.bin: expected security version {stated}, found 7 in the image" in found.err

    def test_an_unexpected_key_is_refused_when_signing(self, esp: Path) -> None:
        with_settings(esp, f'kind = "{KIND}"\nkey_digests = ["{"0" * 64}"]')
        found = sign("--native-key", "p256.key")
        assert found.status == 1
        digest = espsecure_digest("p256", esp).hex()
        words = f"by a key that is not expected: expected {'0' * 64}, found {digest}"
        assert words in found.err
        assert not (esp / "app.signed.bin").exists()

    @pytest.mark.parametrize("stated", [True, False])
    def test_an_unexpected_key_is_refused_when_verifying(self, stated: bool, esp: Path) -> None:
        if stated:
            sign("--native-key", "p256.key")
            envelope = "app.signed.bin.suit"
        else:
            (esp / "app.bin").write_bytes(espsecure_sign(app(), "p256", folder=esp))
            good("sign", "app.bin")
            envelope = "app.bin.suit"
        good("verify", envelope)
        with_settings(esp, f'key_digests = ["{"0" * 64}"]')
        found = run("verify", envelope, "--json")
        assert found.status == 1
        assert json.loads(found.out)["code"] == "untrusted.native-key"
        assert "is signed natively by a key that is not expected: expected 000" in found.err

    @pytest.mark.parametrize("severed", [True, False])
    def test_an_image_without_the_signature_of_fwsign_toml_is_refused(
        self, severed: bool, esp: Path
    ) -> None:
        (esp / "notes.txt").write_bytes(b"no image")
        good("sign", "app.bin", "notes.txt", "-o", "app.suit")
        if severed:
            cut_text_off(esp / "app.suit")
        good("verify", "app.suit")
        with_settings(esp, f'kind = "{KIND}"')
        refused(
            run("verify", "app.suit"),
            1,
            f"esp32c6@0x10000: expected a native signature {KIND} in the image, found none",
            "fwsign.toml demands one in [native]: sign the image for its chip first",
        )

    def test_a_file_that_only_begins_like_an_image_is_none(self, esp: Path) -> None:
        (esp / "notes").write_bytes(b"\x3d\xb8\xf3\x96" + b"A" * 5000)
        good("sign", "notes", "--target", "file")
        with_settings(esp, f'key_digests = ["{"0" * 64}"]')
        assert "verified" in good("verify", "notes.suit")

    @pytest.mark.parametrize("settings", ["", 'kind = "mcuboot"\n'])
    def test_the_key_counts_without_a_statement_and_without_a_place_in_flash(
        self, settings: str, esp: Path
    ) -> None:
        Path("zephyr.bin").write_bytes(bytes(5000))
        options = ("--native-option", "header-size=0x200", "--native-option", "pad-header")
        good("sign", "zephyr.bin", "--native", "mcuboot", "--native-key", "p256.key", *options)
        cut_text_off(esp / "zephyr.signed.bin.suit")
        good("verify", "zephyr.signed.bin.suit")
        with_settings(esp, f'{settings}key_digests = ["{"0" * 64}"]')
        found = run("verify", "zephyr.signed.bin.suit", "--json")
        assert found.status == 1
        assert json.loads(found.out)["code"] == "untrusted.native-key"
        assert "zephyr.signed.bin is signed natively by a key that is not expected" in found.err

    def test_an_image_that_nobody_signed_for_its_chip_is_refused(self, esp: Path) -> None:
        """The release says nothing of it, fwsign.toml does: somebody forgot --native."""
        (esp / "table.bin").write_bytes(table(*FACTORY))
        good("sign", "app.bin", "table.bin", "-o", "all.suit")
        before, keys = (esp / "fwsign.toml").read_text(), f'key_digests = ["{"0" * 64}"]'
        with_settings(esp, keys)
        good("verify", "all.suit")  # without a kind nobody said that these chips check one
        (esp / "fwsign.toml").write_text(before)
        with_settings(esp, f'kind = "{KIND}"\n{keys}')
        found = run("verify", "all.suit", "--json")
        words = f"esp32c6@0x10000: expected a native signature {KIND} in the image, found none"
        said = json.loads(found.out)
        assert (found.status, said["code"], said["message"]) == (1, "tampered.native", words)

    @pytest.mark.parametrize("half", [True, False])
    def test_images_of_a_merged_file_without_a_common_key_are_refused(
        self, half: bool, esp: Path
    ) -> None:
        loader = espsecure_sign(boot("esp32c6"), "p256", folder=esp)
        second = app() if half else espsecure_sign(app(), "p256 other", folder=esp)
        whole = laid_out((0, loader), (0x8000, table(*FACTORY)), (0x10000, second))
        (esp / "app.bin").write_bytes(whole)
        refused(
            sign("--target", "esp32c6@0x0"),
            1,
            f"{KIND}: signatures of the images: expected one key that signed them all, found none",
            "sign each image by the same key before they are merged",
        )
        assert not (esp / "app.bin.suit").exists()

    @pytest.mark.parametrize("signed", [True, False])
    def test_flash_expects_the_same_keys_as_verify(self, signed: bool, esp: Path) -> None:
        require_package("esptool")
        require_package("serial")
        good(
            "sign",
            "app.bin",
            "-o",
            "app.suit",
            *(ESP if signed else ()),
            *(("--native-key", "p256.key") if signed else ()),
        )
        digest = espsecure_digest("p256", esp).hex()
        before = (esp / "fwsign.toml").read_text()
        with_settings(esp, f'kind = "{KIND}"\nkey_digests = ["{"0" * 64}"]')
        found = run("flash", "app.suit", "--port", "sim:esp32c6", "--no-stub")
        words = (
            f"is signed natively by a key that is not expected: expected {'0' * 64}, found {digest}"
            if signed
            else f"expected a native signature {KIND} in the image, found none"
        )
        assert found.status == 1
        assert words in found.err
        (esp / "fwsign.toml").write_text(before)
        with_settings(esp, f'kind = "{KIND}"\nkey_digests = ["{digest}"]')
        if signed:
            found = run("flash", "app.suit", "--port", "sim:esp32c6", "--no-stub")
            assert "native" not in found.err

    @pytest.mark.parametrize(
        ("lines", "error", "hint"),
        [
            ('kind = "esp"', '"native.kind" is not one of esp-secure-boot-v2, mcuboot, rp2350', ""),
            ("kind = 7", '"native.kind" is not one of esp-secure-boot-v2, mcuboot, rp2350', ""),
            ('keys = "a.key"', '"native.keys" is not a list of keys, each a path or URI in', ""),
            ("keys = [7]", '"native.keys" is not a list of keys, each a path or URI in', ""),
            ("security_version = -1", '"native.security_version" is not a number from 0 to', ""),
            ("security_version = true", '"native.security_version" is not a number from 0 to', ""),
            ('security_version = "7"', '"native.security_version" is not a number from 0 to', ""),
            ('key_digests = ["00"]', '"native.key_digests" is not a list of digests, each in', ""),
            ('key_digests = "00"', '"native.key_digests" is not a list of digests, each in', ""),
            ("options = 7", '"native.options" is not a table: [native.options]', ""),
            ("options = {a = [1]}", '"native.options.a" is not a text, a number, true or', ""),
            ('key = "a"', 'has the unknown key "native.key"', "did you mean keys?"),
        ],
    )
    def test_a_mistake_is_named(self, lines: str, error: str, hint: str, esp: Path) -> None:
        with_settings(esp, lines)
        found = run("sign", "app.bin")
        assert found.status == 5
        assert found.errors[0].startswith("error: fwsign.toml")
        assert error in found.errors[0]
        assert hint in found.err

    def test_the_table_is_a_table(self, esp: Path) -> None:
        path = esp / "fwsign.toml"
        path.write_text(f"native = 7\n{path.read_text()}")
        assert '"native" is not a table: [native]' in run("sign", "app.bin").err


class TestUsage:
    @pytest.mark.parametrize(
        ("more", "error"),
        [
            (("--native", "esp"), '--native "esp"'),
            (("--native-key", "p256.key"), "--native-key without --native"),
            (("--native-pass", "env:X"), "--native-pass without --native"),
            (("--native-output", "x.bin"), "--native-output without --native"),
            (("--native-option", "a=b"), "--native-option without --native"),
            (("--security-version", "7"), "a security version without --native"),
            ((*ESP, "--security-version", "-1"), "--security-version -1, expected 0 to 4294967295"),
            ((*ESP, "--native-pass", "env:X"), "--native-pass without --native-key"),
            ((*ESP, "--native-output", "x.bin"), "--native-output without a key"),
            (
                (*ESP, "--native-key", "p256.key", "--native-output", "build.bin=x.bin"),
                '--native-output build.bin=x.bin: 0 of the files are called "build.bin"',
            ),
            (
                (*ESP, "--native-key", "p256.key", "--native-output", "app.bin"),
                "app.bin would replace a file that is read",
            ),
            (
                (*ESP, "--native-key", "a", *("--native-pass", "env:X") * 2),
                "2 --native-pass for 1 keys",
            ),
        ],
    )
    def test_options_that_mean_nothing_are_refused(
        self, more: tuple[str, ...], error: str, esp: Path
    ) -> None:
        before = tree(esp)
        found = run("sign", "app.bin", *more)
        assert (found.status, found.errors[0]) == (2, f"error: {error}")
        if error.endswith("without --native"):
            assert found.errors[1] == "hint: --native KIND says whose it is"
        assert tree(esp) == before

    def test_two_images_with_one_place_are_refused(self, esp: Path) -> None:
        (esp / "boot.bin").write_bytes(boot("esp32c6"))
        places = ("--native-output", "app.bin=x.bin", "--native-output", "boot.bin=x.bin")
        found = run("sign", "app.bin", "boot.bin", *ESP, "--native-key", "p256.key", *places)
        assert (found.status, found.errors[0]) == (2, "error: two images would become one file")

    def test_files_without_an_image_are_refused(self, esp: Path) -> None:
        found = run("sign", "build.bin", *ESP, "--native-key", "p256.key")
        assert found.status == 5
        assert found.errors[0] == f"error: no image for --native {KIND} is among build.bin"
        assert not (esp / "build.bin.suit").exists()

    def test_an_option_that_the_kind_does_not_have(self, esp: Path) -> None:
        found = sign("--native-key", "p256.key", "--native-option", "header-size=512")
        assert found.status == 5
        assert f'{KIND}: no option "header-size", expected no option' in found.err
        assert not (esp / "app.signed.bin").exists()

    def test_a_merged_file_is_refused_with_the_way_to_do_it(self, esp: Path) -> None:
        from images_kit import merged

        (esp / "app.bin").write_bytes(merged("esp32c6"))
        found = sign("--native-key", "p256.key")
        assert found.status == 1
        assert (
            "expected one application or boot loader for an ESP, found a merged file" in found.err
        )
        assert "hint: sign each image before they are merged" in found.err


MCUBOOT = (
    *("--native", "mcuboot", "--native-key", "p256.key", "--target", "nrf52840@0x10000"),
    *("--native-option", "version=1.2.3", "--native-option", "header-size=512"),
    *("--native-option", "pad-header"),
)
RP2350 = ("--native", "rp2350", "--native-key", "k256.key")


@pytest.mark.parametrize(("kind", "words"), [("mcuboot", MCUBOOT), ("rp2350", RP2350)])
class TestOtherKinds:
    @pytest.fixture(autouse=True)
    def _image(self, project: Path) -> None:
        key_file(project, "p256")
        key_file(project, "k256")
        (project / "fw.bin").write_bytes(unsealed(size=3000))

    def test_the_security_version_is_stated_once(self, kind: str, words: tuple[str, ...]) -> None:
        with_settings(Path(), "security_version = 5")
        good("sign", "fw.bin", *words)
        stated = component("fw.signed.bin.suit")["native"]
        assert (stated["kind"], stated["security_version"]) == (kind, 5)
        assert len(stated["key_digests"]) == 1
        release = json.loads(good("verify", "fw.signed.bin.suit", "--json"))["release"]
        assert release["version"] == ("1.2.3+0" if kind == "mcuboot" else None)

    def test_the_number_of_another_kind_does_not_count(
        self, kind: str, words: tuple[str, ...]
    ) -> None:
        with_settings(Path(), f'kind = "{KIND}"\nsecurity_version = 5')
        good("sign", "fw.bin", *words, "--security-version", "3")
        assert component("fw.signed.bin.suit")["native"]["security_version"] == 3
        Path("fw.signed.bin.suit").unlink()
        Path("fw.signed.bin").unlink()
        good("sign", "fw.bin", *words)
        native = component("fw.signed.bin.suit")["native"]
        assert (native["kind"], native["security_version"]) == (kind, None)

    def test_another_one_is_refused_where_others_signed(
        self, kind: str, words: tuple[str, ...]
    ) -> None:
        good("sign", "fw.bin", *words, "--security-version", "5")
        Path("fw.signed.bin.suit").unlink()
        target = words[words.index("--target") :][:2] if "--target" in words else ()
        again = ("sign", "fw.signed.bin", "--native", kind, *target, "--security-version")
        found = run(*again, "6")
        assert (found.status, found.errors[0]) == (
            4,
            "error: fw.signed.bin: expected security version 6, found 5 in the image",
        )
        good(*again, "5")
        assert component("fw.signed.bin.suit")["native"]["security_version"] == 5


def test_each_key_has_its_own_passphrase(esp: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
    )

    from native_kit import private

    for name, word in (("p256", b"first word"), ("p256 other", b"second word")):
        data = private(name).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(word)
        )
        (esp / f"{name.replace(' ', '-')}.key").write_bytes(data)
    keys = ("--native-key", "p256.key", "--native-key", "p256-other.key")
    both = ("--native-pass", "env:ONE", "--native-pass", "env:TWO")
    words = {"ONE": "first word", "TWO": "second word"}
    wrong = run("sign", "app.bin", *ESP, *keys, "--native-pass", "env:ONE", env=words)
    assert wrong.status == 5
    assert "first word" not in wrong.err + wrong.out
    good("sign", "app.bin", *ESP, *keys, *both, env=words)
    every = b"".join(one or b"" for name, one in tree(esp).items() if not name.endswith(".key"))
    assert b"second word" not in every


def test_killed_between_its_files_it_goes_on(today: Path) -> None:
    """Killed between its two files, the image is whole, and the next run goes on with it."""
    (today / "app.bin").write_bytes(app(secure_version=7))
    key_file(today, "p256")
    words = ("sign", "app.bin", *ESP, "--native-key", "p256.key")
    done = program(*words, env=environment(), cwd=today)
    assert done.returncode == 0, done
    image = (today / "app.signed.bin").read_bytes()
    (today / "app.signed.bin.suit").unlink()  # as if it had been killed between the two
    again = program(*words, env=environment(), cwd=today)
    assert again.returncode == 0, again
    assert (today / "app.signed.bin").read_bytes() == image


# --- keys of three houses -------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["rsa3072", "p256"])
def test_three_signatures_by_a_file_softhsm_and_openbao(
    alg: str, esp: Path, softhsm: SoftHsm, bao: Bao
) -> None:
    """An image of three houses verifies with espsecure under each of their keys."""
    from fwsign.keys import open_key
    from native_kit import espsecure_verifies_with

    key_file(esp, alg)
    hsm, transit = softhsm.make(alg, f"native {alg}"), bao.make(alg, f"native-{alg}")
    uris = (f"{alg}.key", hsm, transit)
    keys = [word for uri in uris for word in ("--native-key", uri)]
    found = sign(*keys, "--native-pass", softhsm.pass_file)
    assert found.status == 0, found
    image = (esp / "app.signed.bin").read_bytes()
    for uri in uris:
        key = open_key(uri, softhsm.pin.encode)
        assert espsecure_verifies_with(image, key.public_key), uri
        key.close()
    stated = component("app.signed.bin.suit")["native"]["key_digests"]
    assert len(set(stated)) == 3
    everything = b"".join(one or b"" for one in tree(esp).values()) + found.err.encode()
    assert softhsm.pin.encode() not in everything
    assert bao.token.encode() not in everything


def test_a_board_with_secure_boot_gets_what_its_key_has_signed(esp: Path) -> None:
    require_package("esptool")
    require_package("serial")
    (esp / "boot.bin").write_bytes(boot("esp32c6", size=0x20))
    (esp / "table.bin").write_bytes(table(*FACTORY))
    names = ("boot.bin", "table.bin", "app.bin")
    good("sign", *names, "-o", "all.suit", *ESP, "--native-key", "p256.key")
    known, other = (espsecure_digest(name, esp).hex() for name in ("p256", "p256 other"))
    port = "sim:esp32c6?lock=secure-boot&key="
    found = run("flash", "all.suit", "--port", f"{port}{other}", "--no-stub")
    assert found.status == 4
    words = "no key that the board's secure boot knows has signed esp32c6@0x0: expected "
    assert f"{words}{other}, found {known}" in found.err + found.out
    found = run("flash", "all.suit", "--port", f"{port}{known}:revoked", "--no-stub")
    assert found.status == 4
    assert f"{words}none: all are revoked, found {known}" in found.err + found.out
    found = run("flash", "all.suit", "--port", f"{port}{known}&security-version=8", "--no-stub")
    assert found.status == 4
    assert "esp32c6@0x10000 has security version 7, the chip 8: it starts" in found.err + found.out
    two = f"{port}{other}&key={known}&security-version=7"
    assert run("flash", "all.suit", "--port", two, "--no-stub").status == 0
    receipts = "".join(path.read_text() for path in esp.rglob("*.jsonl"))
    assert known in receipts


class TestSigningElsewhere:
    def test_the_image_is_signed_for_the_chip_before_its_request(self, esp: Path) -> None:
        page = good("digest", "app.bin", *ESP, "--native-key", "p256.key", "--sequence", "7")
        digest = espsecure_digest("p256", esp).hex()
        words = f"native esp32c6@0x10000: {KIND}, security version 7, by {digest[:16]}"
        assert words in " ".join(page.split())
        assert f"    key        {' '.join(digest[at : at + 4] for at in range(0, 32, 4))}" in page
        key = FileSigner(load_private_key(esp / "pki/private/release.key", lambda: None))
        (esp / "sig").write_bytes(key.sign((esp / "app.signed.bin.tbs").read_bytes()))
        good("attach", "app.signed.bin.request", "sig")
        assert component("app.signed.bin.suit")["native"]["key_digests"] == [digest]

    def test_what_the_settings_demand_is_demanded_here_too(self, esp: Path) -> None:
        with_settings(esp, f'kind = "{KIND}"')
        before = tree(esp)
        found = run("digest", "app.bin")
        same = run("sign", "app.bin", "--dry-run")
        assert found.status != 0
        assert found.errors == same.errors
        assert tree(esp) == before
