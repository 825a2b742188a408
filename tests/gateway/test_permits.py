"""Downgrade permits on a gateway: one device, one release, once, and nothing else gets easier."""

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from channel_kit import channel_pki
from channel_kit import signed as signed_channel
from flash.kit import esp_image
from fwsign.errors import FwsignError
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest as digest_of
from fwsign.gateway.rollback import rollback
from fwsign.gateway.run.session import Installed
from fwsign.gateway.trust import apply
from fwsign.memory import permits
from fwsign.memory.state import State
from gateway.follow_kit import Follower
from gateway.kit import Gateway, make_gateway, pki
from gateway.test_judged_after_fetching import Slow
from gateway.trial_kit import TrialGateway
from permit_kit import forged, make_permit, signed
from pki_kit import at_file_event, fork, needs_fork
from support import DAY, NOW, component, make_crl, make_pki, refused, stride
from trust.test_update import root, sign, update

OLD, NEW = {"app.tar": b"old"}, {"app.tar": b"new"}


class Downgraded:
    """A gateway with release 2 in place, the envelope of release 1, and permits for it."""

    def __init__(self, base: Path) -> None:
        self.gateway = make_gateway(base)
        self.old = self.gateway.release(1, OLD)
        self.new = self.gateway.release(2, NEW)
        self.gateway.install(self.old)
        self.gateway.install(self.new)
        self.count = 0

    @property
    def device(self) -> str:
        return str(self.gateway.device.identity.name())

    def permit(self, envelope: Path | None = None, **more: Any) -> bytes:
        """Sign a permit for release 1, or another; each has an id of its own."""
        self.count += 1
        own = {
            "device": self.device,
            "release": digest(envelope or self.old),
            "id": self.count.to_bytes(16, "big"),
            **more,
        }
        return signed(pki(), make_permit(**own))

    def install(self, permit: bytes | None, envelope: Path | None = None, **more: Any) -> Installed:
        return self.gateway.install(envelope or self.old, permit=permit, **more)

    @property
    def app(self) -> bytes:
        return (self.gateway.installed or {})["app.tar"]

    @property
    def used(self) -> int:
        with State.open(self.gateway.base / "state.db") as state:
            return len(permits.Permits(state).used)


def digest(envelope: Path) -> bytes:
    return check_manifest_digest(decode_envelope(envelope.read_bytes()))


@pytest.fixture
def one(tmp_path: Path) -> Downgraded:
    return Downgraded(tmp_path)


def receipts(gateway: Gateway) -> list[dict[str, Any]]:
    with State.open(gateway.base / "state.db") as state:
        return [json.loads(line) for line in state.receipt_lines()]


def test_a_permit_lets_one_older_release_in(one: Downgraded) -> None:
    with refused("unsuitable.rollback"):
        one.install(None)
    done = one.install(one.permit())
    assert (done.verdict, one.app, one.gateway.floor) == ("installed", b"old", 2)
    assert done.notes == (f"below the floor, by permit {1:032x}",)
    assert done.release.unchecked == ()
    accepted = [line for line in receipts(one.gateway) if line["result"] == "accepted"]
    assert accepted[-1]["permit"]["id"] == f"{1:032x}"
    assert accepted[-1]["permit"]["manifest"] == digest(one.old).hex()
    assert "permit" not in accepted[-2]


def test_permit_replay_is_refused(one: Downgraded) -> None:
    permit = one.permit()
    one.install(permit)
    one.install(None, one.new)  # the owner goes forward again
    with refused("unsuitable.permit-used", f"permit {1:032x} was used on this device before"):
        one.install(permit)
    with refused("unsuitable.rollback"):
        one.install(None)
    assert one.app == b"new"
    assert one.install(one.permit()).verdict == "installed"  # another permit, another time


def test_a_permit_for_another_device_is_refused(one: Downgraded) -> None:
    with refused("unsuitable.permit-device", 'the permit is for device "gw-other"'):
        one.install(one.permit(device="gw-other"))
    assert (one.app, one.used) == (b"new", 0)
    assert one.gateway.results[-1] == ("refused", "unsuitable.permit-device")


def test_a_permit_for_another_release_is_refused(one: Downgraded) -> None:
    other = one.gateway.release(1, {"app.tar": b"another old one"})
    with refused("unsuitable.permit-release", "the permit is for the release with manifest"):
        one.install(one.permit(), other)
    with refused("unsuitable.permit-release"):
        one.install(one.permit(other))
    assert (one.app, one.used) == (b"new", 0)


def test_a_broken_envelope_with_a_permit_is_refused_as_such(one: Downgraded) -> None:
    path = one.gateway.base / "broken.suit"
    path.write_bytes(b"no envelope")
    with refused("malformed.cbor"):
        one.install(one.permit(), path)
    assert one.used == 0


def test_an_expired_permit_is_refused(one: Downgraded) -> None:
    until = int((NOW + DAY).timestamp())
    permit = one.permit(expires=until)
    with refused("stale.permit", "the permit was to be used before"):
        one.install(permit, at=NOW + DAY)
    # The clock is set back, but the gateway knows better: a release has proven the time.
    late = make_crl(pki().issuing, number=5, days=(2, 60)), make_crl(pki().root, number=5)
    newer = one.gateway.release(3, {"app.tar": b"3"}, crls=late)
    one.install(None, newer, at=NOW + 2 * DAY)
    with refused("stale.permit"):
        one.install(permit, at=NOW)


def test_a_permit_under_a_clock_of_1970_is_refused(one: Downgraded) -> None:
    with refused("stale.permit", "it cannot tell whether the permit has expired"):
        one.install(one.permit(), at=datetime.fromtimestamp(0, NOW.tzinfo))


def test_a_permit_that_ends_while_payloads_come_is_refused(one: Downgraded) -> None:
    slow, other = Slow(3600), one.gateway.release(1, {"app.tar": b"not here yet"})
    permit = one.permit(other, expires=int((NOW + timedelta(minutes=30)).timestamp()))
    with refused("stale.permit"):
        one.install(permit, other, uptime=slow.uptime, progress=slow.progress)
    assert (one.app, one.used) == (b"new", 0)


def test_a_permit_signed_by_a_channel_key_is_refused(one: Downgraded) -> None:
    own = channel_pki()
    permit = forged(own, make_permit(device=one.device, release=digest(one.old)))
    with refused("untrusted.no-anchor"):
        one.install(permit)


def test_a_release_and_a_channel_are_no_permits(one: Downgraded) -> None:
    with refused("unsuitable.release"):
        one.install(one.old.read_bytes())
    with refused("untrusted.no-anchor"):
        one.install(signed_channel(channel_pki()))
    with refused("unsuitable.permit"):
        path = one.gateway.base / "permit.suit"
        path.write_bytes(one.permit())
        one.install(None, path)


def test_a_permit_of_a_revoked_signer_is_refused(one: Downgraded) -> None:
    permit = one.permit()
    crl = make_crl(pki().issuing, [pki().leaf], number=7), make_crl(pki().root, number=7)
    signer = (pki().leaf, [pki().issuing], crl)
    with refused("untrusted.revoked"):
        one.install(None, one.gateway.release(9, NEW, signers=[signer]))  # the gateway learns it
    with refused("untrusted.revoked"):
        one.install(permit)
    assert one.used == 0


def test_the_floor_does_not_move_for_anything_else(one: Downgraded) -> None:
    other = one.gateway.release(1, {"b.bin": b"x"})
    one.install(one.permit())
    for envelope in (other, one.gateway.release(0, NEW)):
        with refused("unsuitable.rollback", "below 2"):
            one.install(None, envelope)
    assert one.gateway.floor == 2


def test_a_permit_for_another_release_of_the_floors_number_works_once(one: Downgraded) -> None:
    """It is not recorded as one that was accepted at the floor, which would let it in for ever."""
    other = one.gateway.release(2, {"app.tar": b"another"})
    with refused("unsuitable.conflict"):
        one.install(None, other)
    permit = one.permit(other)
    assert one.install(permit, other).verdict == "installed"
    assert one.install(None, other).verdict == "already installed"
    one.install(None, one.new)
    assert (one.app, one.gateway.floor) == (b"new", 2)
    with refused("unsuitable.conflict"):
        one.install(None, other)
    with refused("unsuitable.permit-used"):
        one.install(permit, other)


def test_damaged_files_of_it_are_repaired_without_another_permit(one: Downgraded) -> None:
    one.install(one.permit())
    assert one.install(None).verdict == "already installed"
    place = one.gateway.target / "current" / "app.tar"
    place.chmod(0o644)
    place.write_bytes(b"damaged")
    assert one.install(None).verdict == "installed"
    assert (one.app, one.used) == (b"old", 1)


def test_a_permit_that_is_not_needed_stays_good(one: Downgraded) -> None:
    newer = one.gateway.release(3, {"app.tar": b"3"})
    permit = one.permit(newer)
    assert one.install(permit, newer).notes == ()
    assert one.used == 0
    one.install(None, one.gateway.release(4, NEW))
    assert one.install(permit, newer).verdict == "installed"  # now it is


def test_download_now_and_install_later(one: Downgraded) -> None:
    permit = one.permit()
    assert one.install(permit, download_only=True).verdict == "downloaded"
    assert (one.app, one.used) == (b"new", 0)
    with refused("unsuitable.rollback"):
        one.gateway.install(None)
    assert one.gateway.install(None, permit=permit).verdict == "installed"
    assert (one.app, one.used) == (b"old", 1)


def test_a_dry_run_uses_nothing(one: Downgraded) -> None:
    permit = one.permit()
    assert one.install(permit, dry_run=True).notes == (f"below the floor, by permit {1:032x}",)
    assert one.used == 0


@needs_fork
def test_killed_at_each_step_it_goes_on_or_the_permit_is_unused(tmp_path: Path) -> None:
    one = Downgraded(tmp_path)
    step, lived = 0, False
    while not lived:
        step += stride(9)
        permit, before = one.permit(), one.used
        lived = fork(partial(one.install, permit), partial(at_file_event, step))
        assert one.app in (b"old", b"new")
        if one.used == before:
            assert one.app == b"new"
            assert one.install(permit).verdict == "installed"  # it is still good
        else:
            assert one.install(None).verdict in ("installed", "already installed")
        assert (one.app, one.gateway.floor) == (b"old", 2)
        one.install(None, one.new)
        with refused("unsuitable.permit-used"):
            one.install(permit)
        forget_used(one.gateway.base, one.used)
    assert step > 9


def forget_used(base: Path, most: int) -> None:
    """Keep a test of many permits below their bound."""
    if most > permits.MAX_USED - 2:
        with State.open(base / "state.db") as state:
            state.remember(permits.USED, None)


def test_the_same_permit_goes_on_with_what_it_began(one: Downgraded) -> None:
    """A kill after the transaction, and the same command line again."""
    one.gateway.configure('[exec]\n"app.tar" = ["/bin/false"]')
    permit = one.permit()
    for _ in range(2):
        with refused("io.hook"):
            one.install(permit)
    assert one.used == 1
    text = one.gateway.config.read_text().replace("/bin/false", "/bin/true")
    one.gateway.config.write_text(text)
    assert one.gateway.install(None).verdict == "installed"  # --resume, without the permit
    assert one.used == 1


def test_a_new_epoch_between_ends_what_was_begun(one: Downgraded) -> None:
    one.gateway.configure('[exec]\n"app.tar" = ["/bin/false"]')
    permit = one.permit()
    with refused("io.hook"):
        one.install(permit)
    old, new = pki().root, make_pki(common="Other ").root
    both = update(1, root(old), root(new), epoch=1)
    apply(one.gateway.device, sign(both, old.key), NOW, None)
    with refused("unsuitable.permit-used"):
        one.install(permit)
    with refused("unsuitable.rollback"):
        one.gateway.install(None)


def test_used_permits_are_bounded_and_forgotten_when_they_have_expired(one: Downgraded) -> None:
    with State.open(one.gateway.base / "state.db") as state:
        later = int((NOW + DAY).timestamp())
        kept = [[f"{number:064x}", later] for number in range(permits.MAX_USED)]
        state.remember(permits.USED, json.dumps(kept))
    with refused("state.limit", "64 permits were used on this device"):
        one.install(one.permit())
    assert one.app == b"new"
    # A day later, which CRLs prove, none of them can be used again: there is room.
    late = make_crl(pki().issuing, number=5, days=(2, 60)), make_crl(pki().root, number=5)
    at = NOW + 2 * DAY
    one.install(None, one.gateway.release(3, {"app.tar": b"3"}, crls=late), at=at)
    one.install(one.permit(), at=at)
    assert one.used == 1


@pytest.mark.parametrize("name", [permits.USED, permits.PERMITTED])
@pytest.mark.parametrize(
    "text", ["", "1", "[[1]]", '[["a", "b"]]', '[["a", "b", "c", "d"]]', '[[1, "x", "y"]]']
)
def test_a_damaged_record_of_permits_is_no_permission(
    one: Downgraded, name: str, text: str
) -> None:
    with State.open(one.gateway.base / "state.db") as state:
        state.remember(name, text)
    with refused("state.damaged", f'what the memory calls "{name}" is no record of permits'):
        one.install(one.permit())


def test_a_permit_for_a_gateway_is_not_one_for_its_boards(one: Downgraded) -> None:
    image = esp_image()
    place = flash_identifier("esp32c3", 0x10000)
    part = Component(place, Digest(SHA256, digest_of(SHA256, image)), len(image), "board.bin")
    one.gateway.configure('[flash]\nesp32c3 = "/dev/ttyX"')
    folder = one.gateway.base / "boards"
    folder.mkdir()
    (folder / "board.bin").write_bytes(image)
    (folder / "app.tar").write_bytes(b"old")
    both = one.gateway.sign(folder / "both.suit", 1, [component(b"old", "app.tar"), part])
    with refused("unsuitable.permit-device", "and not for a board", "esp32c3@0x10000"):
        one.install(one.permit(both), both)
    assert one.used == 0


class TestTrial:
    """A permitted release on trial: it stays or goes as any other, and the floor stays."""

    def start(self, base: Path) -> tuple[TrialGateway, Path, bytes]:
        gateway = TrialGateway(base)
        old = gateway.plain.release(1, OLD)
        gateway.install(old)
        gateway.install(gateway.plain.release(2, NEW))
        device = str(gateway.plain.device.identity.name())
        return gateway, old, signed(pki(), make_permit(device=device, release=digest(old)))

    def test_it_passes(self, tmp_path: Path) -> None:
        gateway, old, permit = self.start(tmp_path)
        gateway.healthy("exit 75")
        assert gateway.install(old, permit=permit).verdict == "on trial"
        gateway.machine.reboot()
        gateway.healthy("exit 0")
        assert gateway.judge().verdict == "committed"
        assert (gateway.app, gateway.floor) == (b"old", 2)

    def test_it_fails(self, tmp_path: Path) -> None:
        gateway, old, permit = self.start(tmp_path)
        gateway.healthy("exit 1")
        with refused("unsuitable.trial", "release 2 is in place again"):
            gateway.install(old, permit=permit)
        assert (gateway.app, gateway.floor) == (b"new", 2)
        with refused("unsuitable.permit-used"):
            gateway.install(old, permit=permit, retry=True)

    def test_it_comes_back_when_a_newer_one_fails(self, tmp_path: Path) -> None:
        gateway, old, permit = self.start(tmp_path)
        gateway.install(old, permit=permit)
        gateway.healthy("exit 1")
        with refused("unsuitable.trial", "release 1 is in place again"):
            gateway.install(gateway.release(3))
        assert (gateway.app, gateway.floor) == (b"old", 2)
        assert gateway.install(old).verdict == "already installed"

    def test_after_a_newer_one_it_does_not_come_back_by_hand(self, tmp_path: Path) -> None:
        gateway, old, permit = self.start(tmp_path)
        gateway.install(old, permit=permit)
        gateway.install(gateway.release(3))
        with refused("unsuitable.rollback"):
            rollback(gateway.request())


def test_follow_uses_no_permit(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    old = follower.offer(1)
    follower.poll()
    follower.offer(2)
    follower.poll()
    for path in follower.offers.glob("2*.suit"):
        path.unlink()
    device = str(follower.gateway.device.identity.name())
    permit = signed(pki(), make_permit(device=device, release=digest(old)))
    (follower.offers / "1.permit").write_bytes(permit)
    (follower.offers / "0.suit").write_bytes(permit)
    with refused("unsuitable.rollback"):
        follower.poll()


def test_the_checksum_guards_the_used_permits(one: Downgraded) -> None:
    one.install(one.permit())
    with closing(sqlite3.connect(one.gateway.base / "state.db")) as connection:
        connection.execute("DELETE FROM facts WHERE name = ?", (f"text:{permits.USED}",))
        connection.commit()
    with pytest.raises(FwsignError, match="its sum is not the one kept in it"):
        one.install(None)
