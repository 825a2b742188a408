"""Small PKIs, envelopes and devices for tests; every part can be made wrong on purpose."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fwsign.errors import FwsignError
from fwsign.format import cbor, identifiers, suit
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.cose import Block, encode_block, protected_header, sig_structure
from fwsign.format.envelope import Envelope, decode_envelope, encode_envelope
from fwsign.format.kinds import file_identifier
from fwsign.format.payload import digest
from fwsign.keys.file import FileSigner
from fwsign.trust.envelope import encode_update
from fwsign.trust.lists import Update
from fwsign.verify.policy import DevicePolicy
from fwsign.verify.verified import VerifiedRelease
from fwsign.verify.verifier import Verifier
from fwsign.x509.anchor import Anchor

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
VENDOR, PRODUCT = "acme.example", "gateway-x1"
PAYLOAD = b"firmware" * 100
CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING

Extensions = Sequence[tuple[x509.ExtensionType, bool]]


THOROUGH = os.environ.get("FWSIGN_THOROUGH") == "1"
"""Kill tests then kill at every step, which takes many minutes."""


def stride(usual: int) -> int:
    """Return the number of steps between two kills: 1 if the tests are to be thorough."""
    return 1 if THOROUGH else usual


def for_child() -> dict[str, str]:
    """Return the environment of a test file that runs as a program: it finds these modules."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def require_program(name: str) -> str:
    """Return the path of a program; skip where it is absent, fail where it must be there."""
    found = shutil.which(name)
    if found is None:
        absent(f"the program {name} is not installed")
    return str(found)


def require_package(name: str) -> None:
    """Skip where a Python package is absent, or fail where it must be there."""
    if importlib.util.find_spec(name) is None:
        absent(f"the package {name} is not installed")


def require_terminals() -> None:
    """Skip if no pseudo-terminal can be opened, as in a root without devpts."""
    try:
        ends = os.openpty()
    except OSError as error:
        absent(f"no pseudo-terminals here: {error}")
    for end in ends:
        os.close(end)


def absent(what: str) -> NoReturn:
    """Skip a test because something external is not there, or fail if nothing may be absent."""
    if os.environ.get("FWSIGN_REQUIRE_EXTERNAL") == "1":
        pytest.fail(what)
    pytest.skip(what)


def vectors() -> Path:
    """Return the folder of vectors that others wrote; skip the whole file where it is absent."""
    given = os.environ.get("FWSIGN_VECTORS")
    folder = Path(given or Path(__file__).parent / "../../shared/vectors").resolve()
    if not folder.is_dir() and given:
        pytest.fail(f"FWSIGN_VECTORS names {folder}, which is not there", pytrace=False)
    if not folder.is_dir():
        pytest.skip(f"no vectors: {folder} is not there", allow_module_level=True)
    return folder


def cases() -> Path:
    """Return the folder of inputs after reports about other programs; it may be absent."""
    given = os.environ.get("FWSIGN_CASES")
    folder = Path(given or Path(__file__).parent / "../../shared/cases").resolve()
    if not folder.is_dir() and given:
        pytest.fail(f"FWSIGN_CASES names {folder}, which is not there", pytrace=False)
    return folder


def needs_cases() -> pytest.MarkDecorator:
    """Skip a test where that folder is absent."""
    return pytest.mark.skipif(not cases().is_dir(), reason=f"no cases: {cases()} is not there")


def firmware(name: str) -> Path:
    """Return a file that `tools/fetch-firmware` fetches; skip where it is absent."""
    given = os.environ.get("FWSIGN_FIRMWARE")
    path = Path(given or Path(__file__).parent.parent / "build/firmware") / name
    if not path.is_file():
        absent(f"{name} is not there: tools/fetch-firmware fetches it")
    return path


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Return the one RSA key of a size that all tests share: making them is slow."""
    return rsa.generate_private_key(65537, bits)


def new_key(alg: str = "p256") -> Any:
    """Make a private key of any kind that tests need."""
    makers: Mapping[str, Callable[[], Any]] = {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
        "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
        "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
        "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
        "rsa1024": lambda: rsa_key(1024),
        "rsa2048": lambda: rsa_key(2048),
        "rsa3072": lambda: rsa_key(3072),
        "rsa4096": lambda: rsa_key(4096),
    }
    return makers[alg]()


def der(thing: Any) -> bytes:
    """Encode a certificate, CRL or public key."""
    if isinstance(thing, (x509.Certificate, x509.CertificateRevocationList)):
        return thing.public_bytes(serialization.Encoding.DER)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = thing.public_bytes(serialization.Encoding.DER, form)
    return encoded


def name(common: str, org: str | None = "Acme") -> x509.Name:
    """Make a name of a common name and an organisation."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if org:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, org))
    return x509.Name(parts)


def signing_hash(key: Any) -> Any:
    """Return the hash that certificates are signed with under a key."""
    ed = (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
    ml = (*ed, mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey)
    return None if isinstance(key, (*ml, mldsa.MLDSA87PrivateKey)) else hashes.SHA256()


def key_usage(*names: str) -> x509.KeyUsage:
    """Make a key usage with the bits named, as in `digital_signature`."""
    every = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{one: one in names for one in every})


class Entity(NamedTuple):
    """A key with its certificate."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return der(self.certificate)

    @property
    def anchor(self) -> Anchor:
        """The certificate as an anchor."""
        return Anchor.from_certificate(self.der)


def certify(
    key: Any,
    subject: x509.Name,
    issuer: Entity | None,
    extensions: Extensions,
    *,
    days: tuple[int, int] = (-10, 365),
    serial: int | None = None,
    identifiers: bool = True,
    algorithm: Any = ...,
) -> Entity:
    """Certify a key: by an issuer, or by itself where there is none.

    Args:
        days: validity, counted from NOW.
        identifiers: add SKI and AKI.
        algorithm: the signature's hash, where it is not the usual one.
    """
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial if serial is not None else x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
    )
    own = list(extensions)
    if identifiers:
        own.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        own.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False))
    for extension, critical in own:
        builder = builder.add_extension(extension, critical)
    chosen = signing_hash(signer) if algorithm is ... else algorithm
    return Entity(key, sign_builder(builder, signer, chosen))


def sign_builder(builder: Any, key: Any, algorithm: Any) -> Any:
    """Sign a certificate or CRL that is being built; with ECDSA, the same bytes each time."""
    same = True if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, algorithm, ecdsa_deterministic=same)


def ca_extensions(
    *, path_length: int | None = None, permitted: Iterable[str] = (), critical: bool = True
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of a CA as `fwsign pki` writes them."""
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=path_length), critical),
        (key_usage("key_cert_sign", "crl_sign"), True),
    ]
    if names := [x509.DNSName(domain) for domain in permitted]:
        found.append((x509.NameConstraints(names, None), True))
    return found


def leaf_extensions(
    vendors: Iterable[str] = (VENDOR,), *, usages: Sequence[Any] = (CODE_SIGNING,)
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of a signer as `fwsign pki` writes them."""
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage("digital_signature"), True),
    ]
    if usages:
        found.append((x509.ExtendedKeyUsage(list(usages)), True))
    if names := [x509.DNSName(domain) for domain in vendors]:
        found.append((x509.SubjectAlternativeName(names), False))
    return found


def make_ca(
    common: str = "Root", issuer: Entity | None = None, alg: str = "p256", **more: Any
) -> Entity:
    """Make a CA; `more` goes to `ca_extensions` and, for `days`, to `certify`."""
    days = more.pop("days", (-10, 3650))
    return certify(new_key(alg), name(common), issuer, ca_extensions(**more), days=days)


def make_leaf(
    issuer: Entity,
    common: str = "release",
    alg: str = "p256",
    *,
    key: Any = None,
    extensions: Extensions | None = None,
    days: tuple[int, int] = (-10, 365),
    **more: Any,
) -> Entity:
    """Make a signer; `more` goes to `leaf_extensions`."""
    own = leaf_extensions(**more) if extensions is None else extensions
    return certify(key or new_key(alg), name(common), issuer, own, days=days)


def make_crl(
    issuer: Entity,
    revoked: Sequence[Entity] = (),
    *,
    number: int | None = 1,
    days: tuple[int, int] = (-1, 30),
    reason: x509.ReasonFlags | None = x509.ReasonFlags.key_compromise,
    since: datetime = NOW - DAY,
    extensions: Extensions = (),
    signer: Entity | None = None,
) -> bytes:
    """Make a CRL in DER; `signer` forges the issuer's name."""
    by = signer or issuer
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW + days[0] * DAY)
        .next_update(NOW + days[1] * DAY)
    )
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for entity in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(entity.certificate.serial_number)
        entry = entry.revocation_date(since)
        if reason:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return der(sign_builder(builder, by.key, signing_hash(by.key)))


class Pki(NamedTuple):
    """Root, issuing CA and signer."""

    root: Entity
    issuing: Entity
    leaf: Entity

    @property
    def crls(self) -> tuple[bytes, ...]:
        """Fresh CRLs of both CAs, with nothing revoked."""
        return make_crl(self.issuing), make_crl(self.root)


def make_pki(alg: str = "p256", *, vendors: Iterable[str] = (VENDOR,), common: str = "") -> Pki:
    """Make a PKI of three certificates."""
    root = make_ca(f"{common}Root", alg=alg)
    issuing = make_ca(f"{common}Issuing", root, alg, path_length=0)
    return Pki(root, issuing, make_leaf(issuing, f"{common}release", alg, vendors=vendors))


def component(
    payload: bytes = PAYLOAD, file: str = "build.bin", uri: str | None = None
) -> Component:
    """Describe a payload as a file component."""
    image = Digest(SHA256, digest(SHA256, payload))
    return Component(file_identifier(file), image, len(payload), uri or file)


def make_manifest(*components: Component, sequence_number: int = 100, **more: Any) -> suit.Manifest:
    """Make a manifest of `VENDOR`'s `PRODUCT`."""
    vendor, product = more.pop("vendor", VENDOR), more.pop("product", PRODUCT)
    return suit.Manifest(
        sequence_number,
        identifiers.vendor_id(vendor),
        identifiers.class_id(vendor, product),
        components or (component(),),
        **more,
    )


def make_block(
    payload: bytes, key: Any, chain: Sequence[bytes] = (), crls: Sequence[bytes] = (), **more: Any
) -> bytes:
    """Sign a SUIT_Digest; `more` replaces fields of the Block after signing."""
    signer = FileSigner(key)
    x5t = digest(SHA256, chain[0]) if chain else None
    protected = more.pop("protected", None) or protected_header(signer.algorithm, x5t)
    block = Block(
        protected,
        signer.algorithm,
        signer.sign(sig_structure(protected, payload)),
        chain=tuple(chain),
        crls=tuple(crls),
    )
    return encode_block(block._replace(**more))


def signed_digest(manifest: bytes) -> bytes:
    """Return the SUIT_Digest that blocks sign, encoded."""
    return cbor.encode((SHA256, digest(SHA256, cbor.byte_string_head(len(manifest)), manifest)))


def signed_bytes(update: Update) -> bytes:
    """Return what the blocks of a trust update sign."""
    return decode_envelope(encode_update(update)).digest


def make_envelope(
    manifest: suit.Manifest | bytes,
    signers: Sequence[tuple[Entity, Sequence[Entity], Sequence[bytes]]],
    *,
    text: bytes | None = None,
    integrated: Mapping[str, bytes] | None = None,
) -> bytes:
    """Sign a manifest; each signer is (leaf, intermediates, crls)."""
    encoded = manifest if isinstance(manifest, bytes) else suit.encode_manifest(manifest)
    payload = signed_digest(encoded)
    blocks = tuple(
        make_block(payload, leaf.key, [leaf.der, *(one.der for one in above)], crls)
        for leaf, above, crls in signers
    )
    return encode_envelope(Envelope(payload, blocks, encoded, text, integrated or {}))


def sign_with(pki: Pki, manifest: suit.Manifest | bytes | None = None, **more: Any) -> bytes:
    """Sign with a PKI, its CRLs stapled unless `crls` says otherwise."""
    crls = more.pop("crls", None)
    signer = (pki.leaf, [pki.issuing], pki.crls if crls is None else crls)
    return make_envelope(make_manifest() if manifest is None else manifest, [signer], **more)


def device(**more: Any) -> DevicePolicy:
    """Return the policy of a device of `PRODUCT` that has seen sequence number 1."""
    return DevicePolicy(**{"vendor": VENDOR, "product": PRODUCT, "min_sequence": 1, **more})


def verify(
    envelope: bytes, anchors: Sequence[Any], *, at: datetime = NOW, **policy: Any
) -> VerifiedRelease:
    """Verify as the device; anchors may be entities."""
    pinned = [one.anchor if isinstance(one, Entity) else one for one in anchors]
    return Verifier(pinned, device(**policy)).verify(envelope, at=at)


@contextmanager
def refused(code: str, *words: str) -> Iterator[pytest.ExceptionInfo[FwsignError]]:
    """Expect a refusal with a code, and words in its message."""
    with pytest.raises(FwsignError) as caught:
        yield caught
    assert caught.value.code == code, caught.value.message
    assert [word for word in words if word not in caught.value.message] == []


# --- DER by hand, for what no library writes ------------------------------------------------


def tlv(tag: int, *content: bytes) -> bytes:
    """Encode one DER element."""
    whole = b"".join(content)
    size = len(whole)
    width = (size.bit_length() + 7) // 8
    head = bytes([size]) if size < 0x80 else bytes([0x80 | width]) + size.to_bytes(width, "big")
    return bytes([tag]) + head + whole


def parts(element: bytes) -> list[bytes]:
    """Split the content of a DER element into the elements in it."""
    at, found = _content(element, 0)[0], []
    while at < len(element):
        end = _content(element, at)[1]
        found.append(element[at:end])
        at = end
    return found


def _content(data: bytes, at: int) -> tuple[int, int]:
    size, start = data[at + 1], at + 2
    if size >= 0x80:
        width = size & 0x7F
        size, start = int.from_bytes(data[start : start + width], "big"), start + width
    return start, start + size


def resign(tbs: Sequence[bytes], key: Any) -> bytes:
    """Sign a certificate or CRL put together by hand, with ECDSA and SHA-256."""
    whole, algorithm = tlv(0x30, *tbs), bytes.fromhex("300a06082a8648ce3d040302")
    signature = key.sign(whole, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return tlv(0x30, whole, algorithm, tlv(3, b"\0", signature))


def with_serial(one: Entity, content: bytes, issuer: Entity | None = None) -> bytes:
    """Return a certificate again, with any serial number; a root without `issuer`."""
    tbs = parts(parts(one.der)[0])
    tbs[1] = tlv(2, content)
    return resign(tbs, (issuer or one).key)
