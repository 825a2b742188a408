# SPDX-License-Identifier: Apache-2.0
"""Enrolment over Secure Transport (RFC 7030): devices fetch their certificates themselves."""
