# SPDX-License-Identifier: Apache-2.0
"""The public keys of keys.example, whose private halves are published; generated."""

EXAMPLE_SPKI: frozenset[str] = frozenset(
    {
        "7645c8534593b74b450a87b3c72e8e01553a1b98ebbeaa8490f7b1987c0d296d",  # ca
        "d05b33bee3e5246ab50849c7e75c6a4b9016bb70ca13f4f152706adfde03d849",  # issuing
        "720c96091fe619a4c3646da329ff95a53b3e05e5fa4537ad1f664b2aa5fb8f48",  # release
    }
)
"""SHA-256 of each SubjectPublicKeyInfo, in hexadecimal (tools/make-example-keys)."""
