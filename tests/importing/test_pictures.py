"""One image file to pixels; and the small pictures that the tests of importing share."""

import io

import numpy as np
import pytest
from PIL import Image

from effml.importing.masks import read_mask
from effml.importing.pictures import read_picture


def scene(seed, shape=(40, 40)):
    """A soft random picture, uint8: unlike every other seed's."""
    rough = np.random.default_rng(seed).integers(10, 245, (8, 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize(shape[::-1], Image.Resampling.BICUBIC))


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def bytes_of(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def dicom(path, pixels, **tags):
    """A DICOM file as a scanner writes it, with a patient's name in its header."""
    pydicom = pytest.importorskip("pydicom")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    file.PatientName, file.PatientID, file.StudyDate, file.Modality = (
        "Doe^Jane",
        "4711",
        "20200131",
        "CT",
    )
    file.Rows, file.Columns = pixels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


def test_windows(tmp_path):
    ramp = (np.arange(256, dtype=np.uint16) * 256).reshape(16, 16)

    def shown(window, data=None):
        return read_picture(data or bytes_of(ramp), size=16, window=window).pixels

    assert (shown((0, 65280)) == np.arange(256).reshape(16, 16)).all()
    assert (shown((0, 65280), bytes_of(ramp, "TIFF")) == shown((0, 65280))).all()
    narrow = np.clip(np.floor((ramp.astype(float) - 12800) * 255 / 25600 + 0.5), 0, 255)
    assert (shown((12800, 38400)) == narrow).all() and shown((12800, 38400)).max() == 255
    low, high = np.percentile(ramp, (0.5, 99.5))
    assert np.abs(shown(None) - np.clip((ramp - low) / (high - low) * 255, 0, 255)).max() <= 0.51
    assert shown("max").max() == 255 and shown("max")[0, 1] == 1
    eight = scene(3, (16, 16))
    assert (shown((0, 10), bytes_of(eight)) == eight).all()  # 8 bit stays
    white_is_zero = bytes_of(ramp, "TIFF", tiffinfo={262: 0})
    assert (shown((0, 65280), white_is_zero) == 255 - shown((0, 65280))).all()
    with pytest.raises(ValueError, match="finite"):
        shown(None, bytes_of(np.full((9, 9), np.nan, np.float32), "TIFF"))


def test_every_kind_of_picture_becomes_grey_or_rgb():
    grey, colour = (
        Image.fromarray(scene(1, (20, 30))),
        Image.fromarray(np.stack([scene(k, (20, 30)) for k in (1, 2, 3)], 2)),
    )

    def shape(image, kind="PNG", colour="auto", **options):
        return read_picture(bytes_of(image, kind, **options), size=24, colour=colour).pixels.shape

    for image in (
        grey,
        grey.convert("RGB"),
        grey.convert("LA"),
        grey.convert("RGBA"),
        grey.convert("P"),
        grey.convert("1"),
    ):
        assert shape(image) == (24, 24) and shape(image, colour="rgb") == (24, 24, 3)
    for image in (colour, colour.convert("RGBA"), colour.convert("P")):
        assert shape(image) == (24, 24, 3) and shape(image, colour="grey") == (24, 24)
    assert (
        shape(colour.convert("CMYK"), "JPEG")
        == shape(colour, "BMP")
        == shape(colour.convert("YCbCr"), "TIFF")
        == (24, 24, 3)
    )
    clear = colour.convert("RGBA")
    clear.putalpha(1)
    assert (
        read_picture(bytes_of(clear), size=24).pixels.max() > 100
    )  # alpha is dropped, not laid over black


def test_shape_is_kept_by_padding_and_exif_is_respected():
    wide = np.full((20, 40), 200, np.uint8)
    wide[:, :20] = 100
    padded = read_picture(bytes_of(wide), size=20)
    assert (padded.pixels[:5] == 0).all()
    assert (padded.pixels[15:] == 0).all()
    assert (padded.pixels[5:15, :10] == 100).all()
    assert "padded with black to a square" in padded.done
    assert (read_picture(bytes_of(wide), size=20, fit="stretch").pixels[:, 10:] == 200).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = read_picture(bytes_of(wide, "JPEG", exif=exif), size=20)
    assert turned.shape == (40, 20) and "turned as EXIF says" in turned.done
    assert abs(int(turned.pixels[2, 10]) - 100) < 3 and abs(int(turned.pixels[17, 10]) - 200) < 3
    assert "Lanczos" in read_picture(bytes_of(wide), size=80).done[0]


def test_dicom_windows_slope_and_monochrome1(tmp_path):
    hu = np.arange(-1000, 1048, 8, dtype=np.int16).reshape(16, 16)
    ct = {"RescaleSlope": 1, "RescaleIntercept": -1024}

    def shown(window=None, **tags):
        return read_picture(
            dicom(tmp_path / "x", hu + np.int16(1024), **ct, **tags).read_bytes(),
            size=16,
            window=window,
        )

    lung = np.floor(np.clip((hu + 1000.0) * 255 / 1400, 0, 255) + 0.5)
    assert (shown((-1000, 400)).pixels == np.minimum(lung, 255)).all()
    stated = shown(WindowCenter=[40, 300], WindowWidth=[400, 1500])
    assert (
        np.abs(stated.pixels - np.clip(((hu - 39.5) / 399 + 0.5) * 255, 0, 255)).max() <= 0.5
    )  # PS3.3 C.11.2.1.2
    assert stated.done == ("to 8 bit: window stated in the file, the first of 2",)
    assert "percentile" in shown().done[0]
    assert (
        shown((-1000, 400), WindowCenter=40, WindowWidth=400).done[0]
        == "to 8 bit: window given, -1000 to 400"
    )
    inverted = shown((-1000, 400), PhotometricInterpretation="MONOCHROME1")
    assert (inverted.pixels == 255 - shown((-1000, 400)).pixels).all()
    assert "inverted (MONOCHROME1)" in inverted.done
    rgb = np.stack([scene(k, (16, 16)) for k in range(3)], 2)
    plain = dicom(
        tmp_path / "y",
        rgb[..., 0],
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        PixelData=rgb.tobytes(),
    )
    assert (read_picture(plain.read_bytes(), size=16).pixels == rgb).all()


def test_a_soft_mask_is_cut_at_half_its_maximum_and_an_index_counts_in_a_palette():
    mask = np.zeros((30, 60), np.uint8)
    mask[10:20, 15:45] = 128
    soft = bytes_of(Image.fromarray(mask).resize((90, 45), Image.Resampling.BICUBIC))
    cut, done = read_mask(soft, size=60, shape=(45, 90))
    assert cut.sum() == 300
    assert done == ("mask of more than two values cut at the middle of its values",)
    index = Image.fromarray(np.uint8(mask > 0), "L").convert("P")
    index.putpalette([255, 255, 255, 0, 0, 0])
    assert (
        read_mask(bytes_of(index), size=60, shape=(30, 60))[0].sum(0) == mask.astype(bool).sum(0)
    ).all()
    with pytest.raises(ValueError, match="60×30 pixels, the picture 30×60"):
        read_mask(bytes_of(mask), size=60, shape=(60, 30))
