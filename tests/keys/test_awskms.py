"""Keys in AWS KMS: boto3, against a service of ours that judges requests as AWS does."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fake_kms import ACCESS_KEY, REGION, SECRET_KEY, FakeKms, Signed, serving
from fwsign.format.cose import verify_signature
from fwsign.keys import open_key
from fwsign.keys.awskms_errors import explained
from fwsign.keys.held import HeldKey, HeldSigner, Scheme, digest_of
from fwsign.keys.stand_in import private_key
from keys.contract import DIGESTS, MESSAGE, Backend, Going, KeyContract, Situation
from support import for_child, new_key, refused, require_package

SESSION = "token-of-a-session"
ALGORITHMS = ("p256", "p384", "secp256k1", "ed25519", "rsa3072", "ml-dsa-65", "ml-dsa-87")


@pytest.fixture(scope="module")
def service() -> Iterator[FakeKms]:
    require_package("boto3")
    with serving() as kms:
        for alg in ALGORITHMS:
            kms.make(alg, alg)
        yield kms


@cache
def loader(places: str | None) -> Any:
    from botocore.loaders import Loader

    del places
    return Loader()


@pytest.fixture(autouse=True)
def kms(service: FakeKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKms:
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    credentials = tmp_path / "credentials"
    credentials.write_text(
        "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = another\n"
        f"[mistyped]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = mistyped\n"
        f"[half]\naws_access_key_id = {ACCESS_KEY}\n"
        f"[old]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        "aws_session_token = expired\n"
    )
    # The description of the service is read once, not by each client.
    monkeypatch.setattr("botocore.loaders.create_loader", loader)
    more = {
        "ACCESS_KEY_ID": ACCESS_KEY,
        "SECRET_ACCESS_KEY": SECRET_KEY,
        "SESSION_TOKEN": SESSION,
        "DEFAULT_REGION": REGION,
        "EC2_METADATA_DISABLED": "true",
        "SHARED_CREDENTIALS_FILE": str(credentials),
        "CONFIG_FILE": str(tmp_path / "config"),
    }
    for name, text in more.items():
        monkeypatch.setenv(f"AWS_{name}", text)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # boto3 would ask a proxy of the environment
    service.denied.clear()
    service.throttled = 0
    service.asked.clear()
    service.signed.clear()
    return service


def uri(kms: FakeKms, name: str, more: str = "") -> str:
    return f"awskms:///{name}?endpoint={kms.endpoint}{more}"


def opened(text: str) -> HeldKey:
    return open_key(text, lambda: None)


class TestAwsKms(KeyContract):
    algorithms = ALGORITHMS
    lacks = frozenset({DIGESTS})

    @pytest.fixture
    def backend(self, kms: FakeKms) -> Backend:
        self.kms = kms
        off = kms.make("p256", "off")
        off.state = "Disabled"
        kms.make("p256", "agreement").usage = "KEY_AGREEMENT"
        return Backend(
            key=lambda alg: uri(kms, f"alias/{alg}"),
            hidden=(SECRET_KEY.encode(), SESSION.encode()),
            situations={
                "wrong secret": Situation(
                    uri(kms, "alias/p256", "&profile=other"),
                    "key.passphrase",
                    ("refuses GetPublicKey (UnrecognizedClientException): ", "alias/p256"),
                ),
                "no secret": Situation(
                    uri(kms, "alias/p256", "&profile=nobody"),
                    "key.passphrase-missing",
                    ("cannot be asked: The config profile (nobody) could not be found",),
                ),
                "locked": Situation(
                    uri(kms, "alias/off"),
                    "key.locked",
                    ("refuses GetPublicKey (DisabledException): ", "is disabled"),
                ),
                "missing": Situation(
                    uri(kms, "alias/none"),
                    "key.missing",
                    ("awskms:///alias/none refuses GetPublicKey (NotFoundException): Key ",),
                ),
                "unsupported": Situation(
                    uri(kms, "alias/agreement"),
                    "key.unsupported",
                    ("awskms:///alias/agreement is for KEY_AGREEMENT, and does not sign",),
                ),
            },
            impossible={"several": "an alias is that of one key"},
        )

    def going(self) -> Going | str:
        def leave() -> None:
            self.kms.keys[self.kms.aliases["alias/leaving"]].state = "PendingDeletion"

        self.kms.make("p256", "leaving")
        words = ("refuses Sign (KMSInvalidStateException): ", "is pending deletion")
        return Going(uri(self.kms, "alias/leaving"), None, leave, "key.locked", words)


# --- what is sent ------------------------------------------------------------------------------


def test_a_message_is_sent_as_its_algorithm_wants_it(kms: FakeKms) -> None:
    sent: dict[str, list[tuple[str, str, int]]] = {}
    for alg in ALGORITHMS:
        held = opened(uri(kms, f"alias/{alg}"))
        kms.signed.clear()
        if alg != "secp256k1":
            signer = HeldSigner(held)
            verify_signature(signer.algorithm, held.public_key, MESSAGE, signer.sign(MESSAGE))
        if alg.startswith("ml-dsa"):
            public: Any = held.public_key
            public.verify(held.sign_raw(Scheme.PURE, bytes(4096)), bytes(4096))
            public.verify(held.sign_raw(Scheme.PURE, bytes(4097)), bytes(4097))
        sent[alg] = [(one.algorithm, one.message_type, one.size) for one in kms.signed]
        held.close()
    size, ml_dsa = len(MESSAGE), "ML_DSA_SHAKE_256"
    three = [(ml_dsa, "RAW", size), (ml_dsa, "RAW", 4096), (ml_dsa, "EXTERNAL_MU", 64)]
    assert sent == {
        "p256": [("ECDSA_SHA_256", "DIGEST", 32)],
        "p384": [("ECDSA_SHA_384", "DIGEST", 48)],
        "secp256k1": [],
        "ed25519": [("ED25519_SHA_512", "RAW", size)],
        "rsa3072": [("RSASSA_PSS_SHA_256", "DIGEST", 32)],
        "ml-dsa-65": three,
        "ml-dsa-87": three,
    }


def test_a_boot_roms_key_signs_a_digest(kms: FakeKms) -> None:
    held = opened(uri(kms, "alias/secp256k1"))
    assert len(held.sign_raw(Scheme.ECDSA, digest_of(MESSAGE, "SHA-256"), "SHA-256")) == 64
    assert [one.algorithm for one in kms.signed] == ["ECDSA_SHA_256"]
    held.close()


def test_rsa_signs_with_all_digests_and_p384_with_its_own_alone(kms: FakeKms) -> None:
    held = opened(uri(kms, "alias/rsa3072"))
    for name in ("SHA-256", "SHA-384", "SHA-512"):
        for scheme in (Scheme.PSS, Scheme.PKCS1):
            assert len(held.sign_raw(scheme, digest_of(MESSAGE, name), name)) == 384
    held.close()
    held = opened(uri(kms, "alias/p384"))
    words = f"{held.place} does not sign with ECDSA_SHA_256, it has ECDSA_SHA_384"
    with refused("key.unsupported", words):
        held.sign_raw(Scheme.ECDSA, digest_of(MESSAGE, "SHA-256"), "SHA-256")
    held.close()


def test_a_message_that_is_too_long_for_ed25519_is_refused_here(kms: FakeKms) -> None:
    held = opened(uri(kms, "alias/ed25519"))
    held.sign_raw(Scheme.PURE, bytes(4096))
    words = "KMS takes at most 4096 bytes to sign with Ed25519, not 4097"
    with refused("key.unsupported", words, held.place):
        held.sign_raw(Scheme.PURE, bytes(4097))
    assert len(kms.signed) == 1
    held.close()


# --- URIs and regions --------------------------------------------------------------------------


def test_a_key_has_several_names_and_one_place(
    kms: FakeKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = kms.make("p256", "team/release")
    identifier = key.arn.rpartition("/")[2]
    alias_arn = key.arn.replace(f"key/{identifier}", "alias/team/release")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms.endpoint)
    names = ("alias/team/release", identifier, key.arn, alias_arn)
    for text in [f"{begin}{name}" for name in names for begin in ("awskms:///", "awskms:")]:
        held = opened(text)
        assert held.place == f"awskms:///{key.arn}"
        HeldSigner(held).sign(MESSAGE)
        held.close()
    assert {one.key for one in kms.signed} == {key.arn}
    again = opened(uri(kms, key.arn))
    assert again.place == f"awskms:///{key.arn}?endpoint={kms.endpoint}"
    again.close()


def test_an_alias_that_moves_meanwhile_changes_nothing(kms: FakeKms) -> None:
    first = kms.make("p256", "moving")
    held = opened(uri(kms, "alias/moving"))
    kms.make("p256", "moving")
    signer = HeldSigner(held)
    verify_signature(signer.algorithm, held.public_key, MESSAGE, signer.sign(MESSAGE))
    assert kms.signed == [Signed(first.arn, "ECDSA_SHA_256", "DIGEST", 32)]
    held.close()


def test_the_region_is_that_of_the_arn_the_uri_or_the_environment(
    kms: FakeKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    words = "awskms:///alias/p256 cannot be asked: You must specify a region"
    with refused("key.unsupported", words) as caught:
        opened(uri(kms, "alias/p256"))
    assert caught.value.hint == "region= in the URI, AWS_REGION or ~/.aws/config names it"
    arn = next(iter(kms.keys.values())).arn
    for text in (uri(kms, arn), uri(kms, "alias/p256", f"&region={REGION}")):
        opened(text).close()
    monkeypatch.setenv("AWS_REGION", REGION)
    opened(uri(kms, "alias/p256")).close()
    with refused("key.unsupported", f"the ARN is of {REGION}, and region= is us-east-1"):
        opened(uri(kms, arn, "&region=us-east-1"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("awskms:///alias/a b", '"alias/a b" is no ARN of a key, no alias/NAME and no identifier'),
        ("awskms:///", '"" is no ARN of a key'),
        ("awskms:///arn:aws:s3:::bucket", "is no ARN of a key"),
        ("awskms:///alias/a?token=AKIAx", "token= is not known, there are endpoint=, profile=, "),
        ("awskms://AKIA:x@host/alias/a", "a user or password is before the host"),
        ("awskms://h/alias/a?endpoint=https://h", "a host and endpoint= exclude each other"),
        ("awskms:///alias/a?endpoint=http://kms.example", "http://kms.example has no TLS"),
        ("awskms://h/x/alias/a", '"x/alias/a" is no ARN'),
    ],
)
def test_a_uri_that_is_not_right_is_refused(text: str, words: str) -> None:
    with refused("key.unsupported", words) as caught:
        opened(text)
    assert "AKIA" not in repr(vars(caught.value))


def test_a_host_in_the_uri_is_asked_over_tls(kms: FakeKms) -> None:
    with refused("key.unreachable", "awskms://127.0.0.1:", "/alias/p256 cannot be asked: SSL"):
        opened(f"awskms://127.0.0.1:{kms.port}/alias/p256")


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "code", "words"),
    [
        ("mistyped", "key.passphrase", "(InvalidSignatureException): The request signature we"),
        ("old", "key.passphrase", "(ExpiredTokenException): The security token included in"),
        ("half", "key.passphrase-missing", "cannot be asked: Partial credentials found"),
    ],
)
def test_credentials_that_do_not_serve(kms: FakeKms, profile: str, code: Any, words: str) -> None:
    with refused(code, words) as caught:
        opened(uri(kms, "alias/p256", f"&profile={profile}"))
    assert SECRET_KEY not in repr(vars(caught.value))
    assert "gives them to boto3" in str(caught.value.hint)


def test_no_credentials_at_all(kms: FakeKms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("HOME", "/nowhere")
    words = "awskms:///alias/p256 cannot be asked: Unable to locate credentials"
    with refused("key.passphrase-missing", words):
        opened(uri(kms, "alias/p256"))


def test_rights_that_are_missing_are_named(kms: FakeKms) -> None:
    held = opened(uri(kms, "alias/p256"))
    kms.denied.add("Sign")
    words = (f"{held.place} refuses Sign (AccessDeniedException): User: ", "perform: kms:Sign")
    with refused("key.locked", *words) as caught:
        HeldSigner(held).sign(MESSAGE)
    assert caught.value.hint == "the policy of the key or of this identity needs kms:Sign"
    held.close()
    kms.denied.add("GetPublicKey")
    with refused("key.locked", "perform: kms:GetPublicKey"):
        opened(uri(kms, "alias/p256"))


def test_throttling_is_waited_for_and_then_told(
    kms: FakeKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    held = opened(uri(kms, "alias/p256"))
    kms.throttled = 3
    HeldSigner(held).sign(MESSAGE)
    assert kms.asked.count("Sign") == 4
    kms.throttled = 4
    words = f"{held.place} refuses Sign (ThrottlingException): Rate exceeded"
    with refused("key.unreachable", words):
        HeldSigner(held).sign(MESSAGE)
    held.close()


def test_a_service_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with serving() as own:
        own.make("p256", "release")
        held = opened(uri(own, "alias/release"))
    words = f'cannot be asked: Could not connect to the endpoint URL: "{own.endpoint}/"'
    with refused("key.unreachable", held.place, words):
        HeldSigner(held).sign(MESSAGE)
    held.close()


def test_a_signature_of_another_key_is_refused(kms: FakeKms) -> None:
    key = kms.make("p256", "changing")
    held = opened(uri(kms, "alias/changing"))
    words = "gave a signature that its own public key does not verify"
    for other in (new_key("p256"), new_key("p384"), new_key("ed25519")):
        key.private = _Other(other)
        with refused("key.failed", held.place, words):
            HeldSigner(held).sign(MESSAGE)
        with refused("key.failed", held.place, words):
            made: Any = private_key(held)
            made.sign(MESSAGE, ec.ECDSA(_sha256()))
    held.close()


class _Other:
    """A key that signs as another one, whatever is asked for."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def sign(self, message: bytes, algorithm: Any) -> bytes:
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return bytes(self.key.sign(message, algorithm))
        return bytes(self.key.sign(message))


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def test_without_boto3_the_extra_is_named(kms: FakeKms) -> None:
    text = (
        "import sys; sys.modules['boto3'] = None\n"
        "from fwsign.errors import Failed\nfrom fwsign.keys import open_key\n"
        f"try: open_key('{uri(kms, 'alias/p256')}', lambda: None)\n"
        "except Failed as error: print(error.code, error.message, error.hint, sep='|')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env=for_child(), check=True
    )
    words = "keys of awskms: need the library boto3, which is not installed"
    assert done.stdout == f"state.library|{words}|pip install 'fwsign[aws]'\n"


def test_the_names_of_errors_are_those_of_botocore() -> None:
    require_package("boto3")
    from botocore import exceptions

    from fwsign.keys import awskms_errors

    assert [name for name in awskms_errors._HERE if not hasattr(exceptions, name)] == []
    assert explained(ValueError("another"), "Sign", "awskms:///a") is None
    odd = exceptions.ClientError({"Error": {"Code": "NewException", "Message": ""}}, "Sign")
    found = explained(odd, "Sign", "awskms:///a")
    assert found is not None
    assert (found.code, found.message) == (
        "key.failed",
        "awskms:///a refuses Sign (NewException)",
    )
