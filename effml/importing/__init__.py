"""A folder of your own pictures in, one checked `.npz` file out."""

from effml.importing.importer import import_folder

__all__ = ["import_folder"]
