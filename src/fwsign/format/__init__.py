# SPDX-License-Identifier: Apache-2.0
"""Bytes and values, strictly: CBOR, COSE, the SUIT profile, block lists, payload digests."""
