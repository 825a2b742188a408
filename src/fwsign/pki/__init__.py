# SPDX-License-Identifier: Apache-2.0
"""A small PKI in a directory: `directory` reads it, `authority` writes it with `profiles`."""
