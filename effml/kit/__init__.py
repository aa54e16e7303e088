"""A class without a network: one folder with all that it needs, checked, served by one computer."""

from effml.kit.folder import make
from effml.kit.lock import SYSTEMS, wheels
from effml.kit.serving import server
from effml.kit.sums import verify

__all__ = ["SYSTEMS", "make", "server", "verify", "wheels"]
