"""Named data sets as uint8 tensors with a passport."""
from effml.data.load import Dataset, Split, at_hand, fingerprint, load_dataset, normalize

__all__ = ["Dataset", "Split", "at_hand", "fingerprint", "load_dataset", "normalize"]
