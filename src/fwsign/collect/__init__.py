# SPDX-License-Identifier: Apache-2.0
"""The collector: receipts of a fleet, taken in, judged and stored."""
