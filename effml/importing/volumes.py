"""NIfTI files and DICOM series to cubes of 8-bit voxels, their axes turned as RAS has them."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from effml.importing.grey import Unusable, Window, to_8_bit
from effml.importing.looking import NIFTI, Job, refuse
from effml.importing.masks import structure
from effml.importing.rasters import PLAIN, Raster
from effml.importing.series import read_series
from effml.machine import available_memory_bytes, optional

if TYPE_CHECKING:
    from nibabel import Nifti1Image

LARGEST = 192  # voxels of a side
AXES = "D to the head, H to the front, W to the patient's right (RAS, the closest axes)"
_UNITS = {"meter": 1000.0, "micron": 0.001}  # in mm; others are taken for mm
_PARTS = 4  # copies of a volume in memory while it is read, each of 4 bytes a voxel or more


def volumes_of(job: Job, folder: Path, files: dict[str, Path]) -> dict[str, Path]:
    """Of the files in `folder` those of NIfTI, and the folders which hold DICOM files; pictures are
    refused."""
    found = {}
    for name, path in files.items():
        if name.lower().endswith(NIFTI):
            found[name] = path
        elif path.suffix.lower() in PLAIN:
            refuse(job, [name], "a picture, among volumes")
        else:
            series = PurePosixPath(name).parent
            found[str(series) if series.name else folder.resolve().name] = path.parent
    return dict(sorted(found.items()))


def read_volume(
    path: Path, window: Window, done: list[str], about: dict[str, str]
) -> "Nifti1Image":
    """A NIfTI file, or the DICOM series in a folder, as uint8 voxels on RAS axes.

    What was done is appended to `done`; a series tells `about` group and date, as `read_dicom`.
    Raises Unusable with the reason, and ModuleNotFoundError for a package that is missing.
    """
    nibabel = optional("nibabel", "nifti")
    if path.is_dir():
        values, affine = read_series(path, window, done, about)
    else:
        image = _opened(path)
        values, affine = _voxels(image), _in_mm(image, done)
        flat = np.asarray(to_8_bit(values.reshape(len(values), -1), window, done))
        values = flat.reshape(values.shape)
    return _canonical(nibabel.Nifti1Image(values, affine), done)


def read_cut(path: Path, whole: "Nifti1Image", done: list[str]) -> np.ndarray:
    """The mask of a volume, uint8 of 0 and 1 on its grid. Raises Unusable as `read_mask` does, and
    for a mask of another grid."""
    if path.is_dir() or not path.name.lower().endswith(NIFTI):
        raise Unusable("it is no NIfTI file: save the mask as .nii.gz")
    image = _opened(path)
    values = _voxels(image)
    flat = Raster(values.reshape(len(values), -1), None, False)
    cut = structure(flat, done).reshape(values.shape).astype(np.uint8)
    mask = _canonical(optional("nibabel", "nifti").Nifti1Image(cut, _in_mm(image, [])), [])
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(whole.shape) - 1)
    off = np.c_[corners, np.ones(8)] @ (mask.affine - whole.affine).T
    if mask.shape != whole.shape or np.abs(off).max() > 0.1 * min(spacing_of(whole)):
        ours, its = (f"{_by(one.shape[::-1])} from {_corner(one)} mm" for one in (whole, mask))
        advice = "nibabel.processing.resample_from_to(mask, volume, order=0) brings it there"
        raise Unusable(f"it lies on another grid, {its}, the volume {ours}: {advice}")
    return np.asarray(mask.dataobj).T


def spacing_of(image: "Nifti1Image") -> tuple[float, float, float]:
    """Millimetres from voxel to voxel along D, H and W."""
    return tuple(float(one) for one in np.linalg.norm(image.affine[:3, :3], axis=0)[::-1])


def fitted(shape: tuple[int, ...], spacing: tuple[float, ...], size: int, fit: str) -> np.ndarray:
    """The voxels (3,) that a volume takes in the cube: its longest side (all, if stretched) `size`,
    the others by their millimetres."""
    side = np.array(shape) * spacing
    return np.maximum(
        1, np.round(size * (side / side.max() if fit == "pad" else np.ones(3)))
    ).astype(int)


def cubed(values: np.ndarray, inner: np.ndarray, size: int, done: list[str]) -> np.ndarray:
    """Values (D, H, W) at `inner` voxels in the middle of a cube of zeros, float32 (size,) * 3:
    means along the axes that shrink, linear along those that grow."""
    import torch
    from torch.nn.functional import interpolate

    x = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    shape = tuple(int(n) for n in inner)
    if shape != values.shape:
        x = interpolate(x, [min(pair) for pair in zip(shape, values.shape)], mode="area")
        x = interpolate(x, shape, mode="trilinear")
        done.append(f"resampled to {size} voxels, means where it shrinks, linear where it grows")
    if min(shape) < size:
        done.append("padded with black to a cube")
    cube, start = np.zeros((size,) * 3, np.float32), (size - inner) // 2
    cube[tuple(slice(a, a + n) for a, n in zip(start, shape))] = x[0, 0].numpy()
    return cube


def _opened(path: Path) -> "Nifti1Image":
    """A NIfTI file of one volume that says where its axes point. Raises Unusable."""
    nibabel = optional("nibabel", "nifti")
    try:
        image = nibabel.funcs.squeeze_image(nibabel.load(path))
    except Exception as error:  # of many kinds
        raise Unusable(
            f"no NIfTI file, or damaged ({str(error) or type(error).__name__})"
        ) from None
    header, shape = image.header, image.shape
    if not isinstance(image, nibabel.Nifti1Image):
        raise Unusable(f"it is {type(image).__name__}: save it as NIfTI")
    if len(shape) > 3:
        raise Unusable(f"a series in 4-D, {_by(shape)}: export the volume that counts")
    if len(shape) < 3 or min(shape) < 2:
        raise Unusable(f"a single slice, {_by(shape)}: no volume")
    if header.get_data_dtype().kind not in "biuf":
        raise Unusable(f"its voxels are {header.get_data_dtype()}: save one grey value a voxel")
    stated = [way for way in (image.get_sform(coded=True), image.get_qform(coded=True)) if way[1]]
    if not stated:
        advice = "set it with nibabel: image.set_sform(affine, code=1)"
        raise Unusable(
            f"it does not say where its axes point (sform and qform codes are 0): {advice}"
        )
    codes = {_codes(affine) for affine, _ in stated}
    if len(codes) > 1:
        raise Unusable(f"sform and qform say different axes ({' and '.join(sorted(codes))})")
    return image


def _in_mm(image: "Nifti1Image", done: list[str]) -> np.ndarray:
    """The affine to millimetres."""
    if (unit := image.header.get_xyzt_units()[0]) == "unknown":
        done.append("voxel sizes taken for mm: the file states no unit")
    return np.diag([*[_UNITS.get(unit, 1)] * 3, 1]) @ image.affine


def _codes(affine: np.ndarray) -> str:
    """Where the axes point, such as LAS. Raises Unusable for a grid that is none."""
    axes = affine[:3, :3]
    length = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or length.min() == 0:
        raise Unusable("its affine is no grid: a voxel size is 0 or not finite")
    cosines = (axes / length).T @ (axes / length) - np.eye(3)
    if np.abs(cosines).max() > 0.02:
        raise Unusable("its axes are not at right angles (gantry tilt?): resample it first")
    return "".join(optional("nibabel", "nifti").aff2axcodes(affine))


def _voxels(image: "Nifti1Image") -> np.ndarray:
    need, free = np.prod(image.shape) * 4 * _PARTS, available_memory_bytes()
    if free is not None and need > free:
        raise Unusable(f"it needs {need / 1e9:.1f} GB of memory, this machine has {free / 1e9:.1f}")
    try:
        return np.asanyarray(image.dataobj)
    except Exception as error:  # of many kinds
        raise Unusable(f"its voxels are cut off or damaged ({type(error).__name__})") from None


def _canonical(image: "Nifti1Image", done: list[str]) -> "Nifti1Image":
    """The volume with its axes on the closest of RAS, in mm."""
    nibabel, codes = optional("nibabel", "nifti"), _codes(image.affine)
    if codes != "RAS":
        done.append(f"axes turned from {codes} to RAS")
    if nibabel.affines.obliquity(image.affine).max() > np.radians(1):
        done.append("oblique: its axes taken for the closest of the patient's")
    return nibabel.as_closest_canonical(image)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _corner(image: "Nifti1Image") -> str:
    return "(" + ", ".join(f"{one:.1f}" for one in image.affine[:3, 3]) + ")"
