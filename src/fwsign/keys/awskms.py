# SPDX-License-Identifier: Apache-2.0
"""Keys in AWS KMS: `awskms:///alias/NAME`, `awskms:///ARN`, `awskms://HOST/...`, as cosign writes.

boto3 finds the credentials and the region: the environment, ~/.aws, the identity of a CI or of a
machine. Digests go as digests (DIGEST). For an algorithm that hashes on its own, a message that
fits goes whole (RAW), and a longer one of ML-DSA as mu (EXTERNAL_MU).
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fwsign.errors import Failed
from fwsign.format.cose import key_name
from fwsign.format.library import raw_from_der
from fwsign.keys import uri
from fwsign.keys.awskms_errors import explained
from fwsign.keys.confirm import checked
from fwsign.keys.exchange import check_address
from fwsign.keys.held import Scheme, check_scheme, mu_of

if TYPE_CHECKING:
    from fwsign.keys import Passphrase, PublicKey
    from fwsign.keys.uri import KeyUri

MAX_MESSAGE: Final = 4096
"""Bytes of a message that KMS takes whole."""
CONNECT_SECONDS: Final = 5
STALL_SECONDS: Final = 10
"""The service's longest silence."""
ATTEMPTS: Final = 4
"""How often a request is sent that is throttled, or has no answer."""
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):\d+:(?:key|alias)/[A-Za-z0-9:/_-]+")
_NAME: Final = re.compile(r"alias/[A-Za-z0-9:/_-]+|(?:mrk-)?[A-Za-z0-9-]+")
_ALGORITHMS: Final = {
    Scheme.ECDSA: "ECDSA",
    Scheme.PSS: "RSASSA_PSS",
    Scheme.PKCS1: "RSASSA_PKCS1_V1_5",
}
_ED25519, _ML_DSA = "ED25519_SHA_512", "ML_DSA_SHAKE_256"


def open_key(text: str, passphrase: Passphrase) -> AwsKey:
    """Open a key by its URI: `awskms:[//[HOST]/]KEY[?region=REGION&profile=NAME&endpoint=URL]`.

    Args:
        text: the URI; KEY is an ARN, `alias/NAME` or an identifier.
        passphrase: not asked: boto3 finds the credentials.

    Raises:
        Failed: `key.unsupported`: the URI, or a key that signs nothing; `key.missing`,
            `key.passphrase`, `key.passphrase-missing`, `key.locked`, `key.unreachable`,
            `key.failed`.
        ModuleNotFoundError: boto3 is not there.
    """
    del passphrase
    found = uri.parse(text, ("endpoint", "profile", "region"))
    arn = _ARN.fullmatch(found.path)
    if arn is None and not _NAME.fullmatch(found.path):
        raise uri.refusal(
            found.scheme, f'"{found.path}" is no ARN of a key, no alias/NAME and no identifier'
        )
    region = found.options.get("region")
    if arn is not None and region not in {None, arn[1]}:
        raise uri.refusal(found.scheme, f"the ARN is of {arn[1]}, and region= is {region}")
    endpoint = _endpoint(found)
    client = _client(found, arn[1] if arn else region, endpoint)
    return AwsKey(client, found, endpoint)


class AwsKey:
    """A key in AWS KMS; a `fwsign.keys.held.HeldKey`. Threads may use one at once.

    Args:
        client: boto3's client of KMS.
        found: the key's URI.
        endpoint: the address of the service; None for that of the region.

    Raises:
        Failed: as `open_key`.
    """

    def __init__(self, client: Any, found: KeyUri, endpoint: str | None) -> None:
        self._client = client
        host = f"//{found.host or ''}/"
        self._place = uri.make(found.scheme, f"{host}{found.path}", {})
        facts = self._ask("GetPublicKey", client.get_public_key, KeyId=found.path)
        self._algorithms = tuple(facts.get("SigningAlgorithms") or ())
        if facts.get("KeyUsage") != "SIGN_VERIFY":
            raise Failed(
                "key.unsupported",
                f"{self._place} is for {facts.get('KeyUsage')}, and does not sign",
                expected="SIGN_VERIFY",
                found=facts.get("KeyUsage"),
            )
        try:
            self._public: Any = serialization.load_der_public_key(facts["PublicKey"])
        except (ValueError, KeyError, UnsupportedAlgorithm) as error:
            raise Failed(
                "key.unsupported",
                f"{self._place} is a key of {facts.get('KeySpec')}, which cannot be read",
                expected="ECDSA, Ed25519, RSA or ML-DSA",
                found=facts.get("KeySpec"),
            ) from error
        # An alias may be given to another key meanwhile, so the key signs by its ARN.
        self._arn = str(facts.get("KeyId") or found.path)
        options = {"endpoint": endpoint if not found.host else None}
        self._place = uri.make(found.scheme, f"{host}{self._arn}", options)

    @property
    def place(self) -> str:
        """The URI, with the ARN of the key."""
        return self._place

    @property
    def public_key(self) -> PublicKey:
        """The public half of the key."""
        public: PublicKey = self._public
        return public

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign; see `fwsign.keys.held.HeldKey.sign_raw`."""
        check_scheme(self.public_key, scheme)
        algorithm, kind, message = self._request(scheme, data, digest)
        if algorithm not in self._algorithms:
            there = ", ".join(self._algorithms)
            raise Failed(
                "key.unsupported",
                f"{self._place} does not sign with {algorithm}, it has {there}",
                expected=there,
                found=algorithm,
            )
        answer = self._ask(
            "Sign",
            self._client.sign,
            KeyId=self._arn,
            Message=message,
            MessageType=kind,
            SigningAlgorithm=algorithm,
        )
        signature = bytes(answer.get("Signature") or b"")
        if scheme is Scheme.ECDSA:
            signature = _fixed(signature, (self._public.curve.key_size + 7) // 8)
        return checked(self, scheme, data, digest, signature)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(self, scheme: Scheme, data: bytes, digest: str) -> tuple[str, str, bytes]:
        """Return the algorithm, how the message is to be taken, and the message."""
        if scheme in _ALGORITHMS:
            return f"{_ALGORITHMS[scheme]}_{digest.replace('-', '_')}", "DIGEST", data
        if scheme is Scheme.MU:
            return _ML_DSA, "EXTERNAL_MU", data
        if not hasattr(self._public, "verify_mu"):
            if len(data) > MAX_MESSAGE:
                raise Failed(
                    "key.unsupported",
                    f"KMS takes at most {MAX_MESSAGE} bytes to sign with "
                    f"{key_name(self._public)}, not {len(data)}: {self._place}",
                    expected=f"at most {MAX_MESSAGE} bytes",
                    found=len(data),
                    hint="keys of ECDSA, RSA and ML-DSA sign messages of any length there",
                )
            return _ED25519, "RAW", data
        if len(data) > MAX_MESSAGE:
            return _ML_DSA, "EXTERNAL_MU", mu_of(self._public, data)
        return _ML_DSA, "RAW", data

    def _ask(self, operation: str, call: Any, **arguments: object) -> dict[str, Any]:
        try:
            found: dict[str, Any] = call(**arguments)
        except Exception as error:
            refusal = explained(error, operation, self._place)
            if refusal is None:
                raise
            raise refusal from None
        return found


def _endpoint(found: KeyUri) -> str | None:
    """Return the address of the service; None for that of the region."""
    given = found.options.get("endpoint")
    if found.host and given:
        raise uri.refusal(found.scheme, "a host and endpoint= exclude each other")
    address = f"https://{found.host}" if found.host else given
    if address is not None:
        check_address(address)
    return address


def _client(found: KeyUri, region: str | None, endpoint: str | None) -> Any:
    import boto3  # slow, and in an extra: `fwsign.keys.open_key` says which
    from botocore.config import Config

    library = logging.getLogger("botocore")
    if library.level == logging.NOTSET:  # its lines for debugging have session tokens in them
        library.setLevel(logging.INFO)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=STALL_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    place = uri.make(found.scheme, f"///{found.path}", {})
    try:
        session = boto3.session.Session(profile_name=found.options.get("profile"))
        # The other tools of AWS read AWS_REGION, too.
        region = region or session.region_name or os.environ.get("AWS_REGION")
        return session.client("kms", region_name=region, endpoint_url=endpoint, config=config)
    except Exception as error:
        refusal = explained(error, "GetPublicKey", place)
        if refusal is None:
            raise
        raise refusal from None


def _fixed(signature: bytes, width: int) -> bytes:
    """Return r and s side by side; nothing if they are not in DER, or too wide."""
    try:
        return raw_from_der(signature, width)
    except (ValueError, OverflowError):
        return b""
