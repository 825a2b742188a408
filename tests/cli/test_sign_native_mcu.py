"""`fwsign sign --native` for MCUboot and the RP2350, and `trust rehearse --boards`."""

import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.kit import SAMPLES, good, refused, run
from fwsign.format.native import KINDS
from fwsign.native import esp_block, mcuboot, rp2350
from fwsign.native.mcuboot_keys import key_hash
from native_kit import app, key_file, private

LAYOUT = ("--native-option", "header-size=0x200", "--native-option", "pad-header")


@pytest.fixture(autouse=True)
def _keys(project: Path) -> None:
    """A project with keys for chips."""
    for name in ("p256 old", "p256 new"):
        key_file(project, name)
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (project / "k1.key").write_bytes(_k1().private_bytes(*form))


@cache
def _k1() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256K1())


def digest(name: str, kind: str) -> str:
    public = private(name).public_key()
    made = esp_block.digest_of_key(public) if kind == KINDS[0] else key_hash(public, "SHA-256")
    return made.hex()


def test_an_image_for_mcuboot_is_signed_shown_and_verified() -> None:
    Path("app.bin").write_bytes(bytes(5000))
    words = ("app.bin", "--target", "nrf52840@0x10000", "--native", "mcuboot", *LAYOUT)
    keys = ("--native-key", "p256-old.key", "--native-key", "p256-new.key")
    good("sign", *words, *keys, "--security-version", 4)
    image = Path("app.signed.bin").read_bytes()
    found = mcuboot.read(image, [private("p256 new").public_key()])
    assert found is not None
    assert found.security_version == 4
    assert [one.hex() for one in found.key_digests] == [
        digest(name, "mcuboot") for name in ("p256 old", "p256 new")
    ]
    # Nothing that was not checked is called so.
    shown = good("show", "app.signed.bin")
    left = "ECDSA P-256 (not checked: the image has no key)"
    assert f"native keys: {digest('p256 old', 'mcuboot')} {left}\n" in shown
    said = good("verify", "app.signed.bin.suit")
    assert "; its boot loader has the keys, no signature is checked here\n" in said
    told = json.loads(good("verify", "app.signed.bin.suit", "--json"))
    assert told["release"]["components"][0]["native"]["signature_checked"] is False


def test_another_counter_makes_another_image() -> None:
    Path("app.bin").write_bytes(bytes(5000))
    words = ("app.bin", "--target", "nrf52840@0x10000", "--native", "mcuboot", *LAYOUT)
    key = ("--native-key", "p256-old.key", "--sequence", 1)
    good("sign", *words, *key, "--security-version", 4)
    again = run("sign", *words, *key, "--security-version", 4)
    assert again.status == 0
    assert "app.signed.bin unchanged" in again.err
    refused(
        run("sign", *words, *key, "--security-version", 5),
        5,
        "app.signed.bin exists already, with another image",
        "--force replaces images that fwsign signed natively",
    )
    good("sign", *words, *key, "--security-version", 5, "--force")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ("header-size=many",),
            'mcuboot: option "header-size": expected a number such as 512 or 0x200, found "many"',
        ),
        (("headersize=1",), None),
        ((), "header size: expected 32 to 65535 bytes, for an image without, found 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: tuple[str, ...], error: str | None) -> None:
    Path("app.bin").write_bytes(bytes(5000))
    words = [word for one in options for word in ("--native-option", one)]
    found = run(
        "sign", "app.bin", "--target", "nrf52840@0x10000", "--native", "mcuboot",
        "--native-key", "p256-old.key", *words,
    )  # fmt: skip
    assert found.status == 5
    if error is None:
        assert found.errors[0].startswith('error: mcuboot: no option "headersize", expected ')
        assert found.errors[1] == "hint: did you mean header-size?"
    else:
        assert found.errors[0] == f"error: {error}"
        if not options:
            hint = "--native-option header-size=0x200 names it, and pad-header puts it before the "
            assert found.errors[1] == f"hint: {hint}image"
    assert not Path("app.signed.bin").exists()


def test_more_keys_than_a_release_states_are_refused() -> None:
    """MCUboot's images may have them; verify would refuse a release that names only some."""
    Path("app.bin").write_bytes(bytes(1000))
    names = [f"p256 {number}" for number in range(9)]
    keys = [word for one in names for word in ("--native-key", key_file(Path(), one).name)]
    words = ("app.bin", "--target", "nrf52840@0x10000", "--native", "mcuboot", *LAYOUT)
    found = run("sign", *words, *keys)
    error = "error: mcuboot: a release states at most 8 keys, and 9 signed the image"
    assert (found.status, found.errors[0]) == (5, error)
    assert not Path("app.signed.bin").exists()
    assert not Path("app.signed.bin.suit").exists()
    good("sign", *words, *keys[:-2])
    good("verify", "app.signed.bin.suit")


def test_a_uf2_file_is_sealed_with_the_json_for_otp() -> None:
    shutil.copyfile(SAMPLES / "blink-rp2350.uf2", "blink.uf2")
    words = (
        "blink.uf2",
        "--native",
        "rp2350",
        "--native-key",
        "k1.key",
        "--native-otp",
        "otp.json",
    )
    good("sign", *words, "--security-version", 2, "--sequence", 1)
    found = rp2350.read(Path("blink.signed.uf2").read_bytes())
    assert found is not None
    assert found.security_version == 2
    otp = json.loads(Path("otp.json").read_text(encoding="utf-8"))
    assert bytes(otp["bootkey0"]) == found.key_digests[0]
    assert otp["crit1"] == {"secure_boot_enable": 1}
    again = good("sign", *words, "--security-version", 2, "--sequence", 1)
    assert again == "blink.signed.uf2.suit\n"
    Path("otp.json").write_text("{}", encoding="utf-8")
    Path("blink.signed.uf2").unlink()
    refused(
        run("sign", *words, "--security-version", 2, "--sequence", 1),
        5,
        "otp.json exists already, with other content",
        "--native-otp names another file, --force replaces this one",
    )
    assert not Path("blink.signed.uf2").exists()  # nothing was signed for it
    good("sign", *words, "--security-version", 2, "--sequence", 1, "--force")
    assert json.loads(Path("otp.json").read_text(encoding="utf-8")) == otp


@pytest.mark.parametrize(
    "words",
    [
        ("--native-otp", "otp.json"),
        ("--native", "rp2350", "--native-otp", "otp.json"),
        ("--native", "mcuboot", "--native-key", "p256-old.key", "--native-otp", "otp.json"),
    ],
)
def test_otp_is_for_a_key_of_an_rp2350(words: tuple[str, ...]) -> None:
    Path("app.bin").write_bytes(bytes(500))
    found = run("sign", "app.bin", *words)
    assert found.status == 2
    assert found.errors[0].startswith("error: --native-otp without --native")
    assert not Path("otp.json").exists()


def test_a_key_that_the_chip_does_not_know_is_refused() -> None:
    shutil.copyfile(SAMPLES / "blink-rp2350.uf2", "blink.uf2")
    found = run("sign", "blink.uf2", "--native", "rp2350", "--native-key", "p256-old.key")
    assert found.status == 5
    assert (
        found.errors[0] == "error: rp2350: the boot ROM knows keys of secp256k1 alone, found P-256"
    )


# --- boards that are sold already -------------------------------------------------------------


def board(name: str, *keys: str, **more: Any) -> dict[str, Any]:
    """Return a board as a receipt has it."""
    facts = {
        "kind": KINDS[0],
        "key_digests": [digest(one, KINDS[0]) for one in keys],
        "revoked": [],
        "security_version": 0,
    }
    return {
        "kind": "flash",
        "board": {
            "identity": name,
            "chip": "esp32c6",
            "locks": ["secure boot"],
            "secure_boot": facts | more,
        },
    }


def write_boards(path: str, *boards: Mapping[str, Any]) -> None:
    lines = "".join(json.dumps(one) + "\n" for one in boards)
    Path(path).write_text(lines, encoding="utf-8")


def release(name: str, *keys: str, version: int = 7, sequence: int = 1) -> str:
    """Sign a release of an ESP's application, natively by keys; return the envelope's name."""
    Path(f"{name}.bin").write_bytes(app("esp32c6", version))
    words = [word for key in keys for word in ("--native-key", f"{key.replace(' ', '-')}.key")]
    native = ("--native", KINDS[0], *words) if keys else ()
    target = ("--target", "esp32c6@0x10000", "--sequence", sequence)
    return good("sign", f"{name}.bin", *target, *native).strip()


OLD, NEW = "p256 old", "p256 new"


def test_a_bridge_is_accepted_by_boards_of_both_generations() -> None:
    write_boards(
        "boards.jsonl",
        board("mac:01", OLD),
        board("mac:02", OLD, NEW),
        board("mac:03", NEW, revoked=[digest(OLD, KINDS[0])]),
    )
    old, new, bridge = release("old", OLD), release("new", NEW), release("both", OLD, NEW)
    assert good("trust", "rehearse", "--boards", "boards.jsonl", bridge) == (
        "accepts  mac:01 (esp32c6)\n"
        "accepts  mac:02 (esp32c6)\n"
        "accepts  mac:03 (esp32c6)\n"
        "0 of 3 boards would be stranded\n"
    )
    found = run("trust", "rehearse", "--boards", "boards.jsonl", new)
    words = (
        "no key that the board's secure boot knows has signed esp32c6@0x10000: "
        f"expected {digest(OLD, KINDS[0])}, found {digest(NEW, KINDS[0])}"
    )
    assert (found.status, found.out) == (
        3,
        (
            f"stranded  mac:01 (esp32c6): {words}\n"
            "accepts  mac:02 (esp32c6)\n"
            "accepts  mac:03 (esp32c6)\n"
            "1 of 3 boards would be stranded\n"
        ),
    )
    found = run("trust", "rehearse", "--boards", "boards.jsonl", bridge, old, "--json")
    told = json.loads(found.out)
    assert (found.status, told["verdict"], told["devices"]) == (3, "stranded", [])
    assert [(one["board"], one["verdict"], one["release"]) for one in told["boards"]] == [
        ("mac:01", "accepts", None),
        ("mac:02", "accepts", None),
        ("mac:03", "stranded", old),
    ]
    assert told["boards"][2]["code"] == "unsuitable.locked"


def test_a_release_raises_the_number_against_rollback() -> None:
    write_boards("boards.jsonl", board("mac:01", OLD))
    newer, older = release("newer", OLD, version=9), release("older", OLD, version=8)
    good("trust", "rehearse", "--boards", "boards.jsonl", older, newer)
    found = run("trust", "rehearse", "--boards", "boards.jsonl", newer, older)
    assert found.status == 3
    assert found.out.startswith(
        f"stranded  mac:01 (esp32c6) by {older}: esp32c6@0x10000 has security version 8, "
        "the chip 9: "
    )


def test_what_cannot_be_told_is_a_finding() -> None:
    unlocked = board("mac:04")
    unlocked["board"] |= {"locks": [], "secure_boot": None}
    write_boards(
        "boards.jsonl",
        board("mac:01", OLD),
        board("mac:02", key_digests=None),
        board("mac:03", OLD) | {"board": board("mac:03")["board"] | {"chip": "esp32s3"}},
        unlocked,
        {"board": {"identity": "mac:05", "chip": "esp32c6", "locks": ["secure boot"]}},
    )
    found = run("trust", "rehearse", "--boards", "boards.jsonl", release("plain"))
    assert (found.status, found.out) == (
        3,
        (
            "unknown  mac:01 (esp32c6): the release states no native signature\n"
            "unknown  mac:02 (esp32c6): the board's keys are not known\n"
            "other  mac:03 (esp32s3): the release is for esp32c6, the board is esp32s3\n"
            "accepts  mac:04 (esp32c6)\n"
            "unknown  mac:05 (esp32c6): the board's keys are not known\n"
            "0 of 5 boards would be stranded, 3 cannot be told\n"
        ),
    )


def test_boards_of_other_kinds_are_written_down_by_hand() -> None:
    shutil.copyfile(SAMPLES / "blink-rp2350.uf2", "blink.uf2")
    sealed = ("--native", "rp2350", "--native-key", "k1.key", "--security-version", 3)
    envelope = good("sign", "blink.uf2", *sealed).strip()
    made = rp2350.read(Path("blink.signed.uf2").read_bytes())
    assert made is not None
    key = made.key_digests[0].hex()

    def known(label: str, **more: Any) -> dict[str, Any]:
        facts = {"kind": "rp2350", "key_digests": [key], "security_version": 3}
        return {"label": label, "board": {"chip": "rp2350", "secure_boot": facts | more}}

    boards = [
        known("slot 1"),
        known("slot 2", security_version=4),
        known("slot 3", key_digests=["00" * 32], revoked=[key]),
        known("slot 4", kind="mcuboot"),
    ]
    Path("boards.json").write_text(json.dumps({"boards": boards}), encoding="utf-8")
    found = run("trust", "rehearse", "--boards", "boards.json", envelope)
    lines = found.out.splitlines()
    assert found.status == 3
    assert lines[0] == "accepts  slot 1 (rp2350)"
    assert lines[1].startswith("stranded  slot 2 (rp2350): rp2350@0x0 has security version 3, ")
    assert lines[2].startswith("stranded  slot 3 (rp2350): no key that the board's secure boot ")
    assert lines[3] == (
        "stranded  slot 4 (rp2350): the board checks mcuboot, rp2350@0x0 is signed for rp2350"
    )


def test_an_esp_written_down_by_hand_without_locks_has_secure_boot() -> None:
    """Keys are listed of a board that checks them; `locks` is what a chip told."""
    by_hand = board("mac:01", OLD)
    del by_hand["board"]["locks"]
    told = board("mac:02", OLD)
    told["board"]["locks"] = []
    first = {"identity": "mac:03", "chip": "esp32c6", "locks": ["secure boot v1"]}
    write_boards("boards.jsonl", by_hand, told, {"board": first})
    found = run("trust", "rehearse", "--boards", "boards.jsonl", release("new", NEW))
    words = (
        "no key that the board's secure boot knows has signed esp32c6@0x10000: "
        f"expected {digest(OLD, KINDS[0])}, found {digest(NEW, KINDS[0])}"
    )
    assert (found.status, found.out.splitlines()) == (
        3,
        [
            f"stranded  mac:01 (esp32c6): {words}",
            "accepts  mac:02 (esp32c6)",
            "unknown  mac:03 (esp32c6): the board's keys are not known",
            "1 of 3 boards would be stranded, 1 cannot be told",
        ],
    )


def test_a_revoked_key_counts_nowhere() -> None:
    """Who writes a board down may list a revoked key among all that were burnt."""
    revoked = [digest(OLD, KINDS[0])]
    write_boards("boards.jsonl", board("mac:01", OLD, NEW, revoked=revoked))
    found = run("trust", "rehearse", "--boards", "boards.jsonl", release("old", OLD))
    assert found.status == 3
    assert found.out.startswith(
        "stranded  mac:01 (esp32c6): no key that the board's secure boot knows has signed "
        f"esp32c6@0x10000: expected {digest(NEW, KINDS[0])}, found {digest(OLD, KINDS[0])}\n"
    )
    good("trust", "rehearse", "--boards", "boards.jsonl", release("new", NEW))


def test_a_board_that_counts_versions_takes_no_image_without_one() -> None:
    """The ROM of an RP2350 and MCUboot refuse it; of an ESP's boot loader none has a number."""
    shutil.copyfile(SAMPLES / "blink-rp2350.uf2", "blink.uf2")
    envelope = good("sign", "blink.uf2", "--native", "rp2350", "--native-key", "k1.key").strip()
    made = rp2350.read(Path("blink.signed.uf2").read_bytes())
    assert made is not None
    facts = {"kind": "rp2350", "key_digests": [made.key_digests[0].hex()]}
    boards = [
        {"label": str(least), "board": {"secure_boot": facts | {"security_version": least}}}
        for least in (None, 0, 3)
    ]
    Path("boards.json").write_text(json.dumps(boards), encoding="utf-8")
    found = run("trust", "rehearse", "--boards", "boards.json", envelope)
    assert (found.status, found.out.splitlines()) == (
        3,
        [
            "accepts  None",
            "accepts  0",
            "stranded  3: rp2350@0x0 has security version none, the chip 3: it starts no older one",
            "1 of 3 boards would be stranded",
        ],
    )


def test_what_a_simulated_board_tells_is_rehearsed() -> None:
    """The whole way: ask boards, keep their answers, rehearse."""
    keys = [f"key={digest(OLD, KINDS[0])}:revoked", f"key={digest(NEW, KINDS[0])}"]
    port = f"sim:esp32c6?lock=secure-boot&{'&'.join(keys)}&security-version=3"
    told = good("board", port, "--json")
    assert json.loads(told)["board"]["secure_boot"] == {
        "kind": KINDS[0],
        "key_digests": [digest(NEW, KINDS[0])],
        "revoked": [digest(OLD, KINDS[0])],
        "security_version": 3,
    }
    Path("boards.json").write_text(told, encoding="utf-8")
    good("trust", "rehearse", "--boards", "boards.json", release("new", NEW))
    assert run("trust", "rehearse", "--boards", "boards.json", release("old", OLD)).status == 3
    assert (
        run("trust", "rehearse", "--boards", "boards.json", release("x", NEW, version=2)).status
        == 3
    )


@pytest.mark.parametrize(
    ("content", "expected", "found"),
    [
        ("", 'an object with "board"', "none"),
        ("[]", 'an object with "board"', "none"),
        ("{", "json", None),
        ('{"board": {"chip": "esp32c6"}}', "a board with an identity, a label or a port", None),
        (
            '{"board": {"identity": "a", "chip": 1}}',
            "chip and locks of a",
            "1, []",
        ),
        (
            '{"board": {"identity": "a", "secure_boot": {"kind": "mcuboot"}}}',
            "secure_boot of a with kind, digests in hex and a number",
            '{"kind": "mcuboot"}',
        ),
        (
            '{"board": {"identity": "a", "secure_boot": {"kind": "other", "key_digests": []}}}',
            "secure_boot of a with kind, digests in hex and a number",
            '{"kind": "other", "key_digests": []}',
        ),
        (
            '{"board": {"identity": "a", "secure_boot": {"kind": "rp2350", "key_digests": ["x"]}}}',
            "secure_boot of a with kind, digests in hex and a number",
            '{"kind": "rp2350", "key_digests": ["x"]}',
        ),
        (
            (
                '{"board": {"identity": "a", "secure_boot":'
                ' {"kind": "rp2350", "key_digests": [], "security_version": true}}}'
            ),
            "secure_boot of a with kind, digests in hex and a number",
            '{"kind": "rp2350", "key_digests": [], "security_version": true}',
        ),
    ],
)
def test_files_that_have_no_boards_are_refused(
    content: str, expected: str, found: str | None
) -> None:
    Path("boards.json").write_text(content, encoding="utf-8")
    said = run("trust", "rehearse", "--boards", "boards.json", release("plain"))
    assert said.status == 5
    assert said.errors[0].startswith(f"error: boards.json: expected {expected}, found ")
    if found is not None:
        assert said.errors[0].endswith(f", found {found}")


def test_boards_meet_releases_alone() -> None:
    write_boards("boards.jsonl", board("mac:01", OLD))
    assert run("trust", "rehearse", "--boards", "boards.jsonl").status == 2
    found = run("trust", "rehearse", "--boards", "boards.jsonl", "gone.suit")
    assert (found.status, found.errors[0]) == (
        5,
        "error: cannot read gone.suit: no such file or directory",
    )
    found = run("trust", "rehearse", ".")
    assert (found.status, found.errors[0]) == (2, "error: no file to rehearse")


def test_the_receipt_of_a_refusal_is_a_record_of_the_board() -> None:
    """A board that refuses one release is known, and the next one is rehearsed on it."""
    port = f"sim:esp32c6?lock=secure-boot&key={digest(OLD, KINDS[0])}&security-version=3"
    new, both = release("new", NEW), release("both", OLD, NEW)
    found = run("flash", new, "--port", port, "--receipt", "line.jsonl")
    assert found.status == 4
    assert run("trust", "rehearse", "--boards", "line.jsonl", new).status == 3
    assert good("trust", "rehearse", "--boards", "line.jsonl", both).endswith(
        "0 of 1 boards would be stranded\n"
    )
