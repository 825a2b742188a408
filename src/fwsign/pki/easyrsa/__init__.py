# SPDX-License-Identifier: Apache-2.0
"""Other people's PKIs: easy-rsa and openssl ca, read, taken over, and written."""
