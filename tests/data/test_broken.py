"""Some 250 broken inputs: each is one clear error, none loads, none crashes, none takes memory."""

import gzip
import io
import json
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import seeds
from effml import load_dataset
from effml.data.catalogue import remote_files
from test_data import arrays

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    """256 MB of address space beyond what the process has: a lie about sizes that is believed is a
    MemoryError."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 256_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def packed(compressed=True, **change):
    content = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **content)
    return stream.getvalue()


def refused(tmp_path, content, words="."):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        load_dataset(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 900


@pytest.mark.parametrize("at", np.linspace(0, 0.999, len(seeds(15, 40))))
def test_truncated(tmp_path, at):
    whole = packed()
    refused(tmp_path, whole[: int(len(whole) * at)])


@pytest.mark.parametrize("seed", seeds(20, 60))
def test_a_bit_flipped_in_the_data(tmp_path, seed):
    rng, whole = np.random.default_rng(seed), bytearray(packed(compressed=bool(seed % 2)))
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        member = file.infolist()[rng.integers(len(file.infolist()))]
    name, extra = struct.unpack("<HH", whole[member.header_offset + 26 : member.header_offset + 30])
    start = member.header_offset + 30 + name + extra
    whole[start + rng.integers(member.compress_size)] ^= 1 << rng.integers(8)
    refused(tmp_path, bytes(whole), "cannot be read")


@pytest.mark.parametrize("seed", seeds(10, 30))
def test_bits_flipped_anywhere_do_no_harm(tmp_path, seed):
    """Some bytes of a zip mean nothing (dates): the content is right, or there is an error."""
    rng, whole, path = np.random.default_rng(seed), bytearray(packed()), tmp_path / "x.npz"
    for at in rng.integers(len(whole), size=3):
        whole[at] ^= 1 << rng.integers(8)
    path.write_bytes(whole)
    try:
        data = load_dataset(path)
    except ValueError:
        return
    assert (data.train.images[:, 0].numpy() == arrays()["train_images"]).all()


IMAGES = (
    [
        np.zeros((6, 28, 28), kind)
        for kind in (
            "f2",
            "f4",
            "f8",
            "i1",
            "i2",
            "u2",
            "i8",
            "?",
            "c8",
            "U4",
            "S3",
            "M8[D]",
            "m8[D]",
        )
    ]
    + [
        np.zeros(shape, np.uint8)
        for shape in (
            (),
            (6,),
            (6, 28),
            (0, 28, 28),
            (6, 0, 28),
            (6, 28, 28, 1),
            (6, 28, 28, 4),
            (6, 3, 28, 28),
            (6, 1, 28, 28),
            (6, 9, 9, 9, 2),
            (6, 2, 2, 2, 2, 2),
        )
    ]
    + [np.array(["a photograph of a lung"] * 6), np.array([["text"] * 28] * 6)]
)


@pytest.mark.parametrize("images", IMAGES, ids=lambda a: f"{a.dtype}{a.shape}")
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_of_a_wrong_kind_or_shape(tmp_path, images, split):
    refused(tmp_path, packed(**{f"{split}_images": images}))


LABELS = [
    np.array(v)
    for v in (
        [[np.nan]] * 6,
        [[np.inf]] * 6,
        [[-1]] * 6,
        [[0.5]] * 6,
        [["a"]] * 6,
        [[70_000]] * 6,
        [[255]] * 6,
        [[0]] * 5,
        [[0]] * 7,
        [[[0]]] * 6,
        [[0, 2]] * 6,
        [[1j]] * 6,
        0,
        [[]] * 6,
    )
] + [
    np.array([["2020-01-01"]] * 6, "M8[D]"),
    np.array([[2**63]] * 6, np.uint64),
    np.array([[-(2**63)]] * 6),
    np.array([[1e300]] * 6),
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_labels(tmp_path, labels):
    refused(tmp_path, packed(train_labels=labels))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"label_names": np.array(["one"])}, "1 classes are named"),
        ({"label_names": np.array([])}, "no image has|classes are named|."),
        ({"positive": np.array(5)}, "0 or 1"),
        ({"positive": np.array([0, 1])}, "0 or 1"),
        ({"positive": np.array("ill")}, "0 or 1"),
        ({"passport": np.array("{not JSON")}, "JSON"),
        ({"passport": np.array("[1]")}, "JSON"),
        ({"train_masks": np.full((6, 28, 28), 255, np.uint8)}, "0 or 1"),
        ({"train_masks": np.zeros((6, 28, 28))}, "0 or 1"),
        ({"train_masks": np.full((6, 28, 28), -1, np.int8)}, "0 or 1"),
        ({"train_masks": np.zeros((6, 28, 27), np.uint8)}, "0 or 1"),
        ({"train_masks": np.zeros((5, 28, 28), np.uint8)}, "rows"),
        ({"train_groups": np.zeros((6, 2), int)}, "names or whole"),
        ({"train_groups": np.full(6, np.nan)}, "names or whole"),
        ({"train_groups": np.zeros(5, int)}, "5 rows"),
        ({"train_site": np.zeros(3)}, "3 rows"),
        ({"val_labels": None}, "unlike"),
        ({"val_images": np.zeros((6, 30, 30), np.uint8)}, "unlike"),
        ({"test_images": np.zeros((6, 28, 28, 3), np.uint8)}, "unlike"),
        ({"val_labels": np.zeros((6, 2), int)}, "widths"),
        (
            {"train_labels": None, "val_labels": None, "test_labels": None},
            "neither labels nor masks",
        ),
        ({"train_images": None, "val_images": None, "test_images": None}, "holds no images"),
        *(
            {
                f"{a}_groups": np.array(list("abcdef")),
                f"{b}_groups": np.array(list("uvwxyf")),
            }.items()
            and (
                {f"{a}_groups": np.array(list("abcdef")), f"{b}_groups": np.array(list("uvwxyf"))},
                f"in {a} and in {b}, such as f",
            )
            for a, b in (("train", "val"), ("train", "test"), ("val", "test"))
        ),
    ],
)
def test_parts_that_do_not_fit(tmp_path, change, words):
    refused(tmp_path, packed(**change), words)


@pytest.mark.parametrize(
    "key",
    [
        "train_images",
        "val_images",
        "test_images",
        "train_labels",
        "test_labels",
        "train_groups",
        "positive",
        "label_names",
        "train_site",
    ],
)
def test_nothing_is_unpickled(tmp_path, key):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    refused(tmp_path, packed(**{key: np.array([Trap()] * 6)}), "Object arrays")
    refused(tmp_path, pickle.dumps(Trap()))
    assert not (tmp_path / "sprung").exists()


def npy(header, content=b""):
    header = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 28, 28)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 28, 28)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (9223372036854775807, 2, 2)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6,)}",
    "{'descr': '|u1', 'fortran_order': False}",
    "__import__('os').system('true')",
    "[" * 9000,
    "{'descr': 'nonsense', 'fortran_order': False, 'shape': (6,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 'six'}",
    "{'descr': '<U999999999', 'fortran_order': False, 'shape': (6,)}",
    "\0" * 20,
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda text: text[:60])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_lie(tmp_path, header, compression):
    with zipfile.ZipFile(tmp_path / "h.zip", "w", compression) as file:
        file.writestr("train_images.npy", npy(header, bytes(4704)))
        file.writestr(
            "train_labels.npy",
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (6, 1)}", bytes(6)),
        )
    refused(tmp_path, (tmp_path / "h.zip").read_bytes(), "cannot be read")


def test_a_directory_that_lies_about_sizes(tmp_path):
    """The directory of the zip claims more than the members hold, and the headers agree with it."""
    header = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (500000, 28, 28)}")
    whole = bytearray(zip_of({"train_images.npy": header + bytes(4704)}))
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 24 : at + 28] = struct.pack("<I", len(header) + 500_000 * 784)
    refused(tmp_path, bytes(whole), "cannot be read")


def zip_of(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def one_npy():
    stream = io.BytesIO()
    np.save(stream, arrays()["train_images"])
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>503 Service Unavailable</html>",
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"file,label\na.png,1\n",
        gzip.compress(b"hello", mtime=0),
        one_npy(),
        zip_of({}),
        zip_of({"train_images.npy": b""}),
        zip_of({"train_images.txt": b"hello"}),
        zip_of({"train_images.npy": b"\x93NUMPY\x09\x00"}),
        zip_of({"../train_images.npy": one_npy()}),
        bytes(100_000),
        b"PK\x05\x06" + bytes(18),
    ],
)
def test_files_of_another_kind(tmp_path, content):
    refused(tmp_path, content)


def test_encrypted_and_unknown_compression(tmp_path):
    for field, value in ((8, 1), (10, 99)):  # the flags and the method in the zip's directory
        whole = bytearray(packed())
        at = whole.index(b"PK\x01\x02")
        whole[at + field] = value
        refused(tmp_path, bytes(whole), "cannot be read")


@pytest.mark.parametrize(
    "name, error, words",
    [
        ("no/such/file.npz", FileNotFoundError, "no file"),
        ("nosuch", FileNotFoundError, "not found"),
        ("", FileNotFoundError, "."),
        ("phantom-chest:haze=1", ValueError, "Choose from: seed, difficulty"),
        ("phantom-chest:shift=2", ValueError, "from 0"),
        ("phantom-chest:label_noise=x", ValueError, "number"),
        ("phantom-chest:", ValueError, "Choose from"),
        (".", FileNotFoundError, "."),
        ("folder.npz", FileNotFoundError, "no file"),
        ("broken.npz", FileNotFoundError, "no file"),
    ],
)
def test_names_and_paths(tmp_path, no_data, name, error, words):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "broken.npz").symlink_to(tmp_path / "gone.npz")
    with pytest.raises(error, match=words):
        load_dataset(name)


def jpegs(**change):
    pictures = []
    for k in range(6):
        stream = io.BytesIO()
        Image.fromarray(RNG.integers(0, 255, (16, 20, 3), dtype=np.uint8)).save(stream, "JPEG")
        pictures.append(stream.getvalue())
    content = {
        "jpeg_bytes": np.frombuffer(b"".join(pictures), np.uint8),
        "jpeg_offsets": np.cumsum([0, *map(len, pictures)]),
        "labels": np.arange(6) % 2,
        "split": np.array([0, 0, 0, 0, 1, 1]),
        "label_names": np.array(["a", "b"]),
    }
    content |= {key: value(content) if callable(value) else value for key, value in change.items()}
    stream = io.BytesIO()
    np.savez(stream, **content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        {"jpeg_bytes": lambda c: c["jpeg_bytes"][:-300]},
        {"jpeg_bytes": lambda c: np.zeros_like(c["jpeg_bytes"])},
        {"jpeg_offsets": lambda c: c["jpeg_offsets"][::-1]},
        {"jpeg_offsets": lambda c: c["jpeg_offsets"] - 5},
        {"split": np.zeros(4, int)},
        {"jpeg_offsets": lambda c: np.r_[c["jpeg_offsets"][:-1], 10**9]},
        {"jpeg_bytes": np.frombuffer(b"text " * 2000, np.uint8)},
        {"label_names": np.array(["a"])},
        {"jpeg_offsets": np.array([0])},
    ],
    ids=lambda c: next(iter(c)),
)
def test_containers_of_jpegs(tmp_path, change):
    refused(tmp_path, jpegs(**change))
    (tmp_path / "whole.npz").write_bytes(jpegs())
    data = load_dataset(tmp_path / "whole.npz")
    assert data.train.images.shape == (4, 3, 16, 20)
    assert data.passport["converted"] == "decoded from JPEG"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 60000, 28, 28) + bytes(50), mtime=0),
        gzip.compress(bytes(9), mtime=0),
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 28), mtime=0),
        b"\x1f\x8b broken",
        b"text",
    ],
)
def test_mnist_files(tmp_path, content):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file in remote_files("mnist"):
        (tmp_path / file.path).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read|idx"):
        load_dataset("mnist", root=tmp_path)


def test_what_is_right_loads_under_the_same_limits(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(packed(passport=np.array(json.dumps({"source": "our clinic"}))))
    assert load_dataset(path).passport["source"] == "our clinic"
