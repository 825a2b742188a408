"""Files of boards: their forms and limits. The verdicts are tested with the command."""

import json

import pytest

from flash.kit import board_info
from fwsign.errors import Failed
from fwsign.flash import rehearse
from fwsign.flash.receipt import board_facts
from fwsign.flash.rehearse import KnownBoard, KnownKeys, read_boards

BOARD = {"board": {"identity": "mac:01", "chip": "esp32c6", "locks": ["secure boot"]}}
KNOWN = KnownBoard("mac:01", "esp32c6", locked=True, secure_boot=None)


@pytest.mark.parametrize(
    "content",
    [
        BOARD,
        [BOARD],
        {"ports": [{"port": "COM3"}, {"port": "COM4", **BOARD}]},
        {"boards": [BOARD]},
        {"receipt": BOARD},
        [{"receipt": BOARD}],
    ],
)
def test_each_form_is_read(content: object) -> None:
    assert read_boards(json.dumps(content).encode(), "file") == [KNOWN]


def test_a_line_for_each_board_and_the_last_answer_counts() -> None:
    facts = {"kind": "esp-secure-boot-v2", "key_digests": ["ab" * 32], "revoked": ["cd" * 32]}
    later = {"board": {**BOARD["board"], "secure_boot": facts}}
    lines = "\n".join(json.dumps(one) for one in (BOARD, {"other": 1}, later)) + "\n\n"
    known = KnownKeys("esp-secure-boot-v2", (b"\xab" * 32,), (b"\xcd" * 32,))
    assert read_boards(lines.encode(), "file") == [KNOWN._replace(secure_boot=known)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff", "expected json, found "),
        (b"[" * 100_000, "expected json, found "),
        (b"[[[[[" + json.dumps(BOARD).encode() + b"]]]]]", 'expected an object with "board"'),
        (
            b'{"board": {"identity": "a", "secure_boot": {"kind": "rp2350", "key_digests": 1}}}',
            "expected secure_boot of a with kind, digests in hex and a number, found ",
        ),
        (
            b'{"board": {"identity": "a", "secure_boot": {"kind": "rp2350", "key_digests": [""]}}}',
            "expected secure_boot of a with kind, digests in hex and a number, found ",
        ),
        (  # a digest that was cut short would fit many keys
            (
                b'{"board": {"identity": "a", "secure_boot": {"kind": "rp2350", '
                b'"key_digests": ["abab"]}}}'
            ),
            "expected secure_boot of a with kind, digests in hex and a number, found ",
        ),
        (
            (
                b'{"board": {"identity": "a", "secure_boot": {"kind": "rp2350", '
                b'"key_digests": null, "security_version": -1}}}'
            ),
            "expected secure_boot of a with kind, digests in hex and a number, found ",
        ),
    ],
)
def test_other_content_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Failed) as refusal:
        read_boards(data, "file")
    assert refusal.value.code == "io.format"
    assert refusal.value.message.startswith(f"file: {words}")


def test_the_number_of_boards_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearse, "MAX_BOARDS", 1)
    two = [{"board": {"identity": name}} for name in ("a", "b")]
    with pytest.raises(Failed) as refusal:
        read_boards(json.dumps(two).encode(), "file")
    assert (refusal.value.code, refusal.value.message) == (
        "state.limit",
        "file has more than 1 boards",
    )


@pytest.mark.parametrize(
    ("kind", "chip", "scheme"),
    [("esp", "esp32c6", "esp-secure-boot-v2"), ("pico-uf2", "rp2350", "rp2350")],
)
def test_what_a_locked_board_told_is_read_again(kind: str, chip: str, scheme: str) -> None:
    """An RP2350 tells that its boot is secure, and neither keys nor versions."""
    info = board_info(kind=kind, chip=chip, identity="chipid:01", locks=("secure boot",))
    told = json.dumps({"board": board_facts(info)}).encode()
    (board,) = read_boards(told, "file")
    assert board == KnownBoard("chipid:01", chip, locked=True, secure_boot=KnownKeys(scheme, None))
