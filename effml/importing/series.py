"""A DICOM series to a volume: its slices in order, at equal distances, on one grid."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from effml.importing import dicom
from effml.importing.grey import Unusable, Window

if TYPE_CHECKING:
    from pydicom import Dataset

_EQUAL = ("Rows", "Columns", "PhotometricInterpretation", "PatientID", "PixelPaddingValue")
_EQUAL += ("RescaleSlope", "RescaleIntercept", "RescaleType")
_GRID = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_SHOWN = ("WindowCenter", "WindowWidth", "VOILUTFunction")
OFF = 0.02  # share of a step by which slices may lie off


def read_series(
    folder: Path, window: Window, done: list[str], about: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """The slices in a folder as uint8 (columns, rows, slices), and the affine (4, 4) to millimetres
    in RAS. Raises Unusable where they are no volume, as `read_dicom` for each of them."""
    slices = [dicom.dataset(data) for data in _files(folder)]
    for one in slices:
        dicom.check(one)
    series = {str(one.get("SeriesInstanceUID")) for one in slices}
    if len(series) > 1:
        raise Unusable(f"{len(series)} series in one folder: put each into a folder of its own")
    if len(slices) < 2:
        raise Unusable("a series of a single slice: no volume")
    for name in _EQUAL:
        if len({str(one.get(name)) for one in slices}) > 1:
            advice = "; convert it to NIfTI (dcm2niix)" * name.startswith("Rescale")
            raise Unusable(f"its slices differ in {name}{advice}")
    first = slices[0]
    if not first.PhotometricInterpretation.startswith("MONOCHROME"):
        raise Unusable(f"its slices are {first.PhotometricInterpretation}, not grey")
    dicom.patient(first, about)
    order, affine = _grid(slices)
    slices = [slices[i] for i in order]
    pixels = np.stack([dicom.decoded(one) for one in slices])
    if window is None and any(len({str(one.get(n)) for one in slices}) > 1 for n in _SHOWN):
        done.append("windows stated in the files not used: they differ from slice to slice")
        for name in set(_SHOWN) & {*first.dir()}:
            delattr(first, name)
    flat = np.asarray(dicom.grey(first, pixels.reshape(-1, pixels.shape[2]), window, done))
    return flat.reshape(pixels.shape).T, affine


def _files(folder: Path) -> list[bytes]:
    paths = (one for one in sorted(folder.iterdir()) if one.is_file() and one.name[0] != ".")
    return [data for data in map(Path.read_bytes, paths) if dicom.is_dicom(data[:132])]


def _grid(slices: list["Dataset"]) -> tuple[np.ndarray, np.ndarray]:
    """The order of the slices along their normal, and the affine. Raises Unusable."""
    stated = {name: [dicom.numbers(one, name) for one in slices] for name in _GRID}
    for name, count in _GRID.items():
        if {len(numbers) for numbers in stated[name]} != {count}:
            raise Unusable(f"a slice has no {name}: where it lies is not known")
        if count != 3 and np.ptp(stated[name], axis=0).max() > 1e-3:
            raise Unusable(f"its slices differ in {name}")
    places, (turn, *_), (pixel, *_) = stated.values()
    along_row, along_column = np.reshape(turn, (2, 3))
    normal, places = np.cross(along_row, along_column), np.array(places)
    height = places @ normal
    order = np.argsort(height)
    height, places = height[order], places[order]
    _equal(np.diff(height))
    shift = places - places[0] - np.outer(height - height[0], normal)
    if np.abs(shift).max() > 0.5 * min(pixel):
        raise Unusable("its slices are shifted against each other (gantry tilt): resample it first")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * pixel[1], along_column * pixel[0]
    affine[:3, 2], affine[:3, 3] = (places[-1] - places[0]) / (len(places) - 1), places[0]
    return order, np.diag([-1, -1, 1, 1]) @ affine  # DICOM's x goes to the left, y to the back


def _equal(steps: np.ndarray) -> None:
    """Raises Unusable unless the slices lie one behind the other at equal distances (mm)."""
    least, most = steps.min(), steps.max()
    if least < 1e-3:
        several = "several slices at one place: a series in 4-D (times, phases or echoes)"
        raise Unusable(f"{several}, export the volume that counts")
    off = OFF * least + 0.01
    if most - least <= off:
        return
    times = np.round(steps / least)
    if np.abs(steps - times * least).max() <= off * times.max():
        number = int((times - 1).sum())
        raise Unusable(f"{number} of its slices {'is' if number == 1 else 'are'} missing")
    raise Unusable(f"its slices lie unequally, {least:.2f} to {most:.2f} mm apart")
