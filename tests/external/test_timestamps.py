"""Time-stamp tokens against others: openssl's `ts` and rfc3161-client, both ways."""

import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fwsign.format import cbor
from fwsign.signing.tsa_client import make_request, read_response, request_token
from fwsign.verify.verified import VerifiedRelease
from fwsign.x509.token import parse_token
from hostile import outcome
from support import (
    CODE_SIGNING,
    DAY,
    NOW,
    Pki,
    make_leaf,
    make_pki,
    refused,
    require_package,
    require_program,
    sign_with,
    tlv,
    verify,
)
from tsa_kit import (
    NULL,
    SHA2,
    Tsa,
    by_sha1,
    certificates_of,
    imprint,
    integer,
    make_tsa,
    oid,
    sequence,
    signatures,
    signed_attributes,
    tst_info,
    with_tokens,
)
from tsa_server import granted, serving

pytestmark = pytest.mark.external

SIGNATURE = bytes(range(64))
ECDSA = ec.ECDSA(hashes.SHA256())
STAMPED = cbor.byte_string_head(len(SIGNATURE)) + SIGNATURE
ALWAYS = (-3000, 30000)
"""Days of validity: openssl stamps with the real time."""

SETTINGS = """
[tsa]
default_tsa = own
[own]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = {digest}
default_policy = 1.3.6.1.4.1.99999.3.1
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500
ordering = yes
tsa_name = yes
ess_cert_id_chain = {chain}
ess_cert_id_alg = {ess}
"""


def pem(entity: Any) -> bytes:
    encoded: bytes = entity.certificate.public_bytes(Encoding.PEM)
    return encoded


class OpensslTsa:
    """`openssl ts -reply` with a TSA of ours; it stamps with the real time."""

    def __init__(
        self,
        folder: Path,
        tsa: Tsa,
        *,
        digest: str = "sha256",
        chain: str = "no",
        ess: str = "sha256",
        certs: bool = False,
    ) -> None:
        self.folder = folder
        key = tsa.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "tsa.key").write_bytes(key)
        (folder / "tsa.pem").write_bytes(pem(tsa.leaf))
        (folder / "root.pem").write_bytes(pem(tsa.root))
        (folder / "serial").write_text("01\n")
        settings = SETTINGS.format(folder=folder, digest=digest, chain=chain, ess=ess)
        more = f"certs = {folder}/root.pem\n" if certs else ""
        (folder / "ts.cnf").write_text(settings + more)

    def answer(self, request: bytes) -> bytes:
        """Return the TimeStampResp."""
        (self.folder / "request").write_bytes(request)
        command = ["openssl", "ts", "-reply", "-queryfile", "request", "-config", "ts.cnf"]
        run(self.folder, [*command, "-out", "response"])
        return (self.folder / "response").read_bytes()


def run(folder: Path, command: list[str]) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pki() -> Pki:
    made = make_pki()
    return made._replace(leaf=make_leaf(made.issuing, days=ALWAYS))


@pytest.mark.parametrize(
    ("alg", "settings"),
    [
        ("p256", {}),
        ("p384", {"digest": "sha384"}),
        ("p256", {"digest": "sha512", "ess": "sha512"}),
        ("rsa3072", {"certs": True, "chain": "yes"}),
        ("p256", {"ess": "sha1"}),  # signingCertificate, which knows SHA-1 alone
        ("rsa3072", {"ess": "sha1", "certs": True, "chain": "yes", "digest": "sha512"}),
    ],
)
def test_tokens_of_openssl_are_taken(
    pki: Pki, alg: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    require_program("openssl")
    tsa = make_tsa(alg, days=ALWAYS)
    envelope = sign_with(pki, crls=())
    server = OpensslTsa(tmp_path, tsa, **settings)
    with serving(server.answer) as (url, _):
        token = request_token(url, signatures(envelope)[0])
    at = parse_token(token).gen_time
    release = verify(
        with_tokens(envelope, token), [pki.root], tsa_anchors=(tsa.root.anchor,), at=at
    )
    assert release.signers[0].signed_at == at
    assert len(certificates_of(token)) == (2 if settings.get("certs") else 1)


def test_a_token_of_openssl_that_names_its_certificate_by_sha_1_proves_no_more(
    pki: Pki, tmp_path: Path
) -> None:
    """What another authority made, or this one for another signature, moves no time."""
    require_program("openssl")
    tsa, other = make_tsa(days=ALWAYS), make_tsa(days=ALWAYS)
    server = OpensslTsa(tmp_path, tsa, ess="sha1")
    envelope = sign_with(pki, crls=())
    (signature,) = signatures(envelope)
    token = read_response(server.answer(make_request(signature, 1)))
    elsewhere = read_response(server.answer(make_request(SIGNATURE, 1)))
    assert v1(token)
    for stapled, pinned, code in (
        (token, other, "untrusted.no-anchor"),
        (elsewhere, tsa, "tampered.token"),
        (token[:-1] + bytes([token[-1] ^ 1]), tsa, "tampered.token"),
    ):
        options: dict[str, Any] = {"tsa_anchors": (pinned.root.anchor,), "at": NOW}
        stamped = with_tokens(envelope, stapled)
        with refused(code):
            verify(stamped, [pki.root], require_token=True, **options)
        release = verify(stamped, [pki.root], **options)
        assert (release.now, release.signers[0].signed_at) == (NOW, None)


def v1(token: bytes) -> bool:
    """Tell whether signingCertificate alone names the certificate."""
    return oid("signing certificate") in token and oid("signing certificate v2") not in token


@pytest.mark.parametrize("form", ["v1", "both", "attribute certificate"])
def test_openssl_takes_the_forms_that_we_take(form: str, tmp_path: Path) -> None:
    require_program("openssl")
    tsa = make_tsa()
    info = tst_info(SIGNATURE, NOW, "sha256")
    attributes = signed_attributes(info, tsa.leaf.der, "sha256")
    more: dict[str, dict[str, Any]] = {
        "v1": {"attributes": [*attributes[:3], by_sha1(tsa)]},
        "both": {"attributes": [*attributes, by_sha1(tsa)]},
        "attribute certificate": {"version": integer(4), "certificate_set": beside(tsa)},
    }
    token = tsa.stamp(SIGNATURE, info=info, **more[form])
    assert parse_token(token).gen_time == NOW
    (tmp_path / "token").write_bytes(token)
    (tmp_path / "root.pem").write_bytes(pem(tsa.root))
    at = str(int(NOW.timestamp()))
    # `ts` reads no attribute certificates, but `cms` does.
    command = ["openssl", "cms", "-verify", "-in", "token", "-inform", "DER", "-attime", at]
    run(tmp_path, [*command, "-CAfile", "root.pem", "-purpose", "timestampsign", "-out", "info"])
    assert (tmp_path / "info").read_bytes() == info
    if form != "attribute certificate":
        (tmp_path / "data").write_bytes(STAMPED)
        command = ["openssl", "ts", "-verify", "-data", "data", "-in", "token", "-token_in"]
        said = run(tmp_path, [*command, "-CAfile", "root.pem", "-attime", at])
        assert "Verification: OK" in said


def beside(tsa: Tsa) -> bytes:
    """Encode a set of the authority's certificate and an attribute certificate (RFC 5755 4.1)."""
    issuer = tlv(0xA0, sequence(tlv(0xA4, tsa.root.certificate.subject.public_bytes())))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    validity = sequence(*[tlv(0x18, b"20260101000000Z")] * 2)
    kind = sequence(oid("policy"), tlv(0x31, NULL))
    holder = sequence(tlv(0xA1, tlv(0x82, b"tsa.example")))
    info = sequence(integer(1), holder, issuer, algorithm, integer(1), validity, sequence(kind))
    signed = tlv(0xA2, info, algorithm, tlv(3, b"\0", tsa.root.key.sign(info, ECDSA)))
    return tlv(0xA0, tsa.leaf.der, signed)


# --- our requests, and the tokens of our tests, before others -------------------------------


@pytest.mark.parametrize("alg", ["p256", "p384", "rsa3072"])
@pytest.mark.parametrize("digest", SHA2)
def test_openssl_takes_the_tokens_that_tests_make(alg: str, digest: str, tmp_path: Path) -> None:
    require_program("openssl")
    tsa = make_tsa(alg)
    (tmp_path / "root.pem").write_bytes(pem(tsa.root))
    (tmp_path / "response").write_bytes(granted(tsa.stamp(SIGNATURE, digest=digest)))
    (tmp_path / "data").write_bytes(STAMPED)
    at = str(int(NOW.timestamp()))
    command = ["openssl", "ts", "-verify", "-data", "data", "-in", "response", "-attime", at]
    assert "Verification: OK" in run(tmp_path, [*command, "-CAfile", "root.pem"])
    (tmp_path / "data").write_bytes(SIGNATURE)  # without its head it is another signature
    wrong = subprocess.run(
        [*command, "-CAfile", "root.pem"], cwd=tmp_path, capture_output=True, check=False
    )
    assert wrong.returncode != 0


def test_openssl_reads_our_request(tmp_path: Path) -> None:
    require_program("openssl")
    (tmp_path / "request").write_bytes(make_request(SIGNATURE, 0xABCDEF))
    said = run(tmp_path, ["openssl", "ts", "-query", "-in", "request", "-text"])
    assert "Hash Algorithm: sha256" in said
    assert "Nonce: 0xABCDEF" in said
    assert "Certificate required: yes" in said


# It minds no version: there we are stricter.
BOTH_REFUSE: dict[str, dict[str, Any]] = {
    "another signature": {"imprint": imprint(b"other")},
    "another key": {"key": make_tsa().leaf.key},
    "two signers": {"signers": tlv(0x31, sequence(), sequence())},
    "no signer": {"signers": tlv(0x31)},
    "expired": {"gen_time": NOW + 400 * DAY},
    "too early": {"gen_time": NOW - 400 * DAY},
    "no certificate": {"certificate_set": b""},
    "not a TSTInfo": {"content": sequence(oid("data"), tlv(0xA0, tlv(4, b"data")))},
}


@pytest.mark.parametrize("wrong", [None, *BOTH_REFUSE])
def test_rfc3161_client_agrees(pki: Pki, wrong: str | None) -> None:
    require_package("rfc3161_client")
    tsa = make_tsa()
    envelope = sign_with(pki, crls=())
    signature = signatures(envelope)[0]
    token = tsa.stamp(signature, **(BOTH_REFUSE[wrong] if wrong else {}))
    assert other_takes(tsa, token, signature) == (wrong is None)
    ours = outcome(
        verify,
        with_tokens(envelope, token),
        [pki.root],
        tsa_anchors=(tsa.root.anchor,),
        require_token=True,
    )
    assert isinstance(ours, VerifiedRelease) == (wrong is None)


@pytest.mark.parametrize("usages", [{"critical": False}, {"usages": (CODE_SIGNING,)}])
def test_rfc3161_client_agrees_about_usages(usages: dict[str, Any]) -> None:
    require_package("rfc3161_client")
    tsa = make_tsa(**usages)
    assert not other_takes(tsa, tsa.stamp(SIGNATURE), SIGNATURE)


def other_takes(tsa: Tsa, token: bytes, signature: bytes) -> bool:
    """Ask rfc3161-client."""
    other = importlib.import_module("rfc3161_client")
    data = cbor.byte_string_head(len(signature)) + signature
    try:
        response = other.decode_timestamp_response(granted(token))
        verifier = other.VerifierBuilder().add_root_certificate(tsa.root.certificate).build()
        return bool(verifier.verify_message(response, data))
    except (ValueError, other.VerificationError):
        return False
