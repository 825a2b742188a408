# SPDX-License-Identifier: Apache-2.0
"""Flashing: exactly the verified bytes are written and read back."""
