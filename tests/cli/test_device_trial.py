"""`fwsign device trial`, `confirm` and `rollback`: transcripts."""

import json
import os
import re
from pathlib import Path

import pytest

from cli.kit import good, refused, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the gateway is for POSIX systems")


@pytest.fixture
def enrolled(signed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway that tries its releases, whose application confirms."""
    monkeypatch.setenv("FWSIGN_DEVICE", str(signed / "device.toml"))
    (signed / "files").mkdir()
    good(
        *("device", "init", "--state", "state.db", "--vendor", "acme.example"),
        *("--product", "gateway-x1", "--anchor", "pki/ca.crt", "--target-dir", "files"),
    )
    with (signed / "device.toml").open("a") as file:
        file.write('\n[trial]\nhealth = ["/bin/true"]\nconfirm = "application"\n')
    return signed


def sequence(words: str) -> str:
    found = re.search(r"release (\d+)", words)
    assert found is not None
    return found[1]


@pytest.mark.usefixtures("enrolled")
def test_a_release_waits_for_its_application_and_stays() -> None:
    assert good("device", "trial") == "no trial  nothing is on trial\n"
    hint = "fwsign device status shows what is installed and on trial"
    refused(run("device", "confirm"), 5, "no release is on trial", hint)
    found = good("install", "build.bin.suit")
    assert found.startswith("on trial  ")
    number = sequence(found)
    note = f"release {number}, on trial: the application has not confirmed it yet"
    assert f"  note       {note}\n" in found
    found = good("device", "trial")
    said = f"on trial  release {number}: the application has not confirmed it yet; at most "
    assert found.startswith(said)
    assert found.endswith(" more seconds of uptime, and 2 more starts\n")
    status = good("device", "status")
    assert re.search(rf"\non trial    sequence {number}, .* more seconds, 2 more starts\n", status)
    assert "\nfiles are   in place, those of the release on trial\n" in status
    shown = json.loads(good("device", "trial", "--json"))
    assert (shown["verdict"], shown["trial"]["boots"]) == ("on trial", 0)
    assert 0 < shown["trial"]["seconds_left"] <= 600
    wrong = run("device", "confirm", "--sequence", "7")
    refused(wrong, 5, f"release {number} is on trial, not release 7", hint)
    found = good("device", "confirm", "--sequence", number)
    assert found == f"committed  release {number}: it passed its trial\n"
    status = good("device", "status")
    assert "on trial" not in status
    assert "\nfiles are   in place\n" in status
    gone = run("device", "rollback")
    hint = "with [trial] in device.toml, each release that another one replaces is kept"
    refused(gone, 5, "no release before this one is kept", hint)


def test_a_release_is_taken_back_by_hand_and_tried_again(enrolled: Path) -> None:
    number = sequence(good("install", "build.bin.suit"))
    found = good("device", "rollback")
    said = f"fell back  release {number}: it was ended by hand; nothing is installed, as before\n"
    assert found == said
    assert not (enrolled / "files/current").exists()
    again = run("install", "build.bin.suit")
    hint = "install a newer release; to try this one again: fwsign install ENVELOPE --retry"
    refused(again, 4, f"release {number} failed its trial here before: it was ended by hand", hint)
    assert f"failed      sequence {number}, " in good("device", "status")
    assert good("install", "build.bin.suit", "--retry").startswith("on trial  ")


def test_a_release_that_fails_is_exit_4(enrolled: Path) -> None:
    text = (enrolled / "device.toml").read_text().replace("/bin/true", "/bin/false")
    (enrolled / "device.toml").write_text(text)
    hint = (
        "sign a mended release with a higher sequence number; "
        "if this gateway was at fault: fwsign install ENVELOPE --retry"
    )
    found = run("install", "build.bin.suit")
    said = f"release {sequence(found.err)} failed its trial: /bin/false ended with status 1"
    refused(found, 4, f"{said}; nothing is installed, as before", hint)
    found = run("install", "build.bin.suit", "--retry", "--json")
    assert found.status == 4
    assert json.loads(found.out)["code"] == "unsuitable.trial"
