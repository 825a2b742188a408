"""What all exchanges with servers share: deadlines, limits, addresses."""

import threading
import time

import pytest

from fwsign.keys.exchange import KeyServer, check_address, within
from support import refused


def test_a_call_is_left_when_its_time_is_up() -> None:
    gate = threading.Event()
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer in 0\.05 seconds"):
        within(0.05, gate.wait)
    assert time.monotonic() < begin + 5
    gate.set()
    assert within(5, lambda: 17) == 17


def test_an_error_of_the_call_is_that_of_the_caller() -> None:
    def broken() -> None:
        raise KeyError("one")

    with pytest.raises(KeyError, match="one"):
        within(5, broken)


def test_a_process_that_ends_starts_no_thread_and_calls_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert within(5, lambda: 17) == 17


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://h", "https://h:443"),
        ("https://h:8200/", "https://h:8200"),
        ("HTTPS://H", "https://h:443"),
        ("https://[::1]:8200", "https://[::1]:8200"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.9.9.9", "http://127.9.9.9:80"),
        ("http://[::1]", "http://[::1]:80"),
        ("http://localhost", "http://localhost:80"),
    ],
)
def test_an_address_is_shown_in_one_form(address: str, expected: str) -> None:
    assert KeyServer(address, None).address == expected


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://0.0.0.0",
        "http://[::]",
        "http://2130706433",
    ],
)
def test_only_a_loopback_address_does_without_tls(address: str) -> None:
    with refused("key.unsupported", "has no TLS, which only a server on this machine may do"):
        check_address(address)


@pytest.mark.parametrize(
    "address",
    ["", "h", "//h", "https:h", "https://h:0", "https://h:x", "https://h ", "https://h/a",
     "https://h?a", "https://h#a", "https://u@h", "https://u:p@h", "https://hä", "https://[h",
     "unix:///run/bao", "https://h\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with refused("key.unsupported", "the address of the key's server is not https://HOST or"):
        check_address(address)
