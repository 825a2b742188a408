"""`fwsign trust`: lists made, signed by several, shown, rehearsed and applied."""

import json
import os
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from fwsign.keys import published as known_keys
from fwsign.pki.directory import Pki
from fwsign.x509.certificate import key_digest
from pki_kit import needs_fork

NEXT = "fwsign: next: fwsign trust "
SINGLE = "fwsign: warning: a single trust key: if it is lost, no list can follow this one\n"


@pytest.fixture
def device(project: Path) -> Path:
    """A project with a standby root, and a gateway that pins the first one."""
    (project / "target").mkdir()
    good("pki", "standby", "--no-passphrase")
    good(
        "device",
        "init",
        "--config",
        "device.toml",
        "--state",
        "state.db",
        "--vendor",
        "acme.example",
        "--product",
        "gateway-x1",
        "--anchor",
        "pki/ca.crt",
        "--target-dir",
        "target",
    )
    return project


def standby() -> tuple[str, str]:
    """Return certificate and key of the standby root."""
    (certificate,) = Path("pki").glob("standby*.crt")
    return str(certificate), f"pki/private/{certificate.stem}.key"


OLD = "pki/private/ca.key"


def make(number: int, *more: object, base: str | None = None) -> str:
    start = ("--from", base or (f"{number - 1}.trust" if number > 1 else "device.toml"))
    good("trust", "make", f"{number}.trust", *start, *more)
    return f"{number}.trust"


@pytest.fixture
def chain(device: Path) -> list[str]:
    """Updates to both roots, and then to the standby one alone."""
    del device
    certificate, key = standby()
    first = make(1, "--release", certificate, "--trust", certificate, "--key", OLD)
    return [first, make(2, "--remove", "pki/ca.crt", "--key", OLD, "--key", key)]


def test_make_says_who_has_to_sign(device: Path) -> None:
    del device
    certificate, key = standby()
    line = ("trust", "make", "1.trust", "--from", "device.toml", "--release", certificate)
    found = run(*line, "--trust", certificate, "--remove", "pki/ca.crt", "--key", key)
    assert found == (
        0,
        "1.trust\n",
        SINGLE
        + "fwsign: signed by 1 of 1 of its own trust keys; 0 of 1 of list 0\n"
        + f"{NEXT}sign 1.trust --key URI\n",
    )
    found = run("trust", "sign", "1.trust", "--key", OLD, "--from", "device.toml")
    assert found.out == "1.trust\n"
    assert found.err == (
        "fwsign: signed by 1 of 1 of its own trust keys; 1 of 1 of list 0\n"
        f"{NEXT}rehearse DIR 1.trust; then on devices: fwsign trust apply FILE\n"
    )


def test_a_list_where_all_must_sign_is_warned_of(device: Path) -> None:
    del device
    certificate, key = standby()
    found = run(
        *("trust", "make", "1.trust", "--from", "device.toml", "--trust", certificate),
        *("--require", 2, "--key", OLD, "--key", key),
    )
    assert "warning: all 2 trust keys must sign: if one is lost" in found.err


def test_without_the_list_before_its_signers_are_unknown(device: Path) -> None:
    del device
    found = run("trust", "make", "1.trust", "--release", "pki/ca.crt", "--trust", "pki/ca.crt")
    assert found.status == 0
    assert "0 of 1 of its own trust keys; that of the list before is unknown" in found.err


def test_show_tells_what_a_list_says(chain: list[str]) -> None:
    out = good("trust", "show", chain[0])
    lines = out.splitlines()
    assert lines[0] == "trust update 1  acme.example gateway-x1, not verified here"
    assert lines[1:3] == ["  epoch      0", "  require    1 of 2 trust keys"]
    assert lines[3].startswith("  anchor     Acme Root CA, release+trust, any vendor, key ")
    assert lines[3].endswith(", signed this")
    assert not lines[4].endswith(", signed this")


def test_json_has_the_whole_list(chain: list[str]) -> None:
    Path("chain.trust").write_bytes(b"".join(Path(one).read_bytes() for one in chain))
    found = json.loads(good("trust", "show", "chain.trust", "--json"))["updates"]
    assert [one["number"] for one in found] == [1, 2]
    assert [len(one["anchors"]) for one in found] == [2, 1]
    assert found[1]["anchors"][0]["signed"]
    assert found[0]["floors"] == {"sequence": None, "time": None}


@needs_fork
def test_a_device_catches_up_from_one_file(chain: list[str]) -> None:
    Path("chain.trust").write_bytes(b"".join(Path(one).read_bytes() for one in chain))
    line = ("trust", "apply", "chain.trust", "--config", "device.toml")
    assert good(*line) == "applied  list 0 is now list 2\n"
    assert good(*line) == "unchanged  this device has list 2 already\n"
    found = json.loads(good(*line, "--json"))
    assert (found["verdict"], found["before"], found["number"]) == ("applied", 2, 2)
    older = run("trust", "apply", chain[0], "--config", "device.toml")
    refused(
        older,
        4,
        "the trust update is old: this device has list 2 already, found none newer",
        "fetch the newest trust updates",
    )


@needs_fork
def test_updates_may_be_in_several_files(chain: list[str]) -> None:
    line = ("trust", "apply", *chain, "--config", "device.toml")
    assert good(*line) == "applied  list 0 is now list 2\n"


@needs_fork
def test_a_release_is_not_applied_as_a_trust_update(device: Path) -> None:
    del device
    good("sign", "build.bin")
    found = run("trust", "apply", "build.bin.suit", "--config", "device.toml")
    hint = "it is a release, and no trust update: fwsign install build.bin.suit"
    refused(found, 4, "this is a release, not a trust update", hint)


def test_a_trust_update_is_not_verified_as_a_release(chain: list[str]) -> None:
    found = run("verify", chain[0], "--anchor", "pki/ca.crt")
    assert found.status == 1
    assert found.out == ""


@needs_fork
def test_rehearse_names_who_would_be_stranded(chain: list[str]) -> None:
    Path("fleet").mkdir()
    Path("fleet/gw1.db").write_bytes(Path("state.db").read_bytes())
    Path("fleet/gw1.toml").write_bytes(Path("device.toml").read_bytes())
    assert good("trust", "rehearse", "fleet", *chain) == (
        "accepts  gw1.db (list 0)\n0 of 1 devices would be stranded\n"
    )
    found = run("trust", "rehearse", "fleet", chain[1])
    assert found.status == 3
    assert found.out == (
        "stranded  gw1.db (list 0): trust update 2 does not follow list 0, which this device has\n"
        "1 of 1 devices would be stranded\n"
    )
    found = run("trust", "rehearse", "fleet", chain[1], "--json", "--at", "2026-11-22T12:00:00Z")
    assert json.loads(found.out) == {
        "verdict": "stranded",
        "devices": [
            {
                "state": "gw1.db",
                "verdict": "stranded",
                "trust_list": 0,
                "code": "unsuitable.trust-gap",
                "message": "trust update 2 does not follow list 0, which this device has",
            }
        ],
    }
    good("sign", "build.bin")
    assert run("trust", "rehearse", "fleet", "build.bin.suit", "--json").status == 0
    assert run("trust", "rehearse", "fleet", *chain, "build.bin.suit").status == 3
    Path("fleet/gw1.toml").unlink()
    found = run("trust", "rehearse", "fleet", chain[0])
    assert "there is no device.toml beside it" in found.out


def test_a_floor_that_no_release_can_have_is_a_usage_error(chain: list[str]) -> None:
    key = chain[-1]
    wrong = ("--floor", str(2**53))
    found = run("trust", "make", "3.trust", "--from", "2.trust", *wrong, "--key", key)
    assert found.status == 2
    assert f"--floor {2**53}, expected 0 to {2**53 - 1}" in found.err


def test_floors_raise_the_epoch(chain: list[str]) -> None:
    _, key = standby()
    make(3, "--floor", 5, "--floor-time", "2026-01-01T00:00:00Z", "--key", key)
    out = good("trust", "show", "3.trust")
    assert "  epoch      1\n" in out
    assert "  floor      sequence 5\n  floor      time 2026-01-01T00:00:00+00:00\n" in out
    del chain


def test_domains_limit_an_anchor(device: Path) -> None:
    del device
    certificate, _ = standby()
    make(1, "--release", f"acme.example,other.example={certificate}", "--key", OLD)
    assert "release, acme.example, other.example, key" in good("trust", "show", "1.trust")
    found = run("trust", "make", "2.trust", "--from", "1.trust", "--tsa", f"ACME={certificate}")
    assert found.status == 2
    assert "is not a domain name" in found.err


def test_anchors_are_removed_by_their_key(chain: list[str]) -> None:
    anchors = json.loads(good("trust", "show", chain[0], "--json"))["updates"][0]["anchors"]
    make(9, "--remove", anchors[0]["key"][:16], base=chain[0])
    assert len(json.loads(good("trust", "show", "9.trust", "--json"))["updates"][0]["anchors"]) == 1
    for name in ("abcdef", "0" * 16, "pki/issuing.crt"):
        found = run("trust", "make", "8.trust", "--from", chain[0], "--remove", name)
        assert found.status == 2, name
        assert "the list has no such anchor" in found.err


def test_a_list_that_locks_out_is_not_written(device: Path) -> None:
    del device
    found = run("trust", "make", "1.trust", "--from", "device.toml", "--remove", "pki/ca.crt")
    refused(found, 1, "the list has no anchor for releases")
    assert not os.path.lexists("1.trust")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["make", "1.trust", "--from", "1.trust", "--vendor", "a.example"], "--from says vendor"),
        (["sign", "1.trust"], "no key given"),
        (["sign", "both.trust", "--key", OLD], "both.trust has 2 trust updates"),
        (["rehearse", "fleet", "1.trust", "--revocation", "maybe"], '--revocation "maybe"'),
    ],
)
def test_command_lines_that_cannot_be_meant(chain: list[str], line: list[str], error: str) -> None:
    Path("both.trust").write_bytes(b"".join(Path(one).read_bytes() for one in chain))
    found = run("trust", *line)
    assert found.status == 2
    assert error in found.err


def test_without_a_project_vendor_and_product_must_be_given(tmp_path: Path) -> None:
    del tmp_path
    found = run("trust", "make", "1.trust", "--vendor", "acme.example")
    refused(found, 2, "no vendor or no product given", "name the list before with --from FILE")


def test_nothing_is_replaced_by_make(chain: list[str]) -> None:
    found = run("trust", "make", chain[0], "--from", "device.toml", "--key", OLD)
    assert found.status == 5
    assert "exists" in found.err


@pytest.mark.parametrize("role", ["--release", "--trust", "--tsa"])
def test_published_keys_are_in_no_list(
    role: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Pki(project / "pki").root.public_key()
    monkeypatch.setattr(known_keys, "PUBLISHED", {key_digest(root): "somebody's"})
    found = run("trust", "make", "x.trust", "--product", "x", role, "acme.example=pki/ca.crt")
    words = "pki/ca.crt has somebody's key, whose private half is published"
    refused(found, 1, words, "make your own PKI: fwsign init")
    assert not Path("x.trust").exists()
