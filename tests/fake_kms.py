"""A small AWS KMS on 127.0.0.1: what its model and manual say of GetPublicKey and Sign.

Other fakes hash a digest again, which the real service does not; here MessageType decides. Sizes,
the algorithms of a key, its state, rights and throttling are judged as the service does.
"""

import base64
import hashlib
import hmac
import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from support import der, new_key

REGION: Final = "eu-central-1"
ACCOUNT: Final = "111122223333"
ACCESS_KEY: Final = "AKIATESTS"
SECRET_KEY: Final = "never-in-any-message"
MAX_MESSAGE: Final = 4096
_DIGESTS: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_RSA: Final = tuple(f"RSASSA_{how}_SHA_{n}" for how in ("PSS", "PKCS1_V1_5") for n in _DIGESTS)
SPECS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "p256": ("ECC_NIST_P256", ("ECDSA_SHA_256",)),
    "p384": ("ECC_NIST_P384", ("ECDSA_SHA_384",)),
    "p521": ("ECC_NIST_P521", ("ECDSA_SHA_512",)),
    "secp256k1": ("ECC_SECG_P256K1", ("ECDSA_SHA_256",)),
    "rsa2048": ("RSA_2048", _RSA),
    "rsa3072": ("RSA_3072", _RSA),
    "ed25519": ("ECC_NIST_EDWARDS25519", ("ED25519_SHA_512", "ED25519_PH_SHA_512")),
    "ml-dsa-65": ("ML_DSA_65", ("ML_DSA_SHAKE_256",)),
    "ml-dsa-87": ("ML_DSA_87", ("ML_DSA_SHAKE_256",)),
}
"""The KeySpec and the algorithms of our kinds of keys."""


class RefusalError(Exception):
    """An error of the service: its type, and its words."""


@dataclass
class Key:
    """A key of the service."""

    spec: str
    algorithms: tuple[str, ...]
    private: Any
    arn: str
    state: str = "Enabled"
    usage: str = "SIGN_VERIFY"


class Signed(NamedTuple):
    """A request for a signature."""

    key: str
    algorithm: str
    message_type: str
    size: int


@dataclass
class FakeKms:
    """The service; tests change its fields.

    Args:
        denied: operations that the policy forbids.
        throttled: how many of the next requests are throttled.
        gone: whether it has stopped, and answers on open connections no more.
    """

    port: int = 0
    keys: dict[str, Key] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    throttled: int = 0
    asked: list[str] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)
    gone: bool = False

    @property
    def endpoint(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    def make(self, alg: str, alias: str) -> Key:
        """Make a key with an alias."""
        spec, algorithms = SPECS[alg]
        identifier = str(uuid.uuid4())
        arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{identifier}"
        key = self.keys[identifier] = Key(spec, algorithms, new_key(alg), arn)
        self.aliases[f"alias/{alias}"] = identifier
        return key

    def answer(self, operation: str, asked: Mapping[str, Any]) -> dict[str, object]:
        """Do an operation."""
        self.asked.append(operation)
        if self.throttled:
            self.throttled -= 1
            raise RefusalError("ThrottlingException", "Rate exceeded")
        if operation in self.denied:
            who = f"arn:aws:iam::{ACCOUNT}:user/ci"
            words = f"User: {who} is not authorized to perform: kms:{operation} on this resource"
            raise RefusalError("AccessDeniedException", words)
        key = self._key(str(asked["KeyId"]))
        if key.state == "Disabled":
            raise RefusalError("DisabledException", f"{key.arn} is disabled.")
        if key.state != "Enabled":
            words = f"{key.arn} is pending deletion."
            raise RefusalError("KMSInvalidStateException", words)
        if operation == "GetPublicKey":
            return self._public_key(key)
        assert operation == "Sign"
        return self._sign(key, asked)

    def _key(self, name: str) -> Key:
        if name.startswith("arn:"):
            if not re.fullmatch(rf"arn:aws:kms:{REGION}:\d{{12}}:(key|alias)/.+", name):
                raise RefusalError("NotFoundException", f"Invalid arn {name}")
            name = name.rpartition(":")[2].removeprefix("key/")
        found = self.keys.get(self.aliases.get(name, name))
        if found is None:
            words = f"Key 'arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}' does not exist"
            raise RefusalError("NotFoundException", words)
        return found

    @staticmethod
    def _public_key(key: Key) -> dict[str, object]:
        if key.spec == "SYMMETRIC_DEFAULT":
            raise RefusalError("UnsupportedOperationException", "")
        return {
            "KeyId": key.arn,
            "KeySpec": key.spec,
            "KeyUsage": key.usage,
            "SigningAlgorithms": list(key.algorithms),
            "PublicKey": base64.b64encode(der(key.private.public_key())).decode(),
        }

    def _sign(self, key: Key, asked: Mapping[str, Any]) -> dict[str, object]:
        message = base64.b64decode(asked["Message"], validate=True)
        algorithm, kind = asked["SigningAlgorithm"], asked.get("MessageType", "RAW")
        if len(message) > MAX_MESSAGE:
            words = "Value at 'message' failed to satisfy constraint: length <= 4096"
            raise RefusalError("ValidationException", words)
        if key.usage != "SIGN_VERIFY" or algorithm not in key.algorithms:
            words = f"Algorithm {algorithm} is incompatible with key spec {key.spec}."
            raise RefusalError("InvalidKeyUsageException", words)
        self.signed.append(Signed(key.arn, algorithm, kind, len(message)))
        signature = _signature(key.private, algorithm, kind, message)
        text = base64.b64encode(signature).decode()
        return {"KeyId": key.arn, "SigningAlgorithm": algorithm, "Signature": text}


def _signature(key: Any, algorithm: str, kind: str, message: bytes) -> bytes:
    invalid = RefusalError("ValidationException", f"{kind} is not valid for {algorithm}.")
    if algorithm == "ML_DSA_SHAKE_256":
        if kind == "DIGEST":
            raise invalid
        if kind == "EXTERNAL_MU" and len(message) != 64:
            raise RefusalError("ValidationException", "EXTERNAL_MU must have 64 bytes.")
        signed: bytes = key.sign_mu(message) if kind == "EXTERNAL_MU" else key.sign(message)
        return signed
    if kind == "EXTERNAL_MU" or (algorithm == "ED25519_SHA_512" and kind != "RAW"):
        raise invalid
    if algorithm == "ED25519_SHA_512":
        return bytes(key.sign(message))
    own = _DIGESTS[algorithm[-3:]]
    if kind == "DIGEST" and len(message) != own.digest_size:
        raise RefusalError("ValidationException", f"Digest is invalid length for {algorithm}.")
    hashed: Any = Prehashed(own) if kind == "DIGEST" else own
    if algorithm.startswith("ECDSA"):
        signed = key.sign(message, ec.ECDSA(hashed))
    elif "PSS" in algorithm:
        signed = key.sign(message, padding.PSS(padding.MGF1(own), own.digest_size), hashed)
    else:
        signed = key.sign(message, padding.PKCS1v15(), hashed)
    return signed


def _check_login(headers: Mapping[str, str], body: bytes) -> None:
    """Check the request's signature as AWS does (Signature Version 4)."""
    head = headers.get("Authorization", "")
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/kms/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        head,
    )
    if found is None:
        raise RefusalError("MissingAuthenticationTokenException", "Missing Authentication Token")
    who, day, region, names, signature = found.groups()
    if headers.get("X-Amz-Security-Token") == "expired":
        words = "The security token included in the request is expired"
        raise RefusalError("ExpiredTokenException", words)
    if who != ACCESS_KEY:
        words = "The security token included in the request is invalid."
        raise RefusalError("UnrecognizedClientException", words)
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names.split(";"))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{region}/kms/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    if hmac.new(key, text.encode(), "sha256").hexdigest() != signature:
        words = "The request signature we calculated does not match the signature you provided."
        raise RefusalError("InvalidSignatureException", words)


@contextmanager
def serving() -> Iterator[FakeKms]:
    """Run the service."""
    kms = FakeKms()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if kms.gone:
                self.close_connection = True
                return
            operation = self.headers["X-Amz-Target"].removeprefix("TrentService.")
            try:
                _check_login(self.headers, body)  # type: ignore[arg-type]
                status, found = 200, kms.answer(operation, json.loads(body))
            except RefusalError as error:
                status, found = 400, {"__type": error.args[0], "message": error.args[1]}
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kms.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield kms
    finally:
        kms.gone = True
        server.shutdown()
        server.server_close()
