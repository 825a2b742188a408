# SPDX-License-Identifier: Apache-2.0
"""The target directory: what is staged, kept and in place, and how programs run."""
