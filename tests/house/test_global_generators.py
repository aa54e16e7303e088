"""Nobody's random numbers move: the global generators of torch, numpy and Python are left as the
caller had them."""

import random
import tempfile

import numpy as np
import pandas
import pytest
import torch

import effml
from effml import Recipe, build_model
from effml.compression import COMPRESSORS, load_compressed, save_compressed
from effml.machine import seeded
from effml.metering import METERS
from effml.optimizers import OPTIMIZERS, make_optimizer
from effml.precision import PRECISIONS, arithmetic
from effml.selection import SELECTORS, get_selector
from effml.selection.proxy import select_images as select
from effml.training import SCHEDULES, Diverged, train
from effml.training.augmentation import AUGMENTATIONS, augment
from test_training import dots

ARMS = pandas.DataFrame({"arm": [*"aabb"], "seed": [0, 1] * 2, "x": [1.0, 2.0, 3.0, 5.0]})
LABELS, P = np.arange(40) % 2, np.linspace(0.1, 0.9, 80).reshape(40, 2) / 1.0
P /= P.sum(1, keepdims=True)
DATA, STORE = dots(), effml.machine.ROOT / "results" / "reference"
UNTRIED = {  # a network, a process of its own, or tables and figures of records that are not here
    *("fetch", "import_folder", "preprocess", "sweep", "forecast", "advise", "warm_up"),
    *("data_label", "own_or_reference", "load_arrays", "report", "over_seeds"),
    *("show_source", "live", "save_figure", "compare", "roc"),
    *("predictive_values", "Record", "NUMERICS"),
}

BELOW = {"save_compressed", "load_compressed"}
BELOW |= {
    "HALF_REPAIRS",
    "SETTINGS",
    "SELECTORS",
    "COMPRESSORS",
    "OPTIMIZERS",
    "PRECISIONS",
    "RUNTIMES",
}


def state():
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()


def measured():
    with effml.measure():
        pass


def loaded():
    with tempfile.TemporaryDirectory() as store:
        run = effml.run(Recipe(model="mlp", epochs=1), store=store, keep_weights=True)
        effml.load_run(run.run_id, store).predict(DATA.val.images[:3])


def convolved():
    with seeded(0):
        net = torch.nn.Conv2d(16, 16, 1)
    with effml.fast_convolutions(net):
        net(torch.ones(2, 16, 2, 2)).sum().backward()


def halved():
    net = build_model("mlp").bfloat16()
    optimizer = effml.repair_half(make_optimizer("adam", net.parameters(), 0.1), "stochastic")
    lost = effml.LostUpdates(net, optimizer)
    net(torch.ones(2, 1, 28, 28).bfloat16()).sum().backward()
    optimizer.step()
    return lost()


def packed():
    net, images = build_model("lenet5"), torch.ones(8, 1, 28, 28)
    with effml.pack_activations(net, bits=4):
        loss = net(images).sum()
    loss.backward()
    effml.ErrorFeedback(net.parameters()).step()


def recomputed():
    with effml.recompute_blocks(net := build_model("resnet10t", size=32).train()):
        net(torch.ones(2, 1, 32, 32)).sum().backward()


def rounded():
    with tempfile.TemporaryDirectory() as folder:
        net = effml.quantize_aware(build_model("mlp"), "depth:8-2")
        effml.save_bits(folder + "/x", net)
        effml.load_bits(folder + "/x", build_model("mlp"))
        return effml.finish_quantized(net)


def deployed():
    net, images = build_model("lenet5"), torch.ones(4, 1, 28, 28)
    for name in ("eager", "onnxruntime_int8", "openvino_int8"):
        predictor = effml.build_predictor(net, name, images, images, threads=1)
    effml.load_predictor(predictor.folder)(images)
    effml.measure_latency(predictor, images, seconds=0.0, warmup=0.0)


def bundled():
    with tempfile.TemporaryDirectory() as store:
        run = effml.run(Recipe(model="mlp", epochs=1), store=store, keep_weights=True)
        effml.deploy(run.run_id, store + "/out", store=store, rungs=["openvino"])


def climbed():
    how = {"task": "binary", "positive": 1, "rungs": ["openvino_int8", "openvino"]}
    images = DATA.val.images
    effml.climb(build_model("lenet5"), images[:1], images[:9], images, DATA.val.labels, **how)


def masks():
    both = (np.arange(4 * 64).reshape(4, 8, 8) % 3 == 0).astype(np.uint8)
    return effml.evaluate_masks(both.astype(np.float16), both)


CALLS = {
    "fast_convolutions": convolved,
    "pack_activations": packed,
    "ErrorFeedback": packed,
    "recompute_blocks": recomputed,
    **dict.fromkeys(("quantize_aware", "finish_quantized", "save_bits", "load_bits"), rounded),
    **dict.fromkeys(("build_predictor", "load_predictor", "measure_latency"), deployed),
    "Recipe": lambda: Recipe(seed=3),
    "Dataset": lambda: DATA.only(torch.arange(3)),
    "Split": lambda: DATA.train.take(torch.arange(3)),
    "load_dataset": lambda: effml.load_dataset("phantom-chest:seed=5", size=28),
    "at_hand": lambda: effml.at_hand("phantom-chest"),
    "data_passport": lambda: effml.data_passport(DATA),
    "build_model": lambda: [build_model("mlp", seed=3), build_model("mobilenetv2_035", size=32)],
    "measure": measured,
    "co2e_g": lambda: effml.co2e_g(1.0, country="DNK"),
    "evaluate": lambda: effml.evaluate(P, LABELS, task="binary", positive=1),
    "evaluate_masks": masks,
    "operating_point": lambda: effml.operating_point(P, LABELS, positive=1),
    "per_class": lambda: effml.per_class(P, LABELS, task="binary", positive=1),
    "by_group": lambda: effml.by_group(P, LABELS, LABELS, task="binary", positive=1),
    "non_inferiority": lambda: effml.non_inferiority(-0.01, 0.01, 0.05),
    "achieved": lambda: effml.achieved((P, LABELS), (P, LABELS), positive=1),
    "fit_temperature": lambda: effml.fit_temperature(
        [0.1, 0.8, 0.6, 0.3], [0, 1, 0, 1], task="binary", positive=1
    ),
    "with_temperature": lambda: effml.with_temperature(P, 2.0, task="binary"),
    "native_precision": lambda: effml.native_precision("cpu"),
    "load_runs": lambda: effml.load_runs(STORE),
    "check": lambda: effml.check("Is it so?", True),
    "kept": lambda: effml.kept("00-x", lambda: ARMS),
    "spread": lambda: effml.spread([0.5, 0.6]),
    "seeds_needed": lambda: effml.seeds_needed(0.1, 0.1),
    "paired_differences": lambda: effml.paired_differences(ARMS, "x", arm="arm", reference="a"),
    "compress": lambda: effml.compress(
        build_model("lenet5"), "channels_random", 0.5, example=DATA.train.images[:1]
    ),
    "embed": lambda: effml.embed(build_model("lenet5"), DATA.val.images[:9]),
    "predict": lambda: effml.predict(build_model("lenet5"), DATA.val.images[:9]),
    "train": lambda: train(build_model("mlp"), DATA, recipe=Recipe(epochs=1)),
    "run": lambda: effml.run(
        Recipe(model="mlp", epochs=1, selection="entropy", proxy="mlp@1", train_fraction=0.1)
    ),
    "load_run": loaded,
    "deploy": bundled,
    "climb": climbed,
    "Gate": lambda: effml.Gate().check(P, P[::-1], LABELS, task="binary", positive=1),
    "grid": lambda: effml.grid(Recipe(), seed=[0, 1]),
    "pepr_score": lambda: effml.pepr_score([0.5, 0.6], [1.0, 2.0]),
    "pepr_curve": lambda: effml.pepr_curve([0.5, 0.6], [1.0, 2.0]),
    "best_pepr": lambda: effml.best_pepr([0.5, 0.6], [1.0, 2.0]),
    "repair_half": halved,
    "LostUpdates": halved,
    "round_stochastically": lambda: effml.round_stochastically(
        torch.ones(9), torch.bfloat16, torch.Generator().manual_seed(0)
    ),
    "setting": lambda: effml.setting("8bit_half"),
    "arithmetic": lambda: effml.arithmetic("bf16", "cpu"),
    "make_optimizer": lambda: effml.make_optimizer(
        "adam8bit", build_model("mlp").parameters(), 0.1
    ),
    "compare_predictions": lambda: effml.compare_predictions(P, P[::-1], LABELS, positive=1),
    "select": lambda: [
        effml.select(name, build_model("mlp"), DATA.train.images[:40], labels=LABELS, k=6)
        for name in ("random", "entropy", "kmeans", "grand")
    ],
    "pareto_front": lambda: effml.pareto_front([0.5, 0.6], [1.0, 2.0]),
    "architectures": effml.architectures,
}


def test_every_public_name_is_tried_or_said_not_to_be():
    assert {*CALLS} | UNTRIED | BELOW == {*effml.__all__} and not {*CALLS} & UNTRIED


@pytest.mark.parametrize("name", CALLS)
def test_a_public_function_moves_no_global_generator(name):
    before = state()
    CALLS[name]()
    assert state() == before


def test_no_entry_of_a_registry_moves_one(tmp_path):
    model, images = build_model("lenet5"), DATA.train.images[:40]
    labels, weight = DATA.train.labels[:40], [torch.nn.Parameter(torch.ones(5000))]
    scores = torch.from_numpy(P).float()[:, None].repeat(1, 2, 1)
    weight[0].grad = torch.ones(5000)
    before = state()
    for name in SELECTORS:
        get_selector(name + "_per_class")(images.flatten(1), labels, 6, scores=scores)
    for name in set(COMPRESSORS) - {"channels_bn"}:  # there is no batch normalisation in it
        small, report = COMPRESSORS[name](model, 0.5, example=images[:2], data=images, seed=1)
        file = save_compressed(tmp_path / name, small, report, base="lenet5")
        assert load_compressed(file) is not None
    for name in AUGMENTATIONS:
        augment(name, images, None, torch.Generator().manual_seed(0))
    for name in set(OPTIMIZERS) - {"adam8bit_bnb"}:
        make_optimizer(name, weight, 0.1).step()
    for name in PRECISIONS:
        if not name.endswith("fp16"):
            train(build_model("mlp"), DATA, recipe=Recipe(epochs=1, precision=name))
            arithmetic(name, "cpu").scaler()
    for name in SCHEDULES:
        train(build_model("mlp"), DATA, recipe=Recipe(epochs=1, schedule=name))
    for name in ("importance", "uniform"):
        train(build_model("mlp"), DATA, recipe=Recipe(epochs=1, sampler=name, augment="flip_shift"))
    select(DATA, Recipe(selection="kmeans", proxy="mlp@0", train_fraction=0.1))
    assert METERS and state() == before


def test_they_are_given_back_after_an_error_too(tmp_path):
    before = state()
    with pytest.raises(Diverged):
        train(build_model("lenet5"), DATA, recipe=Recipe(learning_rate=1e30, epochs=3))
    with pytest.raises(ValueError, match="Unknown model"):
        build_model("resnet-18")
    assert state() == before


def test_seeds_of_the_user_are_kept_and_count():
    weights, drawn = [], []
    with torch.random.fork_rng([]):
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            weights.append(build_model("mlp")[1].weight)
            drawn.append(torch.rand(3))
            torch.manual_seed(seed)
            assert torch.equal(drawn[-1], torch.rand(3))
            assert torch.equal(weights[-1], build_model("mlp", seed=seed)[1].weight)
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_training_draws_its_dropout_from_the_seed_of_the_recipe():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(784, 2))
    nothing = {key: torch.zeros_like(tensor) for key, tensor in net.state_dict().items()}

    def losses(seed, mine):
        torch.manual_seed(mine)
        net.load_state_dict(nothing)
        return train(net, DATA, recipe=Recipe(epochs=2, batch_size=144, seed=seed)).train_loss

    with torch.random.fork_rng([]):
        first = losses(0, 1)
        assert losses(0, 2) == first != losses(1, 1)
    with seeded(5):  # the stream is that of torch.manual_seed(5)
        drawn = torch.rand(4)
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(5)))
