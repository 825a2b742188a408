# SPDX-License-Identifier: Apache-2.0
"""Describe files, sign them, and ask a time-stamping authority."""
