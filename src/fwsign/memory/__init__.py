# SPDX-License-Identifier: Apache-2.0
"""The memory of a device: what it accepted, and what it must never accept again."""
