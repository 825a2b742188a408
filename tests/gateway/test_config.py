"""device.toml is read strictly; a device is enrolled once, and never silently anew."""

import json
import os
import re
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.gateway import enrol
from fwsign.gateway.config.device import (
    DEFAULT_CONFIG,
    MAX_SIZE,
    VARIABLE,
    Device,
    find,
    load,
    parse_revocation,
)
from fwsign.gateway.config.fetch_rules import FetchRules
from fwsign.gateway.config.trial_rules import TrialRules
from fwsign.gateway.config.watch_rules import WatchRules
from fwsign.gateway.run.session import demands
from fwsign.memory.state import State
from fwsign.verify.example_keys import EXAMPLE_SPKI
from fwsign.x509.anchor import Anchor
from gateway.kit import Gateway, enrolment, make_gateway, pki
from support import NOW, VENDOR, der, new_key, refused

EXAMPLE = Path(__file__).parent.parent.parent / "keys.example"
PEM = pki().root.certificate.public_bytes(Encoding.PEM).decode()


def device(base: Path, text: str = "", *, anchor: str | None = None, **changes: str) -> Device:
    """Write and load a device.toml; a change of a key to "" leaves it out."""
    keys = {"vendor": '"acme.example"', "product": '"x1"', "target_dir": '"/srv/x"', **changes}
    lines = [f"{key} = {value}" for key, value in keys.items() if value]
    enrolled = f'[[anchor]]\npem = """\n{PEM}"""\n' if anchor is None else anchor
    path = base / "device.toml"
    path.write_text("\n".join([*lines, enrolled, text]))
    path.chmod(0o644)
    return load(path)


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    found = device(tmp_path)
    assert str(found.state) == "/var/lib/fwsign/state.db"
    assert found.policy.revocation == "require"
    assert found.policy.needed == 1
    assert found.policy.profile == "strict"
    assert (found.policy.vendor, found.policy.product) == ("acme.example", "x1")
    assert (found.trust.vendor, found.trust.product) == ("acme.example", "x1")
    assert found.fetch.stall_seconds == 30
    assert found.device_key is None
    assert found.trust.anchors_for("release") == (pki().root.anchor,)
    assert found.trust.anchors_for("trust") == (pki().root.anchor,)
    assert (found.trust.number, found.trust.epoch, found.trust.threshold) == (0, 0, 1)


def test_everything_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text(PEM)
    (tmp_path / "roots.pem").chmod(0o600)
    key = new_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found = device(
        tmp_path,
        f"""
[[anchor]]
pem = '''{key.decode()}'''
role = "trust"
vendors = ["acme.example"]
[[tsa_anchor]]
file = "{tmp_path}/roots.pem"
[policy]
revocation = "allow-stale:30d"
require = 2
trust_require = 2
profile = "compat"
require_token = true
[exec]
"app.tar" = ["/bin/load", "--fixed"]
[flash]
esp32c3 = "/dev/ttyUSB0"
[fetch]
allow_hosts = ["a.example", "127.0.0.1", "::1"]
ca = "/etc/ca.pem"
stall_seconds = 3
total_seconds = 4
""",
        state='"/data/state.db"',
        device_key='"/data/key"',
        exec_seconds="7",
    )
    assert (found.policy.allow_stale, found.policy.needed) == (timedelta(days=30), 2)
    assert (found.policy.profile, found.policy.require_token) == ("compat", True)
    assert dict(found.hooks) == {"app.tar": ("/bin/load", "--fixed")}
    assert dict(found.ports) == {"esp32c3": "/dev/ttyUSB0"}
    assert found.fetch.allow_hosts == ("a.example", "127.0.0.1", "::1")
    assert (found.fetch.stall_seconds, found.fetch.total_seconds) == (3, 4)
    assert (found.hook_seconds, found.device_key) == (7, "/data/key")
    assert [one.roles for one in found.trust.anchors] == [("release", "trust", "tsa"), ("trust",)]
    assert found.trust.anchors[1].anchor.vendors == ("acme.example",)
    assert found.trust.threshold == 2


def test_a_setting_below_the_anchors_is_told_its_place(tmp_path: Path) -> None:
    with refused("io.config", 'unknown key "anchor 2: keep"') as caught:
        device(tmp_path, f"[[anchor]]\npem = '''{PEM}'''\nkeep = 3")
    known = "known here are: file, pem, role, vendors"
    assert caught.value.hint == f"{known}; keys without a table stand above the first [table]"


WRONG = [
    ({"colour": '"red"'}, "", 'unknown key "colour"'),
    ({"vendor": ""}, "", '"vendor" is missing'),
    ({"product": ""}, "", '"product" is missing'),
    ({"target_dir": ""}, "", '"target_dir" is missing'),
    ({"vendor": "1"}, "", '"vendor" is not a text in quotes'),
    ({"vendor": '"Acme"'}, "", 'vendor "Acme" is not a domain'),
    ({"product": '"a b"'}, "", 'product "a b" is not a name'),
    ({"product": '"a\\u001b"'}, "", '"product" is not a text in quotes'),
    ({"target_dir": '"here"'}, "", '"target_dir" is not an absolute path'),
    ({"state": '"here"'}, "", '"state" is not an absolute path'),
    ({"exec_seconds": "0"}, "", '"exec_seconds" is not a number of 1 to'),
    ({"exec_seconds": "true"}, "", '"exec_seconds" is not a whole number'),
    ({}, "[policy]\nrevocation = 'sometimes'", 'revocation "sometimes" is not a choice'),
    ({}, "[policy]\nrequire = 9", '"policy.require" is not a number of 1 to 8'),
    ({}, "[policy]\nprofile = 'lax'", '"policy.profile" is not strict or compat'),
    ({}, "[policy]\nrequire_tokens = true", 'unknown key "policy.require_tokens"'),
    ({}, "[policy]\nrequire_token = 1", '"policy.require_token" is not true or false'),
    ({}, "[exec]\n'a' = 'load'", '"exec.a" is not a list in [brackets]'),
    ({}, "[exec]\n'a' = []", '"exec.a" is not a command by its absolute path'),
    ({}, "[exec]\n'a' = ['load']", '"exec.a" is not a command by its absolute path'),
    ({}, "[exec]\n'a' = ['/load', 1]", '"exec.a" is not a list of texts'),
    ({}, "[flash]\nesp32 = 1", '"flash.esp32" is not a text in quotes'),
    ({}, "[flash]\nesp32 = 'socket://x'", '"flash.esp32" is not socket://HOST:PORT'),
    (
        {},
        "[flash]\nesp32 = 'sim:esp32?flsh=x'",
        (
            "is not flash, baud, id, revision, size, table, lines, security-version, content, "
            "chip, noise, encoding, lock, key"
        ),
    ),
    ({}, "[fetch]\nallow_hosts = ['A.example']", "is not a list of host names"),
    ({}, "[fetch]\nca = 'ca.pem'", '"fetch.ca" is not an absolute path'),
    ({}, "[fetch]\ntoken_kind = 'basic'", '"fetch.token_kind" is not bearer or target or gateway'),
    ({}, "[fetch]\nporxy = 'x'", 'unknown key "fetch.porxy"'),
    ({}, "[fetch]\nproxy = 'x'", '"fetch.proxy" is not http://HOST:PORT'),
    ({}, "[fetch]\nproxy = 'https://proxy:3128'", '"fetch.proxy" is not http://HOST:PORT'),
    ({}, "[fetch]\nproxy = 'http://u:p@proxy:3128'", "proxy_login_file names their file"),
    ({}, "[fetch]\nproxy = 'http://proxy'", '"fetch.proxy" is not http://HOST:PORT'),
    ({}, "[fetch]\nproxy = 'http://proxy:0'", '"fetch.proxy" is not http://HOST:PORT'),
    ({}, "[fetch]\nproxy = 'http://proxy:65536'", '"fetch.proxy" is not http://HOST:PORT'),
    ({}, "[fetch]\nproxy = 1", '"fetch.proxy" is not a text in quotes'),
    ({}, "[fetch]\nclient_cert = 'x'", '"fetch.client_cert" is not an absolute path'),
    ({}, "[fetch]\nclient_cert = '/x'", 'client_cert" is not usable without "client_key"'),
    ({}, "[fetch]\nclient_key = '/x'", 'client_key" is not usable without "client_cert"'),
    (
        {},
        "[fetch]\nclient_cert = '/x'\nclient_key = '/x'",
        'client_cert" is not usable without "allow_hosts"',
    ),
    ({}, "[fetch]\ntoken_file = '/x'", 'token_file" is not usable without "allow_hosts"'),
    ({}, "[fetch]\nproxy_login_file = '/x'", 'login_file" is not usable without "proxy"'),
    ({}, "[fetch]\nbytes_per_second = 0", '"fetch.bytes_per_second" is not a number of 1 to'),
    ({}, "[fetch]\nbytes_per_second = 1.5", '"fetch.bytes_per_second" is not a whole number'),
    ({"fetch": "1"}, "", '"fetch" is not a table'),
    ({"tsa_anchor": "[1]"}, "", '"tsa_anchor" is not a table for each'),
    ({}, "[[anchor]]\npem = 'x'\ncolour = 'red'", "not a PEM file to pin"),
    ({}, f"[[anchor]]\npem = '''{PEM}'''\nrole = 'all'", "is not release or trust"),
    ({}, f"[[anchor]]\npem = '''{PEM}'''\nvendors = ['x']", 'vendor "x" is not a domain'),
    ({}, f"[[anchor]]\npem = '''{PEM}'''\nfile = '/x'", "no such file"),
    ({}, "[[anchor]]\nfile = 'x'", "is not an absolute path"),
    ({}, f"[[anchor]]\npem = '''{PEM}'''", "an anchor that is there once"),
    ({}, "[policy]\ntrust_require = 0", '"policy.trust_require" is not a number of 1 to'),
    ({}, "[[anchor]]", '"anchor 2: pem" is missing'),
    ({}, "vendor = ", "invalid value"),
]


@pytest.mark.parametrize(("changes", "text", "words"), WRONG)
def test_a_mistake_is_named(tmp_path: Path, changes: dict[str, str], text: str, words: str) -> None:
    with pytest.raises(Exception, match=r"device\.toml|no such file") as caught:
        device(tmp_path, text, **changes)
    assert words in str(caught.value)
    assert getattr(caught.value, "code", "") in ("io.config", "io.missing")


def test_a_device_that_trusts_nobody_is_refused(tmp_path: Path) -> None:
    with refused("io.config", "no anchor for releases"):
        device(tmp_path, anchor="")
    with refused("io.config", "no anchor for releases"):
        device(tmp_path, anchor=f"[[anchor]]\npem = '''{PEM}'''\nrole = 'trust'")


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    device(tmp_path)
    (tmp_path / "device.toml").chmod(0o664)
    with refused("io.config", "could have been written by another user: mode 0664"):
        load(tmp_path / "device.toml")
    (tmp_path / "roots.pem").write_text(PEM)
    (tmp_path / "roots.pem").chmod(0o646)
    with refused("io.config", "roots.pem could have been written by another user"):
        device(tmp_path, anchor=f'[[anchor]]\nfile = "{tmp_path}/roots.pem"\n')


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    device(tmp_path)
    os.chown(tmp_path / "device.toml", 12345, -1)
    with refused("io.config", "owner 12345"):
        load(tmp_path / "device.toml")


def test_a_file_that_is_too_large_or_not_there_is_refused(tmp_path: Path) -> None:
    with refused("io.missing"):
        load(tmp_path / "device.toml")
    (tmp_path / "device.toml").write_bytes(b"#" * (MAX_SIZE + 1))
    with refused("io.config", "is larger than"):
        load(tmp_path / "device.toml")


def test_which_file_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find(None) == DEFAULT_CONFIG
    monkeypatch.setenv(VARIABLE, "/else/device.toml")
    assert find(None) == Path("/else/device.toml")
    assert find(Path("typed")) == Path("typed")


def test_how_revocation_is_written() -> None:
    assert parse_revocation("require") == ("require", timedelta(0))
    assert parse_revocation("off") == ("off", timedelta(0))
    assert parse_revocation("allow-stale:2w") == ("require", timedelta(weeks=2))
    for text in ("", "on", "require:1d", "off:", "allow-stale", "allow-stale:1", "allow-stale:1m"):
        with refused("state.policy", "is not a choice"):
            parse_revocation(text)


def test_the_example_in_the_docs_is_read(tmp_path: Path) -> None:
    page = Path(__file__).parent.parent.parent / "docs/gateway.md"
    if not page.exists():
        pytest.skip("the tests run without the docs")
    (tmp_path / "root.pem").write_text(PEM)
    (tmp_path / "root.pem").chmod(0o600)
    settings = page.read_text(encoding="utf-8").partition("## device.toml\n")[2]
    (text,) = re.findall(r"```toml\n(.*?)```", settings, re.DOTALL)
    text = re.sub(r'"/etc/fwsign/[^"]*\.crt"', f'"{tmp_path}/root.pem"', text)
    (tmp_path / "device.toml").write_text(text)
    (tmp_path / "device.toml").chmod(0o600)
    found = load(tmp_path / "device.toml")
    assert (found.trust.product, len(found.trust.anchors)) == ("gateway-x1", 1)
    assert found.trust.anchors_for("tsa")
    assert list(found.hooks) == ["app.tar"]
    assert list(found.verbs) == ["rootfs.img"]
    assert list(found.ports) == ["esp32c3"]
    assert [one.key.name for one in found.decrypt] == ["gateways.key"]
    assert found.fetch.proxy == ("proxy.acme.example", 3128)
    assert (found.keep, found.follow.interval, found.follow.longest) == (2, 3600, 86400)
    assert str(found.follow.window) == "02:00-05:00 UTC"
    assert len(found.follow.crls) == 2
    assert found.trial is not None
    assert found.trial == TrialRules(found.trial.health, user="app")  # all else as by default
    assert found.watch == WatchRules("mqtts://broker.acme.example")  # all else as by default
    assert found.after_install is not None
    assert found.after_install.user == "app"
    usual = FetchRules()
    given = (found.fetch.stall_seconds, found.fetch.total_seconds)
    assert given == (usual.stall_seconds, usual.total_seconds)


# --- enrolment -----------------------------------------------------------------------------------


def test_what_was_enrolled_is_what_is_read(tmp_path: Path) -> None:
    key = Anchor.from_public_key(der(new_key().public_key()))
    anchors = [pki().root.anchor, key]
    more: dict[str, Any] = {"revocation": "allow-stale:7d", "require": 2, "device_key": "/k"}
    found = enrol.init(
        enrolment(tmp_path, anchors=anchors, tsa_anchors=anchors[:1], **more), NOW, None
    )
    assert [(one.anchor.spki, one.roles) for one in found.trust.anchors] == [
        (pki().root.anchor.spki, ("release", "trust", "tsa")),
        (key.spki, ("release",)),
    ]
    assert (found.policy.allow_stale, found.policy.needed) == (timedelta(days=7), 2)
    assert found.device_key == "/k"
    with State.open(found.state) as state:
        anchors_then, policy = demands(found, state)
    assert anchors_then == found.trust.anchors_for("release")
    assert policy.pinned_vendors == {key.spki: (VENDOR,)}
    assert [one.spki for one in policy.tsa_anchors] == [pki().root.anchor.spki]
    assert stat.S_IMODE((tmp_path / "etc/device.toml").stat().st_mode) & 0o022 == 0
    assert Gateway(tmp_path).results == [("enrolled", None)]
    assert enrol.warnings(found, found.trust) == []


def test_a_device_is_enrolled_once(tmp_path: Path) -> None:
    make_gateway(tmp_path)
    with refused("io.exists", "device.toml exists already"):
        make_gateway(tmp_path)
    (tmp_path / "etc/device.toml").unlink()
    with refused("io.exists", "state.db exists already"):
        make_gateway(tmp_path)
    assert not (tmp_path / "etc/device.toml").exists()


def test_a_memory_that_another_process_made_meanwhile_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gateway(tmp_path)
    (tmp_path / "etc/device.toml").unlink()
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with refused("io.exists", "state.db exists already"):
        make_gateway(tmp_path)


def test_a_published_key_is_no_anchor(tmp_path: Path) -> None:
    found = sorted(EXAMPLE.rglob("ca.crt"))
    if not found:
        pytest.skip("the tests run without keys.example")
    anchor = Anchor.from_pem(found[0].read_bytes())
    assert anchor.spki in EXAMPLE_SPKI
    with refused("untrusted.example-key", "keys.example, which is published"):
        make_gateway(tmp_path, anchors=[anchor])
    with refused("untrusted.example-key"):
        make_gateway(tmp_path, tsa_anchors=[anchor])
    with refused("untrusted.example-key"):
        device(tmp_path, f"[[anchor]]\npem = '''{found[0].read_text()}'''")
    assert not (tmp_path / "etc").exists()


def test_a_target_directory_has_to_be_there(tmp_path: Path) -> None:
    with refused("io.missing", "the target directory"):
        make_gateway(tmp_path, target_dir=tmp_path / "none")


def test_what_toml_cannot_say_is_refused(tmp_path: Path) -> None:
    with refused("state.policy", "is not printable text"):
        make_gateway(tmp_path, device_key="a\nb")


def test_what_should_be_known_is_said(tmp_path: Path) -> None:
    found = enrol.init(enrolment(tmp_path, revocation="off"), NOW, None)
    first, second, third = enrol.warnings(found, found.trust)
    assert first.startswith("a single anchor")
    assert second.startswith("revocation is off")
    assert "a log, not evidence" in third


def test_status_says_what_is_remembered(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    empty = enrol.status(gateway.device)
    assert (empty["floor"], empty["time_floor"], empty["installed"]) == (None, None, None)
    gateway.install(gateway.release(3, {"a": b"a"}))
    found = enrol.status(gateway.device)
    assert json.loads(json.dumps(found)) == found
    assert (found["floor"], found["receipts"], found["unfinished"]) == (3, 3, None)
    assert found["installed"]["sequence"] == 3
    assert [one["number"] for one in found["crls"]] == [1, 1]
    assert found["time_floor"] == "2026-11-21T12:00:00+00:00"


def test_reset_forgets_what_decides_and_keeps_the_receipts(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.install(gateway.release(3, {"a": b"a"}))
    assert enrol.reset(gateway.device, NOW, None)
    found = enrol.status(gateway.device)
    assert (found["floor"], found["time_floor"], found["crls"]) == (None, None, [])
    assert gateway.results[-2:] == [("installed", None), ("enrolled anew", None)]
    gateway.install(gateway.release(2, {"a": b"b"}))
    assert gateway.installed == {"a": b"b"}


def test_reset_makes_a_memory_where_it_was_lost_and_says_so(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    (tmp_path / "state.db").unlink()
    assert not enrol.reset(gateway.device, NOW, None)
    assert gateway.results == [("enrolled anew: the memory was lost", None)]


def test_a_read_only_root_and_no_home_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway(tmp_path)
    envelope = gateway.release(1, {"a": b"a"})
    monkeypatch.delenv("HOME")
    wrote: list[str] = []
    opened = os.open

    def watch(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and "dir_fd" not in named:
            wrote.append(str(path))
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", watch)
    gateway.install(envelope)
    assert wrote == []
