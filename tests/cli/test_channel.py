"""`fwsign channel` and `fwsign rollout`, as transcripts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.kit import good, refused, run
from fwsign.cli import inputs
from support import DAY, NOW


@pytest.fixture(scope="module")
def signed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a PKI, two releases, and a signer of channels."""
    place = tmp_path_factory.mktemp("channel")
    shutil.copytree(made, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "now", lambda: NOW)
        patch.chdir(place)
        good("pki", "issue", "channel", "rollout", "--no-passphrase")
        for number, name in ((1, "old.suit"), (2, "new.suit")):
            good("sign", "build.bin", "--sequence", number, "--output", name)
    return place


@pytest.fixture
def place(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that directory, which is the current one."""
    shutil.copytree(signed, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*words: object) -> Any:
    """Make a channel; return what it says."""
    return json.loads(good("channel", "make", "stable", *words, "--json"))["channel"]


def test_a_channel_is_made_shown_and_verified(place: Path) -> None:
    found = run("channel", "make", "stable", "old.suit", "new.suit", "--share", "10%")
    assert (found.status, found.out) == (0, "stable.channel\n")
    assert "fwsign: channel stable, number 1\n" in found.err
    assert "10 % of all devices" in found.err
    publish = "next: fwsign publish old.suit new.suit --to PLACE --channel stable.channel"
    assert found.err.splitlines()[-1] == f"fwsign: {publish}"
    shown = good("channel", "show", "stable.channel").splitlines()
    assert shown[0] == "channel  stable, number 1"
    assert shown[-1] == "  claims     signed by rollout < Acme Issuing CA"
    verified = good("channel", "verify", "stable.channel").splitlines()
    assert verified[0] == "verified  stable.channel: stable, number 1"
    assert "  signer     rollout < Acme Issuing CA < Acme Root CA, ESP256" in verified
    assert verified[-1] == "  unchecked  rollback (give --min-number)"
    assert len(shown) == 6
    log = [json.loads(one) for one in (place / "pki/log.jsonl").read_text().splitlines()]
    line = log[-1]
    assert (line["kind"], line["name"], line["number"]) == ("channel", "stable.channel", "1")
    assert line["product"] == "gateway-x1"


def test_pause_resume_widen_and_withdraw(place: Path) -> None:
    first = make("old.suit", "new.suit", "--share", "10%", "--cohort", "pilot")
    assert [one["share"] for one in first["releases"]] == [10_000, 1000]
    assert [one["cohorts"] for one in first["releases"]] == [[], ["pilot"]]
    paused = make("--hold", "revision B does not start")
    assert (paused["number"], paused["hold"]) == (2, "revision B does not start")
    assert paused["releases"] == first["releases"]
    wider = make("--share", "12.5%", "--all-cohorts")
    assert wider["hold"] == "revision B does not start"
    assert wider["releases"][1] == {**first["releases"][1], "share": 1250, "cohorts": []}
    assert make("--release")["hold"] is None
    found = run("channel", "make", "stable", "old.suit")
    assert "warning: release 2 is left out: devices that have it keep it" in found.err
    last = json.loads(good("channel", "verify", "stable.channel", "--json"))
    assert last["channel"]["number"] == 5
    assert [one["sequence_number"] for one in last["channel"]["releases"]] == [1]
    assert (last["verdict"], last["unchecked"]) == ("verified", ["rollback"])
    (place / "stable.channel").unlink()


@pytest.mark.usefixtures("place")
def test_a_window_that_is_over_is_told() -> None:
    words = ("channel", "make", "stable", "new.suit", "--until")
    assert "is over" not in run(*words, (NOW + DAY).isoformat()).err
    found = run(*words, NOW.isoformat())
    assert found.status == 0
    assert "warning: the window of release 2 is over: no device takes it any more" in found.err


@pytest.mark.usefixtures("place")
def test_a_device_is_told_what_is_for_it() -> None:
    make("new.suit", "--share", "0%")
    words = ("channel", "verify", "stable.channel", "--device", "gw-17")
    assert "sequence 2: the rollout is for 0 %, this device is at" in good(*words)
    make("--share", "100%", "--cohort", "pilot")
    assert "this device's cohorts are: none" in good(*words)
    assert "  gw-17      sequence 2: it is for this device" in good(*words, "--cohort", "pilot")
    found = json.loads(good(*words, "--cohort", "pilot", "--json"))["channel"]["releases"][0]
    assert found["why_not"] is None
    assert 0 <= found["place"] < 10_000
    make("--hold", "wait")
    assert "sequence 2: the channel is on hold: wait" in good(*words)
    refused(run("channel", "verify", "x", "--cohort", "a"), 2, "--cohort without --device", HELP)


HELP = "fwsign channel verify --help shows how"


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "status", "error", "hint"),
    [
        (("Stable", "new.suit"), 2, '"Stable" is not a name of a channel or cohort', "it may"),
        (("stable",), 5, "the channel would name no release", "name the envelopes of"),
        (
            ("stable", "new.suit", "new.suit"),
            5,
            "two releases have the sequence number 2",
            "name each release once; a build that is signed again gets a higher number",
        ),
        (("stable", "new.suit", "--share", "10"), 2, '"10" is not a share', "write 10% or 0.25%"),
        (("stable", "new.suit", "--share", "101%"), 2, '"101%" is not a share', "write"),
        (("stable", "new.suit", "--cohort", "a b"), 2, '"a b" is not a name', "it may have"),
        (("stable", "new.suit", "--hold", ""), 2, '"" is not a line of printable', "at most 500"),
        (("stable", "new.suit", "--hold", "x", "--release"), 2, "--hold and --release", None),
        (("stable", "new.suit", "--cohort", "a", "--all-cohorts"), 2, "--cohort and --all", None),
        (("stable", "new.suit", "--fresh"), 2, "--fresh without --number", "devices take none"),
        (("stable", "new.suit", "--fresh", "--previous", "x"), 2, "--fresh and --previous", None),
        (("stable", "new.suit", "--key", "x"), 2, "--key and --chain go together", "--pki"),
        (("stable", "new.suit", "--expires", "2020-01-01T00:00:00Z"), 2, "--expires 2020", None),
        (("stable", "new.suit", "--product", "x2"), 4, "new.suit: the release is for product", ""),
        (("stable", "new.suit", "--vendor", "b.example"), 4, "new.suit: the release is for", ""),
        (("stable", "build.bin"), 1, "build.bin: ", "build.bin is not an envelope"),
        (("stable", "gone.suit"), 5, "cannot read gone.suit: no such file", None),
        (("stable", "new.suit", "--previous", "gone"), 5, "cannot read gone: no such file", None),
        (
            ("stable", "new.suit", "--signer", "release"),
            1,
            'extended key usage of "release"',
            "iss",
        ),
        (("stable", "new.suit", "--number", "9999999999"), 4, "channel number 9999999999 is", ""),
        (("stable", "new.suit", "--from", "2d", "--until", "1d"), 1, "the channel cannot be", None),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_makes_no_channel(
    words: tuple[str, ...], status: int, error: str, hint: str | None
) -> None:
    found = run("channel", "make", *words)
    assert found.status == status, found
    assert found.errors[0].startswith(f"error: {error}"), found.errors
    if hint:
        assert found.errors[1].startswith(f"hint: {hint}"), found.errors
    assert not Path("stable.channel").exists()


@pytest.mark.usefixtures("place")
def test_nothing_goes_back() -> None:
    make("new.suit", "--number", "7")
    before = Path("stable.channel").read_bytes()
    refused(
        run("channel", "make", "stable", "--number", "7"),
        4,
        "channel number 7 is not above 7, that of the channel before",
        "leave out --number, or give a higher one",
    )
    assert Path("stable.channel").read_bytes() == before
    assert make("new.suit", "--fresh", "--number", "9")["number"] == 9


@pytest.mark.usefixtures("place")
def test_a_channel_of_somebody_else_is_not_gone_on_with() -> None:
    make("new.suit")
    shutil.copy("new.suit", "other.channel")
    found = run("channel", "make", "beta", "new.suit", "--previous", "other.channel")
    assert (found.status, found.out) == (4, "")
    assert found.errors[0] == "error: other.channel: this is a release, not a channel"
    assert found.errors[1] == (
        "hint: --fresh takes nothing of it, and needs --number and all envelopes"
    )
    found = run("channel", "make", "beta", "new.suit", "--previous", "stable.channel")
    assert found.status == 4
    assert 'the channel before is "stable", not "beta"' in found.err


@pytest.mark.usefixtures("place")
def test_a_channel_of_a_revoked_signer_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thief left there came before the revocation, so that only the PKI knows of it."""
    make("new.suit", "--expires", "2d")
    good("pki", "issue", "channel", "second", "--no-passphrase")
    for later in (0, 3):  # expired or not
        monkeypatch.setattr(inputs, "now", lambda later=later: NOW + later * DAY)
        shutil.copy("stable.channel", "good.channel")
        good("channel", "make", "stable", "--signer", "second", "--previous", "good.channel")
        shutil.copy("good.channel", "stable.channel")
    good("pki", "revoke", "rollout", "--reason", "keyCompromise")
    found = run("channel", "make", "stable", "--signer", "second")
    assert (found.status, found.out) == (1, "")
    assert found.errors[0].startswith('error: stable.channel: certificate "rollout" revoked')
    assert found.errors[1] == (
        "hint: --fresh takes nothing of it, and needs --number and all envelopes"
    )
    fresh = make("new.suit", "--signer", "second", "--fresh", "--number", "9")
    assert fresh["number"] == 9


@pytest.mark.usefixtures("place")
def test_the_signer_is_found_or_asked_for() -> None:
    good("pki", "issue", "channel", "second", "--no-passphrase")
    refused(
        run("channel", "make", "stable", "new.suit"),
        2,
        "pki has several channel signers: rollout, second",
        "--signer NAME says which",
    )
    assert make("new.suit", "--signer", "second")["number"] == 1
    shutil.copytree("pki", "other")
    for name in ("rollout", "second"):
        Path(f"other/issued/{name}.crt").unlink()
    found = run("channel", "make", "beta", "new.suit", "--pki", "other")
    assert found.errors[0] == "error: other has no signer of channels"
    assert found.errors[1].startswith("hint: issue one: fwsign pki issue channel rollout --pki o")


@pytest.mark.usefixtures("place")
def test_a_key_with_its_chain_signs() -> None:
    parts = ("pki/issued/rollout.crt", "pki/issued/issuing.crt", "pki/ca.crt")
    Path("chain.pem").write_text("".join(Path(one).read_text() for one in parts))
    words = ("--key", "pki/private/rollout.key", "--chain", "chain.pem")
    assert make("new.suit", *words, "--crl", "pki/crl/issuing.pem", "--crl", "pki/crl/ca.pem")
    refused(
        run("channel", "make", "stable", *words, "--pki", "pki"),
        2,
        "--key and --chain exclude --pki and --signer",
        "fwsign channel make --help shows how",
    )


@pytest.mark.usefixtures("place")
def test_what_was_not_checked_says_how_it_would_be() -> None:
    make("new.suit")
    Path("fwsign.toml").unlink()
    words = ("--anchor", "pki/ca.crt", "--revocation", "off")
    assert good("channel", "verify", "stable.channel", *words).splitlines()[-4:] == [
        "  unchecked  revocation (--revocation off)",
        "  unchecked  vendor (give --vendor)",
        "  unchecked  product (give --product)",
        "  unchecked  rollback (give --min-number)",
    ]


@pytest.mark.usefixtures("place")
def test_verify_refuses_with_the_hint_that_fits() -> None:
    make("new.suit")
    shutil.copy("stable.channel", "beta.channel")
    refused(
        run("channel", "verify", "beta.channel"),
        4,
        'this is the channel "stable", this device follows "beta"',
        "--name says which one devices follow",
    )
    assert good("channel", "verify", "beta.channel", "--name", "stable")
    refused(
        run("channel", "verify", "stable.channel", "--min-number", "2"),
        4,
        "channel number 1 is below 2, the lowest that is still accepted",
        "fetch the newest channel",
    )
    assert "unchecked" not in good("channel", "verify", "stable.channel", "--min-number", "1")
    found = run("channel", "verify", "stable.channel", "--at", "31d")
    assert (found.status, found.errors[1]) == (
        3,
        "hint: make the next one: fwsign channel make NAME",
    )
    found = run("channel", "verify", "new.suit")
    assert found.errors[1] == "hint: it is a release, and no channel: fwsign verify new.suit"
    found = run("verify", "stable.channel")
    assert found.errors[1] == (
        "hint: it is a channel, and no release: fwsign channel verify stable.channel"
    )
    assert run("channel", "verify", "stable.channel", "--product", "x2").status == 4


@pytest.mark.usefixtures("place")
def test_show_degrades(tmp_path: Path) -> None:
    make("new.suit")
    data = Path("stable.channel").read_bytes()
    broken = tmp_path / "broken.channel"
    broken.write_bytes(data.replace(b"#channel", b"#chANNEL"))
    lines = good("channel", "show", broken).splitlines()
    assert "cannot be read: " in lines[0]
    assert lines[-1] == "  claims     signed by rollout < Acme Issuing CA"
    found = json.loads(good("channel", "show", broken, "--json"))
    assert found["channel"].startswith("cannot be read: ")
    assert json.loads(good("channel", "show", "stable.channel", "--json"))["channel"]["number"] == 1
    refused(
        run("channel", "show", "new.suit"),
        4,
        "this is a release, not a channel",
        "it is a release, and no channel: fwsign verify new.suit",
    )
    assert "name: stable" in good("show", "stable.channel")
    assert run("channel", "show", "build.bin").status == 1


# --- fwsign rollout -------------------------------------------------------------------------


def test_a_rollout_is_simulated(tmp_path: Path) -> None:
    svg = tmp_path / "rollout.svg"
    words = ("rollout", "simulate", "--plan", "1%:0h,10%:24h,100%:72h", "--devices", "2000")
    lines = good(*words, "--pause", "30h", "--svg", svg).splitlines()
    assert lines[0] == "simulated  2,000 devices, a poll every 1h"
    assert "  taken      174 of 2,000 devices" in lines
    assert "  paused     after 30h: 174 have it, 1,826 were spared" in lines
    assert svg.read_text().startswith("<svg ")
    found = json.loads(good(*words, "--json"))
    assert (found["devices"], found["taken"], found["spared"]) == (2000, 2000, 0)
    assert found["curve"][0] == {"at": 0, "taken": 0}
    assert found["plan"][1] == {"at": 86400, "share": 1000}


@pytest.mark.usefixtures("place")
def test_a_channel_says_salt_cohorts_and_share(tmp_path: Path) -> None:
    make("new.suit", "--share", "50%", "--cohort", "pilot")
    found = json.loads(good("rollout", "simulate", "stable.channel", "--json", "--devices", "1000"))
    assert 400 < found["taken"] < 600
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"gw-{one}, pilot\n" for one in range(100)) + "\nother\n")
    found = json.loads(good("rollout", "simulate", "stable.channel", "--ids", ids, "--json"))
    assert (found["devices"], found["in_cohorts"]) == (101, 100)
    inside = [
        json.loads(
            good(
                *("channel", "verify", "stable.channel", "--device", f"gw-{one}"),
                *("--cohort", "pilot", "--json"),
            )
        )["channel"]["releases"][0]["why_not"]
        is None
        for one in range(10)
    ]
    few = tmp_path / "few.txt"
    few.write_text("".join(f"gw-{one},pilot\n" for one in range(10)))
    found = json.loads(good("rollout", "simulate", "stable.channel", "--ids", few, "--json"))
    assert found["taken"] == sum(inside)
    note = run("rollout", "simulate", "stable.channel", "--devices", "10").err
    assert "made-up devices count as in the cohorts pilot: --ids names others" in note


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ((), 2, "neither a plan nor a channel"),
        (("--plan", "1%"), 2, '"1%" is no step of a plan'),
        (("--plan", "10%:1h,5%:2h"), 2, 'the step "5%:2h" is before the last, or smaller'),
        (("--plan", "1%:2h,5%:1h"), 2, 'the step "5%:1h" is before the last, or smaller'),
        (("--plan", "1%:x"), 2, '"x" is not a span of time'),
        (("--plan", "100%:0h", "--every", "0min"), 2, "--every 0min is out of range"),
        (("--plan", "100%:0h", "--devices", "1", "--ids", "x"), 2, "--devices and --ids exclude"),
        (("--plan", "100%:0h", "--devices", "10000001"), 2, "--devices 10000001, at most"),
        (("--plan", "100%:0h", "--ids", "twice.txt"), 5, 'twice.txt, line 2: "a" is there twice'),
        (("--plan", "100%:0h", "--ids", "excel.txt"), 5, 'excel.txt, line 2: "a" is there twice'),
        (("--plan", "100%:0h", "--ids", "empty.txt"), 5, "empty.txt names no device"),
        (("--plan", "100%:0h", "--ids", "bytes.txt"), 5, "bytes.txt is not text in UTF-8"),
        (("bytes.txt",), 1, "not deterministic CBOR"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_is_not_simulated(
    words: tuple[str, ...],
    status: int,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("twice.txt").write_text("a\na\n")
    Path("excel.txt").write_bytes(b"\xef\xbb\xbfa\r\na\r\n")
    Path("empty.txt").write_text("\n\n")
    Path("bytes.txt").write_bytes(b"\xff\n")
    found = run("rollout", "simulate", *words)
    assert found.status == status, found
    assert found.errors[0].startswith(f"error: {error}"), found.errors
