# SPDX-License-Identifier: Apache-2.0
"""Raspberry Pi Pico: the UART boot loader, BOOTSEL drives and PICOBOOT."""
