# SPDX-License-Identifier: Apache-2.0
"""Receipts: the chained records of actions on devices."""
