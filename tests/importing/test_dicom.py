"""DICOM grey values: right by pydicom's own functions or by arithmetic, or refused by name."""

import io

import numpy as np
import pytest

from effml.importing.dicom import is_dicom
from effml.importing.grey import Unusable
from effml.importing.pictures import read_picture
from test_pictures import dicom, scene

pydicom = pytest.importorskip("pydicom")
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of files that are wrong on purpose
HU = {"RescaleSlope": 1, "RescaleIntercept": -1024}
CT = scene(1, (16, 16)).astype(np.int16) * 8 + 24  # stored values: HU + 1024
DEEP = scene(2, (16, 16)).astype(np.uint16) * 4  # 10 bits


def read(folder, pixels, window=None, drop=(), **tags):
    """A picture of its own size, from a file with these tags."""
    path = dicom(folder / "x.dcm", pixels, **tags)
    if drop:
        file = pydicom.dcmread(path)
        for name in drop:
            del file[name]
        file.save_as(path)
    return read_picture(path.read_bytes(), size=16, window=window)


def over(values, low, high):
    """The oracle of every window: 0 at `low`, 255 at `high`, halves up."""
    return np.floor(np.clip((values - low) * 255.0 / (high - low), 0, 255) + 0.5).clip(0, 255)


def item(**tags):
    made = pydicom.Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def table(data, first=0, bits=16, words=True):
    """An item of a lookup table: as bytes (OW) or as numbers (US)."""
    made = item(LUTDescriptor=[len(data), first, bits])
    made.add_new("LUTData", "OW", np.asarray(data, "<u2").tobytes())
    if not words:
        made.add_new("LUTData", "US", [int(value) for value in data])
    return made


def percentiles(values):
    return over(values, *np.percentile(values, (0.5, 99.5)))


def near(picture, expected):
    return np.abs(picture.pixels.astype(float) - expected).max() <= 1


@pytest.mark.parametrize("window", [(None, None), ("", ""), (None, 400), ([], [])])
def test_an_empty_window_is_no_window(tmp_path, window):
    centre, width = window
    picture = read(tmp_path, CT, WindowCenter=centre, WindowWidth=width, **HU)
    assert near(picture, percentiles(CT)) and "percentile" in picture.done[0]


@pytest.mark.parametrize(
    "width, function, used",
    [(0, "LINEAR", 0), (0.5, None, 0), (-5, "LINEAR", 0), (0, "LINEAR_EXACT", 0), (0, "SIGMOID", 0)]
    + [(0.5, "LINEAR_EXACT", 1), (1, "LINEAR", 1), (0.5, "SIGMOID", 1)],
)
def test_a_window_without_a_width_is_not_used_and_that_is_said(tmp_path, width, function, used):
    tags = {"WindowCenter": 100, "WindowWidth": width, "VOILUTFunction": function}
    picture = read(tmp_path, CT, **tags, **HU)
    said = f"window stated in the file not used: its width is {width:g}"
    assert (said in picture.done) == (not used)
    if used:
        file = pydicom.dcmread(tmp_path / "x.dcm")
        file.VOILUTFunction = file.VOILUTFunction or "LINEAR"
        values = apply_modality_lut(CT, file)
        with np.errstate(over="ignore"):
            expected = apply_windowing(values, file)
        assert near(picture, over(expected, -33792, 31743))
    else:
        assert near(picture, percentiles(CT))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("width", [400, 60])
def test_windows_are_those_of_pydicom_and_the_first_of_several(tmp_path, function, kind, width):
    picture = read(
        tmp_path,
        CT,
        WindowCenter=[40, 300, 7],
        WindowWidth=[width, 1500, 9],
        VOILUTFunction=function,
        PhotometricInterpretation=kind,
        **HU,
    )
    file = pydicom.dcmread(tmp_path / "x.dcm")
    expected = over(apply_windowing(apply_modality_lut(CT, file), file), -33792, 31743)
    assert near(picture, 255 - expected if kind == "MONOCHROME1" else expected)
    assert "window stated in the file, the first of 3" in picture.done[0]


@pytest.mark.parametrize(
    "padding, stored, tags",
    [
        (-2000, -2000, {}),
        (63536, -2000, {}),  # the same 16 bits, written as unsigned
        (-2000, -1990, {"PixelPaddingRangeLimit": -1990}),
        (-1990, -2000, {"PixelPaddingRangeLimit": -2000}),
        (30000, 30000, {}),
        (30000, 30000, {"PhotometricInterpretation": "MONOCHROME1"}),
        (-2000, -2000, {"WindowCenter": 40, "WindowWidth": 400}),
    ],
)
def test_padding_is_left_out_of_the_percentiles_and_black(tmp_path, padding, stored, tags):
    y, x = np.indices(CT.shape) - 7.5
    inside = x**2 + y**2 < 56
    pixels = np.where(inside, CT, stored).astype(np.int16)
    file = {"PixelPaddingValue": padding, **HU, **tags}
    if padding > 32767:  # pydicom writes the attribute as signed
        path = dicom(tmp_path / "y.dcm", pixels, **HU)
        made = pydicom.dcmread(path)
        made.add_new("PixelPaddingValue", "US", padding)
        made.save_as(path)
        picture = read_picture(path.read_bytes(), size=16)
    else:
        picture = read(tmp_path, pixels, **file)
    span = np.percentile(CT[inside] - 1024, (0.5, 99.5))
    if "WindowWidth" in tags:
        span = (40 - 0.5 - 199.5, 40 - 0.5 + 199.5)
    tissue = over(CT[inside] - 1024, *span)
    if "PhotometricInterpretation" in tags:
        tissue = 255 - tissue
    assert (picture.pixels[~inside] == 0).all()
    assert np.abs(picture.pixels[inside] - tissue).max() <= 1
    assert "padding left out of the grey values and shown black" in picture.done


def test_enhanced_files_state_slope_and_window_in_functional_groups(tmp_path):
    values = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    frame = item(WindowCenter=40, WindowWidth=400)
    other = item(WindowCenter=300, WindowWidth=1500, VOILUTFunction="SIGMOID")
    shared = item(PixelValueTransformationSequence=[values], FrameVOILUTSequence=[frame])
    enhanced = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1", "NumberOfFrames": 1}
    enhanced["SharedFunctionalGroupsSequence"] = [shared]
    hu = CT - 1024.0
    given = read(tmp_path, CT, (-1000, 400), **enhanced)
    assert (given.pixels == over(hu, -1000, 400)).all()
    assert given.done == ("to 8 bit: window given, -1000 to 400",)
    assert near(read(tmp_path, CT, **enhanced), over(hu, -160, 239))
    own = [item(FrameVOILUTSequence=[other])]  # what is said of the frame counts
    picture = read(tmp_path, CT, PerFrameFunctionalGroupsSequence=own, **enhanced)
    assert near(picture, 255 / (1 + np.exp(-4 * (hu - 300) / 1500)))
    split = item(PixelValueTransformationSequence=[values])
    only = {"NumberOfFrames": 1, "PerFrameFunctionalGroupsSequence": [split]}
    assert (read(tmp_path, CT, (-1000, 400), **only).pixels == given.pixels).all()
    with pytest.raises(Unusable, match="it holds 2 frames"):
        read(tmp_path, np.stack([CT, CT]), **enhanced | {"NumberOfFrames": 2})


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("bits, first, entries", [(16, 0, 1024), (12, 100, 512), (8, 0, 256)])
def test_the_voi_lut_is_that_of_pydicom(tmp_path, words, bits, first, entries):
    lut = table(np.linspace(2**bits - 1, 0, entries).round(), first, bits, words)
    picture = read(tmp_path, DEEP, VOILUTSequence=[lut], WindowCenter=5, WindowWidth=9)
    small = DEEP if bits > 8 else np.minimum(DEEP, 255)  # beyond, pydicom's index wraps
    expected = apply_voi(small, pydicom.dcmread(tmp_path / "x.dcm"))
    assert near(picture, over(expected, 0, 2**bits - 1))
    assert picture.done == ("to 8 bit: VOI LUT of the file",)


def test_voi_luts_that_pydicom_does_not_know(tmp_path):
    fall = np.linspace(255, 0, 1024).round()
    wide = read(tmp_path, DEEP, VOILUTSequence=[table(fall, 0, 8), table(fall[::-1], 0, 8)])
    assert (wide.pixels == fall[DEEP]).all()  # 8 bits and more than 256 entries
    assert wide.done == ("to 8 bit: VOI LUT of the file, the first of 2",)
    packed = item(LUTDescriptor=[256, 0, 8])
    packed.add_new("LUTData", "OW", np.arange(255, -1, -1, np.int16).astype(np.uint8).tobytes())
    eight = scene(2, (16, 16))
    assert (read(tmp_path, eight, VOILUTSequence=[packed]).pixels == 255 - eight).all()
    signed = table(np.arange(2048), 64512, 11)  # -1024, after an intercept below 0
    picture = read(tmp_path, DEEP, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[signed])
    assert near(picture, over(DEEP, 0, 2047))
    given = read(tmp_path, DEEP, (0, 1023), Modality="MR", VOILUTSequence=[table(fall, 0, 8)])
    assert (given.pixels == over(DEEP, 0, 1023)).all()  # a window given comes first


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"LUTDescriptor": [1000, 0, 16]}, None),  # more data than entries: the rest is padding
        ({"LUTDescriptor": [2000, 0, 16]}, "is damaged"),
        ({"LUTDescriptor": [1024, 0, 8]}, "is damaged"),
        ({"LUTDescriptor": [1024, 0]}, "is damaged"),
        ({"LUTDescriptor": None}, "is damaged"),
        ({"LUTData": None}, "is damaged"),
    ],
)
def test_a_damaged_voi_lut_is_refused_by_name(tmp_path, change, reason):
    lut = table(np.linspace(65535, 0, 1024).round(), words=False)
    for name, value in change.items():
        setattr(lut, name, value)
    if reason is None:
        assert read(tmp_path, DEEP, VOILUTSequence=[lut]).pixels.max() > 200
    else:
        with pytest.raises(Unusable, match=f"its VOI LUT {reason}"):
            read(tmp_path, DEEP, VOILUTSequence=[lut])


@pytest.mark.parametrize("bits", [16, 12])
def test_a_modality_lut_is_applied(tmp_path, bits):
    lut = table(np.linspace(0, 2**bits - 1, 1024).round() ** 2 // 2**bits, 0, bits)
    lut.ModalityLUTType = "OD"
    picture = read(tmp_path, DEEP, (100, 3000), Modality="CR", ModalityLUTSequence=[lut])
    expected = np.frombuffer(lut.LUTData, "<u2")[DEEP].astype(float)
    if bits == 16:  # pydicom has no 12
        assert (apply_modality_lut(DEEP, pydicom.dcmread(tmp_path / "x.dcm")) == expected).all()
    assert (picture.pixels == over(expected, 100, 3000)).all()
    assert any("unit: OD" in what for what in picture.done)


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_fewer_than_8_bits_span_black_to_white(tmp_path, bits):
    pixels = scene(2, (16, 16)) >> (8 - bits)
    tags = {"BitsStored": bits, "HighBit": bits - 1}
    if bits == 1:
        packed = np.packbits(pixels.ravel(), bitorder="little")
        tags |= {"BitsAllocated": 1, "PixelData": packed.tobytes()}
    picture = read(tmp_path, pixels, **tags)
    assert (picture.pixels == over(pixels, 0, 2**bits - 1)).all()
    assert picture.done == (f"to 8 bit: {bits}-bit values spread over 0 to 255",)


def test_eight_bits_stay_as_they_are_also_with_a_slope_of_1(tmp_path):
    pixels = scene(2, (16, 16))
    for tags in ({}, {"RescaleSlope": 1, "RescaleIntercept": 0, "Modality": "US"}):
        picture = read(tmp_path, pixels, **tags)
        assert (picture.pixels == pixels).all() and picture.done == ()
    padded = read(
        tmp_path, np.where(pixels > 200, 255, pixels).astype(np.uint8), PixelPaddingValue=255
    )
    assert (padded.pixels == np.where(pixels > 200, 0, pixels)).all()


@pytest.mark.parametrize("signed", [False, True])
def test_twelve_bits_in_sixteen(tmp_path, signed):
    values = DEEP.astype(np.int32) * 2 - (1000 if signed else 0)
    word = (values & 0xFFF) | 0xF000  # overlays in the other bits
    pixels = word.astype(np.uint16).view(np.int16 if signed else np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "Modality": "MR"}
    picture = read(tmp_path, pixels, (-1000, 2000), **tags)
    assert (picture.pixels == over(values, -1000, 2000)).all()
    assert "window taken for stored values: the file has no slope and intercept" in picture.done


def test_inverse_and_monochrome1_invert_once(tmp_path):
    def shown(**tags):
        return read(tmp_path, CT, (-1000, 400), **tags, **HU)

    plain = shown().pixels
    for kind, shape, why in (
        ("MONOCHROME1", None, "MONOCHROME1"),
        ("MONOCHROME1", "INVERSE", "MONOCHROME1"),
        ("MONOCHROME2", "INVERSE", "PresentationLUTShape INVERSE"),
    ):
        picture = shown(PhotometricInterpretation=kind, PresentationLUTShape=shape)
        assert (picture.pixels == 255 - plain).all() and f"inverted ({why})" in picture.done
    assert (shown(PresentationLUTShape="IDENTITY").pixels == plain).all()


@pytest.mark.parametrize(
    "window, tags, reason",
    [
        ((-1000, 400), {}, "in HU, its CT values are without slope"),
        ((-1000, 400), {"RescaleSlope": None, "RescaleIntercept": ""}, "are without slope"),
        ((-1000, 400), HU | {"RescaleType": "US"}, "in HU, its CT values are US"),
        ((-1000, 400), {"RescaleIntercept": -1024, "RescaleSlope": None}, "it has one of Rescale"),
        (None, {"RescaleSlope": 1, "WindowCenter": 4, "WindowWidth": 9}, "it has one of Rescale"),
        (None, HU | {"RescaleSlope": 0}, "its RescaleSlope is 0"),
        (None, HU | {"WindowCenter": 4, "WindowWidth": 9, "VOILUTFunction": "LOG"}, "is LOG"),
        ((5000, 6000), HU, "its window shows nothing: its values go from -"),
        (None, {"PixelPaddingValue": -3000, "PixelPaddingRangeLimit": 9999}, "all its .* padding"),
        (None, {"HighBit": 3, "BitsStored": 12}, "do not lie in the lowest bits"),
        (None, {"NumberOfFrames": 3}, "it holds 3 frames"),
        (None, {"Rows": None}, "its DICOM header lacks Rows"),
        (None, {"PhotometricInterpretation": "PALETTE COLOR"}, "its palette is missing"),
        (
            None,
            {"PhotometricInterpretation": "LOGLUV"},
            "its 16-bit LOGLUV pixels .* not known to pydicom",
        ),
        (None, {"PixelData": bytes(100)}, "pixels .* are cut off, damaged"),
        (None, {"PixelData": b""}, "pixels .* are cut off, damaged"),
        ("max", {"RescaleSlope": 1, "RescaleIntercept": -9999}, "its highest value is -"),
        (None, {"BurnedInAnnotation": "YES"}, "burned into its pixels"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_name(tmp_path, window, tags, reason):
    with pytest.raises(Unusable, match=reason):
        read(tmp_path, CT, window, **tags)


def test_a_window_in_other_units_than_hu_is_said(tmp_path):
    pet = read(tmp_path, DEEP, (0, 99), Modality="PT", RescaleSlope=0.1, RescaleIntercept=0)
    assert (pet.pixels == over(DEEP * 0.1, 0, 99)).all() and "unit: not named" in pet.done[0]
    both_empty = read(tmp_path, CT, RescaleSlope=None, RescaleIntercept=None)
    assert near(both_empty, percentiles(CT))


def test_text_where_a_number_belongs(tmp_path):
    data = dicom(tmp_path / "x.dcm", CT, WindowCenter="40", WindowWidth="400", **HU).read_bytes()
    assert data.count(b"DS\x02\x0040") == 1
    with pytest.raises(Unusable, match="^its WindowCenter is no number$"):
        read_picture(data.replace(b"DS\x02\x0040", b"DS\x02\x00ab"), size=16)


def colour(folder, pixels, kind, planar=0, **tags):
    tags = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": kind,
        "PlanarConfiguration": planar,
        "PixelData": (pixels.transpose(2, 0, 1) if planar else pixels).tobytes(),
        **tags,
    }
    return read(folder, pixels[..., 0], **tags)


def test_colour_in_every_order_and_space(tmp_path):
    from PIL import Image

    rgb = np.stack([scene(k, (16, 16)) for k in range(3)], 2)
    for planar in (0, 1):
        assert (colour(tmp_path, rgb, "RGB", planar).pixels == rgb).all()
    ybr = np.array(Image.fromarray(rgb).convert("YCbCr"))
    back = np.array(Image.fromarray(ybr, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(colour(tmp_path, ybr, "YBR_FULL").pixels - back).max() <= 1
    index = scene(2, (16, 16))
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for k, name in enumerate(("Red", "Green", "Blue")):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        entries = (np.arange(256, dtype="<u2") << 8) ^ (k << 12)
        palette[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    shown = read(tmp_path, index, **palette)
    assert (shown.pixels == np.stack([index ^ (k << 4) for k in range(3)], 2)).all()
    assert shown.done == ("palette to RGB",)
    with pytest.raises(Unusable, match="all its pixels have the same value"):
        colour(tmp_path, np.full_like(rgb, 9), "RGB")
    with pytest.raises(Unusable, match="colour of 16 bits"):
        colour(tmp_path, rgb.astype(np.uint16) * 16, "RGB")


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
@pytest.mark.parametrize("meta", [True, False])
def test_without_a_preamble(tmp_path, syntax, meta):
    whole = dicom(tmp_path / "x.dcm", CT, WindowCenter=40, WindowWidth=400, **HU)
    file = pydicom.dcmread(whole)
    implicit = syntax.startswith("Implicit")
    bare = io.BytesIO()
    if meta:
        file.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        pydicom.dcmwrite(tmp_path / "y.dcm", file, implicit_vr=implicit, little_endian=True)
        data = (tmp_path / "y.dcm").read_bytes()[132:]
    else:
        del file.file_meta
        pydicom.dcmwrite(
            bare, file, implicit_vr=implicit, little_endian=True, enforce_file_format=False
        )
        data = bare.getvalue().removeprefix(bytes(128) + b"DICM")
    assert data[:2] in (b"\2\0", b"\x08\0") and is_dicom(data[:132])
    expected = read_picture(whole.read_bytes(), size=16).pixels
    assert (read_picture(data, size=16).pixels == expected).all()


def test_what_starts_like_dicom_and_is_none():
    for data in (b"\x08\0" + bytes(300), b"\2\0\1\0" + b"\xff" * 300, b"\0\x08abcdefgh", b"BM\0\0"):
        assert not is_dicom(data[:132])
    for data in (b"\x08\0\x05\0CS\x0a\0" + b"x" * 300, bytes(128) + b"DICM" + b"\xff" * 90):
        with pytest.raises(Unusable, match="DICOM header|without PixelData|lacks"):
            read_picture(data, size=16)


def test_cut_off_files_say_so(tmp_path):
    whole = dicom(tmp_path / "x.dcm", CT, **HU).read_bytes()
    with pytest.raises(Unusable, match="without PixelData|are cut off"):
        read_picture(whole[:-100], size=16)
    with pytest.raises(Unusable, match="^a DICOM file without PixelData"):
        read_picture(whole[: whole.index(b"\xe0\x7f\x10\x00")], size=16)
    for length in range(132, len(whole), 23):
        with pytest.raises(Unusable):
            read_picture(whole[:length], size=16)


def test_damage_anywhere_is_a_reason_or_a_picture_and_never_another_error(tmp_path):
    lut = table(np.linspace(65535, 0, 64).round())
    shared = item(PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024)])
    files = (
        {"WindowCenter": [40, 1], "WindowWidth": [400, 2], "PixelPaddingValue": 5, **HU},
        {"VOILUTSequence": [lut], "SharedFunctionalGroupsSequence": [shared]},
    )
    rng = np.random.default_rng(0)
    for tags in files:
        whole = dicom(tmp_path / "x.dcm", CT, **tags).read_bytes()
        for at in rng.integers(132, len(whole) - CT.nbytes, (150, 3)):
            data = bytearray(whole)
            for place in at:
                data[place] = rng.integers(256)
            try:
                read_picture(bytes(data), size=16, window=(None, "max", (0.0, 5.0))[at[0] % 3])
            except Unusable as error:
                assert not any(word in str(error) for word in ("Error", "object", "NoneType"))


def test_compressed_pixels_are_read_or_the_syntax_is_named(tmp_path):
    path = dicom(tmp_path / "x.dcm", CT, **HU)
    plain = read_picture(path.read_bytes(), size=16)
    file = pydicom.dcmread(path)
    file.compress(pydicom.uid.RLELossless)
    file.save_as(path)
    assert (read_picture(path.read_bytes(), size=16).pixels == plain.pixels).all()
    for syntax, reason in (
        (pydicom.uid.HTJ2KLossless, "High-Throughput JPEG 2000.* not known to pydicom"),
        (pydicom.uid.UID("1.2.3.4"), "pixels .1.2.3.4. are"),
        (pydicom.uid.MPEG2MPML, "MPEG2.* not known to pydicom"),
        (pydicom.uid.JPEGLSLossless, "JPEG-LS.* are cut off, damaged"),
    ):
        file.file_meta.TransferSyntaxUID = syntax
        file.save_as(path)
        with pytest.raises(Unusable, match=reason):
            read_picture(path.read_bytes(), size=16)


@pytest.mark.parametrize(
    "tags, aspect",
    [
        ({"PixelAspectRatio": [2, 1]}, "2:1"),
        ({"PixelSpacing": [0.5, 0.25]}, "0.5:0.25"),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, "0.1:0.2"),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [3, 4]}, "3:4"),
        ({"PixelAspectRatio": [1, 1]}, None),
        ({"PixelSpacing": [0.5, 0.5001]}, None),
        ({}, None),
    ],
)
def test_pixels_that_are_no_squares_are_named(tmp_path, tags, aspect):
    done = read(tmp_path, DEEP, **tags).done
    said = [what for what in done if "squares" in what]
    assert said == ([f"pixels of {aspect} (height to width) taken for squares"] if aspect else [])


def test_pixels_that_are_no_squares_are_named_in_enhanced_files_too(tmp_path):
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=[2, 1])])
    done = read(tmp_path, DEEP, SharedFunctionalGroupsSequence=[shared]).done
    assert "pixels of 2:1 (height to width) taken for squares" in done
