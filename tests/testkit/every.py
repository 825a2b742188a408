"""Every vector, by kind."""

from testkit import (
    blocks_vectors,
    bytes_vectors,
    channel_vectors,
    content_vectors,
    device_vectors,
    path_vectors,
    permit_vectors,
    role_vectors,
    secret_vectors,
    signer_vectors,
    time_vectors,
    token_vectors,
    trust_vectors,
)
from testkit.channel_vectors import ChannelVector
from testkit.permit_vectors import PermitVector
from testkit.trust_vectors import TrustVector
from testkit.vector import Vector

RELEASES: tuple[Vector, ...] = (
    *bytes_vectors.VECTORS,
    *content_vectors.VECTORS,
    *blocks_vectors.VECTORS,
    *secret_vectors.VECTORS,
    *path_vectors.VECTORS,
    *time_vectors.VECTORS,
    *token_vectors.VECTORS,
    *signer_vectors.VECTORS,
    *role_vectors.VECTORS,
    *device_vectors.VECTORS,
)
CHANNELS: tuple[ChannelVector, ...] = channel_vectors.VECTORS
PERMITS: tuple[PermitVector, ...] = permit_vectors.VECTORS
UPDATES: tuple[TrustVector, ...] = trust_vectors.VECTORS
