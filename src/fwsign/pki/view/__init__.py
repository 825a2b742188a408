# SPDX-License-Identifier: Apache-2.0
"""Certificates of any quality, read leniently, for views and advice alone."""
