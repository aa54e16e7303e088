"""Named data sets as uint8 tensors with a passport."""

from effml.data.dataset import Dataset, Split, normalize
from effml.data.fetch import fetch
from effml.data.load import at_hand, fingerprint, load_dataset

__all__ = ["Dataset", "Split", "at_hand", "fetch", "fingerprint", "load_dataset", "normalize"]
