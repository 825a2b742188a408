# SPDX-License-Identifier: Apache-2.0
"""MCUboot serial recovery: SMP over a serial line."""
