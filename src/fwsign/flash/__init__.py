# SPDX-License-Identifier: Apache-2.0
"""Flashing: what was verified is what is written, and what is read back."""
