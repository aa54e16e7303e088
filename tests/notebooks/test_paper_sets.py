"""Made-up files in the form of the papers' private sets."""

import shutil

import numpy as np
import pytest

from effml import load_dataset
from paper_sets import import_lidc_patches, import_rsna
from test_importer import everything, read, write_csv
from test_pictures import dicom, scene


def test_rsna(tmp_path):
    header = (
        "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,machine_id,"
        "difficult_negative_case"
    ).split(",")
    rows = [
        (
            1,
            10000 + i // 4,
            7000 + i,
            "L",
            "CC",
            "" if i == 1 else 40 + i % 30,
            0,
            0,
            0,
            "" if i % 5 == 4 else float(i % 3),
            0,
            "C",
            49,
            False,
        )
        for i in range(120)
    ]
    for row in rows:
        dicom(
            tmp_path / "train_images" / str(row[1]) / f"{row[2]}.dcm",
            scene(row[2], (60, 40)).astype(np.uint16) * 10,
        )
    write_csv(tmp_path / "train.csv", [header, *rows])
    report = import_rsna(tmp_path, tmp_path / "x.npz", max_age=55, size=64)
    kept = [row for row in rows if row[9] != "" and row[5] != "" and row[5] < 55]
    assert sum(report["passport"]["counts"].values()) == len(kept)
    assert report["passport"]["positive"] == "follow-up"
    assert all(
        word in report["passport"]["converted"]
        for word in ("divided by the picture's maximum", "stretched")
    )
    data = load_dataset(tmp_path / "x.npz")
    ill = sum(
        int((getattr(data, s).labels == data.positive).sum()) for s in ("train", "val", "test")
    )
    assert ill == sum(row[9] == 0 for row in kept) and data.train.images.shape[1:] == (1, 64, 64)
    assert set(everything(read(tmp_path / "x.npz"), "groups")) == {str(row[1]) for row in kept}
    shutil.rmtree(tmp_path / "train_images")
    with pytest.raises(ValueError, match="holds no pictures"):
        import_rsna(tmp_path, tmp_path / "x.npz")


def test_lidc_patches(tmp_path):
    import torch

    images = torch.from_numpy(np.stack([scene(i, (32, 32)) for i in range(100)])[:, None])
    ratings = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (100, 4)))
    torch.save((images, ratings), tmp_path / "lidc_class256.pt")
    report = import_lidc_patches(tmp_path, tmp_path / "x.npz")
    assert report["passport"]["counts"] == {"train": 60, "val": 20, "test": 20}
    assert "no patients" in report["passport"]["source"]
    data = load_dataset(tmp_path / "x.npz")
    assert torch.equal(data.val.images, images[60:80]) and data.classes[data.positive] == "nodule"
    assert torch.equal(data.train.labels == data.positive, ratings[:60].sum(1) > 2)
    import_lidc_patches(tmp_path, tmp_path / "y.npz", raters=2)
    assert torch.equal(load_dataset(tmp_path / "y.npz").test.labels == 1, ratings[80:].sum(1) >= 2)
    for name, part in (("Train", slice(0, 50)), ("Valid", slice(50, 70)), ("Test", slice(70, 100))):
        torch.save((images[part], ratings[part].float()), tmp_path / f"{name}.pt")
    (tmp_path / "lidc_class256.pt").unlink()
    assert import_lidc_patches(tmp_path, tmp_path / "x.npz")["passport"]["counts"] == {
        "train": 50,
        "val": 20,
        "test": 30,
    }
    torch.save(images, tmp_path / "Test.pt")
    with pytest.raises(ValueError, match="not a pair of tensors"):
        import_lidc_patches(tmp_path, tmp_path / "x.npz")
    (tmp_path / "Test.pt").unlink()
    with pytest.raises(FileNotFoundError, match="neither"):
        import_lidc_patches(tmp_path, tmp_path / "x.npz")
