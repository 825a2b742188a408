# SPDX-License-Identifier: Apache-2.0
"""What other TLS programs read of a PKI, and how they are given it.

`tests/external/test_tls_stacks.py` runs these programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from fwsign.errors import Failed
from fwsign.format.cose import key_kind, key_name
from fwsign.pki.certificates import common_name
from fwsign.pki.entry_names import ISSUING_TLS
from fwsign.pki.places import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fwsign.pki.directory import Pki

_MBEDTLS_KEYS: Final = ("P-256", "P-384", "P-521", "RSA")


def refuse_unreadable(certificates: Iterable[x509.Certificate]) -> None:
    """Refuse a path that mbedTLS cannot read, as in ESP-IDF; the root is part of it.

    Raises:
        Failed: `state.pki`: critical name constraints; `key.unsupported`: a kind of key.
    """
    for certificate in certificates:
        name = common_name(certificate)
        if any(_is_critical_constraint(one) for one in certificate.extensions):
            raise Failed(
                "state.pki",
                f'mbedTLS cannot read the CA "{name}": its name constraints are critical',
                expected="none, or such that are not critical",
                found="critical name constraints",
                hint=f"servers and clients need a CA without them: fwsign pki renew {ISSUING_TLS}, "
                "then fwsign pki renew NAME",
            )
        key: Any = certificate.public_key()
        if key_kind(key) not in _MBEDTLS_KEYS:
            expected = ", ".join(_MBEDTLS_KEYS)
            raise Failed(
                "key.unsupported",
                f'mbedTLS cannot read "{name}": its key is {key_name(key)}, expected {expected}',
                expected=expected,
                found=key_name(key),
                hint="the whole path needs such keys, the root included: another PKI for these "
                "devices, fwsign pki init --alg p256",
            )


def _is_critical_constraint(extension: x509.Extension[Any]) -> bool:
    return extension.critical and isinstance(extension.value, x509.NameConstraints)


def advice(
    pki: Pki, name: str, chain: Path, program: str, words: Callable[..., str]
) -> tuple[str, ...]:
    """Return how to give a program an entry's chain and key, its peers' root, and CRLs.

    Args:
        pki: the PKI.
        name: the entry.
        chain: the file with its chain.
        program: one of those of `fwsign pki export chain --for`.
        words: joins the words of a command line.
    """
    *above, root = pki.issuers(name)
    ca, key = pki.certificate_path(root), pki.key_path(name)
    lists = [pki.crl_path(one) for one in (root, *above)]
    each = ", ".join(map(str, lists))
    both = ", ".join(map(str, (ca, *map(pki.certificate_path, above))))
    bundle = pki.crl_path(root) if pki.flat else pki.directory / BUNDLE
    in_clear = words("fwsign", "key", "convert", key, "OUT", "--no-passphrase")
    p12 = chain.with_suffix(".p12")
    keystore = words("fwsign", "key", "convert", key, p12, "--to", "p12", "--cert", chain)
    told: dict[str, tuple[str, ...]] = {
        "esp-idf": (
            f"CMakeLists.txt: EMBED_TXTFILES with {chain}, {ca} and the key",
            "esp_tls_cfg_t: clientcert_buf, cacert_buf, clientkey_buf; sizes with the final zero",
            f"the key in clear, with flash encryption: {in_clear}",
        ),
        "gnutls": (
            f"trusts both, in one file: {both}; it takes a CRL only of a CA that it trusts",
            f"CRLs of these CAs, in one file: {each}",
        ),
        "java": (
            f"keystore: {keystore}",
            f"truststore: keytool -importcert -file {ca}",
        ),
        "mosquitto": (
            f"certfile {chain}",
            f"keyfile {key}, readable by its user",
            f"cafile {ca}",
            f"crlfile {bundle}, again after each fwsign pki crl",
        ),
        "node": (
            f"cert {chain}, key {key}, ca {ca}",
            f"crl: [{each}], each read by itself: of one file Node takes the first list alone",
        ),
        "wolfssl": (
            f"wolfSSL_CTX_load_verify_locations: {both}, in one file",
            f"wolfSSL_CTX_LoadCRLFile, once for each: {each}",
        ),
    }
    return told[program]
