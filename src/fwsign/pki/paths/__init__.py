# SPDX-License-Identifier: Apache-2.0
"""Would this certificate be accepted for this purpose? Paths are built and judged."""
