"""Blocks that an installed file has are not fetched again; nobody trusts that file."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks_kit import list_of, named
from fwsign.format.payload import Blocks
from fwsign.gateway.target import moved, old_files, reuse
from fwsign.gateway.target.old_files import Place
from gateway.kit import Gateway, make_gateway, pki, usual_crls
from gateway.server import Handler, Server, serving
from support import component, make_envelope, make_manifest, refused

BLOCK = 4096
KIB = 1024


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.clear()
    return _server


@pytest.fixture
def gateway(tmp_path: Path, server: Server) -> Gateway:
    made = make_gateway(tmp_path)
    made.configure(f'[fetch]\nca = "{server.ca}"\nstall_seconds = 5\n')
    return made


def publish(server: Server, number: int, size: int = BLOCK, **files: bytes) -> str:
    """Put a release with block lists on a server; return its address."""
    lists = [list_of(data, size) for data in files.values()]
    manifest = make_manifest(
        *(component(data, name) for name, data in files.items()),
        sequence_number=number,
        block_lists=tuple(named(data, index) for index, data in enumerate(lists)),
    )
    signers = [(pki().leaf, [pki().issuing], usual_crls())]
    integrated = {f"#blocks-{index}": data for index, data in enumerate(lists)}
    server.files["/u.suit"] = make_envelope(manifest, signers, integrated=integrated)
    server.files.update({f"/{name}": data for name, data in files.items()})
    server.requests.clear()
    return server.url("/u.suit")


def changed(data: bytes, *places: int) -> bytes:
    """Change a byte at each place."""
    found = bytearray(data)
    for place in places:
        found[place] ^= 1
    return bytes(found)


def ranges(server: Server, path: str = "/app") -> list[str | None]:
    return [found for name, found in server.requests if name == path]


def test_one_byte_of_8_mib_costs_one_block(gateway: Gateway, server: Server) -> None:
    """The default size of blocks; with the envelope it is less than 200 kB."""
    data = os.urandom(8 * KIB * KIB)
    gateway.install(publish(server, 1, 64 * KIB, app=data))
    new = changed(data, 5_000_000)
    gateway.install(publish(server, 2, 64 * KIB, app=new))
    assert gateway.installed == {"app": new}
    assert ranges(server) == ["bytes=4980736-5046271"]
    assert len(server.files["/u.suit"]) + 64 * KIB < 80_000


def test_neighbours_are_fetched_at_once_and_small_gaps_with_them(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(1000 * KIB)
    gateway.install(publish(server, 1, app=data))
    near = 40 * KIB - BLOCK  # with a gap of 32 KiB, the least that is not fetched
    new = changed(data, 0, BLOCK, 3 * BLOCK, 500 * KIB, 500 * KIB + near, 1000 * KIB - 1)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    first = 500 * KIB
    assert ranges(server) == [
        f"bytes=0-{4 * BLOCK - 1}",
        f"bytes={first}-{first + BLOCK - 1}",
        f"bytes={first + near}-{first + near + BLOCK - 1}",
        f"bytes={1000 * KIB - BLOCK}-{1000 * KIB - 1}",
    ]


def test_the_number_of_requests_is_bounded(gateway: Gateway, server: Server) -> None:
    data = os.urandom(100 * 40 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = changed(data, *range(0, len(data), 40 * KIB))
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert len(ranges(server)) == reuse.MAX_REQUESTS


def test_a_file_that_is_longer_or_shorter_or_moved_is_reused_too(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(400 * KIB + 17)
    gateway.install(publish(server, 1, app=data))
    longer = bytes(64 * KIB) + data + b"more"  # the last block of the old one was a part
    gateway.install(publish(server, 2, app=longer))
    assert gateway.installed == {"app": longer}
    end = 464 * KIB
    assert ranges(server) == [f"bytes=0-{64 * KIB - 1}", f"bytes={end}-{end + 20}"]
    gateway.install(publish(server, 3, app=data))
    assert gateway.installed == {"app": data}
    assert ranges(server) == []  # the version before has it, its last part too
    assert [name for name, _ in server.requests] == ["/u.suit"]


def test_any_installed_file_has_blocks(gateway: Gateway, server: Server) -> None:
    data = os.urandom(100 * KIB)
    gateway.install(publish(server, 1, old=data))
    gateway.install(publish(server, 2, app=data, more=changed(data, 50_000)))
    assert gateway.installed == {"app": data, "more": changed(data, 50_000)}
    assert ranges(server) == []
    assert ranges(server, "/more") == ["bytes=49152-53247"]


def test_equal_blocks_come_from_one_place(gateway: Gateway, server: Server) -> None:
    gateway.install(publish(server, 1, app=bytes(BLOCK) + b"x" * BLOCK))
    new = bytes(200 * BLOCK)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert ranges(server) == []


def test_a_transfer_that_was_cut_goes_on_with_what_is_there(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(800 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = changed(data, 5, 400 * KIB, 700 * KIB)
    url = publish(server, 2, app=new)
    given: list[int] = []

    def once(handler: Handler) -> None:
        given.append(handler.start)
        if handler.start >= 400 * KIB:
            handler.head(404, {"Content-Length": "0"})
        else:
            handler.give()

    server.answers["/app"] = once
    with refused("io.fetch-status", "status 404"):
        gateway.install(url)
    assert (gateway.target / ".fwsign/stage/files/app").stat().st_size == 400 * KIB
    server.answers.clear()
    server.requests.clear()
    gateway.install(None)
    assert gateway.installed == {"app": new}
    assert ranges(server) == [
        f"bytes={400 * KIB}-{400 * KIB + BLOCK - 1}",
        f"bytes={700 * KIB}-{700 * KIB + BLOCK - 1}",
    ]


# --- blocks that moved ---------------------------------------------------------------------------


def inserted(data: bytes, place: int, more: bytes) -> bytes:
    return data[:place] + more + data[place:]


def test_blocks_after_an_insertion_are_found_by_one_block_of_it(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(2000 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = inserted(data, 1000 * KIB + 100, b"a function")
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    place = 1000 * KIB
    assert ranges(server) == [f"bytes={place}-{place + BLOCK - 1}"]  # the last 10 bytes fit, too


def test_blocks_after_bytes_that_went_are_found(gateway: Gateway, server: Server) -> None:
    data = os.urandom(2000 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = data[: 300 * KIB + 5] + data[300 * KIB + 777 :]
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    place = 300 * KIB
    assert ranges(server) == [f"bytes={place}-{place + BLOCK - 1}"]


def test_each_of_several_insertions_costs_one_block(gateway: Gateway, server: Server) -> None:
    data = os.urandom(4000 * KIB)
    gateway.install(publish(server, 1, app=data))
    places = [700 * KIB, 1800 * KIB, 2900 * KIB]
    new = data
    for place in reversed(places):
        new = inserted(new, place + 9, b"x" * 7)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert sorted(map(str, ranges(server))) == sorted(
        f"bytes={place}-{place + BLOCK - 1}" for place in places
    )


def test_more_than_a_block_may_come_in(gateway: Gateway, server: Server) -> None:
    data = os.urandom(2000 * KIB)
    gateway.install(publish(server, 1, app=data))
    more = os.urandom(50 * KIB + 1)
    new = inserted(data, 100 * KIB, more)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    first, middle = ranges(server)[:2]
    assert first == f"bytes={100 * KIB}-{100 * KIB + BLOCK - 1}"
    assert fetched(server) < len(more) + 4 * BLOCK
    assert middle != first


def test_new_content_costs_two_more_requests(gateway: Gateway, server: Server) -> None:
    gateway.install(publish(server, 1, app=os.urandom(2000 * KIB)))
    new = os.urandom(2000 * KIB)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert len(ranges(server)) == 3
    assert fetched(server) == len(new) + BLOCK  # the block in the middle comes twice


def test_a_first_install_asks_once(gateway: Gateway, server: Server) -> None:
    new = os.urandom(2000 * KIB)
    gateway.install(publish(server, 1, app=new))
    assert ranges(server) == [None]


def test_a_server_without_ranges_sends_what_moved_once(gateway: Gateway, server: Server) -> None:
    data = os.urandom(2000 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = inserted(data, 1000 * KIB, b"x")
    url = publish(server, 2, app=new)
    server.answers["/app"] = whole
    gateway.install(url)
    assert gateway.installed == {"app": new}
    assert len(ranges(server)) == 1


def test_a_server_that_lies_about_the_first_block_is_refused(
    gateway: Gateway, server: Server
) -> None:
    """Nothing is concluded from bytes that are not the signed ones."""
    data = os.urandom(2000 * KIB)
    gateway.install(publish(server, 1, app=data))
    url = publish(server, 2, app=b"x" + data)
    server.files["/app"] = bytes(2000 * KIB + 1)
    with refused("tampered.block", "block 0 of 4096 bytes"):
        gateway.install(url)
    assert len(ranges(server)) == 2
    assert gateway.installed == {"app": data}


def test_an_old_file_of_one_byte_over_and_over_is_searched_in_bounded_time(
    gateway: Gateway, server: Server
) -> None:
    gateway.install(publish(server, 1, app=bytes(2000 * KIB)))
    new = b"x" * 2000 * KIB
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}


def test_the_search_for_moved_blocks_is_bounded(gateway: Gateway, server: Server) -> None:
    """An insertion every 300 KiB: no more than so many blocks are fetched to look."""
    data = os.urandom(6000 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = b"".join(data[at : at + 300 * KIB] + b"x" for at in range(0, len(data), 300 * KIB))
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    alone = [one for one in ranges(server) if size_of(one) == BLOCK]
    assert len(alone) <= moved.MAX_PROBES
    assert len(ranges(server)) <= moved.MAX_PROBES + reuse.MAX_REQUESTS


def test_large_blocks_are_not_held_in_memory(gateway: Gateway, server: Server) -> None:
    size = 2 * moved.LARGEST_BLOCK
    data = os.urandom(2 * size)
    gateway.install(publish(server, 1, size, app=data))
    new = b"x" + data
    gateway.install(publish(server, 2, size, app=new))
    assert gateway.installed == {"app": new}
    assert ranges(server) == [None]


def test_blank_blocks_say_nothing_of_where_others_are(gateway: Gateway, server: Server) -> None:
    data = os.urandom(1000 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = bytes(BLOCK) + b"x" + data
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert fetched(server) < 4 * BLOCK  # the block in the middle says it


def test_an_old_file_that_goes_while_it_is_searched_costs_its_blocks(
    gateway: Gateway, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1000 * KIB)
    gateway.install(publish(server, 1, app=data))
    old = (gateway.target / "current/app").resolve()
    take = moved.Missing._take

    def cutting(*arguments: Any) -> None:
        take(*arguments)
        old.write_bytes(data[: 500 * KIB])

    monkeypatch.setattr(moved.Missing, "_take", cutting)
    new = b"x" + data
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert 490 * KIB < fetched(server) < 520 * KIB


def test_a_huge_old_file_is_not_read_over_and_over(
    gateway: Gateway, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = os.urandom(300 * KIB)
    gateway.install(publish(server, 1, BLOCK, small=small))
    huge = (gateway.target / "current/small").resolve()
    os.truncate(huge, 1 << 40)  # made of holes
    read: list[int] = []
    pread = os.pread

    def counting(handle: int, size: int, offset: int) -> bytes:
        found = pread(handle, size, offset)
        read.append(len(found))
        return found

    monkeypatch.setattr("fwsign.gateway.target.old_files.os.pread", counting)
    new = os.urandom(300 * KIB)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    bound = moved.MAX_SCANNED + moved.MAX_HASHED + reuse.MAX_SEARCHED + 1
    assert sum(read) < bound * len(new)


def size_of(found: str | None) -> int:
    """Return the bytes of a range."""
    first, _, last = str(found).removeprefix("bytes=").partition("-")
    return int(last) - int(first) + 1


def fetched(server: Server, path: str = "/app") -> int:
    """Return the bytes that were asked for."""
    return sum(map(size_of, ranges(server, path)))


# --- servers -------------------------------------------------------------------------------------


def whole(handler: Handler) -> None:
    """Give the whole file, whatever was asked for."""
    data = handler.files[handler.path]
    handler.head(200, {"Content-Length": str(len(data))})
    handler.wfile.write(data)


def test_a_server_without_ranges_sends_the_file_once(gateway: Gateway, server: Server) -> None:
    data = os.urandom(800 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = changed(data, 100 * KIB, 400 * KIB, 700 * KIB)
    url = publish(server, 2, app=new)
    server.answers["/app"] = whole
    gateway.install(url)
    assert gateway.installed == {"app": new}
    assert len(ranges(server)) == 1


def test_a_server_without_ranges_that_has_more_is_noticed(gateway: Gateway, server: Server) -> None:
    data = os.urandom(800 * KIB)
    gateway.install(publish(server, 1, app=data))
    url = publish(server, 2, app=changed(data, 100 * KIB))
    server.files["/app"] += b"!"
    server.answers["/app"] = whole
    with refused("tampered.payload-size", f"more than {800 * KIB} bytes"):
        gateway.install(url)
    assert gateway.installed == {"app": data}


def test_a_server_that_ends_early_is_asked_again(gateway: Gateway, server: Server) -> None:
    data = os.urandom(800 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = data[: 100 * KIB] + os.urandom(600 * KIB) + data[700 * KIB :]
    url = publish(server, 2, app=new)
    server.answers["/app"] = lambda handler: handler.give(most=300_000)
    gateway.install(url)
    assert gateway.installed == {"app": new}
    first, middle = 100 * KIB, 400 * KIB
    assert ranges(server)[:4] == [
        f"bytes={first}-{first + BLOCK - 1}",  # has anything moved?
        f"bytes={middle}-{middle + BLOCK - 1}",
        f"bytes={first + BLOCK}-{700 * KIB - 1}",
        f"bytes={first + BLOCK + 300_000}-{700 * KIB - 1}",
    ]


def test_a_server_that_lies_about_a_range_is_refused(gateway: Gateway, server: Server) -> None:
    data = os.urandom(800 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = changed(data, 100 * KIB)
    url = publish(server, 2, app=new)

    def lie(handler: Handler) -> None:
        body = bytes(BLOCK)
        place = f"bytes {handler.start}-{handler.start + BLOCK - 1}/{len(new)}"
        handler.head(206, {"Content-Range": place, "Content-Length": str(BLOCK)})
        handler.wfile.write(body)

    server.answers["/app"] = lie
    with refused("tampered.block", "block 25 of 4096 bytes"):
        gateway.install(url)
    for place in (f"bytes 0-{BLOCK - 1}/{len(new)}", "bytes 102401-102500/999999", "x"):
        headers = {"Content-Range": place, "Content-Length": "0"}

        def other(handler: Handler, headers: dict[str, str] = headers) -> None:
            handler.head(206, headers)

        server.answers["/app"] = other
        with refused("io.fetch-range"):
            gateway.install(url)
    assert gateway.installed == {"app": data}


def test_a_server_that_sends_more_than_the_range_is_read_to_its_end_only(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(800 * KIB)
    gateway.install(publish(server, 1, app=data))
    new = changed(data, 100 * KIB, 500 * KIB)
    url = publish(server, 2, app=new)

    def more(handler: Handler) -> None:
        rest = new[handler.start :]
        place = f"bytes {handler.start}-{len(new) - 1}/{len(new)}"
        handler.head(206, {"Content-Range": place, "Content-Length": str(len(rest))})
        handler.wfile.write(rest)

    server.answers["/app"] = more
    gateway.install(url)
    assert gateway.installed == {"app": new}
    assert len(ranges(server)) == 2


# --- old files -----------------------------------------------------------------------------------


def test_a_damaged_old_file_costs_its_blocks_and_nothing_else(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(400 * KIB)
    gateway.install(publish(server, 1, app=data))
    old = (gateway.target / "current/app").resolve()
    old.write_bytes(changed(data, 200 * KIB))
    new = changed(data, 0)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert ranges(server) == [
        f"bytes=0-{BLOCK - 1}",
        f"bytes={200 * KIB}-{200 * KIB + BLOCK - 1}",
    ]
    assert old.read_bytes() == changed(data, 200 * KIB)  # it is only read


def test_an_old_file_that_changes_while_it_is_read_is_not_taken(
    gateway: Gateway, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(400 * KIB)
    gateway.install(publish(server, 1, app=data))
    old = (gateway.target / "current/app").resolve()
    find = reuse._find

    def swapping(*arguments: Any) -> Any:
        found = find(*arguments)
        old.write_bytes(changed(data, 200 * KIB)[: 300 * KIB])
        return found

    monkeypatch.setattr(reuse, "_find", swapping)
    new = changed(data, 0)
    gateway.install(publish(server, 2, app=new))
    assert gateway.installed == {"app": new}
    assert ranges(server)[:2] == [
        f"bytes=0-{BLOCK - 1}",
        f"bytes={200 * KIB}-{200 * KIB + BLOCK - 1}",
    ]
    assert len(ranges(server)) == 2 + 100 * KIB // BLOCK


def test_an_old_file_that_cannot_be_read_is_passed_over(
    gateway: Gateway, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(400 * KIB)
    gateway.install(publish(server, 1, app=data))

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fwsign.gateway.target.old_files.os.pread", broken)
    gateway.install(publish(server, 2, app=changed(data, 0)))
    assert gateway.installed == {"app": changed(data, 0)}
    assert ranges(server) == [
        f"bytes=0-{BLOCK - 1}",
        f"bytes={200 * KIB}-{200 * KIB + BLOCK - 1}",
        f"bytes={BLOCK}-{400 * KIB - 1}",
    ]


def test_what_is_no_file_is_no_old_file(gateway: Gateway, server: Server, tmp_path: Path) -> None:
    data = os.urandom(100 * KIB)
    gateway.install(publish(server, 1, app=data))
    version = (gateway.target / "current").resolve()
    elsewhere = tmp_path / "elsewhere"
    (version / "app").rename(elsewhere)
    (version / "app").symlink_to(elsewhere)
    os.mkfifo(version / "pipe")
    gateway.install(publish(server, 2, app=changed(data, 0)))
    assert gateway.installed == {"app": changed(data, 0)}
    assert ranges(server) == [None]


def test_files_with_blocks_are_closed(gateway: Gateway, server: Server) -> None:
    data = os.urandom(100 * KIB)
    gateway.install(publish(server, 1, app=data))
    gateway.install(publish(server, 2, app=changed(data, 0)))
    handles = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert not [one for one in handles if one.readlink().is_relative_to(gateway.target)]


def test_payloads_from_files_are_read_once(gateway: Gateway, server: Server) -> None:
    """From a pipe nothing can be left out."""
    data = os.urandom(100 * KIB)
    gateway.install(publish(server, 1, app=data))
    publish(server, 2, app=changed(data, 0))
    folder = gateway.base / "stick"
    folder.mkdir()
    (folder / "u.suit").write_bytes(server.files["/u.suit"])
    (folder / "app").write_bytes(changed(data, 0))
    gateway.install(folder / "u.suit")
    assert gateway.installed == {"app": changed(data, 0)}
    assert server.requests == []


def test_without_a_block_list_the_file_is_fetched(gateway: Gateway, server: Server) -> None:
    data = os.urandom(100 * KIB)
    gateway.install(publish(server, 1, app=data))
    envelope = gateway.release(2, {"app": changed(data, 0)})
    server.files.update({"/u.suit": envelope.read_bytes(), "/app": changed(data, 0)})
    server.requests.clear()
    gateway.install(server.url("/u.suit"))
    assert gateway.installed == {"app": changed(data, 0)}
    assert ranges(server) == [None]


def test_the_search_is_bounded(tmp_path: Path) -> None:
    for number in range(2 * old_files.MAX_FILES):
        (tmp_path / f"{number}").write_bytes(b"x")
    (tmp_path / "app").write_bytes(b"y")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        found = old_files.likely_files([folder], component(b"", "app"))
    finally:
        os.close(folder)
    assert len(found) == old_files.MAX_FILES
    assert found[0] == (folder, "./app")


def test_a_file_whose_name_has_a_version_is_found_by_its_size(
    gateway: Gateway, server: Server
) -> None:
    data = os.urandom(40 * KIB)
    others = {f"a{number}": os.urandom(200 * KIB) for number in range(3)}
    gateway.install(publish(server, 1, BLOCK, **others, app_1=data))
    gateway.install(publish(server, 2, BLOCK, app_2=data + b"more"))
    assert gateway.installed == {"app_2": data + b"more"}
    assert ranges(server, "/app_2") == [f"bytes={40 * KIB}-{40 * KIB + 3}"]


def test_kept_payloads_have_blocks(gateway: Gateway, server: Server) -> None:
    """Those of a release that may come back, for commands and boards, lie beside the versions."""
    data = os.urandom(100 * KIB)
    kept = gateway.target / ".fwsign/kept/abc/others"
    kept.mkdir(parents=True)
    for folder in (kept.parent.parent.parent, kept.parent.parent, kept.parent, kept):
        folder.chmod(0o700)
    (kept / "0").write_bytes(data)
    gateway.install(publish(server, 1, app=changed(data, 0)))
    assert gateway.installed == {"app": changed(data, 0)}
    assert ranges(server) == [f"bytes=0-{BLOCK - 1}"]


def test_old_files_are_searched_for_a_few_sizes_of_the_payload(
    gateway: Gateway, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = os.urandom(BLOCK), os.urandom(100 * BLOCK)
    gateway.install(publish(server, 1, large=large + small))
    read: list[int] = []
    pread = os.pread

    def counting(handle: int, size: int, offset: int) -> bytes:
        found = pread(handle, size, offset)
        read.append(len(found))
        return found

    monkeypatch.setattr("fwsign.gateway.target.old_files.os.pread", counting)
    gateway.install(publish(server, 2, app=small))
    assert gateway.installed == {"app": small}
    assert BLOCK < sum(read) < (reuse.MAX_SEARCHED + 1) * BLOCK
    assert ranges(server) == [None]


@pytest.mark.parametrize("start", [0, 3, 50])
def test_ranges_cover_what_is_missing_once_and_in_order(start: int) -> None:
    for seed in range(200):
        generator = random.Random(seed)
        count = generator.choice([1, 2, 60, 200])
        size = generator.choice([BLOCK, 64 * KIB])
        last = generator.randint(1, size)
        part = component(bytes(1))._replace(size=(count - 1) * size + last)
        blocks = Blocks(size, bytes(32 * count))
        here = generator.random()
        found = {n: Place(0, 0) for n in range(count) if generator.random() < here}
        got = list(reuse._ranges(part, blocks, min(start, count) * size, found))
        covered = [n for a, b in got for n in range(a // size, -(-b // size))]
        assert covered == sorted(set(covered))
        assert {n for n in range(min(start, count), count) if n not in found} <= set(covered)
        assert len(got) <= reuse.MAX_REQUESTS
        assert all(a < b <= part.size for a, b in got)
        assert all(a // size not in found for a, _ in got)
