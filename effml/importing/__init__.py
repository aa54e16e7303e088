"""A folder of your own pictures in, one checked `.npz` file out."""

from effml.importing.importer import import_folder
from effml.importing.pictures import preprocess

__all__ = ["import_folder", "preprocess"]
