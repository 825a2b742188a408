"""Receipts: canonical lines in a chain, signed; and every way of changing them."""

import base64
import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fwsign.keys.file import FileSigner
from fwsign.receipts import jws
from fwsign.receipts.canonical import canonical
from fwsign.receipts.chain import MAX_LINE, judge_lines, line_digest, make_line, verify_lines
from fwsign.receipts.file import append, read_lines
from fwsign.x509.anchor import Anchor
from support import Entity, der, make_ca, make_leaf, new_key, refused, require_package

EXAMPLE = Path(__file__).parents[2] / "keys.example"
TYPE = "fwsign-receipt+json"
RECEIPT = {"clock": "2026-11-22T12:00:00+00:00", "result": "verified", "parts": (1, None, True)}


def anchor_of(key: Any) -> Anchor:
    return Anchor.from_public_key(der(key.public_key()))


def chain_of(count: int, key: Any = None, chain: Sequence[bytes] = (), **more: Any) -> list[str]:
    """Make lines that say who they are."""
    lines: list[str] = []
    signer = FileSigner(key) if key else None
    for number in range(count):
        previous = line_digest(lines[-1]) if lines else None
        lines.append(make_line({**RECEIPT, "number": number, **more}, previous, signer, chain))
    return lines


def station(usages: Sequence[Any] = (ExtendedKeyUsageOID.CLIENT_AUTH,)) -> tuple[Entity, Entity]:
    """Return a root and a leaf for TLS clients."""
    root = make_ca()
    return root, make_leaf(root, "station 7", usages=usages)


# --- lines ----------------------------------------------------------------------------------


def test_a_line_is_canonical_json_with_the_digest_of_the_one_before() -> None:
    first, second = chain_of(2)
    assert first == (
        '{"clock":"2026-11-22T12:00:00+00:00","number":0,"parts":[1,null,true],'
        '"previous":null,"result":"verified"}'
    )
    assert json.loads(second)["previous"] == sha256(first.encode()).hexdigest()
    assert second == canonical(json.loads(second))


def test_other_letters_stay_as_they_are() -> None:
    line = make_line({"text": 'Gerät "ü"\n\u2028\x01'}, None)
    assert line == '{"previous":null,"text":"Gerät \\"ü\\"\\n\u2028\\u0001"}'
    assert verify_lines([line]).receipts == 1


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        ({"a": 1.5}, "float 1.5 cannot be written"),
        ({"a": {"b": [2**53]}}, "int 9007199254740992 cannot"),
        ({"a": b"x"}, "bytes b'x' cannot"),
        ({"ä": 1}, "the name 'ä' is not in ASCII"),
        ({"a": {1: 1}}, "the name 1 is not in ASCII"),
        ({"a": "\udc80"}, "surrogates not allowed"),
        ({"a": "x" * MAX_LINE}, f"bytes, at most {MAX_LINE} are allowed"),
        ({"previous": None}, '"previous" is not for the caller to set'),
        ({"jws": "x"}, '"jws" is not for the caller to set'),
    ],
)
def test_what_no_receipt_can_say_is_refused(receipt: dict[str, Any], words: str) -> None:
    with refused("state.receipt", "not a receipt: ", words):
        make_line(receipt, None)


def test_a_receipt_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with refused("state.receipt"):
        make_line({"a": endless}, None)


NAMES = st.text(st.sampled_from('ab\0\n\x7f"\\~'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=20,
)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_what_is_written_is_read_as_it_was(receipt: dict[str, Any]) -> None:
    receipt.pop("previous", None)
    receipt.pop("jws", None)
    (found,) = judge_lines([make_line(receipt, None)])
    assert found.content == {**receipt, "previous": None}


@pytest.mark.external
@given(VALUES)
def test_another_program_writes_the_same_canonical_json(value: Any) -> None:
    require_package("rfc8785")
    assert import_module("rfc8785").dumps(value) == canonical(value).encode()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        '"previous"',
        '{"previous":1}',
        '{"previous": null}',
        '{"previous":null,"a":1}',
        '{"a":1,"a":1,"previous":null}',
        '{"a":1.0,"previous":null}',
        '{"a":NaN,"previous":null}',
        '{"a":"\\u00e4","previous":null}',
        '{"a":"\udc80","previous":null}',
        '{"previous":null}\r',
        '{"previous":null',
        "[" * 60_000,
        '{"a":' + "1" * 5000 + ',"previous":null}',
        '{"a":"' + "x" * MAX_LINE + '","previous":null}',
    ],
)
def test_a_line_of_another_form_is_refused(line: str) -> None:
    with refused("malformed.receipt", "receipt 1 is not a line of canonical JSON"):
        verify_lines([line])


# --- chain ----------------------------------------------------------------------------------


def test_a_whole_chain_has_a_head() -> None:
    lines = chain_of(3)
    assert verify_lines(lines) == (3, 0, (), line_digest(lines[2]), None, 0, None)
    assert verify_lines([]) == (0, 0, (), None, None, 0, None)


@pytest.mark.parametrize("signed", [False, True])
def test_lines_that_are_moved_or_taken_out_are_refused(signed: bool) -> None:
    key = new_key() if signed else None
    keys = [anchor_of(key)] if signed else []
    one, two, three, four = chain_of(4, key)
    verify_lines([one, two, three, four], keys)
    with refused("tampered.receipt-chain", "receipt 1 names ", "that is none"):
        verify_lines([two, three, four], keys)
    with refused("tampered.receipt-chain", "receipt 2 names "):
        verify_lines([one, three, four], keys)
    with refused("tampered.receipt-chain", "receipt 2 names "):
        verify_lines([one, three, two, four], keys)
    with refused("tampered.receipt-chain", "receipt 2 names none"):
        verify_lines([one, one], keys)


def test_an_edited_line_breaks_the_chain_behind_it() -> None:
    lines = chain_of(3)
    lines[1] = lines[1].replace('"verified"', '"refused"')
    with refused("tampered.receipt-chain", "receipt 3 "):
        verify_lines(lines)


def test_the_tail_of_another_chain_is_refused() -> None:
    ours, theirs = chain_of(3), chain_of(3, station="other")
    with refused("tampered.receipt-chain", "receipt 2 "):
        verify_lines([*ours[:1], *theirs[1:]])


def test_only_a_head_shows_that_the_end_was_cut_off() -> None:
    lines = chain_of(3)
    head = line_digest(lines[2])
    assert verify_lines(lines[:2]).receipts == 2
    with refused("tampered.receipt-head", "none of 2 receipts is the head"):
        verify_lines(lines[:2], head=head)
    with refused("tampered.receipt-head", "none of 3 receipts"):
        verify_lines(chain_of(3, station="other"), head=head)
    assert verify_lines(lines, head=head).since == 0
    assert verify_lines(lines, head=line_digest(lines[0])).since == 2
    with refused("tampered.receipt-head", "none of 0 receipts"):
        verify_lines([], head=head)


# --- signatures -----------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87"])
def test_a_bare_key_signs_and_is_named(alg: str) -> None:
    key = new_key(alg)
    pinned = anchor_of(key)
    lines = chain_of(2, key)
    assert verify_lines(lines, [anchor_of(new_key()), pinned]).signers == (pinned.spki,)
    assert [one.claim for one in judge_lines(lines)] == [pinned.spki] * 2
    assert [one.signer for one in judge_lines(lines)] == [None] * 2


@pytest.mark.parametrize("alg", ["p256", "ml-dsa-65"])
def test_a_signed_line_that_is_edited_is_refused(alg: str) -> None:
    key = new_key(alg)
    (line,) = chain_of(1, key)
    for edited in (
        line.replace('"verified"', '"refused"'),
        line.replace('"number":0', '"number":1'),
    ):
        assert edited != line
        with refused("tampered.signature", "receipt 1: "):
            verify_lines([edited], [anchor_of(key)])


def test_a_signed_line_of_another_place_is_refused() -> None:
    """`previous` is signed, so that whoever writes a chain anew needs the key."""
    key = new_key()
    one, two = chain_of(2, key)
    content = json.loads(two)
    moved = canonical({**content, "previous": None})
    with refused("tampered.signature", "receipt 1: "):
        verify_lines([moved], [anchor_of(key)])
    assert one != moved


def test_unsigned_lines_among_signed_ones_are_refused() -> None:
    key = new_key()
    (line,) = chain_of(1, key)
    stripped = canonical({k: v for k, v in json.loads(line).items() if k != "jws"})
    with refused("untrusted.receipt", "receipt 1: it is not signed"):
        verify_lines([stripped], [anchor_of(key)])
    more = make_line(RECEIPT, line_digest(line))
    with refused("untrusted.receipt", "receipt 2: it is not signed"):
        verify_lines([line, more], [anchor_of(key)])
    assert verify_lines([line, more])[:3] == (2, 1, ())


def test_another_key_is_refused_by_name() -> None:
    key = new_key()
    with refused("untrusted.receipt", "receipt 1: it is signed by key", "which was not given"):
        verify_lines(chain_of(1, key), [anchor_of(new_key())])
    root, leaf = station()
    with refused("untrusted.receipt"):  # certificates do not help where no anchor was given
        verify_lines(chain_of(1, leaf.key, [leaf.der]), [anchor_of(key)])
    with refused("untrusted.receipt"):  # nor an anchor, where there are none
        verify_lines(chain_of(1, leaf.key), (), [root.anchor])


def test_a_published_key_proves_nothing() -> None:
    data = (EXAMPLE / "private/release.key").read_bytes()
    key: Any = serialization.load_pem_private_key(data, None)
    with refused("untrusted.example-key", "receipt 1: it is signed by a published key"):
        verify_lines(chain_of(1, key), [anchor_of(key)])


def test_a_certified_key_is_named_by_its_certificate() -> None:
    root, leaf = station()
    lines = chain_of(3, leaf.key, [leaf.der])
    assert verify_lines(lines, (), [root.anchor]).signers == ("station 7",)
    assert verify_lines(lines, [leaf.anchor]).signers == ("station 7",)


@pytest.mark.parametrize("alg", ["p256", "ml-dsa-87"])
def test_a_path_with_an_issuing_ca_is_followed(alg: str) -> None:
    root = make_ca(alg=alg)
    issuing = make_ca("Issuing", root, alg)
    leaf = make_leaf(issuing, alg=alg, usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    lines = chain_of(1, leaf.key, [leaf.der, issuing.der])
    assert len(lines[0]) < MAX_LINE
    assert verify_lines(lines, (), [root.anchor]).signers == ("release",)


def test_a_key_for_releases_does_not_sign_receipts() -> None:
    root = make_ca()
    leaf = make_leaf(root)
    with refused("untrusted.eku", "receipt 1: ", "clientAuth"):
        verify_lines(chain_of(1, leaf.key, [leaf.der]), (), [root.anchor])


def test_another_root_is_refused() -> None:
    _, leaf = station()
    with refused("untrusted.no-anchor", "receipt 1: "):
        verify_lines(chain_of(1, leaf.key, [leaf.der]), (), [make_ca("Other").anchor])


def test_the_certificate_is_that_of_the_key() -> None:
    root, leaf = station()
    with refused("key.mismatch", 'not that of certificate "station 7"'):
        chain_of(1, new_key(), [leaf.der])
    other = make_leaf(root, "other", usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    (line,) = chain_of(1, leaf.key, [leaf.der])
    x5c = [base64.b64encode(other.der).decode()]
    with refused("tampered.signature", 'kid is not the key of certificate "other"'):
        verify_lines([with_header(line, x5c=x5c)], (), [root.anchor])


class Liar:
    """A signer whose signatures are wrong."""

    def __init__(self, key: Any) -> None:
        self.algorithm, self.public_key = FileSigner(key).algorithm, key.public_key()

    def sign(self, message: bytes) -> bytes:
        del message
        return bytes(64)


def test_a_wrong_signature_is_never_written() -> None:
    with refused("key.failed", "the key's own signature is wrong"):
        make_line(RECEIPT, None, Liar(new_key()))


# --- the form of the JWS --------------------------------------------------------------------


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def with_header(line: str, **changed: Any) -> str:
    """Return a line whose JWS has another header."""
    content = json.loads(line)
    head, _, signature = content["jws"].split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    header = {name: value for name, value in {**header, **changed}.items() if value != "gone"}
    head = encode(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    return canonical({**content, "jws": f"{head}..{signature}"})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alg": "none"}, "not of the closed form"),
        ({"alg": "HS256"}, "not of the closed form"),
        ({"alg": "gone"}, "lacks alg, kid or typ"),
        ({"kid": 1}, "lacks alg, kid or typ"),
        ({"typ": "JWT"}, "not of the closed form"),
        ({"crit": ["exp"]}, "not of the closed form"),
        ({"jwk": {}}, "not of the closed form"),
        ({"b64": False}, "not of the closed form"),
        ({"x5c": []}, "x5c is not a list of 1 to"),
        ({"x5c": "x"}, "x5c is not a list of 1 to"),
        ({"x5c": ["AA=="] * 7}, "x5c is not a list of 1 to"),
        ({"x5c": ["AB=="]}, "x5c has base64 with stray bits"),
        ({"x5c": [1]}, "the JWS: "),
        ({"x5c": ["*"]}, "the JWS: "),
    ],
)
def test_a_header_outside_the_closed_list_is_refused(changed: Any, words: str) -> None:
    (line,) = chain_of(1, new_key())
    with refused("malformed.receipt", "receipt 1: the JWS: ", words):
        verify_lines([with_header(line, **changed)])


@pytest.mark.parametrize(
    "found", [None, 1, "", "a.b.c", "a..b.c", "a..", "..a", "a b..c", "e30..AB"]
)
def test_a_jws_of_another_form_is_refused(found: Any) -> None:
    line = canonical({"previous": None, "jws": found})
    with refused("malformed.receipt", "receipt 1: the JWS: "):
        verify_lines([line])


def test_a_jws_can_be_written_in_one_way_only() -> None:
    (line,) = chain_of(1, new_key())
    content = json.loads(line)
    head, signature = content["jws"].split("..")
    text = base64.urlsafe_b64decode(head + "==").decode()
    for other in (
        f"{encode(text.replace(',', ', ').encode())}..{signature}",
        f"{head}==..{signature}",
        f"{encode(b'[' * 30_000)}..{signature}",
        f"{encode(bytes([255]))}..{signature}",
    ):
        with refused("malformed.receipt"):
            verify_lines([canonical({**content, "jws": other})])
    last = signature[-1]
    stray = signature[:-1] + chr(ord(last) + 1)  # bits that no byte has
    with refused("malformed.receipt", "stray bits"):
        jws.parse(f"{head}..{stray}", TYPE)


def test_an_algorithm_that_does_not_fit_the_key_is_refused() -> None:
    key = new_key()
    (line,) = chain_of(1, key)
    with refused("malformed.algorithm", "receipt 1: algorithm Ed25519 needs a Ed25519 key"):
        verify_lines([with_header(line, alg="EdDSA")], [anchor_of(key)])


@pytest.mark.external
@pytest.mark.parametrize("alg", ["p256", "p384", "ed25519", "rsa3072"])
def test_another_implementation_of_jws_verifies_our_lines(alg: str) -> None:
    require_package("jwcrypto")
    jwk, other = import_module("jwcrypto.jwk"), import_module("jwcrypto.jws")
    key = new_key(alg)
    for line in chain_of(2, key):
        content = json.loads(line)
        head, signature = content.pop("jws").split("..")
        payload = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        token = other.JWS()
        token.deserialize(f"{head}.{encode(payload)}.{signature}")
        token.verify(jwk.JWK.from_pyca(key.public_key()))
        assert json.loads(token.payload) == content
        with pytest.raises(other.InvalidJWSSignature):
            token.verify(
                jwk.JWK.from_pyca(new_key(alg if alg != "rsa3072" else "p256").public_key())
            )


# --- files ----------------------------------------------------------------------------------


def test_a_file_grows_by_whole_lines(tmp_path: Path) -> None:
    path, key = tmp_path / "receipts.jsonl", new_key()
    lines = [append(path, {"number": number}, FileSigner(key)) for number in range(3)]
    assert path.read_bytes() == b"".join(f"{line}\n".encode() for line in lines)
    assert verify_lines(read_lines(path), [anchor_of(key)]).receipts == 3
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_longest_line_can_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    spare = MAX_LINE - len(make_line({"a": ""}, "0" * 64))
    for _ in range(4):
        append(path, {"a": "x" * spare})
    with path.open("ab") as file:
        file.write(b"x" * MAX_LINE)  # torn
    append(path, {})
    assert verify_lines(read_lines(path)).receipts == 5


@pytest.mark.parametrize("torn", [b'{"a":1', b"\0\0\0\0", b'{"previous":null}', b"\xff"])
def test_what_a_crash_left_of_a_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "receipts.jsonl"
    for number in range(2):
        append(path, {"number": number})
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    line = append(path, {"number": 2})
    assert path.read_bytes() == whole + f"{line}\n".encode()
    assert verify_lines(read_lines(path)).receipts == 3


def test_a_whole_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    for number in range(2):
        append(path, {"number": number})
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    append(path, {"number": 2})
    assert verify_lines(read_lines(path)).receipts == 3


@pytest.mark.parametrize(
    "content",
    [
        b"firmware",
        b'{"a":1}',
        b"a\nb\n",
        b'{"a":1}\n',
        b"\n",
        b"a\n" + b"x" * 200_000,
        b"\x7fELF\n\0",
    ],
)
def test_a_file_of_something_else_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "build.bin"
    path.write_bytes(content)
    with refused("io.format", "build.bin does not end in a receipt"):
        append(path, {})
    assert path.read_bytes() == content


def test_an_edited_last_line_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    append(path, {"number": 1})
    path.write_bytes(path.read_bytes().replace(b":1", b": 1"))
    with refused("io.format"):
        append(path, {})


def test_a_directory_is_no_file_of_receipts(tmp_path: Path) -> None:
    with refused("io.directory", f"cannot write {tmp_path}"):
        append(tmp_path, {})
    with refused("io.directory", f"cannot read {tmp_path}"):
        list(read_lines(tmp_path))
    with refused("io.missing"):
        list(read_lines(tmp_path / "none"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reading fails")
def test_a_disk_that_fails_is_named() -> None:
    with refused("io.read", "cannot read /proc/self/mem: input/output error"):
        list(read_lines(Path("/proc/self/mem")))


def test_a_line_that_cannot_be_made_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    append(path, {})
    before = path.read_bytes()
    with refused("key.failed"):
        append(path, {}, Liar(new_key()))
    assert path.read_bytes() == before


RACE = """
import sys
from pathlib import Path
from fwsign.receipts.file import append
for number in range(25):
    append(Path(sys.argv[1]), {"process": sys.argv[2], "number": number})
"""


def test_processes_that_append_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    command = [sys.executable, "-c", RACE, str(path)]
    racers = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [racer.wait(60) for racer in racers] == [0] * 4
    found = [one.content for one in judge_lines(read_lines(path))]
    assert len(found) == 100
    for process in range(4):
        own = [one["number"] for one in found if one["process"] == str(process)]
        assert own == list(range(25))


FULL = """
import resource, sys
from pathlib import Path
from fwsign.errors import Failed
from fwsign.receipts.file import append
path, room = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room,) * 2)
try:
    append(path, {"a": "x" * 100})
except Failed as error:
    print(error.code)
"""


@pytest.mark.skipif(os.name == "nt", reason="no limit of file sizes there")
@pytest.mark.parametrize("room", [0, 1, 150])
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, room: int) -> None:
    path = tmp_path / "receipts.jsonl"
    append(path, {})
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "io.full\n"
    assert path.read_bytes() == before


def test_a_line_that_was_not_synced_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "receipts.jsonl"
    append(path, {})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with refused("io.full", f"cannot write {path}: no space left"):
        append(path, {})
    assert path.read_bytes() == before
