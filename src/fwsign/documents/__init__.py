# SPDX-License-Identifier: Apache-2.0
"""Which document is this: an SBOM, a VEX, a provenance; and which files is it about?

Documents are read where they are signed. A verifier compares their digests and reads none.
"""
