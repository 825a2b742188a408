# SPDX-License-Identifier: Apache-2.0
"""Reporting: receipts go to a collector, at least once, and stay until it has acknowledged them."""
