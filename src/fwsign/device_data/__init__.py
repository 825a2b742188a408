# SPDX-License-Identifier: Apache-2.0
"""Per-device data: places in the flash that a station fills, and their values."""
