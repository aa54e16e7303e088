"""TIFF, PNG, JPEG and others of every kind, and what only bears their names."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from effml.importing.grey import Unusable
from effml.importing.masks import read_mask
from effml.importing.pictures import Picture, read_all, read_picture
from test_pictures import bytes_of, put, scene

GREY = scene(1, (16, 16))
RGB = np.stack([scene(k, (16, 16)) for k in range(3)], 2)


def short(value):
    """The name of a case: its reason or its type, not its bytes."""
    return value if isinstance(value, str) else str(getattr(value, "dtype", ""))


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def read(data, window=None, **how):
    return read_picture(data, size=16, window=window, **how)


def over(values, low, high):
    return np.floor(np.clip((values - low) * 255.0 / (high - low), 0, 255) + 0.5).clip(0, 255)


def near(picture, expected, by=1):
    return np.abs(picture.pixels.astype(float) - expected).max() <= by


# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f2", "f4", "f8", "u8"])
def test_tiff_of_every_number_type(kind, order):
    values = GREY.astype(kind)
    if kind[1] != "2":
        values = values * (1 if kind[0] == "f" else 2**23)  # beyond int32 where it is unsigned
    if kind[0] in "if":
        values = values - values.dtype.type(np.median(values))
    if kind[0] == "f":
        values = values / values.dtype.type(255)
    data = tiff(values, byteorder=order)
    assert near(read(data), over(values, *np.percentile(values.astype(float), (0.5, 99.5))))
    low, high = sorted((float(values.min()) / 2 + 1e-3, float(values.max()) / 2))
    shown = read(data, (low, high))
    assert near(shown, over(values.astype(float), low, high))
    assert shown.done == (f"to 8 bit: window given, {low:g} to {high:g}",)


def test_signed_bytes_keep_their_order():
    signed = (GREY.astype(int) - 128).astype(np.int8)
    picture = read(tiff(signed))
    assert (picture.pixels == GREY).all()
    assert picture.done == ("signed bytes: -128 to 127 as 0 to 255",)
    assert (read(tiff(signed), (-100, 100)).pixels == over(signed, -100.0, 100.0)).all()
    white = tiff(signed, photometric="miniswhite")
    assert (read(white).pixels == 255 - GREY).all()
    assert (read(white, (-100, 100)).pixels == 255 - over(signed, -100.0, 100.0)).all()


@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "f8"])
def test_white_is_zero_is_inverted_once_and_that_is_said(kind):
    data = tiff(GREY.astype(kind), photometric="miniswhite")
    picture = read(data, None if kind == "u1" else (0, 255))
    assert (picture.pixels == 255 - GREY).all()
    assert "inverted (WhiteIsZero)" in picture.done
    black = read(tiff(GREY.astype(kind), photometric="minisblack"))
    assert "inverted (WhiteIsZero)" not in black.done


@pytest.mark.parametrize("kind", ["?", "u1", "u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_the_stored_values_of_a_mask_count_whatever_is_to_be_shown_white(kind, compression):
    top = {"u1": 255, "u2": 65535}.get(kind, 1)
    values = (BOX * top).astype(kind)
    cut, done = mask(tiff(values, photometric="miniswhite", compression=compression))
    assert (cut == BOX).all()
    assert "mask by its stored values, although its TIFF says WhiteIsZero" in done
    cut, done = mask(tiff(values, photometric="minisblack", compression=compression))
    assert (cut == BOX).all() and not any("stored" in what for what in done)


def test_a_bool_array_saved_by_tifffile_is_a_mask_as_it_stands():
    data = tiff(BOX)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
    assert (mask(data)[0] == BOX).all()


def test_a_picture_that_is_transparent_all_over_is_refused():
    clear = np.zeros((16, 16, 1), np.uint8)
    with pytest.raises(Unusable, match="it is transparent all over"):
        read(bytes_of(Image.fromarray(np.dstack([RGB, clear]))))
    for kind in ("u1", "u2"):
        stack = np.dstack([RGB, clear]).astype(kind)
        with pytest.raises(Unusable, match="it is transparent all over"):
            read(tiff(stack, photometric="rgb", extrasamples=["unassalpha"]))


def test_values_below_zero_under_the_window_max_are_named():
    values = GREY.astype(np.int16) - 100
    picture = read(tiff(values), "max")
    assert (picture.pixels[values <= 0] == 0).all() and near(picture, over(values, 0, values.max()))
    said = "to 8 bit: divided by the picture's maximum"
    assert picture.done == (f"{said}, values below 0 shown black",)
    assert read(tiff(GREY.astype(np.int16)), "max").done == (said,)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_colour_tiff_of_every_depth_and_plane(kind, planar):
    values = (RGB.astype(float) * {"u1": 1, "u2": 16, "f4": 1 / 255}[kind]).astype(kind)
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    data = tiff(stored, photometric="rgb", planarconfig=planar)
    if kind == "u1":
        assert (read(data).pixels == RGB).all()
        assert "8 bit already: the window was not used" in read(data, (0, 9)).done
    else:
        top = {"u2": 4095, "f4": 1.0}[kind]
        assert near(read(data, (0, top)), over(values.astype(float), 0, top))
        joint = np.percentile(values.astype(float), (0.5, 99.5))  # one for three: the hue stays
        assert near(read(data), over(values.astype(float), *joint))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_and_other_channels_of_a_tiff(dtype):
    grey, rgb = GREY.astype(dtype), RGB.astype(dtype)
    alpha = np.where(GREY > 99, 9, 0).astype(dtype)

    def stack(*bands):
        return np.concatenate([b if b.ndim == 3 else b[..., None] for b in bands], 2)

    for bands, photometric in ((rgb, "rgb"), (grey, "minisblack")):
        plain = read(tiff(bands, photometric=photometric))
        for kind in ("unassalpha", "assocalpha"):
            data = tiff(stack(bands, alpha), photometric=photometric, extrasamples=[kind])
            assert "alpha channel left out" in read(data).done
            if dtype == np.uint16 or kind == "unassalpha":  # else Pillow divides by the alpha
                assert (read(data).pixels == plain.pixels).all()
    opaque = tiff(stack(rgb, np.full_like(grey, 255)), photometric="rgb", extrasamples=[2])
    assert "alpha channel left out" not in read(opaque).done
    two = stack(rgb, alpha, alpha)
    data = tiff(two, photometric="rgb", extrasamples=["unspecified"] * 2)
    assert (read(data).pixels == read(tiff(rgb, photometric="rgb")).pixels).all()
    assert "2 extra channels left out" in read(data).done
    for count in (2, 5):
        many = np.stack([grey] * count)
        for options in ({"planarconfig": "separate"}, {}):
            pixels = many if options else many.transpose(1, 2, 0)
            options |= {"photometric": "minisblack", "planarconfig": "contig"} | options
            with pytest.raises(Unusable, match=f"it holds {count} channels: export one"):
                read(tiff(pixels, **options))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f8"])
def test_tiff_stacks_are_refused_with_their_frames(dtype):
    stack = np.stack([GREY, GREY.T, GREY]).astype(dtype)
    for options in ({}, {"imagej": True}, {"ome": True}, {"metadata": None}, {"bigtiff": True}):
        if options == {"imagej": True} and dtype == "f8":
            continue  # ImageJ has none
        with pytest.raises(Unusable, match="it holds 3 frames: export the one that counts"):
            read(tiff(stack, photometric="minisblack", **options))
    deep = np.repeat(stack[:1], 3, 0)
    with pytest.raises(Unusable, match="it holds 3 frames"):
        read(tiff(deep, photometric="minisblack", volumetric=True, tile=(16, 16, 16)))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:  # a preview is no frame
        writer.write(GREY.astype(dtype))
        writer.write(GREY[::4, ::4].astype(dtype), subfiletype=1)
    assert read(file.getvalue()).shape == (16, 16)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:  # nor is one that comes first
        writer.write(GREY[::4, ::4].astype(dtype), subfiletype=1)
        writer.write(GREY.astype(dtype))
    assert (read(file.getvalue()).pixels == read(tiff(GREY.astype(dtype))).pixels).all()
    assert read(tiff(GREY.astype(dtype), imagej=dtype != "f8")).shape == (16, 16)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_tiff_is_turned_as_it_says_and_that_is_said(dtype, turn):
    pixels = scene(1, (16, 12))
    data = tiff(pixels.astype(dtype), extratags=[(274, "H", 1, turn, True)])
    exif = Image.Exif()
    exif[0x0112] = turn
    png = bytes_of(pixels, exif=exif)
    window = None if dtype == np.uint8 else (0, 255)
    picture, expected = read(data, window), read(png)
    assert picture.shape == expected.shape == ((12, 16) if turn > 4 else (16, 12))
    assert (picture.pixels == expected.pixels).all()
    for one in (picture, expected):
        assert ("turned as EXIF says" in one.done) == (turn > 1)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", ["L", "RGB", "I;16", "F"])
def test_compressed_tiff(compression, kind):
    pixels = {"L": GREY, "RGB": RGB, "I;16": GREY * np.uint16(9), "F": GREY / np.float32(9)}[kind]
    data = bytes_of(pixels, "TIFF", compression=compression)
    assert (read(data, (0, 2000)).pixels == read(tiff(pixels), (0, 2000)).pixels).all()


def test_compressed_tiff_that_cannot_be_decoded_names_the_compression():
    deflated = tiff(RGB * np.uint16(9), photometric="rgb", compression="zlib")
    plain = tiff(RGB * np.uint16(9), photometric="rgb")
    assert (read(deflated).pixels == read(plain).pixels).all()
    at = plain.index(struct.pack("<HHIH", 259, 3, 1, 1)) + 8
    lzw = plain[:at] + b"\5" + plain[at + 1 :]
    with pytest.raises(Unusable, match="uint16, compressed by LZW.*imagecodecs"):
        read(lzw)


@pytest.mark.parametrize(
    "data, reason",
    [
        (tiff(GREY.astype(np.complex64)), "its values are complex64"),
        (tiff(np.full((16, 16), np.nan)), "not all its pixels are finite"),
        (tiff(np.full((16, 16), 7, np.int32)), "all its pixels have the same value"),
        (tiff(-GREY.astype(np.int32)), "its highest value is"),
        (tiff(RGB, photometric="cielab"), r"L\*a\*b"),
        (tiff(RGB * np.uint16(9), photometric="cielab"), "uint16 in CIELAB colours"),
        (tiff(GREY)[:-20], "its TIFF data end early: they need .* bytes, not"),
        (tiff(RGB.astype(float), photometric="rgb")[:-9], "its TIFF data end early"),
        (tiff(GREY)[:6], "its TIFF data are damaged, cut off"),
        (
            b"II*\0\x08\0\0\0" + bytes(90),
            "its TIFF data are damaged, cut off, or of a kind that tifffile",
        ),
    ],
    ids=short,
)
def test_tiff_that_is_refused(data, reason):
    with pytest.raises(Unusable, match=reason):
        read(data, "max" if "highest" in reason else None)


# ---------------------------------------------------------------- PNG and the others


def png(pixels, colour, depth=16):
    """A PNG of 16 bits a sample, which Pillow does not write."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    head = struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("window", [None, (0, 4095)])
@pytest.mark.parametrize("colour, bands", [(2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_with_colour_is_refused_and_grey_is_read(window, colour, bands):
    with pytest.raises(Unusable, match="a PNG of 16 bits with colour or alpha.*save it as TIFF"):
        read(png(np.stack([GREY * 16] * bands, 2), colour), window)
    deep = GREY.astype(np.uint16) * 16
    assert (read(png(deep, 0), (0, 4095)).pixels == over(deep.astype(float), 0, 4095)).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_a_format_under_any_name_is_read(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    for kind, options in {
        "PNG": {},
        "WEBP": {"lossless": True},
        "BMP": {},
        "GIF": {},
        "TIFF": {},
    }.items():
        path.write_bytes(bytes_of(GREY, kind, **options))
        pixels, found = read_all([path], None, lambda count: None, size=16)
        assert isinstance(found[0], Picture), found[0]
        assert (pixels.images[0] == GREY).all(), kind


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_animations_are_refused_with_their_frames(kind):
    first, *others = (Image.fromarray(scene(k, (16, 16))) for k in range(3))
    data = bytes_of(first, kind, save_all=True, append_images=others)
    with pytest.raises(Unusable, match="it holds 3 frames: export the one that counts"):
        read(data)


def test_a_telephones_jpeg_with_a_preview_is_its_first_picture():
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::2, ::2])
    picture = read(bytes_of(first, "MPO", save_all=True, append_images=[second]))
    assert picture.shape == (16, 16) and picture.done == ("the first of 2 pictures in the JPEG",)


def test_pictures_of_one_value_are_refused_in_colour_and_as_grey():
    flat = np.full((16, 16, 3), (9, 99, 200), np.uint8)
    with pytest.raises(Unusable, match="^all its pixels have the same value$"):
        read(bytes_of(flat))
    flat[:8] = (200, 2, 200)  # another colour, as light as the first
    assert read(bytes_of(flat)).pixels.ndim == 3
    with pytest.raises(Unusable, match="^all its pixels have the same value$"):
        read(bytes_of(flat), colour="grey")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif_data_that_are_damaged_cost_the_turn_and_not_the_picture(kind):
    exif = Image.Exif()
    exif[0x0112], exif[271] = 6, "camera"
    whole = bytes_of(RGB, kind, exif=exif)
    at = max(whole.find(b"MM\0*"), whole.find(b"II*\0"))
    picture = read(whole[: at + 2] + b"\xff" * 4 + whole[at + 6 :])
    assert picture.done == ("not turned: nothing in its EXIF data can be read",)
    assert "turned as EXIF says" in read(whole).done


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    return image


CORNER = np.zeros((16, 16), np.uint8)
CORNER[:8, :8] = 255


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_alpha_is_left_out_and_that_is_said(kind, mode):
    image = Image.fromarray(GREY if mode == "L" else RGB)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    for alpha, said in ((CORNER, True), (np.full_like(CORNER, 255), False)):
        picture = read(bytes_of(with_alpha(image, alpha), kind, **options))
        assert (picture.pixels == np.asarray(image)).all()
        assert ("alpha channel left out" in picture.done) == said
    white = Image.new(mode, (16, 16), "white")
    with pytest.raises(Unusable, match="same value: what it shows is in its alpha channel"):
        read(bytes_of(with_alpha(white, CORNER), kind, **options))


def test_other_modes_become_grey_or_rgb_and_that_is_said():
    grey, rgb = Image.fromarray(GREY), Image.fromarray(RGB)
    one = read(bytes_of(grey.point(lambda v: 255 * (v > 120)).convert("1")))
    assert (one.pixels == 255 * (GREY > 120)).all() and one.done == ("black and white to grey",)
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    shown = read(bytes_of(palette))
    assert (shown.pixels == np.asarray(palette.convert("RGB"))).all()
    assert shown.done == ("palette to RGB",)
    clear = read(bytes_of(palette, transparency=3))
    assert (clear.pixels == shown.pixels).all() and "alpha channel left out" in clear.done
    cmyk = read(bytes_of(rgb.convert("CMYK"), "TIFF"))
    assert (cmyk.pixels == RGB).all() and cmyk.done == ("CMYK to RGB",)
    assert near(read(bytes_of(rgb.convert("CMYK"), "JPEG", quality=100)), RGB, 12)
    big = tiff(GREY.astype(np.uint16) * 9, byteorder=">")
    assert near(read(big, (0, 2295)), GREY)


# ---------------------------------------------------------------- what is no picture

WHOLE = {
    "PNG": bytes_of(GREY),
    "JPEG": bytes_of(GREY, "JPEG"),
    "GIF": bytes_of(GREY, "GIF"),
    "BMP": bytes_of(GREY, "BMP"),
    "WEBP": bytes_of(GREY, "WEBP", lossless=True),
    "TIFF": bytes_of(GREY, "TIFF"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_is_cut_off_says_so(kind):
    whole = WHOLE[kind]
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(Unusable, match=f"^its {kind} data (end early|are damaged, cut off)"):
            read(whole[: int(len(whole) * part)])


@pytest.mark.parametrize("kind", WHOLE)
def test_damage_anywhere_is_a_reason_or_a_picture_and_never_another_error(kind):
    whole, rng = WHOLE[kind], np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(3, len(data), 8):
            data[at] = rng.integers(256)
        for reader in (read, lambda data: read_mask(data, size=16, shape=(16, 16))):
            try:
                reader(bytes(data))
            except Unusable as error:
                assert not any(
                    word in str(error) for word in ("Error", "object", "<_io", "NoneType", "tuple")
                )


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"  <!DOCTYPE HTML><html>", "it starts with '  <!DOCT', as no PNG, JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it starts with 'version '"),
        (b"\xff\xd8", "it starts with '.xff.xd8', as no PNG, JPEG"),
        (b"%PDF-1.7", "it starts with '%PDF-1.7', as no"),
        (b"RIFF\0\0\0\0WAVEfmt ", "it starts with 'RIFF"),
        (bytes(64), "it starts with"),
        (b"\x89PNG\r\n\x1a\n", "its PNG data are damaged, cut off"),
        (b"BM" + bytes(60), "its BMP data are damaged, cut off, or of a kind that Pillow"),
    ],
    ids=short,
)
def test_what_only_bears_the_name_of_a_picture(data, reason):
    for reader in (read, lambda data: read_mask(data, size=16, shape=(16, 16))):
        with pytest.raises(Unusable, match=f"^{reason}"):
            reader(data)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind, whole in WHOLE.items():
        with pytest.raises(Unusable, match="Pillow's limit against decompression bombs"):
            read(whole)


def test_files_that_cannot_be_opened_are_refused_by_a_fact(tmp_path, monkeypatch):
    put(tmp_path / "there.png", GREY)
    (tmp_path / "folder.png").mkdir()
    os.symlink("there.png", tmp_path / "link.png")
    os.symlink("nowhere.png", tmp_path / "broken.png")
    names = ["link.png", "broken.png", "folder.png", "gone.png"]
    pixels, found = read_all([tmp_path / name for name in names], None, int, size=16)
    assert (pixels.images[0] == GREY).all()
    assert found[1] == found[3] == "it cannot be read (No such file or directory)"
    assert found[2] == "it cannot be read (Is a directory)"
    _, found = read_all([tmp_path / "there.png"], [tmp_path / "broken.png"], int, size=16)
    assert found[0] == "its mask: it cannot be read (No such file or directory)"

    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "read_bytes", locked)
    _, found = read_all([tmp_path / "there.png"], None, int, size=16)
    assert found[0] == "it cannot be read (Permission denied)"


def test_a_mistake_of_our_own_is_called_one(tmp_path, monkeypatch):
    put(tmp_path / "x.png", GREY)
    monkeypatch.setattr("effml.importing.pictures.thumbprint", lambda image: {}["oops"])
    _, found = read_all([tmp_path / "x.png"], None, int, size=16)
    assert found[0].startswith("effml failed on it, please report this (KeyError in test_rasters")


# ---------------------------------------------------------------- masks

BOX = np.zeros((16, 16), bool)
BOX[4:9, 3:12] = True


def mask(data):
    return read_mask(data, size=16, shape=(16, 16))


def painted(*colours, where=BOX):
    """RGB: the first colour outside, the second inside, others in the last rows."""
    pixels = np.where(where[..., None], *[np.array(one, np.uint8) for one in colours[1::-1]])
    for row, colour in enumerate(colours[2:]):
        pixels[-1 - row] = colour
    return pixels


SOFT = np.asarray(Image.fromarray(np.uint8(BOX) * 255).resize((64, 64), 2).resize((16, 16), 4))
RIGHT = {
    "0 and 1": np.uint8(BOX),
    "0 and 255": np.uint8(BOX) * 255,
    "1 and 2": np.uint8(BOX) + 1,
    "128 and 255": np.uint8(BOX) * 127 + 128,
    "black and white": Image.fromarray(BOX),
    "white on black": painted((0, 0, 0), (255, 255, 255)),
    "blue on black": painted((0, 0, 0), (0, 0, 255)),
    "a palette": Image.fromarray(np.uint8(BOX)).convert("P"),
    "grey and opaque": with_alpha(Image.fromarray(np.uint8(BOX) * 255), CORNER | 255),
    "white, shape in alpha": with_alpha(Image.new("RGB", (16, 16), "white"), np.uint8(BOX) * 255),
    "black, shape in alpha": with_alpha(Image.new("L", (16, 16), 0), np.uint8(BOX) * 255),
    "red where it is opaque": with_alpha(
        Image.fromarray(painted((0, 0, 0), (255, 0, 0))), np.uint8(BOX) * 255
    ),
    "16 bits": np.uint16(BOX) * 4095,
    "soft edges": SOFT,
}


@pytest.mark.parametrize("name", RIGHT)
def test_masks_that_are_clear(name):
    cut, done = mask(bytes_of(RIGHT[name]))
    assert (cut == BOX).all()
    assert any("alpha" in what for what in done) == ("in alpha" in name)


@pytest.mark.parametrize(
    "pixels",
    [BOX * np.float32(0.7), BOX * 1.0, np.int16(BOX), np.uint32(BOX), np.int8(BOX)],
    ids=short,
)
def test_masks_in_tiff_of_other_types(pixels):
    assert (mask(tiff(pixels))[0] == BOX).all()
    if pixels.dtype.kind == "f":
        white = tiff(pixels, photometric="miniswhite")  # the stored values count
        assert (mask(white)[0] == BOX).all()
    assert (mask(bytes_of(np.uint8(BOX) * 255, "GIF"))[0] == BOX).all()
    assert (mask(bytes_of(np.uint8(BOX) * 255, "WEBP", lossless=True))[0] == BOX).all()


def labels(*values):
    pixels = np.where(BOX, values[1], values[0]).astype(np.uint8)
    for row, value in enumerate(values[2:]):
        pixels[-4 - 4 * row :] = value
    return pixels


UNSURE = {
    "labels 0, 1, 2": (labels(0, 1, 2), r"it holds labels \(0, 1, 2\): save the structure"),
    "labels 0, 128, 255": (labels(0, 128, 255), r"it holds labels \(0, 128, 255\)"),
    "thin labels": (np.indices((16, 16), np.uint8)[0] % 6, "it holds labels"),
    "one to ignore": (labels(0, 1, 255), r"it holds labels \(0, 1, 255\)"),
    "a palette of 3": (Image.fromarray(labels(0, 1, 2)).convert("P"), "it holds labels"),
    "red on white": (painted((255,) * 3, (255, 0, 0)), "it has 2 colours: save"),
    "three colours": (painted((0,) * 3, (255, 0, 0), (0, 255, 0)), "it has 3 colours"),
    "alpha says otherwise": (
        with_alpha(Image.fromarray(np.uint8(BOX) * 255), CORNER),
        "its grey values and its alpha channel show different structures",
    ),
    "another size": (np.uint8(BOX)[:8], "it has 16×8 pixels, the picture 16×16"),
}


@pytest.mark.parametrize("name", UNSURE)
def test_masks_that_are_not_clear_are_refused_by_name(name):
    pixels, reason = UNSURE[name]
    with pytest.raises(Unusable, match=reason):
        mask(bytes_of(pixels))


def test_a_palette_whose_colours_contradict_its_index_is_said():
    image = Image.fromarray(np.uint8(BOX)).convert("P")
    for palette, said in (([0, 0, 0, 255, 255, 255], False), ([255, 255, 255, 0, 0, 0], True)):
        image.putpalette(palette)
        cut, done = mask(bytes_of(image))
        assert (cut == BOX).all() and any("lighter colour" in what for what in done) == said


def test_without_tifffile_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.tif").write_bytes(tiff(GREY))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ValueError, match="^TIFF files need tifffile: pip install tifffile"):
        read_all([tmp_path / "x.tif"], None, int, size=16)


def test_labels_under_jpeg_noise_and_soft_edges_are_told_apart():
    big = np.zeros((64, 64), np.uint8)
    big[9:55, 9:55] = 128
    for inner in (128, 255):
        big[16:40, 16:40] = inner
        data = bytes_of(big, "JPEG", quality=95)
        if inner == 255:
            with pytest.raises(Unusable, match="it holds labels"):
                read_mask(data, size=64, shape=(64, 64))
        else:
            cut, done = read_mask(data, size=64, shape=(64, 64))
            assert cut.sum() == 46 * 46 and "cut at the middle" in done[0]


def test_empty_and_full_masks_and_those_that_no_rule_fits():
    assert mask(bytes_of(np.zeros((16, 16), np.uint8))) == (pytest.approx(np.zeros((16, 16))), ())
    cut, done = mask(bytes_of(np.full((16, 16), 255, np.uint8)))
    assert cut.all() and done == ("mask that covers the whole picture",)
    clear = with_alpha(Image.new("L", (16, 16), 255), np.zeros((16, 16), np.uint8))
    cut, done = mask(bytes_of(clear))  # where the shapes are in alpha, this one is empty
    assert not cut.any() and "alpha" in done[0]
    for pixels in (-np.int16(BOX), np.where(BOX, np.nan, 0.0)):
        with pytest.raises(Unusable, match="its values are not all finite numbers from 0"):
            mask(tiff(pixels))


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_flipped_bit_in_a_png_refuses_the_picture(place):
    data = bytearray(bytes_of(Image.fromarray(scene(0, (90, 90)).astype(np.uint8)), "PNG"))
    assert read_picture(bytes(data), size=16)
    data[int(place * len(data))] ^= 4
    with pytest.raises(Unusable, match="its PNG data are damaged"):
        read_picture(bytes(data), size=16)
