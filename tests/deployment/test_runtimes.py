"""Every runtime beside the model itself, what it really computes in, and its files."""

import json
import os
import subprocess
import sys
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import effml
from effml import RUNTIMES, build_predictor, load_predictor
from effml.deployment import runtimes
from effml.deployment.engines import openvino_layers
from effml.machine import import_timm
from effml.precision import has_bf16

BF16 = pytest.mark.skipif(not has_bf16("cpu"), reason="this CPU has no bfloat16 arithmetic")
EXACT = ("eager", "channels_last", "onnxruntime", "openvino")
INT8 = (
    "onnxruntime_int8",
    "openvino_int8",
    "openvino_int8_half_range",
    "openvino_int8_transformer",
    "openvino_int8_control",
)
SHAPES = {"cnn": (1, 28, 28), "vit": (3, 32, 32), "unet": (3, 24, 24), "unet3d": (1, 8, 8, 8)}


@cache
def net(name):
    """A small model whose batch norms have seen images, and images."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    images = torch.rand(16, *shape) * 2 - 1
    if name == "vit":
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
        model = import_timm().models.VisionTransformer(**sizes, num_classes=3)
    else:
        kind = "lenet5" if name == "cnn" else name
        model = effml.build_model(kind, in_channels=shape[0], classes=3, size=shape[-1], seed=0)
    with torch.no_grad():
        model.train()(images)
    return model.eval(), images


@cache
def built(name, runtime):
    model, images = net(name)
    return build_predictor(model, runtime, images[:1], images, threads=1)


def off(name, runtime, n):
    """Relative error of the logits of n images."""
    model, images = net(name)
    with torch.inference_mode():
        wanted = model(images[:n]).numpy()
    got = built(name, runtime)(images[:n].numpy())
    assert got.shape == wanted.shape and got.dtype == np.float32
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("runtime", EXACT)
def test_a_runtime_in_float32_gives_the_models_logits_for_any_number_of_images(name, runtime):
    assert all(off(name, runtime, n) < 1e-5 for n in (1, 3, 7))
    assert built(name, runtime).precision == "f32"
    assert set(built(name, runtime).layers) == {"f32"}


@BF16
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("runtime", ["bf16", "openvino_bf16"])
def test_bfloat16_is_as_near_as_its_8_bits_allow_and_really_runs(name, runtime):
    assert 1e-5 < off(name, runtime, 3) < 0.05
    assert set(built(name, runtime).layers) == {"bf16"}


@pytest.mark.parametrize(
    "name, runtime",
    [
        *product(("cnn", "unet", "unet3d"), INT8[:3]),
        ("cnn", "openvino_int8_control"),
    ],
)
def test_int8_is_near_and_every_convolution_runs_in_it(name, runtime):
    assert all(1e-5 < off(name, runtime, n) < 0.1 for n in (1, 3, 7))
    kinds = [type(layer) for layer in net(name)[0].modules()]
    convolutions = kinds.count(nn.Conv2d) + kinds.count(nn.Conv3d)
    found = built(name, runtime).layers  # OpenVINO fuses linear ones behind each other
    assert set(found) == {"int8"}
    assert convolutions <= found["int8"] <= convolutions + kinds.count(nn.Linear)
    assert built(name, runtime).file_bytes < 0.6 * built(name, "openvino").file_bytes


def test_minmax_clips_nothing_that_the_calibration_saw():
    """One bright image among dark ones: the mean of their largest values cuts it off."""
    model, images = net("cnn")
    seen = torch.cat([images[:1], images[1:] / 20])
    with torch.inference_mode():
        wanted = model(images[:1]).numpy()
    default, widest = (
        np.linalg.norm(build_predictor(model, name, seen, seen, threads=1)(images[:1]) - wanted)
        for name in ("openvino_int8", "openvino_int8_minmax")
    )
    assert 10 * widest < default and widest < 0.05 * np.linalg.norm(wanted)


def test_nncf_shows_no_bars_in_a_notebook(monkeypatch):
    shown, (model, images) = [], net("cnn")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *one, **how: shown.append(one))
    build_predictor(model, "openvino_int8", images[:1], images, threads=1)
    assert shown == []


def test_a_transformer_in_8_bits():
    assert 1e-5 < off("vit", "openvino_int8_transformer", 7) < 0.1
    assert built("vit", "openvino_int8_transformer").layers["int8"] >= 10  # 2 × 4, patches, head


def test_the_settings_of_8_bits_are_different_models():
    logits = [built("unet", name)(net("unet")[1]) for name in INT8[:4]]
    assert len({one.tobytes() for one in logits}) == len(logits)


@BF16
def test_openvino_takes_bfloat16_by_itself_and_this_is_seen():
    """The trap that the hint avoids; and that the count of layers would show it."""
    import openvino as ov

    file = built("cnn", "openvino").folder / "model.xml"
    assert set(openvino_layers(ov.Core().compile_model(str(file), "CPU"))) == {"bf16"}


def test_accuracy_control_gives_layers_back_until_the_logits_are_near_enough(monkeypatch):
    model, images = net("cnn")
    wanted = built("cnn", "openvino")(images)

    def error(predictor):
        return np.linalg.norm(predictor(images) - wanted) / np.linalg.norm(wanted)

    asked = 0.6 * error(built("cnn", "openvino_int8"))
    monkeypatch.setattr("effml.deployment.int8.CONTROL", asked)
    given = images[:1], images
    assert error(build_predictor(model, "openvino_int8_control", *given, threads=1)) < 1.1 * asked
    monkeypatch.setattr("effml.deployment.int8.CONTROL", 1e-7)
    with pytest.raises(ValueError, match="no layer that multiplies runs in int8.*Choose openvino"):
        build_predictor(model, "openvino_int8_control", *given, threads=1)


def test_torch_compile_gives_the_same_numbers_and_says_what_it_needs(monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    model, images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.rand(3, 1, 6, 6)
    try:
        cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("there is no C++ compiler here")
    compiled = build_predictor(model, "compile", images, threads=1)
    with torch.inference_mode():
        for n in (1, 3):
            assert compiled(images[:n]) == pytest.approx(model(images[:n]).numpy(), abs=1e-5)

    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(ValueError, match="needs a C.. compiler, and there is none. Install one"):
        build_predictor(model, "compile", images)


FRESH = """
import json, sys
import numpy as np
from effml.deployment.predictor import load_predictor
predictor = load_predictor(sys.argv[1])
np.save(sys.argv[3], predictor(np.load(sys.argv[2])))
print(json.dumps([predictor.name, predictor.layers, predictor.threads, "torch" in sys.modules]))
"""


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime_int8", "openvino", "openvino_int8"])
def test_a_fresh_process_gives_the_same_numbers_and_the_engines_need_no_torch(tmp_path, runtime):
    predictor, images = built("vit" if runtime == "eager" else "unet", runtime), tmp_path / "x.npy"
    np.save(images, np.random.default_rng(0).normal(size=(5, *predictor.shape)).astype("f4"))
    folder = predictor.save(tmp_path / "saved")
    words = [sys.executable, "-c", FRESH, folder, images, tmp_path / "y.npy"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [runtime, predictor.layers, 1, runtime == "eager"]
    assert np.array_equal(np.load(tmp_path / "y.npy"), predictor(np.load(images)))


SPY = """
import json, os, socket, sys
def spy(*given, **named):
    with open(os.environ["SPY"], "a") as file:
        print(given, file=file)
    raise OSError("blocked")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = spy
socket.getaddrinfo = socket.create_connection = spy
import torch, effml
model, images = effml.build_model("lenet5"), torch.rand(4, 1, 28, 28)
for name in ("onnxruntime", "onnxruntime_int8", "openvino", "openvino_int8", "openvino_int8_control"):
    assert effml.build_predictor(model, name, images, images, threads=1)(images).shape == (4, 2)
assert "pytest" not in sys.modules and "nncf" in sys.modules
"""


def test_nothing_calls_home_and_nothing_is_written_there(tmp_path):
    """NNCF's telemetry is off under pytest, so this is a process without it."""
    (tmp_path / "home").mkdir()
    inherited = {k: v for k, v in os.environ.items() if k not in ("CI", "NNCF_CI", "NNCF_DEV")}
    home = {"HOME": str(tmp_path / "home"), "SPY": str(tmp_path / "calls")}
    home["PYTHONPATH"] = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", SPY], env={**inherited, **home}, check=True)
    assert not (tmp_path / "calls").exists() and not list((tmp_path / "home").rglob("*"))


def test_threads_are_as_asked(monkeypatch):
    model, images = net("cnn")
    of = {name: build_predictor(model, name, images[:1], threads=2) for name in EXACT}
    assert of["openvino"].engine.graph(1).get_property("INFERENCE_NUM_THREADS") == 2
    assert of["onnxruntime"].engine._session.get_session_options().intra_op_num_threads == 2
    seen, before = [], torch.get_num_threads()
    hook = (
        of["eager"]
        .engine._model[0]
        .register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    )
    of["eager"](images)
    hook.remove()
    assert seen == [2] and torch.get_num_threads() == before
    again = load_predictor(of["openvino"].folder, threads=1)
    assert again.engine.graph(1).get_property("INFERENCE_NUM_THREADS") == again.threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert build_predictor(model, "eager", images[:1]).threads == 3
    for wrong in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            build_predictor(model, "eager", images[:1], threads=wrong)
        with pytest.raises(ValueError, match="whole number of at least 1"):
            load_predictor(of["eager"].folder, threads=wrong)


def test_a_changed_or_lost_file_is_refused(tmp_path):
    folder = built("cnn", "openvino").save(tmp_path / "saved")
    with pytest.raises(FileExistsError, match="give a new folder"):
        built("cnn", "openvino").save(folder)
    weights = bytearray((folder / "model.bin").read_bytes())
    weights[100] ^= 1  # OpenVINO itself would load it
    (folder / "model.bin").write_bytes(weights)
    with pytest.raises(ValueError, match="model.bin is not the file that was saved"):
        load_predictor(folder)
    (folder / "model.bin").unlink()
    with pytest.raises(ValueError, match="model.bin is missing"):
        load_predictor(folder)
    with pytest.raises(FileNotFoundError, match="predictor.save"):
        load_predictor(tmp_path)


def test_a_predictor_that_goes_takes_its_files_along():
    model, images = net("cnn")
    predictor = build_predictor(model, "openvino", images[:1])
    folder = predictor.folder
    assert folder.is_dir()
    del predictor
    assert not folder.exists()


@pytest.mark.parametrize(
    "package, runtime",
    [
        ("openvino", "openvino"),
        ("onnxruntime", "onnxruntime"),
        ("nncf", "openvino_int8"),
        ("onnx", "onnxruntime"),
    ],
)
def test_a_missing_package_gives_an_instruction(monkeypatch, package, runtime):
    monkeypatch.setitem(sys.modules, package, None)
    model, images = net("cnn")
    with pytest.raises(
        ModuleNotFoundError, match=rf"needs {package}: pip install -e '.\[inference"
    ):
        build_predictor(model, runtime, images[:1], images)


class Odd(nn.Module):
    """A linear layer on the sums of rows, and something odd before it."""

    def __init__(self, way):
        super().__init__()
        self.way, self.last = way, nn.Linear(8, 2)

    def forward(self, x):
        if self.way == "in place":
            x.mul_(2).add_(1)
        if self.way == "number of images":
            x = x * len(x)
        if self.way == "neighbours":
            x = x - x.mean(0)
        if self.way == "rare" and x.max() > 100:
            x = x * 0
        if self.way == "value" and x.min() > 0:
            x = x * 2
        if self.way == "chance":
            x = nn.functional.dropout(x, training=True)
        if self.way == "numpy":
            x = torch.from_numpy(np.sin(x.numpy()))
        logits = self.last(x.sum((1, 2)))
        return (logits, x) if self.way == "tuple" else logits


@pytest.mark.parametrize("runtime", EXACT)
def test_a_model_that_changes_its_input_in_place_gets_a_copy(runtime):
    model, images = Odd("in place"), np.ones((2, 1, 8, 8), np.float32)
    predictor = build_predictor(model, runtime, images)
    with torch.inference_mode():
        wanted = model(torch.ones(2, 1, 8, 8)).numpy()
    assert predictor(images) == pytest.approx(wanted, abs=1e-5)
    assert (images == 1).all()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "openvino_int8"])
@pytest.mark.parametrize("way", ["value", "chance", "numpy"])
def test_what_a_traced_graph_cannot_follow_is_refused(way, runtime):
    images = torch.ones(4, 1, 8, 8)
    with pytest.raises(ValueError, match="does not compute what Odd does.*Choose eager"):
        build_predictor(Odd(way), runtime, images, images)
    assert build_predictor(Odd(way), "eager", images)(images).shape == (4, 2)


@pytest.mark.parametrize("runtime", ["eager", "channels_last", "onnxruntime", "openvino_int8"])
@pytest.mark.parametrize("way", ["number of images", "neighbours"])
def test_a_model_that_mixes_images_is_refused_by_every_runtime(way, runtime):
    images = torch.ones(4, 1, 8, 8)
    with pytest.raises(ValueError, match="Odd mixes the images of a batch"):
        build_predictor(Odd(way), runtime, images, images)


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime", "openvino"])
def test_a_branch_that_no_image_here_takes_is_said_where_it_is_lost(runtime):
    predictor = build_predictor(Odd("rare"), runtime, torch.ones(4, 1, 8, 8))
    told = any("only the branch that the example takes" in note for note in predictor.notes)
    assert told == (runtime != "eager")
    assert not built("vit", runtime).notes  # which decides by shapes


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_two_tensors_for_an_image_are_refused(runtime):
    images = torch.ones(4, 1, 8, 8)
    with pytest.raises(ValueError, match="Odd gives a tuple, not one tensor of logits"):
        build_predictor(Odd("tuple"), runtime, images, images)


def test_wrong_arguments_are_answered_with_instructions():
    model, images = net("cnn")
    with pytest.raises(ValueError, match="Unknown runtime 'tensorrt'. Choose from: eager, "):
        build_predictor(model, "tensorrt", images)
    with pytest.raises(ValueError, match="openvino_int8 needs calibration"):
        build_predictor(model, "openvino_int8", images)
    with pytest.raises(ValueError, match="give images of one shape"):
        build_predictor(model, "openvino_int8", images, images[:, :, 1:])
    predictor = built("cnn", "eager")
    for wrong in (np.zeros((2, 1, 28, 28), np.uint8), np.zeros((28, 28)), np.zeros((0, 1, 28, 28))):
        with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\), one or more; got .*127.5 - 1"):
            predictor(wrong)
    for wrong in (np.inf, np.nan):
        with pytest.raises(ValueError, match="not finite"):
            predictor(np.full((1, 1, 28, 28), wrong, np.float32))
    with pytest.raises(ValueError, match="Whole numbers up to 200.*divided|127.5 - 1"):
        predictor(np.full((1, 1, 28, 28), 200, np.float32))
    with pytest.raises(ValueError, match="on 'meta', without numbers"):
        build_predictor(effml.build_model("lenet5").to("meta"), "eager", images)


@pytest.mark.parametrize("runtime", ["onnxruntime_int8", "openvino_int8", "openvino_int8_qat"])
def test_calibration_of_another_range_than_the_example_is_refused(runtime):
    """By 0…1 in place of −1…1, INT8 cuts off all that is dark."""
    model, images = net("cnn")
    unit, pixels = images / 2 + 0.5, (images + 1) * 127.4
    for wrong in (unit, pixels, images[:3].repeat(2, 1, 1, 1) * 60):
        with pytest.raises(ValueError, match=r"calibration lies in .*, and example in -0.998…1: "):
            build_predictor(model, runtime, images[:1], wrong)
    for pair in ((pixels[:1], images), (torch.zeros(1, 1, 28, 28), pixels)):
        with pytest.raises(
            ValueError, match="calibration lies in .* from the same set .*127.5 - 1"
        ):
            build_predictor(model, runtime, *pair)
    for fine in (images / 20, images * 2, images[:, :, :1].expand_as(images)):  # the gate's to say
        build_predictor(model, "eager", images[:1], fine)
    with pytest.raises(ValueError, match="Whole numbers up to 255 are no normalised images"):
        build_predictor(model, runtime, images[:1], pixels.round().clip(0, 255))
    with pytest.raises(ValueError, match="not finite numbers"):
        build_predictor(model, runtime, images[:1], images / 0)


def test_calibration_that_may_be_of_another_range_is_said():
    model, images = net("cnn")
    unit, eight = images / 2 + 0.5, ((images + 1) * 127.5).byte()
    for seen, told in (
        (unit, 1),
        (unit / 2 + 0.5, 1),
        (images, 0),
        (eight, 0),
        (eight // 2 + 128, 0),
    ):
        notes = build_predictor(model, "openvino_int8", torch.zeros(1, 1, 28, 28), seen).notes
        assert sum("no calibration image goes below 0" in note for note in notes) == told
    one = build_predictor(model, "openvino_int8", unit[:1], unit)
    assert "wrong where from normalised ones, −1…1" in one.notes[0]
    assert not build_predictor(model, "openvino_int8", eight[:1] // 4, eight // 8 + 32).notes


class Sure(nn.Module):
    """Ends in `last`."""

    def __init__(self, last):
        super().__init__()
        self.first, self.last = nn.Linear(64, 3), last

    def forward(self, x):
        return self.last(self.first(x.flatten(1)))


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime", "openvino_int8"])
def test_a_model_that_ends_in_softmax_is_refused_and_one_that_does_not_is_not(runtime):
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    with pytest.raises(ValueError, match="Sure gives probabilities .* take the softmax at its end"):
        build_predictor(Sure(nn.Softmax(1)), runtime, images, images)
    for last in (nn.LogSoftmax(1), nn.Sigmoid(), nn.Identity()):
        build_predictor(Sure(last), runtime, images, images)


def test_many_images_are_cut_into_passes_of_bounded_size(monkeypatch):
    predictor, (_, images) = built("unet", "openvino"), net("unet")
    whole = predictor(images)
    monkeypatch.setattr("effml.deployment.predictor.PASS_PIXELS", 3 * 24 * 24)
    assert predictor(images) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("runtime", ["openvino", "openvino_int8", "onnxruntime"])
def test_an_answer_is_not_overwritten_by_the_next_and_images_stay(runtime):
    engine, images = built("cnn", runtime).engine, net("cnn")[1].numpy().copy()
    before, first = images.copy(), engine(images[:2])
    kept = first.copy()
    assert not np.allclose(engine(images[2:4]), kept)
    assert np.array_equal(first, kept) and np.array_equal(images, before)
    images.setflags(write=False)
    assert np.allclose(engine(images[:2]), kept, atol=1e-6)


def test_the_model_that_was_given_is_left_as_it_is():
    model = effml.build_model("lenet5", size=28).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("channels_last", "openvino_int8"):
        build_predictor(model, name, torch.rand(1, 1, 28, 28), torch.rand(4, 1, 28, 28))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_fresh_process_reads_a_model_with_parts_of_torchvision():
    """Its import may need the help that timm's gets."""
    model = effml.build_model("resnet18_3d", in_channels=1, classes=2, size=16)
    volumes = torch.zeros(2, 1, 16, 16, 16)
    predictor = effml.build_predictor(model, "eager", volumes)
    assert effml.measure_latency(predictor, volumes, seconds=0.01, warmup=0).passes >= 3


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_pooling_to_a_larger_size_is_exported(runtime):
    """VGG has one in front of its large layers; ONNX knows only those to a smaller size."""
    larger = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d((6, 4)), nn.Flatten())
    larger = nn.Sequential(larger, nn.Linear(72, 2)).eval()
    images = torch.randn(5, 1, 4, 4)
    predictor = effml.build_predictor(larger, runtime, images[:1])
    with torch.inference_mode():
        assert np.allclose(predictor(images), larger(images), atol=1e-5)


@pytest.mark.parametrize("runtime", ["openvino_int8_qat", "openvino_int8_pruned40"])
def test_a_runtime_that_trains_again_runs_what_the_callers_training_made(runtime):
    model, images = net("unet")
    with pytest.raises(ValueError, match=f"{runtime} trains the model again: give fine_tune"):
        build_predictor(model, runtime, images[:1], images)
    trained = []

    def fine_tune(given):
        with torch.no_grad():  # as a training would, but known: class 2 gets a larger bias
            head = [m for m in given.modules() if isinstance(m, nn.Conv2d)][-1]
            head.bias += torch.tensor([0.0, 0.0, 5.0])
            trained.extend([given, given.eval()(images).numpy()])

    predictor = build_predictor(model, runtime, images[:1], images, threads=1, fine_tune=fine_tune)
    got, wanted = predictor(images), trained[1]
    assert np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 0.05
    assert (got.argmax(1) == 2).mean() > 0.95 and predictor.precision == "int8"
    assert trained[0] is not model


def test_8_bits_that_are_wrong_for_one_image_on_one_thread_are_refused(monkeypatch):
    true = runtimes.ENGINES["openvino"]

    def wrong(folder, options, threads):
        engine = true(folder, options, threads)
        return lambda x: engine(x) + 500.0 * (len(x) == threads == 1)

    model, images = net("cnn")
    monkeypatch.setitem(runtimes.ENGINES, "openvino", wrong)
    with pytest.raises(ValueError, match=r"with 1 thread\(s\) .* alone logits that are 5.* off"):
        build_predictor(model, "openvino_int8", images[:1], images, threads=2)
