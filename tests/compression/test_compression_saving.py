"""Compressed models on disk: the same outputs in a new process, and nothing but a recipe and tensors is accepted."""

import hashlib
import json
import pickle
import subprocess
import sys

import pytest
import torch

from effml.compression import COMPRESSORS, load_compressed, save_compressed
from effml.models import build_model

pytestmark = pytest.mark.usefixtures("one_thread")


EXAMPLE = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def made(name, method, keep=0.5):
    model = build_model(name, classes=3, size=32, seed=7)
    return COMPRESSORS[method](
        model, keep, example=EXAMPLE, data=EXAMPLE if method == "channels_taylor" else None
    )


def outputs(model):
    with torch.no_grad():
        return model.eval()(EXAMPLE)


@pytest.mark.parametrize("method", COMPRESSORS)
def test_every_compressor_comes_back_with_the_same_outputs(tmp_path, method):
    name = "mobilenetv2_050" if method in ("channels_bn", "svd") else "lenet5"
    small, report = made(name, method)
    file = save_compressed(tmp_path / "small", small, report, base=name, classes=3, size=32)
    assert file == tmp_path / "small.json"
    assert torch.equal(outputs(load_compressed(file)), outputs(small))


@pytest.mark.parametrize(
    "name, method",
    [
        ("mobilenetv3_small_050", "channels"),
        ("unet", "channels"),
        ("vit_tiny_patch16_224", "channels"),
        ("vit_tiny_patch16_224", "svd"),
        ("unet", "svd_spatial"),
    ],
)
def test_other_families_come_back_too(tmp_path, name, method):
    small, report = made(name, method)
    assert torch.equal(
        outputs(
            load_compressed(
                save_compressed(tmp_path / "m", small, report, base=name, classes=3, size=32)
            )
        ),
        outputs(small),
    )


@pytest.mark.parametrize("method", ["channels", "svd"])
def test_channels_last_weights_come_back_as_such_with_the_same_outputs(tmp_path, method):
    model = build_model("unet", classes=3, size=32).to(memory_format=torch.channels_last)
    small, report = COMPRESSORS[method](model, 0.5, example=EXAMPLE)
    again = load_compressed(
        save_compressed(tmp_path / "m", small, report, base="unet", classes=3, size=32)
    )
    for net in (small, again):
        assert all(
            p.is_contiguous(memory_format=torch.channels_last)
            for p in net.parameters()
            if p.ndim == 4
        )
    assert torch.equal(outputs(again), outputs(small))


def test_in_a_new_process_and_after_two_compressions_and_training(tmp_path):
    small, first = made("mobilenetv2_050", "channels")
    small, second = COMPRESSORS["svd"](small, 0.4, example=EXAMPLE)
    small.train()(EXAMPLE)  # moves batch-norm statistics
    torch.nn.init.normal_(small.classifier.weight)
    save_compressed(
        tmp_path / "m", small, [first, second], base="mobilenetv2_050", classes=3, size=32
    )
    torch.save(outputs(small), tmp_path / "expected.pt")
    torch.save(EXAMPLE, tmp_path / "example.pt")
    code = (
        "import torch; torch.set_num_threads(1); from effml.compression import load_compressed; m = load_compressed('m')\n"
        "with torch.no_grad(): assert torch.equal(m(torch.load('example.pt')), torch.load('expected.pt'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert len((tmp_path / "m.json").read_text().splitlines()) > len(
        first.layers
    )  # a line per layer: differences show


@pytest.fixture
def saved(tmp_path):
    small, report = made("lenet5", "merge")
    return save_compressed(tmp_path / "m", small, report, base="lenet5", classes=3, size=32)


def test_a_changed_recipe_or_exchanged_weights_are_refused(saved, tmp_path):
    text = saved.read_text()
    recipe = json.loads(text)
    recipe["steps"][0]["layers"]["7"]["out"][0] += 1
    saved.write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match="not the recipe with which m.safetensors was saved"):
        load_compressed(saved)
    saved.write_text(
        json.dumps(json.loads(text), indent=7)
    )  # the same recipe in another layout is the same
    load_compressed(saved)
    other, report = made("lenet5", "merge", 0.6)
    save_compressed(tmp_path / "other", other, report, base="lenet5", classes=3, size=32)
    (tmp_path / "other.safetensors").replace(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="changed or exchanged"):
        load_compressed(saved)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_a_pickle_in_place_of_either_file_is_refused_and_not_opened(saved):
    weights = saved.with_suffix(".safetensors")
    good = weights.read_bytes()
    weights.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="no compressed model.*pickle, it was not opened"):
        load_compressed(saved)
    torch.save({"a": torch.ones(1)}, weights)
    with pytest.raises(ValueError, match="no compressed model"):
        load_compressed(saved)
    weights.write_bytes(good)
    for what in (pickle.dumps(Evil()), b"\x80\x04\x95"):
        saved.write_bytes(what)
        with pytest.raises(ValueError, match="no compressed model.*not opened"):
            load_compressed(saved)
    saved.write_text("[]")
    with pytest.raises(ValueError, match="no compressed model"):
        load_compressed(saved)
    saved.unlink()
    with pytest.raises(FileNotFoundError, match="m.json"):
        load_compressed(saved)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda r: r.update(base="lenet300_100"), "does not fit together"),
        (lambda r: r.update(base="no_such"), "Unknown model"),
        (lambda r: r["build"].update(weights="evil.bin"), "build must be whole numbers"),
        (lambda r: r["build"].update(size=2.5), "build must be whole numbers"),
        (
            lambda r: r["steps"][0]["layers"]["7"]["set"].update(out_features=10**9),
            "should have weights",
        ),
        (lambda r: r["steps"][0]["layers"]["7"]["set"].update(forward=1), "has no forward"),
        (
            lambda r: r["steps"][0]["layers"]["7"]["set"].update(out_features="60"),
            "has no out_features",
        ),
        (
            lambda r: r["steps"][0]["layers"]["7"]["set"].update(out_features=59),
            "should have weights of shape",
        ),
        (lambda r: r["steps"][0]["layers"]["7"].update(kind="eval"), "does not fit together"),
        (
            lambda r: r["steps"][0]["layers"].update({"99": {"kind": "sparse"}}),
            "does not fit together",
        ),
        (
            lambda r: r["steps"][0]["layers"].update(
                {"7": {"kind": "svd", "scheme": "channel", "rank": 10**12}}
            ),
            "cannot have rank",
        ),
        (lambda r: r.pop("steps"), "does not fit together"),
    ],
)
def test_a_recipe_forged_with_its_signature_is_still_checked(saved, change, words):
    from safetensors.torch import load, save

    recipe, weights = json.loads(saved.read_text()), saved.with_suffix(".safetensors")
    change(recipe)
    signature = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    weights.write_bytes(save(load(weights.read_bytes()), {"recipe_sha256": signature}))
    saved.write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match=words):
        load_compressed(saved)


def test_what_the_reports_do_not_describe_is_not_written(tmp_path):
    small, report = made("lenet5", "merge")
    with pytest.raises(ValueError, match="What is to be saved does not fit together"):
        save_compressed(tmp_path / "m", small, report, base="lenet5", classes=4, size=32)
    with pytest.raises(ValueError, match="should have weights of shape"):
        save_compressed(tmp_path / "m", small, [], base="lenet5", classes=3, size=32)
    assert not list(tmp_path.iterdir())
