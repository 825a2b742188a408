"""Step 3: algorithm, x5t, path and signature."""

from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fwsign.format import cbor
from fwsign.format.cose import X5CHAIN, protected_header
from fwsign.format.payload import digest
from hostile import bare, block_of, close, encoded, spki, with_block
from support import (
    CODE_SIGNING,
    VENDOR,
    Entity,
    Pki,
    ca_extensions,
    certify,
    key_usage,
    leaf_extensions,
    make_block,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    name,
    new_key,
    parts,
    resign,
    sign_with,
    signed_digest,
    tlv,
)
from testkit.vector import Case, Vector, accepted, case, pki, refused

ANY_USE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)


def leaf(extensions: Sequence[Any] | None = None, **more: Any) -> Callable[[], Case]:
    """Sign with a leaf that the shared PKI issued."""

    def make() -> Case:
        one = make_leaf(pki().issuing, extensions=extensions, **more)
        # Refused before its signature is looked at, so any key may make that.
        return case(sign_with(pki()._replace(leaf=Entity(new_key(), one.certificate))))

    return make


def issuing(extensions: Sequence[Any], **more: Any) -> Callable[[], Case]:
    """Sign under an intermediate CA with these extensions."""

    def make() -> Case:
        middle = certify(new_key(), name("Issuing"), pki().root, extensions, **more)
        chain = Pki(pki().root, middle, make_leaf(middle))
        return case(sign_with(chain, crls=[make_crl(middle), make_crl(pki().root)]))

    return make


def root(extensions: Sequence[Any]) -> Callable[[], Case]:
    """Sign under an anchor with these extensions."""

    def make() -> Case:
        top = certify(new_key(), name("Root"), None, extensions)
        middle = make_ca("Issuing", top, path_length=0)
        return case(sign_with(Pki(top, middle, make_leaf(middle)), crls=()), top)

    return make


def algorithm(kind: str) -> Callable[[], Case]:
    """Sign with a PKI of one kind of key."""

    def make() -> Case:
        own = make_pki(kind)
        return case(sign_with(own), own.root)

    return make


def headed(label: int, key: str = "p256") -> Callable[[], Case]:
    """Sign with a header that names another algorithm than the key's."""

    def make() -> Case:
        one = make_leaf(pki().issuing, alg=key)
        chain = [one.der, pki().issuing.der]
        content = encoded()
        protected = protected_header(label, digest(-16, one.der))
        by = one.key if key == "p256" else new_key()
        block = make_block(signed_digest(content), by, chain, pki().crls, protected=protected)
        return case(close(content, block))

    return make


def chained(*entities: Callable[[], Entity], signer: Callable[[], Entity]) -> Callable[[], Case]:
    """Sign with a signer and put these certificates into x5chain after it."""

    def make() -> Case:
        one, content = signer(), encoded()
        chain = [one.der, *(entity().der for entity in entities)]
        return case(close(content, make_block(signed_digest(content), one.key, chain, pki().crls)))

    return make


def swapped_leaf() -> Case:
    """Put another leaf of the same CA into x5chain."""
    other = make_leaf(pki().issuing).der

    def change(parts: list[Any]) -> None:
        parts[1][X5CHAIN] = (other, pki().issuing.der)

    return case(with_block(sign_with(pki()), change))


def forged(subject: Callable[[], Entity]) -> Case:
    """Let a stranger sign a leaf in the name of a CA."""
    real = subject()
    return case(
        sign_with(pki()._replace(leaf=certify_as(Entity(new_key(), real.certificate), real)))
    )


def certify_as(stranger: Entity, real: Entity) -> Entity:
    """Issue a leaf under a CA's name and key identifier, with a stranger's key."""
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(real.key.public_key())
    extensions = [*leaf_extensions(), (identifier, False)]
    return certify(new_key(), name("release"), stranger, extensions, identifiers=False)


def signature(change: Callable[[bytes], bytes]) -> Callable[[], Case]:
    """Alter the signature of a good block."""

    def alter(block: list[Any]) -> None:
        block[3] = change(block[3])

    return lambda: case(with_block(sign_with(pki()), alter))


def certificate(index: int, change: Callable[[bytes], bytes]) -> Callable[[], Case]:
    """Alter a certificate, x5t made to fit where it is the leaf."""

    def make() -> Case:
        chain = [pki().leaf.der, pki().issuing.der]
        chain[index] = change(chain[index])
        content = encoded()
        return case(close(content, block_of(pki(), content, chain=chain)))

    return make


def self_issued_twice() -> Case:
    """Repeat a self-issued certificate that leads nowhere."""
    stray = make_ca("Stray")
    return chained(lambda: stray, lambda: stray, signer=lambda: make_leaf(stray))()


def deep() -> Case:
    """Put a CA below one whose path length is 0."""
    lower = make_ca("Lower", pki().issuing)
    return chained(lambda: lower, lambda: pki().issuing, signer=lambda: make_leaf(lower))()


def unknown_algorithm() -> Case:
    """Name a COSE algorithm that no table has."""
    content = encoded()
    protected = cbor.encode({1: -999, 34: (-16, digest(-16, pki().leaf.der))})
    return case(close(content, block_of(pki(), content, protected=protected)))


def bare_key(*, pinned: bool = True, vendor: bool = True) -> Case:
    """Sign with a key that has no certificate."""
    key, content = new_key(), encoded()
    policy = {"pinned_vendors": {spki(key): (VENDOR,)}} if vendor else {}
    anchor = bare(key) if pinned else pki().root.anchor
    return case(close(content, make_block(signed_digest(content), key)), anchor, **policy)


def enrolled(*vendors: str) -> Callable[[], Case]:
    """Enrol the anchor with vendors."""
    return lambda: case(sign_with(pki()), pki().root.anchor._replace(vendors=vendors))


def minimal(*extra: tuple[x509.ExtensionType, bool]) -> list[tuple[x509.ExtensionType, bool]]:
    """Return a leaf's extensions without key usage."""
    return [(x509.ExtendedKeyUsage([CODE_SIGNING]), True), *extra]


def long_serial() -> Case:
    """Give the leaf a serial number that no library writes."""
    tbs = parts(parts(pki().leaf.der)[0])
    tbs[1] = tlv(2, b"\0\x80", bytes(19))
    content = encoded()
    chain = [resign(tbs, pki().issuing.key), pki().issuing.der]
    return case(close(content, block_of(pki(), content, chain=chain)))


def flip(data: bytes) -> bytes:
    """Flip a bit near the end."""
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


NO_ANCHOR = refused(3, "untrusted.no-anchor")
USES = refused(3, "untrusted.eku")
USAGE = refused(3, "untrusted.key-usage")
KEY = refused(3, "untrusted.algorithm")
NAMES = refused(3, "untrusted.name-constraint")
SERIAL = refused(3, "untrusted.serial")
BROKEN = refused(3, "tampered.signature")
UNFIT = refused(3, "malformed.algorithm")

VECTORS = (
    Vector("good-p384", "ESP384, on a PKI of P-384 keys", accepted(), algorithm("p384")),
    Vector("good-ed25519", "Ed25519, on a PKI of such keys", accepted(), algorithm("ed25519")),
    Vector(
        "good-ml-dsa-65", "ML-DSA-65, on a PKI of such keys", accepted(), algorithm("ml-dsa-65")
    ),
    Vector(
        "good-ml-dsa-87", "ML-DSA-87, on a PKI of such keys", accepted(), algorithm("ml-dsa-87")
    ),
    Vector(
        "good-rsa", "PS256, on a PKI of RSA keys of 3072 bits", accepted(), algorithm("rsa3072")
    ),
    Vector("good-es256", "ES256 with a P-256 key", accepted(), headed(-7)),
    Vector("good-bare-key", "signed by a pinned bare key", accepted(), bare_key),
    Vector("good-enrolled", "the anchor is enrolled for this vendor", accepted(), enrolled(VENDOR)),
    Vector("path-unknown-algorithm", "the block names alg -999", KEY, unknown_algorithm),
    Vector("path-alg-key-mismatch", "ESP384 with a P-256 key", UNFIT, headed(-51)),
    Vector("path-es256-p384", "ES256 with a P-384 key", UNFIT, headed(-7, "p384")),
    Vector("path-p521", "a P-521 leaf, for which there is no alg", UNFIT, headed(-9, "p521")),
    Vector("path-rsa-2048", "an RSA leaf of 2048 bits", KEY, leaf(alg="rsa2048")),
    Vector("path-secp256k1", "a key on another curve", KEY, leaf(alg="secp256k1")),
    Vector(
        "path-x5t",
        "the leaf is not the one that x5t names",
        refused(3, "tampered.x5t"),
        swapped_leaf,
    ),
    Vector("path-signature", "one bit of the signature is flipped", BROKEN, signature(flip)),
    Vector(
        "path-signature-short",
        "half of the signature is gone",
        BROKEN,
        signature(lambda raw: raw[:32]),
    ),
    Vector(
        "path-signature-zero",
        "r and s of the signature are 0",
        BROKEN,
        signature(lambda _: bytes(64)),
    ),
    Vector(
        "path-forged-leaf",
        "a leaf that its CA did not sign",
        refused(3, "tampered.certificate"),
        lambda: forged(lambda: pki().issuing),
    ),
    Vector(
        "path-leaf-bit",
        "one bit of the leaf's signature is flipped",
        refused(3, "tampered.certificate"),
        certificate(0, flip),
    ),
    Vector(
        "path-certificate-trailing",
        "a byte after a certificate",
        refused(3, "malformed.certificate"),
        certificate(1, lambda raw: raw + b"\0"),
    ),
    Vector(
        "path-certificate-junk",
        "bytes that are no certificate",
        refused(3, "malformed.certificate"),
        certificate(1, lambda _: b"0"),
    ),
    Vector(
        "path-other-root",
        "a root that nobody pinned",
        NO_ANCHOR,
        lambda: case(sign_with(make_pki())),
    ),
    Vector(
        "path-bare-key-unknown",
        "a bare key nobody pinned",
        NO_ANCHOR,
        lambda: bare_key(pinned=False),
    ),
    Vector(
        "path-incomplete",
        "the intermediate is missing",
        NO_ANCHOR,
        chained(signer=lambda: pki().leaf),
    ),
    Vector(
        "path-gap",
        "a stranger's certificate stands in the chain",
        refused(3, "untrusted.issuer"),
        chained(lambda: make_ca("Else"), signer=lambda: pki().leaf),
    ),
    Vector(
        "path-leaf-as-issuer",
        "a leaf that has issued another",
        refused(3, "untrusted.issuer"),
        chained(lambda: pki().leaf, lambda: pki().issuing, signer=lambda: make_leaf(pki().leaf)),
    ),
    Vector(
        "path-length",
        "a CA more than the path length allows",
        refused(3, "untrusted.path-length"),
        deep,
    ),
    Vector(
        "path-ca-as-leaf",
        "a CA signs a release",
        refused(3, "untrusted.ca-as-leaf"),
        chained(signer=lambda: pki().issuing),
    ),
    Vector(
        "path-root-as-leaf",
        "the root signs a release",
        refused(3, "untrusted.ca-as-leaf"),
        chained(signer=lambda: pki().root),
    ),
    Vector("path-leaf-no-usage", "a leaf without key usage", USAGE, leaf(minimal())),
    Vector(
        "path-leaf-cert-sign",
        "a leaf with keyCertSign",
        USAGE,
        leaf(minimal((key_usage("digital_signature", "key_cert_sign"), True))),
    ),
    Vector("path-leaf-no-eku", "the leaf has no extended key usage", USES, leaf(usages=())),
    Vector(
        "path-leaf-tls",
        "the leaf is a TLS server's certificate",
        USES,
        leaf(usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
    ),
    Vector(
        "path-leaf-any-use",
        "the leaf is for any extended key usage",
        USES,
        leaf(usages=[CODE_SIGNING, ANY_USE]),
    ),
    Vector(
        "path-ca-no-cert-sign",
        "a CA without keyCertSign",
        USAGE,
        issuing([ca_extensions()[0], (key_usage("crl_sign"), True)]),
    ),
    Vector(
        "path-ca-tls",
        "a CA for TLS only",
        USES,
        issuing(
            [*ca_extensions(), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True)]
        ),
    ),
    Vector(
        "path-critical-leaf",
        "an unknown critical extension in the leaf",
        refused(3, "untrusted.extension"),
        leaf([*leaf_extensions(), UNKNOWN]),
    ),
    Vector(
        "path-critical-root",
        "an unknown critical extension in an anchor",
        refused(3, "untrusted.extension"),
        root([*ca_extensions(), UNKNOWN]),
    ),
    Vector(
        "path-not-critical",
        "basicConstraints not critical",
        refused(3, "untrusted.criticality"),
        issuing(ca_extensions(critical=False)),
    ),
    Vector(
        "path-no-key-identifiers",
        "the leaf has no key identifiers",
        refused(3, "untrusted.key-identifier"),
        issuing(ca_extensions(), identifiers=False),
    ),
    Vector(
        "path-constraint-ca",
        "the leaf is outside its CA's domain",
        NAMES,
        issuing(ca_extensions(permitted=["other.example"])),
    ),
    Vector(
        "path-constraint-root",
        "the leaf is outside the root's domain",
        NAMES,
        root(ca_extensions(permitted=["other.example"])),
    ),
    Vector(
        "path-constraint-sibling",
        "the leaf's domain only ends like the permitted one",
        NAMES,
        issuing(ca_extensions(permitted=["cme.example"])),
    ),
    Vector(
        "path-enrolled-elsewhere", "an anchor for other vendors", NAMES, enrolled("other.example")
    ),
    Vector(
        "path-serial",
        "a serial number of 160 bits",
        SERIAL,
        long_serial,
    ),
    Vector(
        "path-duplicate",
        "a certificate twice",
        refused(3, "untrusted.duplicate"),
        self_issued_twice,
    ),
    Vector(
        "path-unused",
        "an anchor after the path is not looked at",
        accepted(),
        chained(lambda: pki().issuing, lambda: pki().root, signer=lambda: pki().leaf),
    ),
    Vector(
        "path-no-vendor-pinned",
        "a bare key without a vendor",
        refused(8, "untrusted.vendor"),
        lambda: bare_key(vendor=False),
    ),
)
