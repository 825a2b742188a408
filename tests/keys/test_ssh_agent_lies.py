"""An agent that lies, says too much or nothing."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.keys import ssh_wire
from fwsign.keys.held import HeldSigner, Scheme, sign_message
from fwsign.keys.ssh_wire import AgentReader, encode_string
from keys.agent_kit import lying, opened
from keys.contract import MESSAGE
from support import new_key, refused


def blob_of(key: Any) -> bytes:
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def listed(*blobs: bytes) -> bytes:
    pairs = b"".join(encode_string(blob) + encode_string(b"a\x1b\n key") for blob in blobs)
    return encode_string(b"\x0c" + len(blobs).to_bytes(4, "big") + pairs)


def signed(name: bytes, signature: bytes) -> bytes:
    inner = encode_string(name) + encode_string(signature)
    return encode_string(b"\x0e" + encode_string(inner))


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"", "key.unreachable", "it has closed the connection"),
        (b"\0\0\1", "key.unreachable", "it has closed the connection"),
        (b"\xff\xff\xff\xff", "key.failed", "answers with 4294967295 bytes"),
        (encode_string(b""), "key.failed", "lists no keys"),
        (encode_string(b"\5"), "key.failed", "lists no keys"),
        (encode_string(b"\x0c\xff\xff\xff\xff"), "key.failed", "lists no keys"),
        (listed(b"\0\0\0\x09abc"), "key.failed", "lists no keys"),
        (listed(encode_string(b"ssh-ed25519")), "key.unsupported", "a key that cannot be read"),
        (
            listed(encode_string(b"sk-ssh-ed25519@openssh.com")),
            "key.unsupported",
            '"a?? key" is sk-ssh-ed25519@openssh.com: FIDO keys sign a counter and ',
        ),
        (
            listed(encode_string(b"ssh-dss")),
            "key.unsupported",
            "is ssh-dss: no kind of key that signs releases or certificates",
        ),
        (
            listed(encode_string(b"ssh-ed25519-cert-v01@openssh.com")),
            "key.missing",
            "has no keys, or is locked",
        ),
    ],
)
def test_an_odd_list_is_refused(answer: bytes, code: Any, words: str) -> None:
    with lying([answer]) as uri, refused(code, words):
        opened(uri)


def test_an_odd_signature_is_refused() -> None:
    key, other = new_key("p256"), new_key("p256")
    foreign = AgentReader(encode_string(_ecdsa(other)))
    name = b"ecdsa-sha2-nistp256"
    for answer, code, words in (
        (signed(name, foreign.string()), "key.failed", "its own public key does not verify"),
        (signed(name, b"\0\0\0\7short"), "key.failed", "its own public key does not verify"),
        (
            signed(name, encode_string(b"\1" * 40) * 2),
            "key.failed",
            "its own public key does not verify",
        ),
        (signed(b"ssh-rsa", b""), "key.failed", "has signed with ssh-rsa, not ecdsa-sha2-nistp256"),
        (encode_string(b"\x0e\0"), "key.failed", "gives no signature"),
        (encode_string(b"\5"), "key.locked", "refuses to sign with"),
    ):
        with lying([listed(blob_of(key)), answer]) as uri:
            held = opened(uri)
            with refused(code, words):
                HeldSigner(held).sign(MESSAGE)


def _ecdsa(key: Any) -> bytes:
    pair = decode_dss_signature(key.sign(MESSAGE, ec.ECDSA(hashes.SHA256())))
    return b"".join(encode_string(one.to_bytes(33, "big")) for one in pair)


def test_a_signature_of_rsa_may_lack_zeros_at_its_beginning() -> None:
    key, number = new_key("rsa1024"), 0
    signature = b"\1"
    while signature[0]:
        number += 1
        message = b"%d" % number
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    answer = signed(b"rsa-sha2-256", signature.lstrip(b"\0"))
    with lying([listed(blob_of(key)), answer]) as uri:
        held = opened(uri)
        assert sign_message(held, Scheme.PKCS1, b"%d" % number, "SHA-256") == signature


def test_a_silent_agent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_wire, "LIST_SECONDS", 0.1)
    with lying([b""], wait=0.3) as uri, refused("key.unreachable", "timed out"):
        opened(uri)
