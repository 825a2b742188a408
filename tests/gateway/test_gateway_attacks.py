"""Attacks on a gateway, by name: each is refused, and what is installed stays as it is."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fwsign.gateway.enrol import status
from fwsign.gateway.run.uptime import Uptime
from fwsign.gateway.target.directory import Target
from fwsign.keys.file import FileSigner
from fwsign.memory.state import State
from fwsign.signing.trust_update import make_update
from fwsign.trust.lists import TrustAnchor, Update
from gateway.kit import Gateway, crls, make_gateway, namesake, pki
from support import DAY, NOW, Entity, component, make_ca, make_crl, make_leaf, refused
from tsa_kit import make_tsa, signatures, with_tokens

OLD = {"app.tar": b"old"}
NEW = {"app.tar": b"new"}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway on which release 10 is installed."""
    made = make_gateway(tmp_path)
    made.install(made.release(10, OLD, crls=crls(5)))
    return made


@contextmanager
def nothing_changes(gateway: Gateway) -> Iterator[None]:
    before = gateway.installed, gateway.floor
    yield
    assert (gateway.installed, gateway.floor) == before


def attack(gateway: Gateway, envelope: Path, code: str, *words: str, **more: Any) -> None:
    with nothing_changes(gateway), refused(code, *words):
        gateway.install(envelope, **more)


def test_rollback_is_refused(gateway: Gateway) -> None:
    attack(gateway, gateway.release(9, NEW), "unsuitable.rollback", "9 is below 10")
    assert gateway.results[-1] == ("refused", "unsuitable.rollback")


def test_another_release_with_the_same_number_is_refused(gateway: Gateway) -> None:
    attack(gateway, gateway.release(10, NEW), "unsuitable.conflict")


def test_fast_forward_by_someone_else_is_refused(gateway: Gateway) -> None:
    """Only a signer that is trusted can raise the floor, and lock releases out with it."""
    root = make_ca("Root")
    leaf = make_leaf(root)
    signers: Any = [(leaf, [], (make_crl(root),))]
    highest = (1 << 53) - 1
    attack(gateway, gateway.release(highest, NEW, signers=signers), "untrusted.no-anchor")


def test_fast_forward_needs_the_payload_too(gateway: Gateway) -> None:
    """An envelope alone, without payloads that verify, does not move the floor."""
    envelope = gateway.release(10**12, NEW)
    (envelope.parent / "app.tar").write_bytes(b"bad")
    attack(gateway, envelope, "tampered.payload-digest")
    (envelope.parent / "app.tar").unlink()
    attack(gateway, envelope, "io.payload-missing")


def test_mix_and_match_of_components_is_refused(gateway: Gateway) -> None:
    first = gateway.release(11, {"app.tar": b"a1", "boot.bin": b"b1"})
    second = gateway.release(12, {"app.tar": b"a2", "boot.bin": b"b2"})
    shutil.copy(first.parent / "boot.bin", second.parent / "boot.bin")
    attack(gateway, second, "tampered.payload-digest", "boot.bin")


def test_a_frozen_crl_is_refused(gateway: Gateway) -> None:
    old = crls(5, days=(-1, 30))
    envelope = gateway.release(11, NEW, crls=old)
    attack(gateway, envelope, "stale.crl", at=NOW + 31 * DAY)


def test_a_crl_whose_number_goes_back_is_not_used(gateway: Gateway) -> None:
    """The memory holds the CRL that revokes the signer; an older one does not hide it."""
    victim = make_leaf(pki().issuing, "victim")
    gateway.install(gateway.release(11, NEW, crls=crls(7, revoked=[victim])))
    signers = [(victim, [pki().issuing], crls(6))]
    attack(gateway, gateway.release(12, OLD, signers=signers), "untrusted.revoked", "victim")
    attack(
        gateway,
        gateway.release(12, OLD, signers=[(victim, [pki().issuing], ())]),
        "untrusted.revoked",
        "victim",
    )


def test_a_crl_that_was_stapled_anew_to_the_installed_release_is_kept(gateway: Gateway) -> None:
    """Only its staples are new: a device that asks again learns of the revocation all the same."""
    victim = make_leaf(pki().issuing, "victim")
    envelope = gateway.release(11, NEW, crls=crls(6))
    gateway.install(envelope)
    parts = [component(data, name) for name, data in NEW.items()]
    gateway.sign(envelope, 11, parts, crls=crls(7, revoked=[victim]))
    assert gateway.install(envelope).verdict == "already installed"
    signers = [(victim, [pki().issuing], crls(6))]
    before = gateway.results
    with refused("untrusted.revoked", "victim"):
        gateway.install(gateway.release(12, OLD, signers=signers))
    assert gateway.results == [*before, ("refused", "untrusted.revoked")]
    assert (gateway.installed, gateway.floor) == (NEW, 11)


def test_a_ca_with_a_new_key_and_the_old_name_does_not_inherit_the_old_crl(
    gateway: Gateway,
) -> None:
    """Numbers are kept by name and key: one CA's high number does not silence the other's CRL."""
    gateway.install(gateway.release(11, NEW, crls=crls(900)))
    other = make_ca("Issuing", pki().root, path_length=0)
    assert other.certificate.subject == pki().issuing.certificate.subject
    leaf = make_leaf(other)
    fresh = (make_crl(other, number=1), make_crl(pki().root, number=900))
    gateway.install(gateway.release(12, OLD, signers=[(leaf, [other], fresh)]))
    revoked = (make_crl(other, [leaf], number=2), make_crl(pki().root, number=900))
    envelope = gateway.release(13, NEW, signers=[(leaf, [other], revoked)])
    attack(gateway, envelope, "untrusted.revoked")


def test_a_namesake_of_a_ca_is_not_trusted(gateway: Gateway) -> None:
    fake = namesake(pki().root)
    leaf = make_leaf(fake)
    signers: Any = [(leaf, [], (make_crl(fake, number=10**6),))]
    attack(gateway, gateway.release(11, NEW, signers=signers), "untrusted.no-anchor")
    assert {one["number"] for one in status(gateway.device)["crls"]} == {5}


def rotated(gateway: Gateway, *keys: Entity, **changes: Any) -> None:
    """Give the gateway a list with another root, signed by keys of the old list and the new."""
    trust = gateway.device.trust
    anchors = (TrustAnchor(keys[-1].anchor, ("release", "trust")),)
    update = Update(trust._replace(**{"number": 1, "anchors": anchors, **changes}))
    data = make_update(update, [FileSigner(one.key) for one in keys])
    with State.open(gateway.base / "state.db") as state:
        state.apply_trust([data], trust)


def test_after_a_trust_update_the_retired_root_signs_no_more(gateway: Gateway) -> None:
    root = make_ca("Root 2")
    leaf = make_leaf(root)
    signers: Any = [(leaf, [], (make_crl(root),))]
    envelope = gateway.release(11, NEW, signers=signers)
    attack(gateway, envelope, "untrusted.no-anchor")
    rotated(gateway, pki().root, root)
    gateway.install(envelope)
    assert gateway.installed == NEW
    attack(gateway, gateway.release(12, OLD), "untrusted.no-anchor")
    found = status(gateway.device)
    assert (found["trust_list"], [one["name"] for one in found["anchors"]]) == (1, ["Root 2"])


def test_a_release_key_cannot_change_whom_the_gateway_trusts(gateway: Gateway) -> None:
    root = make_ca("Root 2")
    with nothing_changes(gateway), refused("untrusted.signers", "list 0"):
        rotated(gateway, pki().leaf, root)
    assert status(gateway.device)["trust_list"] == 0


# --- clocks --------------------------------------------------------------------------------------


def test_a_clock_of_1970_installs_and_says_so(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    done = gateway.install(gateway.release(1, NEW), at=datetime(1970, 1, 1, tzinfo=UTC))
    assert done.release.notes == ("freshness unproven: the clock is behind",)
    assert done.release.now == NOW - DAY  # what the CRLs prove
    assert gateway.installed == NEW


def test_a_clock_of_1970_does_not_hide_a_revocation(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    envelope = gateway.release(1, NEW, crls=crls(2, revoked=[pki().leaf]))
    attack(gateway, envelope, "untrusted.revoked", at=datetime(1970, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("year", [2038, 2099])
def test_a_clock_in_the_future_refuses_and_poisons_nothing(gateway: Gateway, year: int) -> None:
    envelope = gateway.release(11, NEW)
    attack(gateway, envelope, "stale.certificate", at=datetime(year, 1, 20, tzinfo=UTC))
    with refused("stale.certificate"):
        gateway.install(gateway.release(10, OLD), at=datetime(year, 1, 20, tzinfo=UTC))
    gateway.install(envelope)
    assert (gateway.installed, gateway.floor) == (NEW, 11)
    assert status(gateway.device)["time_floor"] == (NOW - DAY).isoformat()


def test_a_gateway_that_wants_time_stamps_refuses_what_has_none(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("require = 1", "require = 1\nrequire_token = true"))
    early = datetime(1970, 1, 1, tzinfo=UTC)
    attack(gateway, gateway.release(1, NEW), "untrusted.token-required", at=early)


def test_a_stripped_token_of_a_revoked_signer_is_refused(tmp_path: Path) -> None:
    """A signer that was replaced in good order counts for what a token proves it signed before."""
    tsa = make_tsa()
    gateway = make_gateway(tmp_path, tsa_anchors=[tsa.root.anchor])
    reason = x509.ReasonFlags.superseded
    lists = (*crls(9, revoked=[pki().leaf], reason=reason, since=NOW), *tsa.crls)
    path = gateway.release(1, NEW, crls=lists)
    stripped = path.read_bytes()
    token = tsa.stamp(*signatures(stripped), gen_time=NOW - DAY / 2)
    attack(gateway, path, "untrusted.revoked", at=NOW + DAY)
    path.write_bytes(with_tokens(stripped, token))
    gateway.install(path, at=NOW + DAY)
    assert gateway.installed == NEW
    (signer,) = last_receipt(gateway)["release"]["signers"]
    assert signer["signed_at"] == (NOW - DAY / 2).isoformat()


def test_a_time_stamp_is_the_time_where_the_clock_is_behind(tmp_path: Path) -> None:
    tsa = make_tsa()
    gateway = make_gateway(tmp_path, tsa_anchors=[tsa.root.anchor])
    path = gateway.release(1, NEW, crls=(*pki().crls, *tsa.crls))
    token = tsa.stamp(*signatures(path.read_bytes()), gen_time=NOW)
    path.write_bytes(with_tokens(path.read_bytes(), token))
    done = gateway.install(path, at=datetime(1970, 1, 1, tzinfo=UTC))
    assert done.release.now == NOW
    assert last_receipt(gateway)["time"]["source"] == "a time-stamp token"


def test_stale_crls_are_taken_for_as_long_as_enrolled_and_no_longer(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, revocation="allow-stale:7d")
    envelope = gateway.release(1, NEW)
    attack(gateway, envelope, "stale.crl", at=NOW + 38 * DAY)
    done = gateway.install(envelope, at=NOW + 36 * DAY)
    assert done.release.notes
    assert gateway.installed == NEW


def test_the_time_source_is_in_the_receipt(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    for number, at, source in ((1, NOW, "the clock"), (2, NOW - 999 * DAY, "what is known")):
        gateway.install(gateway.release(number, {"n": bytes([number])}), at=at)
        receipt = last_receipt(gateway)
        assert receipt["time"]["source"].startswith(source)
        assert receipt["clock"] == at.isoformat()
        (signer,) = receipt["release"]["signers"]
        assert (signer["name"], signer["signed_at"]) == ("release", None)


def test_the_clock_is_the_source_also_after_a_transfer(tmp_path: Path) -> None:
    gateway, seconds = make_gateway(tmp_path), itertools.count(100, 7)
    gateway.install(
        gateway.release(1, {"n": b"1"}), uptime=lambda: Uptime("a start", next(seconds))
    )
    receipt = last_receipt(gateway)
    assert receipt["time"]["source"] == "the clock"
    assert datetime.fromisoformat(receipt["time"]["judged_at"]) > NOW
    assert receipt["clock"] == NOW.isoformat()


def last_receipt(gateway: Gateway) -> dict[str, Any]:
    with State.open(gateway.base / "state.db") as state:
        found: dict[str, Any] = json.loads(str(state.last_receipt()))
    return found


# --- files that are exchanged --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["another file", "other bytes", "hard link", "symbolic link"])
def test_a_staged_file_that_is_swapped_after_it_was_verified_is_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settle = Target.settle

    def swap(target: Target, digest: str, files: Any) -> str:
        path = gateway.target / ".fwsign/stage/files/app.tar"
        swap_file(path, how)
        return settle(target, digest, files)

    monkeypatch.setattr(Target, "settle", swap)
    attack(gateway, gateway.release(11, NEW), "tampered.staged", "app.tar")


@pytest.mark.parametrize("how", ["another file", "other bytes", "more files"])
def test_a_file_that_is_swapped_just_before_it_counts_is_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    check = Target.check_version
    calls: list[str] = []

    def swap(target: Target, name: str, files: Any) -> None:
        calls.append(name)
        if len(calls) == 2:  # that before the link is flipped
            path = gateway.target / "versions" / name / "app.tar"
            swap_file(path, how)
        check(target, name, files)

    with monkeypatch.context() as patch, refused("tampered.staged"):
        patch.setattr(Target, "check_version", swap)
        gateway.install(gateway.release(11, NEW))
    assert (gateway.installed, gateway.floor) == (OLD, 11)
    assert gateway.results[-1] == ("incomplete", "tampered.staged")
    gateway.install(gateway.release(12, NEW))
    assert gateway.installed == NEW


def swap_file(path: Path, how: str) -> None:
    if how == "more files":
        (path.parent / "extra").write_bytes(b"evil")
    elif how == "other bytes":
        facts = path.stat()
        path.write_bytes(b"evl")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    elif how == "hard link":
        os.link(path, path.parent.parent / "second name")
    else:
        path.unlink()
        outside = path.parent.parent.parent / "evil"
        outside.write_bytes(b"new")
        if how == "symbolic link":
            path.symlink_to(outside)
        else:
            outside.rename(path)


def test_a_payload_that_is_swapped_while_it_is_copied_is_not_installed(gateway: Gateway) -> None:
    """What is installed is what was hashed, not what the path says later."""
    envelope = gateway.release(11, {"app.tar": b"new", "z.bin": b"z"})

    def swap(name: str, _done: int, _size: int) -> None:
        if name == "app.tar":
            (envelope.parent / "app.tar").write_bytes(b"bad")

    gateway.install(envelope, progress=swap)
    assert gateway.installed == {"app.tar": b"new", "z.bin": b"z"}


@pytest.mark.parametrize("place", [".fwsign", "versions", ".fwsign/stage", ".fwsign/stage/files"])
def test_a_symbolic_link_in_the_target_directory_is_not_followed(
    gateway: Gateway, tmp_path: Path, place: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    where = gateway.target / place
    envelope = gateway.release(11, NEW)
    if "stage" in place:
        (gateway.target / ".fwsign/stage").mkdir(exist_ok=True)
        (gateway.target / ".fwsign/stage/envelope").write_bytes(envelope.read_bytes())
    if where.is_dir():
        where.rename(tmp_path / "moved")
        if place == ".fwsign/stage":
            (outside / "envelope").write_bytes(envelope.read_bytes())
    where.symlink_to(outside)
    kept = gateway.installed if place != "versions" else None
    with refused("io.directory"):
        gateway.install(envelope)
    assert gateway.floor == 10
    assert gateway.installed == kept
    assert not (outside / "files").exists()
    assert not (outside / "app.tar").exists()


def test_a_staged_symbolic_link_is_replaced_and_not_written_through(
    gateway: Gateway, tmp_path: Path
) -> None:
    envelope = gateway.release(11, NEW)
    folder = gateway.target / ".fwsign/stage/files"
    folder.mkdir(parents=True)
    (folder.parent / "envelope").write_bytes(envelope.read_bytes())
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folder / "app.tar").symlink_to(victim)
    gateway.install(envelope)
    assert (gateway.installed, victim.read_bytes()) == (NEW, b"precious")


def test_a_staged_hard_link_is_replaced_and_not_written_through(
    gateway: Gateway, tmp_path: Path
) -> None:
    envelope = gateway.release(11, NEW)
    folder = gateway.target / ".fwsign/stage/files"
    folder.mkdir(parents=True)
    (folder.parent / "envelope").write_bytes(envelope.read_bytes())
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    os.link(victim, folder / "app.tar")
    gateway.install(envelope)
    assert (gateway.installed, victim.read_bytes()) == (NEW, b"precious")


# --- commands ------------------------------------------------------------------------------------


def test_a_cut_transfer_never_starts_the_command(gateway: Gateway, tmp_path: Path) -> None:
    started = tmp_path / "started"
    gateway.configure(f'[exec]\n"app.tar" = ["/bin/sh", "-c", "touch {started}"]\n')
    envelope = gateway.release(11, {"app.tar": b"new" * 1000, "z.bin": b"z"})
    payload = envelope.parent / "app.tar"
    payload.write_bytes(payload.read_bytes()[:1000])
    attack(gateway, envelope, "tampered.payload-size")
    payload.write_bytes(b"new" * 1000)
    (envelope.parent / "z.bin").write_bytes(b"y")  # another component's payload
    attack(gateway, envelope, "tampered.payload-digest")
    assert not started.exists()
    (envelope.parent / "z.bin").write_bytes(b"z")
    gateway.install(envelope)
    assert started.exists()


# --- no network ----------------------------------------------------------------------------------

OFFLINE = """
import sys
from datetime import UTC, datetime
from pathlib import Path

def hook(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(hook)
sys.path.insert(0, sys.argv[3])
from gateway.kit import Gateway
from support import NOW
Gateway(Path(sys.argv[1])).install(sys.argv[2])
assert "fwsign.gateway.https.fetch" not in sys.modules
"""


def test_an_install_from_a_file_opens_no_socket(gateway: Gateway) -> None:
    envelope = gateway.release(11, NEW)
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", OFFLINE, str(gateway.base), str(envelope), tests]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert gateway.installed == NEW
