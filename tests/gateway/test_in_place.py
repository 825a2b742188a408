"""`device status` says whether what the memory calls installed is in place, and what to do."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fwsign.gateway.enrol import reset, status
from fwsign.gateway.run.session import INSTALLED
from fwsign.gateway.target import release_record
from fwsign.memory.state import State
from gateway.kit import Gateway, make_gateway
from support import NOW, refused

FILES = {"a.bin": b"one", "b.bin": b"two" * 1000}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    gateway = make_gateway(tmp_path)
    gateway.install(gateway.release(1, {"a.bin": b"old"}))
    gateway.install(gateway.release(2, FILES))
    return gateway


def found(gateway: Gateway, *, check: bool = False) -> tuple[str, tuple[str, ...], str | None]:
    said: dict[str, Any] = status(gateway.device, check=check)["in_place"]
    assert said["checked"] == (check and said["verdict"] in ("in place", "changed"))
    return said["verdict"], tuple(said["faults"]), said["advice"]


def version(gateway: Gateway) -> Path:
    return (gateway.target / "current").resolve()


AGAIN = "install that release again: fwsign install ENVELOPE"


def test_what_is_in_place(gateway: Gateway) -> None:
    assert found(gateway) == ("in place", (), None)
    assert found(gateway, check=True) == ("in place", (), None)


def test_nothing_is_installed_yet(tmp_path: Path) -> None:
    assert found(make_gateway(tmp_path)) == ("nothing", (), None)


def test_a_release_of_commands_has_no_files(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.configure('[exec]\n"app.tar" = ["/bin/true"]\n')
    gateway.install(gateway.release(1, {"app.tar": b"1"}))
    assert found(gateway, check=True) == ("no files", (), None)


def test_a_link_that_is_missing(gateway: Gateway) -> None:
    (gateway.target / "current").unlink()
    assert found(gateway) == ("missing", (f"{gateway.target}/current is not there",), AGAIN)


def test_a_link_to_another_version(gateway: Gateway) -> None:
    was = version(gateway).name
    other = next(one.name for one in (gateway.target / "versions").iterdir() if one.name != was)
    (gateway.target / "current").unlink()
    (gateway.target / "current").symlink_to(f"versions/{other}")
    words = f"current names version {other:.16}, installed is {was:.16}"
    assert found(gateway) == ("other version", (words,), AGAIN)


@pytest.mark.parametrize("text", ["elsewhere", "versions/", "versions/a/b", "/etc"])
def test_a_link_that_another_program_made(gateway: Gateway, text: str) -> None:
    (gateway.target / "current").unlink()
    (gateway.target / "current").symlink_to(text)
    words = f"{gateway.target}/current is not a link that fwsign made"
    assert found(gateway) == ("unknown", (words,), "look at the target directory")


def test_a_directory_in_the_place_of_the_link(gateway: Gateway) -> None:
    (gateway.target / "current").unlink()
    (gateway.target / "current").mkdir()
    assert found(gateway)[0] == "unknown"


def test_a_target_that_is_gone(gateway: Gateway) -> None:
    shutil.rmtree(gateway.target)
    verdict, (fault,), _ = found(gateway)
    assert (verdict, "not there" in fault or "no such" in fault.lower()) == ("unknown", True)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda place: (place / "a.bin").unlink(), "a.bin is gone"),
        (lambda place: (place / "c.bin").write_bytes(b""), "c.bin is not of this release"),
        (lambda place: (place / "a.bin").write_bytes(b"longer"), "a.bin has 6 bytes, not 3"),
        (shutil.rmtree, "not there"),
    ],
)
def test_files_that_changed_are_found_by_name_and_size(
    gateway: Gateway, change: Any, fault: str
) -> None:
    change(version(gateway))
    verdict, (said,), advice = found(gateway)
    assert (verdict, advice) == ("changed", AGAIN)
    assert fault in said or "no such" in said


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_what_is_no_file_is_found_and_not_waited_for(gateway: Gateway, kind: str) -> None:
    path = version(gateway) / "a.bin"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd")
    verdict, (said,), _ = found(gateway, check=True)
    assert verdict == "changed"
    assert said.startswith("a.bin is no file" if kind != "link" else "a.bin cannot be read: ")


def test_other_bytes_of_the_same_size_are_found_by_a_check(gateway: Gateway) -> None:
    (version(gateway) / "b.bin").write_bytes(b"TWO" * 1000)
    assert found(gateway) == ("in place", (), None)
    assert found(gateway, check=True) == ("changed", ("b.bin has other bytes",), AGAIN)
    with State.open(gateway.base / "state.db") as state:
        known = release_record.read(state, INSTALLED)
        assert known is not None
        release_record.write(state, INSTALLED, known._replace(contents=()))
    assert found(gateway) == ("in place", (), None)
    words = "cannot be checked: it was installed by an older fwsign"
    assert found(gateway, check=True)[1] == (f"a.bin {words}", f"b.bin {words}")


def test_a_memory_that_was_reset_knows_no_installed_release(gateway: Gateway) -> None:
    reset(gateway.device, NOW, None)
    verdict, faults, advice = found(gateway)
    assert (verdict, faults) == ("unknown", ("the memory knows no installed release",))
    assert advice == "fwsign install ENVELOPE puts one in place"


def test_an_interrupted_install_is_to_be_resumed(gateway: Gateway) -> None:
    gateway.configure('[exec]\n"app.tar" = ["/bin/false"]\n')
    with refused("io.hook"):
        gateway.install(gateway.release(3, {"app.tar": b"1", **FILES}))
    assert found(gateway) == ("in place", (), None)  # release 2 still is
    (gateway.target / "current").unlink()
    assert found(gateway)[2] == "an install was interrupted: fwsign install --resume"


def test_the_release_before_is_kept_or_removed(gateway: Gateway) -> None:
    previous = status(gateway.device)["previous"]
    assert (previous["sequence"], previous["kept"]) == (1, True)
    shutil.rmtree(gateway.target / "versions" / previous["directory"])
    assert status(gateway.device)["previous"]["kept"] is False
    assert status(gateway.device)["trial"] is None


@pytest.mark.parametrize("content", ["x", "1 -16", "1 -16 zz", "1 -17 " + "0" * 64, 7])
def test_a_record_with_odd_contents_is_damage(gateway: Gateway, content: Any) -> None:
    with State.open(gateway.base / "state.db") as state:
        known = release_record.read(state, INSTALLED)
        assert known is not None
        release_record.write(state, INSTALLED, known._replace(contents=(content, content)))
        with refused("state.damaged"):
            release_record.read(state, INSTALLED)
