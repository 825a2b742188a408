# SPDX-License-Identifier: Apache-2.0
"""One run: its request, the memory, the receipts, and the commands and boards that it starts."""
