"""A new picture is treated as an import treated its own: bit for bit, or not at all."""

import doctest

import numpy as np
import pytest
import tifffile
from PIL import Image

import effml
from effml import load_dataset
from effml.importing import import_folder, preprocess
from test_importer import read
from test_pictures import dicom, put, scene

HOW = {"size": 32, "fit": "pad", "colour": "grey", "window": None}


def rgb(seed, shape):
    return np.stack([scene(3 * seed + k, shape) for k in range(3)], 2)


def deep(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels)


HU = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
KINDS = {  # how a picture of each kind is written, and the options of its import
    "grey PNG": (lambda p, i: put(p.with_suffix(".png"), scene(i, (40, 60))), {}),
    "RGB PNG": (lambda p, i: put(p.with_suffix(".png"), rgb(i, (40, 60))), {}),
    "RGB as grey": (
        lambda p, i: put(p.with_suffix(".png"), rgb(i, (40, 60))),
        {"colour": "grey", "fit": "stretch"},
    ),
    "grey as RGB": (lambda p, i: put(p.with_suffix(".png"), scene(i, (20, 16))), {"colour": "rgb"}),
    "16-bit PNG": (lambda p, i: put(p.with_suffix(".png"), scene(i) * np.uint16(200)), {}),
    "16 bits, max": (
        lambda p, i: put(p.with_suffix(".png"), scene(i) * np.uint16(200)),
        {"window": "max"},
    ),
    "DICOM": (lambda p, i: dicom(p, scene(i).astype(np.int16) * 8, **HU, PatientID=""), {}),
    "DICOM, window": (
        lambda p, i: dicom(p, scene(i).astype(np.int16) * 8, **HU, PatientID=""),
        {"window": (-600.0, 500.0)},
    ),
    "TIFF": (
        lambda p, i: deep(p.with_suffix(".tif"), scene(i).astype(np.float32) / 255),
        {"window": (0.1, 0.9)},
    ),
    "JPEG": (lambda p, i: put(p.with_suffix(".jpg"), rgb(i, (300, 200))), {"size": 24}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_treated_as_the_import_treated_it(tmp_path, kind):
    write, options = KINDS[kind]
    for i in range(12):
        write(tmp_path / "p" / "ab"[i % 2] / f"{i:02d}", i)
    options = {"size": 32, "split_by": "image", "fractions": (0.5, 0, 0.5)} | options
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", **options)
    how = load_dataset(tmp_path / "x.npz").passport["preprocessing"]
    assert how == report["passport"]["preprocessing"] and set(how) == set(HOW)
    data, files = load_dataset(tmp_path / "x.npz"), read(tmp_path / "x.npz")
    for side in ("train", "test"):
        images = getattr(data, side).images.numpy()
        for name, image in zip(files[f"{side}_files"], images):
            mine = preprocess(tmp_path / "p" / name, how)
            assert mine.dtype == np.uint8 and mine.flags.c_contiguous
            assert mine.shape == image.shape and (mine == image).all()


def test_grey_pictures_among_coloured_ones_become_rgb_again(tmp_path):
    for i in range(12):
        pixels = scene(i, (30, 50)) if i % 3 else rgb(i, (30, 50))
        put(tmp_path / "p" / "ab"[i % 2] / f"{i:02d}.png", pixels)
    options = {"size": 20, "split_by": "image", "fractions": (1, 0, 0)}
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", **options)
    how = report["passport"]["preprocessing"]
    assert how == {"size": 20, "fit": "pad", "colour": "rgb", "window": None}
    for one in report["files"]:
        image = load_dataset(tmp_path / "x.npz").train.images[one["row"]].numpy()
        assert (preprocess(tmp_path / "p" / one["file"], how) == image).all()


def test_what_an_import_would_refuse_is_refused_with_the_reason(tmp_path):
    put(tmp_path / "flat.png", np.full((20, 20), 7, np.uint8))
    put(tmp_path / "rgb.png", rgb(0, (20, 20)))
    put(tmp_path / "grey.png", scene(0))
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in {
        "flat.png": "flat.png cannot be used: all its pixels have the same value",
        "text.png": "text.png cannot be used: it starts with 'no pictu'",
        "gone.png": "gone.png cannot be used: it cannot be read",
    }.items():
        with pytest.raises(ValueError, match=reason):
            preprocess(tmp_path / name, HOW)
    all_grey = HOW | {"colour": "auto"}
    assert preprocess(tmp_path / "grey.png", all_grey).shape == (1, 32, 32)
    with pytest.raises(ValueError, match="it is in colour, those of the import were grey"):
        preprocess(tmp_path / "rgb.png", all_grey)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"size": 4}, "size=4: give 8 to 4096"),
        ({"fit": "crop"}, "Unknown fit 'crop'. Choose from: pad, stretch"),
        ({"colour": "blue"}, "Unknown colour 'blue'"),
        ({"window": [9, 1]}, "give .low, high. with low < high"),
        ({"window": [9, 9]}, "give .low, high. with low < high"),
        ({"turn": 1}, "give size, fit, colour and window"),
    ],
)
def test_preprocessing_that_no_import_wrote_is_refused(tmp_path, change, words):
    Image.fromarray(scene(0)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=words):
        preprocess(tmp_path / "x.png", HOW | change)
    with pytest.raises(ValueError, match="give size, fit, colour and window"):
        preprocess(tmp_path / "x.png", {"size": 32})


def test_its_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(preprocess, globs={"effml": effml})
    done = doctest.DocTestRunner().run(example)
    assert done.attempted == 4 and not done.failed


def test_numbers_of_numpy_as_options_are_stored_as_plain_numbers(tmp_path):
    for i in range(4):
        put(tmp_path / "p" / "ab"[i % 2] / f"{i}.png", scene(i) * np.uint16(200))
    options = {"size": np.int64(16), "window": (np.float32(0), np.int64(9000))}
    where = {"split_by": "image", "fractions": (1, 0, 0)}
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", **options, **where)
    how = load_dataset(tmp_path / "x.npz").passport["preprocessing"]
    assert how == {"size": 16, "fit": "pad", "colour": "auto", "window": [0.0, 9000.0]}
    for one in report["files"]:
        image = load_dataset(tmp_path / "x.npz").train.images[one["row"]].numpy()
        assert (preprocess(tmp_path / "p" / one["file"], how) == image).all()
