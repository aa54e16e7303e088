"""`python -m tests.gpu --out DIR`: every CUDA path of the package once, a line each, then as much of
the grid of Selvan et al. 2023 as the time allows, cheapest models first.

It needs torch, timm, scikit-learn, pandas and safetensors, and no network; EFFML_DATA is the folder
of the data (without it the grid takes simulated nodules). What is not installed or not built is
skipped, with the reason. DIR gets two files: report.txt and the records, runs-….jsonl, which can be
copied to results/reference. It ends with 1 where a path failed.

The grid is that of `notebooks/selvan/runs.py`, protocol gpu: five models × five settings × seeds
1, 10, 100, the paper's batch size, epochs, patience and early stopping. Not the paper's: images of
64 px, random first weights (ImageNet's are not at hand without a network) and so a larger learning
rate. With `protocol = "gpu"` notebooks 60 to 62 show its records.

With `--grid pepr` it leaves the paths out and runs the plan `gpu` of `notebooks/pepr/own.py`: the 131
architectures of Selvan et al. 2024 in float32 from random weights, 10 epochs, cheapest first.

`python -m tests.gpu --device cpu` is its twin for machines without a GPU.
"""

import argparse
import gc
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

import effml
import effml.training
from effml import Recipe
from effml.data import Dataset, Split
from effml.machine import ROOT
from effml.optimizers import OPTIMIZERS
from effml.optimizers.half import HALF_REPAIRS
from effml.precision import PRECISIONS, has_bf16, probe, tf32
from effml.results import RecordWriter
from effml.settings import LOW, PROTOCOL, setting
from effml.training import History

MODELS = ("MLP", "EfficientNet", "ViT", "DenseNet", "Swin")
"""Cheapest first."""
DATA = "lidc_nodules_64|phantom-nodule"
FIRST_S = {"selvan": 40.0, "pepr": 15.0}
"""Seconds that must be left for the first run of a model on some data, by grid."""


COARSE = {"optimizer": "sgd", "learning_rate": 0.05}
"""For weights in 16 bits without a repair: Adam's mean of squares is soon 0 in float16."""


class Skipped(Exception):
    """Not to be had here, and why."""


def expect(held: Any, told: str) -> None:
    if not held:
        raise AssertionError(told)


@dataclass(frozen=True)
class Place:
    """Where the paths run, with small images that a few steps can learn."""

    device: str
    name: str = "resnet18"

    @property
    def model(self) -> nn.Module:
        """Fresh, on the device."""
        return effml.build_model(self.name, size=28, classes=2, seed=0).to(self.device)

    @property
    def data(self) -> Dataset:
        draw = torch.Generator().manual_seed(0)
        labels = torch.arange(96) % 2
        images = torch.randint(0, 60, (96, 1, 28, 28), generator=draw, dtype=torch.uint8)
        images[labels == 1, :, 8:16, 8:20] = 250
        parts = {"train": slice(0, 64), "val": slice(64, 80), "test": slice(80, 96)}
        splits = {name: Split(images[part], labels[part]) for name, part in parts.items()}
        return Dataset("dots", "binary", ("no", "yes"), 1, {}, **splits)

    def learn(self, **fields: Any) -> History:
        """Train a fresh model for two epochs: the loss must be finite, and weights must move."""
        for name in fields:
            if name not in Recipe.__dataclass_fields__:
                raise Skipped(f"{name} is not built")
        before, model = self.model.state_dict(), self.model
        recipe = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3} | fields
        history = effml.train(model, self.data, recipe=Recipe(**recipe))
        expect(all(map(math.isfinite, history.train_loss)), f"losses {history.train_loss}")
        now = model.state_dict()
        moved = [name for name in now if not torch.equal(now[name], before[name].to(now[name]))]
        expect(moved and history.steps, "no weight moved")
        return history


def precision(name: str, place: Place) -> str:
    """Weights, outputs and gradients are in memory what the precision says."""
    if place.device == "cpu" and name.endswith("fp16"):
        raise Skipped("float16 is for a GPU")
    asked = effml.arithmetic(name, place.device)
    history = place.learn(precision=name, **COARSE)
    found = history.dtypes
    wanted = {"weights": asked.weights, "gradients": asked.weights, "activations": asked.products}
    for what, dtype in wanted.items():
        expect(found[what].split("+")[0] == dtype, f"{what} are {found[what]}, not {dtype}")
    return f"{history.steps} of 8 steps taken, {found}"


def optimizer(name: str, place: Place) -> str:
    """Its state is as large as it should be."""
    if name.endswith("_bnb") and place.device == "cpu":
        raise Skipped("bitsandbytes is compared on a GPU")
    if name.endswith("_bnb") and not find_spec("bitsandbytes"):
        raise Skipped("bitsandbytes is not installed")
    state = place.learn(optimizer=name).optimizer_state
    most = 2.6 if "8bit" in name else 8.2
    expect(0 < state["bytes_per_parameter"] < most, f"{state['bytes_per_parameter']} B a parameter")
    theirs = place.device != "cpu" and "8bit" in name and find_spec("bitsandbytes")
    whose = " (bitsandbytes)" if theirs else ""
    return f"{state['bytes_per_parameter']:.2f} bytes of state a parameter{whose}"


def repair(name: str, place: Place) -> str:
    half = LOW[place.device]["half"]
    how = COARSE if name == "batchnorm" else {"optimizer": "adam"}
    history = place.learn(precision=half, half_repair=name, **how)
    return f"{half}: {history.dtypes['weights']} weights, state {history.dtypes['optimizer']}"


def lost_updates(place: Place) -> str:
    """The counter, and that with tiny steps nearly all updates are lost in 16 bits."""
    model, half = place.model, LOW[place.device]["half"]
    counter = effml.LostUpdates(model)
    recipe = Recipe(epochs=1, batch_size=16, learning_rate=1e-6, optimizer="sgd", precision=half)
    effml.train(model, place.data, recipe=recipe, after_step=counter)
    expect(0.3 < counter.fraction <= 1, f"{counter.fraction} lost")
    return f"{counter.fraction:.3f} of the updates in {half} are lost at a rate of 1e-6"


def rounding(place: Place) -> str:
    """Stochastic rounding on the device is right on average, in both formats."""
    draw, x = torch.Generator(place.device).manual_seed(0), 1 + 2.0**-12
    errors = []
    for dtype in (torch.bfloat16, torch.float16):
        values = torch.full((100_000,), x, device=place.device)
        mean = effml.round_stochastically(values, dtype, draw).double().mean().item()
        errors.append((mean - x) / torch.finfo(dtype).eps)
    expect(max(map(abs, errors)) < 0.01, f"means are off by {errors} steps")
    return f"means off by {errors[0]:+.4f} and {errors[1]:+.4f} steps"


def bits(schedule: str, place: Place) -> str:
    stored = place.learn(bit_schedule=schedule).stored
    return f"{stored['weight_bits']:.2f} bits a weight, {stored['stored_bytes']} bytes in a file"


def field(fields: dict[str, Any], place: Place) -> str:
    """A training with these fields; bits are found in memory."""
    if "checkpointing" in fields and place.name == "lenet5":
        place = Place(place.device, "test_resnet")  # it has blocks
    history = place.learn(**fields)
    asked, saved = fields.get("activation_bits"), history.saved
    expect(not asked or saved["saved_bits"] == asked, f"saved for backward: {saved}")
    expect(("gradient_bits" in fields) == bool(saved["gradient_bytes"]), f"gradients: {saved}")
    return f"loss {history.train_loss[0]:.3f} → {history.train_loss[-1]:.3f}"


def scaler(place: Place) -> str:
    """A gradient that overflows is skipped, and the scale falls."""
    if place.device == "cpu":
        raise Skipped("loss scaling is for float16, on a GPU")
    number_format = effml.arithmetic("amp_fp16", place.device)
    net, scale = nn.Linear(8, 2).to(place.device), number_format.scaler()
    adam = effml.make_optimizer("adam", net.parameters(), 1e-2)
    before, scales = net.weight.detach().clone(), []
    for factor in (math.inf, 1.0):
        adam.zero_grad()
        with number_format.context():
            loss = net(torch.ones(4, 8, device=place.device)).float().mean() * factor
        scale.scale(loss).backward()
        scale.step(adam)
        scale.update()
        scales.append(scale.get_scale())
        expect(torch.equal(net.weight, before) == math.isinf(factor), f"a step with {factor}")
    expect(scales[0] < 65536, f"the scale is {scales}")
    return f"scale 65536 → {scales[0]:.0f} after an overflow, which took no step"


def convolutions(place: Place) -> str:
    """`library` changes nothing; on a GPU `auto` also leaves all to the library."""
    off = place.learn(convolutions="library").convolutions
    auto = place.learn(convolutions="auto").convolutions
    expect(not off and (place.device == "cpu" or not auto), f"chosen: {off}, {auto}")
    return f"library: none chosen; auto: {len(auto)} shapes"


def products(place: Place) -> str:
    """How far float32 is from float64: where torch takes TF32, convolutions keep 10 bits."""
    draw, errors = torch.Generator().manual_seed(0), []
    x, w = (torch.randn(64, 64, 9, 9, generator=draw).to(place.device) for _ in range(2))
    for one in (torch.matmul, torch.conv2d):
        exact = one(x.double(), w.double())
        errors.append(float((one(x, w) - exact).norm() / exact.norm()))
    expect(errors[0] < 1e-5, f"matrix products of float32 are off by {errors[0]:.1e}")
    expect(errors[1] < (1e-2 if tf32(place.device) else 1e-5), f"convolutions by {errors[1]:.1e}")
    return f"products off by {errors[0]:.1e}, convolutions {errors[1]:.1e}"


def repeated(place: Place) -> str:
    """The same seed twice: the same numbers on a CPU, on a GPU up to the order of its sums."""
    first, second = place.learn(), place.learn()
    apart = [abs(a / b - 1) for a, b in zip(first.train_loss, second.train_loss)]
    expect(max(apart) <= (0 if place.device == "cpu" else 0.05), f"losses apart by {apart}")
    return f"losses apart by {max(apart):.1e}"


def native(place: Place) -> str:
    """The faster of two formats, by the probe."""
    gain = probe(place.device) if place.device != "cpu" else None
    return f"{effml.native_precision(place.device)}; amp_bf16 over fp32: {gain}"


def prediction(place: Place) -> str:
    """Every precision predicts what float32 on the CPU does, and sums to 1."""
    images, model = place.data.test.images, place.model
    off, wanted = {}, effml.predict(place.model.cpu(), images, task="binary")
    for name in PRECISIONS:
        if place.device != "cpu" or not name.endswith("fp16"):
            found = effml.predict(model, images, task="binary", precision=name)
            expect(abs(found.sum(1) - 1).max() < 1e-3, f"{name} sums to {found.sum(1)}")
            off[name] = float(abs(found - wanted).max())
    expect(max(off.values()) < 0.05, f"off by {off}")
    return ", ".join(f"{name} {value:.1e}" for name, value in off.items())


def features(place: Place) -> str:
    images = place.data.val.images
    there, here = effml.embed(place.model, images), effml.embed(place.model.cpu(), images)
    error = float((there - here).norm() / here.norm())
    expect(error < 0.01, f"features are off by {error}")
    return f"features off by {error:.1e}"


def smaller(place: Place) -> str:
    """Compression works where the model is, and the smaller model trains there."""
    example = effml.data.normalize(place.data.train.images[:1]).to(place.device)
    kept = {}
    for name in ("channels", "svd", "merge"):
        if name == "merge" and place.device != "cpu":
            continue  # a ResNet has no hidden linear layer
        small, report = effml.compress(place.model, name, 0.5, example=example)
        effml.train(small, place.data, recipe=Recipe(epochs=1, batch_size=16))
        kept[name] = round(report.ratios["params"], 2)
    return f"parameters left: {kept}"


def teaching(place: Place) -> str:
    recipe = Recipe(epochs=1, batch_size=16)
    effml.train(model := place.model, place.data, recipe=recipe, teacher=place.model)
    sampled = place.learn(sampler="importance", augment="flip_shift", epochs=3)
    probability = effml.predict(model, place.data.test, task="binary")
    return f"taught {probability.mean():.2f}, {sampled.importance_steps} steps by importance"


def masks(place: Place) -> str:
    data = place.data
    parts = {}
    for name in ("train", "val", "test"):
        images = getattr(data, name).images
        parts[name] = Split(images, masks=(images[:, 0] > 200).to(torch.uint8))
    dots = Dataset("dots", "segmentation", ("background", "dot"), None, {}, **parts)
    model = effml.build_model("unet", size=28, classes=2).to(place.device)
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=1e-2)
    history = effml.train(model, dots, recipe=recipe)
    expect(math.isfinite(history.val_score[-1]), f"Dice {history.val_score}")
    return f"Dice {history.val_score[-1]:.2f}"


def resumed(place: Place) -> str:
    """A training that is interrupted goes on, with the generators of the device."""
    recipe, ends = Recipe(epochs=3, batch_size=16), []

    def stop() -> None:
        ends.append(1)
        if len(ends) == 3:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder, EachEpoch():
        file = Path(folder) / "x.checkpoint"
        try:
            effml.train(place.model, place.data, recipe=recipe, checkpoint=file, after_epoch=stop)
        except KeyboardInterrupt:
            pass
        history = effml.train(place.model, place.data, recipe=recipe, checkpoint=file)
    expect(history.resumed_epoch == 2, f"resumed after epoch {history.resumed_epoch}")
    return "went on after epoch 2 of 3"


class EachEpoch:
    """A checkpoint after each epoch, inside."""

    def __enter__(self) -> None:
        from effml.training import checkpoints

        self.before, checkpoints.SECONDS = checkpoints.SECONDS, 0.0

    def __exit__(self, *error: object) -> None:
        from effml.training import checkpoints

        checkpoints.SECONDS = self.before


def joules(place: Place) -> str:
    """NVML, or what this machine has, sees work."""
    with effml.measure(place.device) as cost:
        x, end = torch.ones(2048, 2048, device=place.device), time.monotonic() + 1
        while time.monotonic() < end and place.device != "cpu":
            for _ in range(20):
                x = torch.nn.functional.normalize(x @ x)
            torch.cuda.synchronize()
    if place.device == "cpu":
        return f"{cost.energy_source}"
    if "nvml" not in cost.energy_source:
        raise Skipped(f"{cost.energy_source}; {cost.reason}")
    watts = cost.energy_j / cost.seconds
    expect(20 < watts < 2000, f"{watts} W")
    return f"{cost.energy_j:.0f} J in {cost.seconds:.1f} s, {watts:.0f} W, {cost.energy_source}"


def memory(place: Place) -> str:
    """The peak of a window holds what lived in it, and not what was gone before."""
    torch.ones(2**26, device=place.device).sum().item()
    with effml.measure(place.device) as cost:
        torch.ones(2**24, device=place.device).sum().item()
    mb = cost.peak_memory_bytes / 1e6
    expect(mb >= 67, f"a peak of {mb} MB with a tensor of 67 MB")
    expect(place.device == "cpu" or mb < 67 + 268, f"{mb} MB: the peak was not reset")
    return f"peak {mb:.0f} MB with a tensor of 67 MB"


def whole_run(place: Place) -> str:
    """A record says where it ran; its weights answer on the CPU too."""
    name = "mlp" if place.device == "cpu" else "lenet5"
    recipe = Recipe(model=name, epochs=1, learning_rate=1e-4, **setting("8bit_half", place.device))
    with tempfile.TemporaryDirectory() as folder:
        record = effml.run(recipe, device=place.device, store=folder, keep_weights=True)
        expect(record.status == "ok", f"{record.status}: {record.reason}")
        images = effml.load_dataset(recipe.data).test.images[:5]
        answers = effml.load_run(record.run_id, folder).predict(images)
    expect(record.device == place.device and record.train_peak_memory_bytes > 0, "device or memory")
    expect(answers.shape == (5, 2), f"answers {answers.shape}")
    return f"{record.device_name}, {record.weights_dtype}, {record.train_seconds:.2f} s"


def fresh_process(place: Place) -> str:
    """`sweep` forks a process that has not touched CUDA."""
    if place.device == "cpu":
        raise Skipped("the package's own tests do it")
    with tempfile.TemporaryDirectory() as folder:
        runs = effml.sweep([Recipe(model="mlp", epochs=1)], folder, device=place.device)
    expect(runs.status.eq("ok").all(), f"{runs.reason.tolist()}")
    return f"{runs.device_name.iloc[0]}, {runs.train_seconds.iloc[0]:.2f} s"


def paths() -> Iterator[tuple[str, Callable[[Place], str]]]:
    """The name of each path, and what runs it on a place."""
    yield from ((f"precision {name}", partial(precision, name)) for name in PRECISIONS)
    yield from ((f"optimizer {name}", partial(optimizer, name)) for name in OPTIMIZERS)
    yield from ((f"half repair {name}", partial(repair, name)) for name in HALF_REPAIRS)
    yield "half repair, all", partial(repair, "eps+batchnorm+master")
    yield from ((f"weights, {text}", partial(bits, text)) for text in ("uniform:2", "depth:8-2"))
    asked = [{"activation_bits": n} for n in (8, 4, 2)] + [{"gradient_bits": 8}, {"accumulate": 2}]
    asked += [{"checkpointing": "blocks"}, {"activation_bits": 8, "gradient_bits": 8}]
    asked += [{"activation_bits": 8, "optimizer": "adam8bit"}]
    for fields in asked:
        yield ", ".join(f"{name}={value}" for name, value in fields.items()), partial(field, fields)
    others = (lost_updates, rounding, scaler, convolutions, products, repeated, native, prediction)
    others += (features, smaller, teaching, masks, resumed, joules, memory, whole_run)
    for one in (*others, fresh_process):
        yield one.__name__.replace("_", " "), one


def recipes(given: argparse.Namespace) -> list[Recipe]:
    """The grid, cheapest models first. Of Selvan et al. 2023 each model in all settings with one
    seed after the other."""
    if given.grid == "pepr":
        return alone("pepr/own.py").gpu(epochs=given.epochs or 10)
    how = {"data": effml.at_hand(DATA), "size": given.size, "device": given.device}
    grid, asked = alone("selvan/runs.py").grid, []
    for model in MODELS:
        of = grid([model], protocol="gpu", epochs=given.epochs or PROTOCOL["epochs"], **how)
        asked += sorted(of, key=lambda recipe: recipe.seed)
    return asked


def alone(file: str) -> ModuleType:
    """One file of the notebooks': what stands beside it draws, and a CUDA image has no
    matplotlib."""
    spec = spec_from_file_location(Path(file).stem, ROOT / "notebooks" / file)
    spec.loader.exec_module(module := module_from_spec(spec))
    return module


class Report:
    """Prints lines, and keeps them in a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.start = folder / "report.txt", time.monotonic()
        self.file.write_text("", encoding="utf-8")

    def __call__(self, text: str) -> None:
        line = f"{time.monotonic() - self.start:6.1f} s  {text}"
        print(line, flush=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def try_paths(place: Place, report: Report) -> int:
    """Each path; how many failed."""
    counts = {"ok": 0, "skipped": 0, "FAILED": 0}
    for name, path in paths():
        try:
            kind, told = "ok", path(place)
        except Skipped as reason:
            kind, told = "skipped", str(reason)
        except Exception as error:  # whatever it is: the next path may work
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = "FAILED"
            told = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        counts[kind] += 1
        report(f"{kind:8}{name}: {' '.join(told.split())[:400]}")
    report(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    return counts["FAILED"]


def run_grid(given: argparse.Namespace, report: Report, end: float) -> None:
    """As many runs as the time allows, each written at once."""
    taken: dict[tuple[Any, ...], float] = {}
    first_s = FIRST_S[given.grid]
    with RecordWriter(given.out) as writer:
        asked = recipes(given)[: given.most]
        for number, recipe in enumerate(asked, 1):
            start = time.monotonic()
            alike = (recipe.model, recipe.data, recipe.train_fraction)
            if end - start < 1.3 * taken.get(alike, first_s if number > 1 else 0):
                report(f"no time for {recipe.model}: {number - 1} of {len(asked)} runs done")
                return
            record = effml.run(recipe, device=given.device)
            writer.append(record)
            gc.collect()  # what the last run left would count in the peak of the next
            taken[alike] = time.monotonic() - start
            how = f"{recipe.model} {recipe.precision} {recipe.optimizer} seed {recipe.seed}"
            how += f", {recipe.train_fraction:.0%} of {recipe.data} at {recipe.size} px"
            scores = f"AUROC {record.test_auroc or math.nan:.3f}, epoch {record.best_epoch}"
            costs = f"{record.train_seconds or math.nan:.1f} s, {record.energy_source}"
            report(f"{record.status:8}{how}: {record.reason or f'{scores}, {costs}'}")
    report(f"all {len(asked)} runs done")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of report and records")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it")
    told = "which runs; pepr: the paths are left out"
    parser.add_argument("--grid", default="selvan", choices=FIRST_S, help=told)
    parser.add_argument("--epochs", type=int, help="of the grid; by default the paper's")
    parser.add_argument("--size", type=int, default=64, help="of selvan's images, pixels")
    parser.add_argument("--most", type=int, help="runs of the grid")
    given = parser.parse_args(words)
    end = time.monotonic() + 60 * given.minutes
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA GPU here. Give --device cpu for the twin.", file=sys.stderr)
        return 2
    report = Report(given.out)
    name = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    bf16 = "computes in bf16" if has_bf16(given.device) else "emulates bf16"
    report(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}; it {bf16}")
    small = "lenet5" if given.device == "cpu" else "resnet18"
    failed = 0 if given.grid == "pepr" else try_paths(Place(given.device, small), report)
    run_grid(given, report, end)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
