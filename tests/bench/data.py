"""Data: time and memory of loading, the share of batches in an epoch, a set larger than memory, import, duplicates.

Memory is measured in a fresh process each: the high-water mark (VmHWM) of all of it, Python and torch included.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LOADING = """
import json, sys, time, torch, numpy
from effml import load_dataset
from effml.metering import measure
with measure() as nothing: load_dataset("phantom-chest:seed=1")
before = nothing.peak_memory_bytes
first = time.perf_counter(); load_dataset(sys.argv[1]); first = time.perf_counter() - first
with measure() as cost: data = load_dataset(sys.argv[1])
size = sum(split.images.nbytes for split in (data.train, data.val, data.test) if split)
print(json.dumps({"first": first, "again": cost.seconds, "images": size, "peak": cost.peak_memory_bytes - before}))
"""
TRAINING = """
import json, sys, torch
from effml import Recipe, run
record = run(Recipe(data=sys.argv[1], size=224, model="mlp", epochs=1, batch_size=32))
peak = max(record[f"{window}_peak_memory_bytes"] for window in ("prepare", "train", "infer"))
print(json.dumps({"status": record.status, "seconds": record.train_seconds, "peak": peak}))
"""


def fresh(code: str, *arguments: str, **environment: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    import torch

    from effml import Recipe, build_model, load_dataset
    from effml.data import Dataset, at_hand, normalize
    from effml.training import train

    name = at_hand("malaria_28|phantom-chest")
    cost = fresh(LOADING, name)
    print(
        f"{name}: first load {cost['first']:.2f} s, again {cost['again']:.2f} s (aim ≤ 1 s); extra peak memory over the images "
        f"{cost['peak'] / cost['images']:.2f} (aim ≤ 1.3)"
    )
    data = load_dataset(name)
    part = Dataset(name, data.task, data.classes, data.positive, {}, train=data.train)
    batches, epochs = [], []
    for _ in range(5):
        start = time.perf_counter()
        for index in torch.randperm(len(data.train)).split(128):
            normalize(data.train.take(index)), data.train.labels[index]
        middle = time.perf_counter()
        train(build_model("lenet5"), part, recipe=Recipe(epochs=1))
        batches.append(middle - start), epochs.append(time.perf_counter() - middle)
    share = statistics.median(batches) / statistics.median(epochs)
    print(
        f"batches of 128 over a LeNet-5 epoch on {len(data.train)} images: {share:.2%} (aim ≤ 2 %); epoch "
        f"{statistics.median(epochs):.2f} s"
    )
    importing()
    larger_than_memory()


def larger_than_memory(gigabytes: float = 3.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, count = Path(folder) / "large.npz", int(gigabytes * 1e9 / 224**2)
        tile = np.random.default_rng(0).integers(0, 256, (count // 50, 224, 224), dtype=np.uint8)
        arrays = {
            "train_images": np.tile(tile, (48, 1, 1)),
            "val_images": tile,
            "test_images": tile,
        }
        arrays |= {
            key.replace("images", "labels"): (np.arange(len(a)) % 2)[:, None]
            for key, a in list(arrays.items())
        }
        np.savez(path, **arrays)
        print(
            f"{path.stat().st_size / 1e9:.2f} GB of {sum(map(len, arrays.values())) // 2} images, 224 px; EFFML_MEMORY_GB=1",
            flush=True,
        )
        del arrays, tile
        start = time.perf_counter()
        cost = fresh(TRAINING, str(path), EFFML_MEMORY_GB="1", EFFML_CACHE=f"{folder}/cache")
        print(
            f"  one epoch: {cost['status']}, {cost['seconds']:.0f} s of training, {time.perf_counter() - start:.0f} s with unpacking; peak "
            f"memory of the process {cost['peak'] / 1e9:.2f} GB (aim ≤ 1)"
        )


def importing(images: int = 2000, patients: int = 300) -> None:
    """A folder of PNGs of 256 px into one file of 224 px; then the search for copies among ten times as many."""
    import pandas as pd
    from PIL import Image

    from effml import import_folder
    from effml.importing.copies import Thumbprints, find_copies
    from effml.phantoms import make_phantom

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_phantom("phantom-chest", size=256, counts=(images, 2, 2))
        for i, pixels in enumerate(drawn["train_images"]):
            Image.fromarray(pixels).save(f"{folder}/{i:04}.png")
        table = pd.DataFrame(
            {
                "file": [f"{i:04}.png" for i in range(images)],
                "label": drawn["train_labels"][:, 0].astype(str),
                "group": rng.integers(patients, size=images).astype(str),
            }
        )
        times, outputs = [], []
        for k in range(3):
            start = time.perf_counter()
            import_folder(folder, f"{folder}/{k}.npz", table=table)
            times.append(time.perf_counter() - start)
            outputs.append(Path(f"{folder}/{k}.npz").read_bytes())
    print(
        f"import of {images} images, {patients} patients: {statistics.median(times):.1f} s (aim ≤ 20), "
        f"{'byte-identical' if len(set(outputs)) == 1 else 'NOT THE SAME BYTES'} three times"
    )
    prints = Thumbprints.of(10 * images)
    prints.thumbnails[:] = rng.integers(0, 256, prints.thumbnails.shape, dtype=np.uint8)
    prints.turned[:] = prints.digests[:] = np.arange(10 * images).astype(str)
    start = time.perf_counter()
    find_copies(prints)
    print(f"copies among {10 * images} images: {time.perf_counter() - start:.1f} s")
