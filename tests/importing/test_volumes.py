"""Volumes: in the cube each voxel shows the place in the patient that the file says it shows."""

import sys

import numpy as np
import pandas as pd
import pytest

import effml
from effml.experiment.predict_folder import predict_folder
from effml.importing import import_folder, preprocess
from test_importer import read
from test_pictures import put, scene

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform  # noqa: E402

SIDE = 24  # mm of a head, whose grey values say where a point of it is
HOW = {"size": 12, "fit": "pad", "colour": "grey", "window": (0.0, 255.0), "volumes": True}


def grey(x, y, z):
    """Of a point (mm to the right, front and top): all three can be read from it."""
    return 20 + 2 * x + 3 * y + 4 * z


def in_ras(shape, spacing, seed=0):
    """Voxels on RAS axes and their affine; every seed a slightly other head."""
    places = [step * (np.arange(n) + 0.5) for n, step in zip(shape, spacing)]
    values = grey(*np.meshgrid(*places, indexing="ij")) + seed % 7
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [step / 2 for step in spacing]
    return values, affine


def nifti(path, values, affine, axes="RAS", qform=True, unit="mm"):
    """A file whose voxels lie on other axes, with the affine that nibabel gives for them."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    turned = nibabel.orientations.apply_orientation(values, turn)
    image = nibabel.Nifti1Image(turned, affine @ inv_ornt_aff(turn, values.shape))
    image.header.set_xyzt_units(unit)
    if qform:
        image.set_qform(image.affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def series(folder, values, affine, **tags):
    """A DICOM series of axial slices from voxels on RAS axes: rows to the left, columns back."""
    folder.mkdir(parents=True, exist_ok=True)
    step = np.diag(affine)[:3]
    uid = pydicom.uid.generate_uid()
    for k in np.random.default_rng(0).permutation(values.shape[2]):
        file = pydicom.Dataset()
        file.file_meta = pydicom.dataset.FileMetaDataset()
        file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        corner = affine[:3, :3] @ [values.shape[0] - 1, values.shape[1] - 1, k] + affine[:3, 3]
        told = {
            "SOPClassUID": pydicom.uid.MRImageStorage,
            "SOPInstanceUID": pydicom.uid.generate_uid(),
            "SeriesInstanceUID": uid,
            "PatientID": folder.name,
            "StudyDate": "20260101",
            "Modality": "MR",
            "ImagePositionPatient": [-corner[0], -corner[1], corner[2]],  # DICOM: left, back, head
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [step[1], step[0]],
            "PhotometricInterpretation": "MONOCHROME2",
            "SamplesPerPixel": 1,
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 0,
        } | {name: value(k) if callable(value) else value for name, value in tags.items()}
        pixels = np.uint16(values[::-1, ::-1, k].T)
        file.Rows, file.Columns = pixels.shape
        for name, value in told.items():
            setattr(file, name, value)
        file.PixelData = pixels.tobytes()
        file.save_as(folder / f"{7 * k:02d}.dcm", enforce_file_format=True)
    return folder


def expected(size=12):
    """What a cube of `size` voxels must show of the head, by the formula alone: (D, H, W)."""
    at = SIDE * (np.arange(size) + 0.5) / size
    return grey(*np.meshgrid(at, at, at, indexing="ij")).T


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAL", "IPL"])
def test_whatever_the_axes_the_same_patient(tmp_path, axes):
    values, affine = in_ras((24, 24, 24), (1, 1, 1))
    path = nifti(tmp_path / "a.nii.gz", values, affine, axes)
    oracle = nibabel.as_closest_canonical(nibabel.load(path))
    assert np.allclose(oracle.get_fdata(), values) and nibabel.aff2axcodes(oracle.affine) == (
        *"RAS",
    )
    told = []
    cube = preprocess(path, HOW, told)
    assert cube.shape == (1, 12, 12, 12) and np.abs(cube[0] - expected()).max() <= 1
    assert any(f"from {axes} to RAS" in what for what in told) == (axes != "RAS")


def test_slices_of_other_thickness_fill_the_same_cube(tmp_path):
    values, affine = in_ras((24, 12, 6), (1, 2, 4))
    cube = preprocess(nifti(tmp_path / "a.nii", values, affine, "LPI"), HOW)[0]
    assert np.abs(cube[1:-1, 1:-1] - expected()[1:-1, 1:-1]).max() <= 1  # ends have no neighbour
    flat, affine = in_ras((24, 12, 6), (1, 1, 1))
    cube = preprocess(nifti(tmp_path / "b.nii", flat, affine), HOW)[0]
    filled = np.argwhere(cube)  # 24 × 12 × 6 mm: half and a quarter of the cube, in its middle
    assert [*filled.min(0), *filled.max(0)] == [4, 3, 0, 6, 8, 11]
    whole = preprocess(tmp_path / "b.nii", HOW | {"fit": "stretch"})[0]
    assert whole.all()
    micron = nifti(tmp_path / "c.nii", values, affine * 1000, unit="micron")
    assert np.array_equal(
        preprocess(micron, HOW), preprocess(nifti(tmp_path / "d.nii", values, affine), HOW)
    )


def test_a_dicom_series_is_the_volume_that_its_positions_say(tmp_path):
    values, affine = in_ras((24, 24, 12), (1, 1, 2))
    folder = series(tmp_path / "ill" / "P1", values, affine)
    cube = preprocess(folder, HOW)[0]
    assert np.abs(cube - np.floor(expected())).max() <= 1  # whole numbers were stored
    file = nifti(tmp_path / "a.nii", np.floor(values), affine)
    assert np.array_equal(cube, preprocess(file, HOW)[0])
    window = series(tmp_path / "P2", values, affine, WindowCenter=100.5, WindowWidth=101)
    stated = preprocess(window, HOW | {"window": None})
    assert np.array_equal(stated, preprocess(file, HOW | {"window": (50.0, 150.0)}))


THICK = {"values": np.ones((8, 8, 8)) * np.arange(8), "affine": np.diag([1.0, 1, 2, 1])}
SERIES = {
    "1 of its slices is missing": ({}, lambda path: (path / "21.dcm").unlink()),  # the fourth
    "2 of its slices are missing": (
        {},
        lambda path: [(path / name).unlink() for name in ("21.dcm", "28.dcm")],
    ),
    "unequally, 2.00 to 2.50 mm": (
        {"ImagePositionPatient": lambda k: [0, 0, 2 * k + (k == 7) * 0.5]},
        None,
    ),
    "a series in 4-D": ({"ImagePositionPatient": lambda k: [0, 0, 2 * (k // 2)]}, None),
    "gantry tilt": ({"ImagePositionPatient": lambda k: [0, 0.5 * k, 2 * k]}, None),
    "differ in PixelSpacing": ({"PixelSpacing": lambda k: [1, 1 + k % 2]}, None),
    "differ in ImageOrientationPatient": (
        {"ImageOrientationPatient": lambda k: [1, 0, 0, 0, 1 - k % 2, k % 2]},
        None,
    ),
    "differ in RescaleSlope": ({"RescaleSlope": lambda k: 1 + int(k), "RescaleIntercept": 0}, None),
    "differ in PatientID": ({"PatientID": lambda k: f"P{k % 2}"}, None),
    "no ImagePositionPatient": ({"ImagePositionPatient": None}, None),
    "a single slice": ({}, lambda path: [one.unlink() for one in sorted(path.iterdir())[1:]]),
    "2 series in one folder": (
        {"SeriesInstanceUID": lambda k: f"1.2.{k % 2 + 1}"},
        None,
    ),
    "holds 3 frames": ({"NumberOfFrames": lambda k: 3 if k == 2 else 1}, None),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("reason", SERIES)
def test_a_series_that_is_no_volume_is_refused(tmp_path, reason):
    tags, after = SERIES[reason]
    folder = series(tmp_path / "s", **THICK, **tags)
    if after:
        after(folder)
    with pytest.raises(ValueError, match=reason):
        preprocess(folder, HOW | {"window": None})


def unstated(path, values, affine):
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, 0)
    image.set_qform(affine, 0)
    nibabel.save(image, path)


def contrary(path, values, affine):
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, 1)
    image.set_qform(np.diag([-1, 1, 1, 1]) @ affine, 1)
    nibabel.save(image, path)


def cut_off(path, values, affine):
    nifti(path, values, affine)
    path.write_bytes(path.read_bytes()[:-900])


RAMP = in_ras((8, 8, 8), (1, 1, 1))[0]
FILES = {
    "a series in 4-D, 8×8×8×2": lambda p: nifti(p, np.stack([RAMP] * 2, 3), np.eye(4), "RAS"),
    "a single slice": lambda p: nibabel.save(nibabel.Nifti1Image(RAMP[:, :, :1], np.eye(4)), p),
    "does not say where its axes point": lambda p: unstated(p, RAMP, np.eye(4)),
    "say different axes": lambda p: contrary(p, RAMP, np.eye(4)),
    "not at right angles": lambda p: nifti(
        p, RAMP, np.eye(4) + 0.2 * np.eye(4)[[1, 0, 2, 3]] * [[0], [1], [0], [0]], qform=False
    ),
    "cut off or damaged": lambda p: cut_off(p, RAMP, np.eye(4)),
    "no NIfTI file": lambda p: p.write_bytes(b"text" * 100),
    "same value": lambda p: nifti(p, np.zeros((8, 8, 8)), np.eye(4)),
    "finite": lambda p: nifti(p, RAMP / (RAMP != RAMP[3, 3, 3]), np.eye(4)),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("reason", FILES)
def test_a_file_that_is_no_volume_is_refused(tmp_path, reason):
    FILES[reason](tmp_path / "a.nii")
    with pytest.raises(ValueError, match=reason):
        preprocess(tmp_path / "a.nii", HOW | {"window": None})


def test_import_of_masks_spacing_and_axes(tmp_path):
    """Volumes of other axes, thickness and kinds, and masks on axes of their own, come out alike."""
    for i in range(8):
        values, affine = in_ras((24, 24, 12), (1, 1, 2), seed=i)
        name = f"{i}.nii.gz" if i % 2 else f"{i}.nii"
        nifti(tmp_path / "p" / name, values, affine, ["RAS", "LPS"][i // 4])
        nifti(tmp_path / "m" / f"{i}_seg.nii.gz", np.uint8(values > 128 + i % 7), affine, "PIR")
    values, affine = in_ras((24, 24, 6), (1, 1, 4), seed=20)
    series(tmp_path / "p" / "S9", values, affine, PatientID="")
    nifti(tmp_path / "m" / "S9_seg.nii", np.uint8(values > 134), affine, "LAS")
    nifti(tmp_path / "p" / "moved.nii", values, affine)
    affine[0, 3] += 1.0
    nifti(tmp_path / "m" / "moved_seg.nii", np.uint8(values > 134), affine)
    nifti(tmp_path / "p" / "labels.nii", values, np.eye(4))
    nifti(tmp_path / "m" / "labels_seg.nii", np.uint8(values // 80), np.eye(4))
    put(tmp_path / "p" / "preview.png", scene(1))
    report = import_folder(
        tmp_path / "p",
        tmp_path / "x.npz",
        masks=tmp_path / "m",
        size=12,
        window=(0.0, 255.0),
        split_by="image",
        fractions=(0.6, 0.2, 0.2),
    )
    why = {one["file"]: one["reason"] for one in report["refused"]}
    assert set(why) == {"moved.nii", "labels.nii", "preview.png"}
    assert "its mask: it lies on another grid, 6×24×24 from (1.5, 0.5, 2.0) mm" in why["moved.nii"]
    assert "its mask: it holds labels (0, 1, 2)" in why["labels.nii"]
    data, passport = effml.load_dataset(tmp_path / "x.npz"), report["passport"]
    assert data.task == "segmentation" and data.passport["image"] == "1×12×12×12"
    assert data.passport["axes"].startswith(
        "D to the head, H to the front, W to the patient's right"
    )
    assert data.passport["spacing"] == (
        "2–4 × 1 × 1 mm a voxel (D×H×W) in the files, 2 × 2 × 2 here"
    )
    assert "axes turned from LPS to RAS (5×)" in passport["converted"]  # DICOM is LPS
    arrays = read(tmp_path / "x.npz")
    for one in report["files"]:
        row = one["split"], one["row"]
        image, mask, spacing = (arrays[f"{row[0]}_{key}"][row[1]] for key in KEYS)
        seed = 20 if one["file"] == "S9" else int(one["file"][0])
        inner = slice(1, -1)  # the outermost slices have no neighbour to be linear with
        assert np.abs(image - expected() - seed % 7)[inner].max() <= 1
        sure = np.abs(expected() - 128)[inner] > 9  # a voxel spans 18 at most
        assert (mask == (expected() > 128))[inner][sure].all() and (spacing == 2).all()


KEYS = ("images", "masks", "spacing")


def test_series_in_folders_are_classes_and_patients(tmp_path):
    for i in range(12):
        values, affine = in_ras((12, 12, 6), (2, 2, 4), seed=i)
        series(tmp_path / "p" / ["ill", "well"][i % 2] / f"{i:02d}", values + i, affine)
    with pytest.raises(ValueError, match="8 to 192 voxels"):
        import_folder(tmp_path / "p", tmp_path / "x.npz", volumes=True)
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", volumes=True, size=12)
    passport = report["passport"]
    assert sum(passport["counts"].values()) == 12 == sum(passport["groups"].values())
    assert passport["positive"] == "ill" and passport["dates"] == "2026-01-01 to 2026-01-01"
    data = effml.load_dataset(tmp_path / "x.npz")
    (train,) = (one for one in report["files"] if (one["split"], one["row"]) == ("train", 0))
    again = preprocess(tmp_path / "p" / train["file"], data.passport["preprocessing"])
    assert np.array_equal(again, data.train.images[0])
    model = "slices:mobilenetv3_small_050"
    recipe = effml.Recipe(data=str(tmp_path / "x.npz"), model=model, epochs=0)
    effml.run(recipe, store=tmp_path / "runs", keep_weights=True)
    out = tmp_path / "answers.csv"
    assert predict_folder(recipe.id, tmp_path / "p", out=out, store=tmp_path / "runs") == 0
    answers = pd.read_csv(out)
    assert sorted(answers.file) == sorted(one["file"] for one in report["files"])


def test_from_nifti_to_a_mask_in_3d(tmp_path):
    """A run on imported volumes answers for a new file, and reads it as the import did."""
    for i in range(6):
        values, affine = in_ras((16, 16, 16), (1.5, 1.5, 1.5), seed=i)
        nifti(tmp_path / "p" / f"{i}.nii", values, affine)
        nifti(tmp_path / "m" / f"{i}.nii", np.uint8(values > 128), affine)
    out = tmp_path / "x.npz"
    import_folder(
        tmp_path / "p",
        out,
        masks=tmp_path / "m",
        size=8,
        split_by="image",
        fractions=(0.5, 0.2, 0.3),
    )
    recipe = effml.Recipe(data=str(out), model="unet3d", epochs=1, batch_size=2)
    record = effml.run(recipe, store=tmp_path / "runs", keep_weights=True)
    assert record["status"] == "ok", record["reason"]
    trained = effml.load_run(recipe.id, tmp_path / "runs")
    answer = trained.predict([tmp_path / "p" / "0.nii"])
    assert answer.shape == (1, 8, 8, 8)


def test_without_nibabel_it_says_what_to_install(tmp_path, monkeypatch):
    values, affine = in_ras((8, 8, 8), (1, 1, 1))
    path = nifti(tmp_path / "a.nii", values, affine)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ValueError, match=r"needs nibabel: pip install -e '.\[nifti\]'"):
        preprocess(path, HOW)
