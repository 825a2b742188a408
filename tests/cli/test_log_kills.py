"""Killed at any step, signing leaves no envelope or a complete one, and a log that verifies."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cli.kit import good
from fwsign.errors import FwsignError
from fwsign.format.envelope import check_manifest_digest, decode_envelope
from fwsign.pki.log import FILE, read_log, verify_log
from pki_kit import at_file_event, fork, needs_fork, run_myself
from support import stride

STEPS = ("write", "fsync", "ftruncate", "lseek", "close")
"""Calls that no audit event announces."""


def at_call(count: int) -> None:
    """Kill this process at a call of `STEPS`, the `count`th; of a write, half is done."""
    left = count

    def counting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(handle: int, *more: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                if name == "write":
                    data = bytes(more[0])  # type: ignore[call-overload]
                    real(handle, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(handle, *more)

        return call

    for name in STEPS:
        setattr(os, name, counting(name, getattr(os, name)))


def check(base: Path, names: tuple[str, ...], heads: list[str]) -> None:
    """Judge what a killed run left: envelopes whole and in the log, the log whole."""
    log = base / "pki" / FILE
    whole = verify_log(log, heads[-1])  # nothing that was there before is gone
    heads.append(str(whole.head))
    logged = {one.content.get("sha256") for one in read_log(log)}
    for name in names:
        path = base / name
        if path.exists():
            digest = check_manifest_digest(decode_envelope(path.read_bytes()))
            assert digest.hex() in logged, name


def kill_everywhere(
    what: str, base: Path, action: Callable[[int], object], names: tuple[str, ...]
) -> None:
    """Kill an action at its first step, its second, and so on, until it lives."""
    heads = [str(verify_log(base / "pki" / FILE).head)]
    step = 0
    for arm in (at_file_event, at_call):
        lived = False
        first = step
        while not lived:
            step += 1 if arm is at_call else stride(3)
            lived = fork(partial(action, step), partial(arm, step - first))
            check(base, names, heads)
    print(what, step)  # for the test that started this


def kill(base: Path) -> None:
    os.chdir(base)
    sys.stdout.flush()
    (base / "a.bin").write_bytes(b"a" * 1000)
    (base / "b.bin").write_bytes(b"b" * 1000)
    more = ("--org", "Acme", "--vendor", "acme.example", "--product", "x1", "--no-passphrase")
    good("init", ".", *more)
    good("sign", "a.bin", "--sequence", 1)  # what it imports is there from now on

    def sign(number: int) -> None:
        good("sign", "a.bin", "b.bin", "--force", "--sequence", number + 1)

    kill_everywhere("sign", base, sign, ("a.bin.suit", "b.bin.suit"))
    good("verify", "a.bin.suit")
    good("verify", "b.bin.suit")

    from fwsign.keys.file import FileSigner, load_private_key

    good("digest", "a.bin")
    key = FileSigner(load_private_key(base / "pki/private/release.key", lambda: None))
    (base / "sig").write_bytes(key.sign((base / "a.bin.tbs").read_bytes()))
    good("attach", "a.bin.request", "sig", "-o", "first.suit")

    def attach(number: int) -> None:
        (base / "c.suit").unlink(missing_ok=True)
        good("attach", "a.bin.request", "sig", "-o", "c.suit")
        assert number

    kill_everywhere("attach", base, attach, ("c.suit",))
    good("verify", "c.suit", "a.bin")


@needs_fork
def test_killed_at_each_step_no_envelope_is_out_of_the_log(tmp_path: Path) -> None:
    steps = run_myself(__file__, "kill", tmp_path)
    assert set(steps) == {"sign", "attach"}
    assert all(count > 20 for count in steps.values()), steps


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](Path(sys.argv[2]))
    except FwsignError as error:
        sys.exit(error.message)
