# SPDX-License-Identifier: Apache-2.0
"""fwsign in front of installers that exist, and behind them: RAUC, Mender."""
