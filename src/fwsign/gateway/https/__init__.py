# SPDX-License-Identifier: Apache-2.0
"""Fetching over HTTPS: strict, bounded in time and size, and never trusted."""
