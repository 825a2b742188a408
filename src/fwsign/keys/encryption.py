# SPDX-License-Identifier: Apache-2.0
"""Describe a key file's encryption and its strength, without the passphrase.

The measure is the OWASP Password Storage Cheat Sheet of 2023: the cost of one guess.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from fwsign.errors import Failed
from fwsign.keys import asn1
from fwsign.keys.asn1 import Element, sequence_parts

MAX_ITERATIONS: Final = 20_000_000
"""Iterations of PBKDF2 and PKCS#12: some ten seconds. A file must not keep us busy for a day."""
MAX_SCRYPT_WORK: Final = 1 << 25
"""N times r times p: some ten seconds."""
MAX_SCRYPT_MEMORY: Final = 1 << 30
"""Bytes; scrypt takes 128 times N times r."""
MAX_BCRYPT_ROUNDS: Final = 2048
"""Rounds of bcrypt: some twenty seconds."""

Verdict = Literal["good", "low", "weak"]

CLEAR: Final = "none, the key is in clear"
"""The cipher of a PKCS#12 file whose passphrase protects nothing but its MAC."""
OPENSSH_MAGIC: Final = b"openssh-key-v1\0"
PKCS7_DATA: Final = "1.2.840.113549.1.7.1"
PKCS7_ENCRYPTED: Final = "1.2.840.113549.1.7.6"
PBES2: Final = "1.2.840.113549.1.5.13"
PBKDF2: Final = "1.2.840.113549.1.5.12"
PBMAC1: Final = "1.2.840.113549.1.5.14"  # RFC 9579
SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"
PRFS: Final[Mapping[str, str]] = MappingProxyType(  # RFC 8018 B.1.2
    {
        "1.2.840.113549.2.7": "SHA1",
        "1.2.840.113549.2.8": "SHA224",
        "1.2.840.113549.2.9": "SHA256",
        "1.2.840.113549.2.10": "SHA384",
        "1.2.840.113549.2.11": "SHA512",
    }
)
CIPHERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2.16.840.1.101.3.4.1.2": "AES-128-CBC",
        "2.16.840.1.101.3.4.1.22": "AES-192-CBC",
        "2.16.840.1.101.3.4.1.42": "AES-256-CBC",
        "1.2.840.113549.3.7": "3DES-CBC",
        "1.2.840.113549.3.2": "RC2-CBC",
        "1.3.14.3.2.7": "DES-CBC",
    }
)
# PBES1 (RFC 8018 A.3) and its PKCS#12 variants (RFC 7292 appendix C): hash and cipher.
_PBES1: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "1.2.840.113549.1.5.1": ("MD2", "DES-CBC"),
        "1.2.840.113549.1.5.3": ("MD5", "DES-CBC"),
        "1.2.840.113549.1.5.4": ("MD2", "RC2-CBC"),
        "1.2.840.113549.1.5.6": ("MD5", "RC2-CBC"),
        "1.2.840.113549.1.5.10": ("SHA1", "DES-CBC"),
        "1.2.840.113549.1.5.11": ("SHA1", "RC2-CBC"),
        "1.2.840.113549.1.12.1.1": ("SHA1", "RC4-128"),
        "1.2.840.113549.1.12.1.2": ("SHA1", "RC4-40"),
        "1.2.840.113549.1.12.1.3": ("SHA1", "3DES-CBC"),
        "1.2.840.113549.1.12.1.4": ("SHA1", "2-key 3DES-CBC"),
        "1.2.840.113549.1.12.1.5": ("SHA1", "RC2-128-CBC"),
        "1.2.840.113549.1.12.1.6": ("SHA1", "RC2-40-CBC"),
    }
)
_HASHES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1.2.840.113549.2.5": "MD5",
        "1.3.14.3.2.26": "SHA1",
        "2.16.840.1.101.3.4.2.4": "SHA224",
        "2.16.840.1.101.3.4.2.1": "SHA256",
        "2.16.840.1.101.3.4.2.2": "SHA384",
        "2.16.840.1.101.3.4.2.3": "SHA512",
    }
)
# OWASP: PBKDF2-HMAC with SHA1, SHA256 and SHA512; other hashes like the next larger one.
_PBKDF2_LEAST: Final[Mapping[str, int]] = MappingProxyType(
    {"SHA1": 1_300_000, "SHA224": 600_000, "SHA256": 600_000, "SHA384": 210_000, "SHA512": 210_000}
)
# OWASP rates these equal: N=2^17 p=1, 2^16 p=2, 2^15 p=3, 2^14 p=5, 2^13 p=10, all with r=8.
_SCRYPT_LEAST: Final = ((1 << 17, 1), (1 << 16, 2), (1 << 15, 3), (1 << 14, 5), (1 << 13, 10))
_BCRYPT_LEAST: Final = 64  # rounds of bcrypt_pbkdf: 0.6 s; ssh-keygen's 16 or 24 are a quarter
_SHROUDED_BAG = "1.2.840.113549.1.12.10.1.2"  # pkcs8ShroudedKeyBag
_PRIVATE_LABEL = re.compile(rb"-----BEGIN ([A-Z ]{0,24}PRIVATE KEY)-----")


class Encryption(NamedTuple):
    """The encryption of a key, in words."""

    scheme: str
    """"PBES2", "PBES1", "PKCS#12", "OpenSSH" or "OpenSSL traditional"."""
    kdf: str
    """The key derivation with its cost, as in "scrypt N=16384 r=8 p=5"."""
    cipher: str
    """The cipher, as in "AES-256-CBC"."""
    mac: str | None
    """The MAC by which PKCS#12 detects a wrong passphrase, which is a second way to guess it."""
    verdict: Verdict
    """"good"; "low": a slower one is advised; "weak": guesses are cheap, or the cipher is old."""
    reasons: tuple[str, ...]
    """The reasons why it is not good, and OWASP's advice."""
    excessive: str | None
    """The cost, if it is above fwsign's limits."""


class Kdf(NamedTuple):
    """A key derivation and the verdict on it."""

    name: str
    verdict: Verdict = "good"
    reason: str | None = None
    excessive: bool = False


def describe_encryption(data: bytes) -> Encryption | None:
    """Describe the encryption of the first private key in a file.

    Args:
        data: PEM or DER: PKCS#8, PKCS#12, OpenSSH, or OpenSSL's form before PKCS#8.

    Returns:
        None if nothing is encrypted, or the form is not known.

    Source: RFC 8018, RFC 7914, RFC 7292, RFC 9579, OpenSSH's PROTOCOL.key.
    """
    from fwsign.keys import pem  # DER does not need it

    if data[:1] != b"\x30" and _PRIVATE_LABEL.search(data):
        try:
            blocks = pem.blocks(data, "the key")
        except Failed:
            return None
        block = next(one for one in blocks if one.label.endswith("PRIVATE KEY"))
        if block.label == "OPENSSH PRIVATE KEY":
            return describe_openssh(block.content)
        if b"ENCRYPTED" in block.headers:
            return _traditional(block.headers)
        data = block.content
    return describe_der(data)


def describe_der(data: bytes) -> Encryption | None:
    """Describe the encryption of a DER EncryptedPrivateKeyInfo or PKCS#12 file; else None."""
    try:
        parts = sequence_parts(data)
        tags = [part.tag for part in parts]
        if tags == [asn1.SEQUENCE, asn1.OCTETS]:
            return _one(*algorithm(parts[0]))
        if tags[:2] == [asn1.INTEGER, asn1.SEQUENCE] and parts[0].number() == 3:
            return _pkcs12(parts)
    except (ValueError, IndexError):
        pass
    return None


def describe_openssh(data: bytes) -> Encryption | None:
    """Describe an OpenSSH private key's encryption; None if it has none, or is damaged."""
    try:
        cipher, kdf, options, _ = openssh_header(data)
    except ValueError:
        return None
    if kdf == b"none":
        return None
    name = cipher.decode("ascii", "backslashreplace")
    if kdf != b"bcrypt":
        found = Kdf(kdf.decode("ascii", "backslashreplace"), "low", "the derivation is not known")
        return _one("OpenSSH", found, name)
    rounds = int.from_bytes(options[-4:], "big")
    advice = f"{rounds} rounds of bcrypt: at least {_BCRYPT_LEAST} are advised"
    low = rounds < _BCRYPT_LEAST
    excessive = rounds > MAX_BCRYPT_ROUNDS
    found = Kdf(f"bcrypt, {rounds} rounds", "low" if low else "good", advice if low else None)
    return _one("OpenSSH", found._replace(excessive=excessive), name)


def openssh_header(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return cipher, KDF, its options and the public key of an OpenSSH private key.

    Raises:
        ValueError: it is none.
    """
    if not data.startswith(OPENSSH_MAGIC):
        raise ValueError("not an OpenSSH private key")
    at, found = len(OPENSSH_MAGIC), []
    for index in range(4):
        if index == 3:
            at += 4  # the number of keys, which is 1
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > len(data):
            raise ValueError("cut off")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found[0], found[1], found[2], found[3]


def refuse_excess(found: Encryption | None, name: object) -> None:
    """Refuse a key that takes too much time or memory to open; raise `key.unsupported`."""
    if found is not None and found.excessive:
        raise Failed(
            "key.unsupported",
            f"{name} demands too much work to open: {found.excessive}",
            expected=f"at most {MAX_ITERATIONS} iterations, 1 GiB",
            found=found.excessive,
        )


# --- PKCS#8 and PKCS#12 ----------------------------------------------------------------------


def algorithm(element: Element) -> tuple[str, Kdf, str]:
    """Return scheme, derivation and cipher of an AlgorithmIdentifier, or raise ValueError."""
    parts = element.parts()
    oid = parts[0].oid()
    if oid == PBES2:
        derivation, cipher = parts[1].parts()[:2]
        name = cipher.parts()[0].oid()
        return "PBES2", _kdf(derivation), CIPHERS.get(name, name)
    if oid in _PBES1:
        digest, cipher_name = _PBES1[oid]
        count = parts[1].parts()[1].number()
        reason = f"{digest} and {cipher_name} are outdated"
        kdf = "PKCS#12 KDF" if oid.startswith("1.2.840.113549.1.12.") else "PBKDF1"
        named = f"{kdf}-{digest}, {count} iterations"
        return "PBES1", Kdf(named, "weak", reason, count > MAX_ITERATIONS), cipher_name
    return oid, Kdf("unknown", "low", "the derivation is not known"), "unknown"


def _kdf(element: Element) -> Kdf:
    parts = element.parts()
    oid = parts[0].oid()
    if oid == PBKDF2:
        _, count, *more = parts[1].parts()
        prf = next((one.parts()[0].oid() for one in more if one.tag == asn1.SEQUENCE), "")
        digest = PRFS.get(prf, prf) if prf else "SHA1"  # RFC 8018 A.2: the default
        return _iterated(f"PBKDF2-HMAC-{digest}", count.number(), _PBKDF2_LEAST.get(digest))
    if oid == SCRYPT:
        _, n, r, p, *_ = parts[1].parts()
        return _scrypt(n.number(), r.number(), p.number())
    return Kdf(oid, "low", "the derivation is not known")


def _iterated(name: str, count: int, least: int | None) -> Kdf:
    found = Kdf(f"{name}, {count} iterations", excessive=count > MAX_ITERATIONS)
    if least is None:
        return found._replace(verdict="weak", reason=f"{name} is outdated or not known")
    if count >= least:
        return found
    words = f"{count} iterations of {name}: at least {least} are advised"
    return found._replace(verdict="weak", reason=words)


def _scrypt(n: int, r: int, p: int) -> Kdf:
    name = f"scrypt N={n} r={r} p={p}"
    # An attacker pays for memory, N times r; so another r meets a row (r=8) by the same product.
    enough = any(n * r >= least * 8 and p >= passes for least, passes in _SCRYPT_LEAST)
    excessive = n * r * p > MAX_SCRYPT_WORK or 128 * n * r > MAX_SCRYPT_MEMORY
    words = f"{name}: at least N=16384 r=8 p=5 is advised"
    return Kdf(name, "good" if enough else "weak", None if enough else words, excessive)


def _one(scheme: str, kdf: Kdf, cipher: str, mac: Kdf | None = None) -> Encryption:
    reasons = [one.reason for one in (kdf, mac) if one is not None and one.reason]
    verdicts = {kdf.verdict, "good" if mac is None else mac.verdict}
    if scheme != "PBES1" and cipher.startswith(("3DES", "DES", "RC2", "RC4", "2-key")):
        verdicts.add("weak")
        reasons.append(f"{cipher} is outdated")
    ranked: tuple[Verdict, ...] = ("weak", "low", "good")
    verdict = next(one for one in ranked if one in verdicts)
    beyond = [one.name for one in (kdf, mac) if one is not None and one.excessive]
    words = None if mac is None else mac.name
    excessive = ", ".join(beyond) or None
    return Encryption(scheme, kdf.name, cipher, words, verdict, tuple(reasons), excessive)


def _pkcs12(parts: list[Element]) -> Encryption | None:
    """Judge a PKCS#12 file by its weakest part: each part reveals a guessed passphrase."""
    mac = _mac(parts[2]) if len(parts) > 2 else None
    found = [_one(*one, mac) for one in _pkcs12_algorithms(parts[1])]
    if not found:
        words = ("the passphrase guards against changes alone",)
        return mac and _one("PKCS#12", mac, CLEAR)._replace(verdict="weak", reasons=words)
    worst = min(found, key=lambda one: ("weak", "low", "good").index(one.verdict))
    reasons = tuple(dict.fromkeys(reason for one in found for reason in one.reasons))
    beyond = ", ".join(dict.fromkeys(one.excessive for one in found if one.excessive)) or None
    return worst._replace(scheme="PKCS#12", reasons=reasons, excessive=beyond)


def _mac(element: Element) -> Kdf:
    info, _, *count = element.parts()
    identifier = info.parts()[0].parts()
    oid = identifier[0].oid()
    if oid == PBMAC1:
        return _kdf(identifier[1].parts()[0])
    digest = _HASHES.get(oid, oid)
    iterations = count[0].number() if count else 1  # RFC 7292 s.4: DEFAULT 1
    least = _PBKDF2_LEAST.get(digest)
    # One iteration costs one hash, but two in PBKDF2's HMAC: so twice as many are needed.
    return _iterated(f"PKCS#12 KDF-{digest}", iterations, least and 2 * least)


def _pkcs12_algorithms(content_info: Element) -> Iterator[tuple[str, Kdf, str]]:
    """Yield the algorithms of all encrypted parts: RFC 7292 s.4 and 5."""
    for item in pkcs12_contents(content_info):
        kind, inside = item.parts()[:2]
        if kind.oid() == PKCS7_ENCRYPTED:
            encrypted = inside.parts()[0].parts()[1]
            yield algorithm(encrypted.parts()[1])
        elif kind.oid() == PKCS7_DATA:
            for bag in sequence_parts(inside.parts()[0].content):
                if bag.parts()[0].oid() == _SHROUDED_BAG:
                    yield algorithm(bag.parts()[1].parts()[0].parts()[0])


def pkcs12_contents(content_info: Element) -> list[Element]:
    """Return the ContentInfos in the AuthenticatedSafe; raise ValueError if there is none."""
    kind, inside = content_info.parts()[:2]
    if kind.oid() != PKCS7_DATA:  # other kinds are sealed for a public key, which is never used
        raise ValueError("not PKCS#12 with a passphrase")
    return sequence_parts(inside.parts()[0].content)


def _traditional(headers: bytes) -> Encryption | None:
    found = re.search(rb"DEK-Info: *([A-Za-z0-9-]{1,40}),([0-9A-Fa-f]*)", headers)
    # RFC 1423 s.1.1: the IV is as long as a block. cryptography panics if it is shorter.
    if found is None or len(found[2]) != _iv_digits(found[1]):
        return None
    cipher = found[1].decode()
    words = "one round of MD5 makes the key from the passphrase: guessing is cheap"
    return _one("OpenSSL traditional", Kdf("MD5, 1 iteration", "weak", words), cipher)


def _iv_digits(cipher: bytes) -> int:
    return 16 if cipher.startswith(b"DES") else 32
