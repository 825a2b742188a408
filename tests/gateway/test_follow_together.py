"""Two processes that follow one channel, such as a timer and a daemon; and polls that write."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from fwsign.gateway.follow import polling
from fwsign.gateway.follow_memory import RETAG_SECONDS
from fwsign.gateway.target.lock import in_turn
from gateway.channel_place import Place, rolled_out
from gateway.follow_kit import Follower, days
from gateway.server import Handler, Server
from gateway.test_follow_channels import number, serve
from gateway.test_follow_updates import publish
from support import for_child, refused

CALL = "import sys; from gateway.followed import main; main(*sys.argv[1:])"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    found = Follower(tmp_path)
    found.address = str(tmp_path / "place/stable.channel")
    return found


def together(follower: Follower, folder: Path, what: str) -> list[str]:
    """Run two processes at the same time; return what they print, in order."""
    folder.mkdir()
    config = str(follower.gateway.config)
    words = [[config, follower.address, str(folder), name, what] for name in ("one", "two")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CALL, *one],
            env=for_child(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for one in words
    ]
    try:
        ended = [one.communicate(timeout=120) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert [one.returncode for one in running] == [0, 0], ended
    return sorted(out.strip() for out, _ in ended)


# --- two at once ---------------------------------------------------------------------------------


def test_two_processes_that_take_one_channel_agree(
    follower: Follower, place: Place, tmp_path: Path
) -> None:
    """Both judged it by the same memory; the second to write judges it once more."""
    place.channel(7, place.release(40))
    assert together(follower, tmp_path / "both", "take") == ["7 1", "7 2"]
    assert number(follower) == 7


def test_the_second_of_two_polls_finds_nothing_new(
    follower: Follower, place: Place, tmp_path: Path
) -> None:
    place.channel(7, place.release(40))
    assert together(follower, tmp_path / "both", "poll") == ["installed", "nothing new"]
    assert follower.installed == {"app40.bin": b"release 40"}
    written = [one for one, _ in follower.gateway.results]
    assert written == ["enrolled", "accepted", "installed"]


def test_a_poll_does_not_wait_for_ever_for_another(
    follower: Follower, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "TURN_SECONDS", 0.2)
    place.channel(7, place.release(40))
    turn = follower.gateway.base / "state.db.follow"
    with in_turn(turn, "it", 0), refused("state.busy", "another fwsign follow is at work"):
        follower.poll()
    assert follower.installed is None
    assert follower.poll().verdict == "installed"  # the lock ends with who holds it
    assert turn.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_cannot_be_made_stops_no_poll(follower: Follower, place: Place) -> None:
    """As on a full disk; what is installed has a lock of its own."""
    place.channel(7, place.release(40))
    (follower.gateway.base / "state.db.follow").symlink_to("nowhere")
    assert follower.poll().verdict == "installed"


# --- polls without news write nothing ------------------------------------------------------------


def unstable(server: Server, path: str, form: str) -> None:
    """Give a file another tag each time."""
    numbers = count()

    def answer(handler: Handler) -> None:
        data = handler.files[handler.path]
        tag = form.format(next(numbers))
        handler.head(200, {"ETag": tag, "Content-Length": str(len(data))})
        handler.wfile.write(data)

    server.answers[path] = answer


def facts(follower: Follower) -> tuple[int, int, int]:
    """Return what changes if the memory is written."""
    found = (follower.gateway.base / "state.db").stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"'])
@pytest.mark.parametrize("share", [0, 10_000])
def test_a_channel_with_another_tag_each_time_writes_once(
    follower: Follower, place: Place, server: Server, form: str, share: int
) -> None:
    place.channel(1, rolled_out(place.release(40), share=share))
    serve(server, place, follower)
    unstable(server, "/x/stable.channel", form)
    first = follower.poll().verdict
    assert first == ("installed" if share else "waiting")
    follower.poll()
    before = facts(follower)
    server.requests.clear()
    for _ in range(4):
        assert follower.poll().verdict == ("nothing new" if share else "waiting")
    assert facts(follower) == before
    assert {path for path, _ in server.requests} == {"/x/stable.channel"}
    place.channel(2, place.release(41))
    serve(server, place, follower)
    assert follower.poll().verdict == "installed"
    assert facts(follower) != before


def test_a_tag_that_was_renewed_is_remembered_once_a_day(
    follower: Follower, place: Place, server: Server
) -> None:
    place.channel(1, place.release(40))
    serve(server, place, follower)
    unstable(server, "/x/stable.channel", '"{}"')
    follower.poll()
    follower.poll()
    before = facts(follower)
    server.heads.clear()
    follower.at += days(1) - days(0)
    for _ in range(3):
        assert follower.poll().verdict == "nothing new"
    asked = [head["If-None-Match"] for head in server.heads]
    assert asked == ['"0"', '"2"', '"2"']
    assert facts(follower) != before
    assert RETAG_SECONDS == 24 * 3600


@pytest.mark.parametrize("hours", [-1000, -30, 30])
def test_a_clock_that_jumps_writes_once(
    follower: Follower, place: Place, server: Server, hours: int
) -> None:
    place.channel(1, place.release(40), expires=int(days(100).timestamp()))
    serve(server, place, follower)
    unstable(server, "/x/stable.channel", '"{}"')
    follower.poll()
    follower.at += (days(1) - days(0)) / 24 * hours
    follower.poll()
    before = facts(follower)
    for _ in range(3):
        follower.poll()
    assert facts(follower) == before


def test_a_refused_channel_with_another_tag_each_time_writes_once(
    follower: Follower, place: Place, server: Server
) -> None:
    path = place.channel(1, place.release(40))
    old = path.read_bytes()
    place.channel(2, place.release(40))
    follower.poll()
    path.write_bytes(old)
    serve(server, place, follower)
    unstable(server, "/x/stable.channel", '"{}"')
    with refused("unsuitable.rollback"):
        follower.poll()
    before = facts(follower)
    for _ in range(3):
        with refused("unsuitable.rollback", "channel number 1 is below 2"):
            follower.poll()
    assert facts(follower) == before


def test_a_release_with_another_tag_each_time_writes_once(tmp_path: Path, server: Server) -> None:
    own = Follower(tmp_path, "", f'[fetch]\nca = "{server.ca}"')
    path = own.offer(40)
    server.files.update({f"/x/{one.name}": one.read_bytes() for one in path.parent.iterdir()})
    own.address = server.url("/x/40.suit")
    unstable(server, "/x/40.suit", '"{}"')
    assert own.poll().verdict == "installed"
    before = facts(own)
    for _ in range(3):
        assert own.poll().verdict == "nothing new"
    assert facts(own) == before


def newer(own: Follower) -> int:
    """Poll, and return how many newer CRLs were told."""
    return sum(one.endswith("a newer CRL is held now") for one in own.poll().notes)


def test_crls_with_another_tag_each_time_write_once(tmp_path: Path, server: Server) -> None:
    lines = f'crls = ["{server.url("/issuing.crl")}", "{server.url("/root.crl")}"]'
    own = Follower(tmp_path, lines, f'[fetch]\nca = "{server.ca}"')
    own.offer(40)
    own.poll()
    publish(server, 9)
    for path in ("/issuing.crl", "/root.crl"):
        unstable(server, path, '"{}"')
    assert newer(own) == 2
    own.poll()
    before = facts(own)
    for _ in range(3):
        assert newer(own) == 0
    assert facts(own) == before
    publish(server, 10)
    assert newer(own) == 2
