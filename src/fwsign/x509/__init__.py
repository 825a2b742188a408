# SPDX-License-Identifier: Apache-2.0
"""Certificates: DER, path validation, name constraints, CRLs."""
