"""`fwsign sign`: where files go on the device, and where devices get them from."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.kit import SAMPLES, good, refused, run


def release(envelope: object = "build.bin.suit", *more: object) -> Any:
    """What `fwsign verify --json` says of an envelope."""
    return json.loads(good("verify", envelope, "--json", *more))["release"]


@pytest.mark.usefixtures("project")
class TestPlace:
    def test_embed_puts_the_payload_inside(self, project: Path) -> None:
        found = run("sign", "build.bin", "--embed")
        assert "fwsign: build.bin: 800 bytes, payload #build.bin\n" in found.err
        (project / "build.bin").unlink()
        assert release()["components"][0]["payload"] == "build.bin.suit"

    def test_embed_refuses_what_is_too_large(self, project: Path) -> None:
        size = 16 * 1024 * 1024 + 1
        with (project / "large.bin").open("wb") as file:
            file.truncate(size)
        refused(
            run("sign", "large.bin", "--embed"),
            5,
            f"large.bin has {size} bytes, at most {size - 1} fit into an envelope",
        )

    def test_embedded_files_that_are_too_large_together_are_refused(self, project: Path) -> None:
        names = ["a.bin", "b.bin", "c.bin"]
        for name in names:
            with (project / name).open("wb") as file:
                file.truncate(12 * 1024 * 1024)
        found = run("sign", *names, "--embed", "--output", "all.suit")
        assert found.status == 1
        assert "at most 33554432 are allowed" in found.errors[0]
        assert not (project / "all.suit").exists()

    def test_base_url_says_where_devices_fetch_it(self) -> None:
        good("sign", "build.bin", "--base-url", "https://acme.example/updates/")
        component = release()["components"][0]
        assert component["uri"] == "https://acme.example/updates/build.bin"
        assert component["payload"] == "build.bin"

    @pytest.mark.parametrize("url", ["updates/", "https://acme.example/x", "https://a b/"])
    def test_a_base_url_that_is_none_is_refused(self, url: str) -> None:
        refused(
            run("sign", "build.bin", "--base-url", url),
            2,
            f'--base-url "{url}" is not the beginning of a URL',
            "names follow it at once: end it with / as in https://acme.example/updates/",
        )

    def test_embed_and_base_url_exclude_each_other(self) -> None:
        refused(
            run("sign", "build.bin", "--embed", "--base-url", "https://acme.example/"),
            2,
            "--embed and --base-url exclude each other",
            "fwsign sign --help shows how",
        )


class TestTarget:
    @pytest.fixture(autouse=True)
    def _files(self, project: Path) -> None:
        (project / "app.bin").write_bytes((SAMPLES / "blink-esp32c3.bin").read_bytes())

    @pytest.mark.parametrize(
        ("target", "name"),
        [
            ("file", "app.bin"),
            ("esp32c3@0x20000", "esp32c3@0x20000"),
            ("esp32c3@65536", "esp32c3@0x10000"),
            ("app.bin=esp32c3@0x30000", "esp32c3@0x30000"),
            ("./app.bin=file", "app.bin"),
        ],
    )
    def test_it_goes_where_it_was_typed(self, target: str, name: str) -> None:
        found = run("sign", "./app.bin", "--target", target)
        assert f"fwsign: {name}: 592 bytes" in found.err

    def test_a_file_of_no_known_kind_can_go_to_a_chip(self) -> None:
        assert (
            "stm32u5@0x8000: 800 bytes"
            in run("sign", "build.bin", "--target", "stm32u5@0x8000").err
        )

    def test_the_wrong_chip_is_refused(self) -> None:
        refused(
            run("sign", "app.bin", "--target", "esp32s3@0x10000"),
            1,
            "app.bin is an image for esp32c3, the target is esp32s3",
            "build it again; --target file signs it whatever it is",
        )

    def test_a_damaged_image_is_refused(self, project: Path) -> None:
        data = bytearray((project / "app.bin").read_bytes())
        data[100] ^= 1
        (project / "app.bin").write_bytes(data)
        found = run("sign", "app.bin")
        assert found.status == 1
        assert found.errors[0].startswith("error: esp image: ")
        good("sign", "app.bin", "--target", "file")

    def test_a_bare_target_with_several_files_is_refused(self) -> None:
        refused(
            run("sign", "app.bin", "build.bin", "--target", "file"),
            2,
            "--target file with 2 files",
            "write --target FILE=T for each",
        )

    def test_a_target_for_another_file_is_refused(self) -> None:
        refused(
            run("sign", "app.bin", "build.bin", "--target", "boot.bin=file"),
            2,
            '--target boot.bin=file: 0 of the files are called "boot.bin"',
            "app.bin, build.bin",
        )

    def test_two_targets_for_one_file_are_refused(self) -> None:
        refused(
            run("sign", "app.bin", "--target", "file", "--target", "esp32c3@0x0"),
            2,
            "two targets for app.bin: file and esp32c3@0x0",
            "fwsign sign --help shows how",
        )

    @pytest.mark.parametrize(
        "target", ["", "flash", "esp32c3", "esp32c3@", "ESP32@0", "x@0xg", "@0"]
    )
    def test_a_target_that_is_none_is_refused(self, target: str) -> None:
        refused(
            run("sign", "app.bin", "--target", target),
            2,
            f'"{target}" is not a target',
            "write file, or CHIP@OFFSET as in esp32c3@0x10000",
        )

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("esp32c3@9999999999", "an offset of at most 32 bits"),
            ("a-very-long-name-of-a-chip@0", "lower-case letters, digits and hyphens"),
        ],
    )
    def test_a_target_out_of_range_is_refused(self, target: str, expected: str) -> None:
        refused(
            run("sign", "app.bin", "--target", target),
            2,
            f"--target {target}: {expected} is expected",
            "fwsign sign --help shows how",
        )
