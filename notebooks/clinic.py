"""One recipe of each strategy beside the uncompressed model, what the finished models answer to
images from elsewhere, and rates whose intervals are over patients (notebooks 51 and 52)."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import NDArray

import effml
from corruptions import CORRUPTIONS, SEVERITIES, corrupt
from effml import Recipe
from effml.evaluation import dice_of_each, evaluate, operating_point, paired_bootstrap

WHOLE = "uncompressed"
RUNTIME = "openvino_int8_minmax"  # of the ways in 8 bits the one that notebook 40 would ship
AIMS = {"screening": "sensitivity", "confirmation": "specificity"}


def arms(base: Recipe) -> dict[str, Recipe]:
    """By strategy its recipe, after `WHOLE`, which is `base`. All take as many steps: a smaller
    copy trains for half of the epochs, behind a parent that trained for the other half."""
    child = parent(base).but(weights=parent(base).id)
    few = {"selection": "class_balanced", "train_fraction": base.train_fraction / 2}
    cut = {"channel_fraction": 0.5, "calibration_images": 256}
    taught = {"teacher": parent(base).id, "teacher_share": 1.0}
    ranks = {"rank_fraction": 0.5, "calibration_images": 256}
    return {
        WHOLE: base,
        "half the images": base.but(**few, epochs=2 * base.epochs),
        "importance sampling": base.but(sampler="importance"),
        "half the channels": child.but(prune="channels", **cut),
        "low rank": child.but(factorize="svd_spatial", **ranks),
        "half, distilled": child.but(prune="channels", **cut, **taught),
        "mixed precision": base.but(precision="amp_bf16"),
        "8-bit optimiser": base.but(optimizer="adamw8bit"),
        "INT8": base.but(weights=base.id, epochs=0, runtime=RUNTIME),
    }


def parent(base: Recipe) -> Recipe:
    """What the smaller copies start from."""
    return base.but(epochs=max(base.epochs // 2, 1))


def trained(
    base: Recipe, names: Sequence[str], seeds: Sequence[int], store: str | os.PathLike
) -> pandas.DataFrame:
    """The records of these arms with these seeds, with a column `arm`. Their weights are kept.
    RuntimeError where one failed."""
    each = {seed: arms(base.but(seed=seed)) for seed in seeds}
    wholes = [each[seed][WHOLE] for seed in seeds]
    asked = [(name, each[seed][name]) for name in names for seed in seeds]
    children = [one for _, one in asked if one.weights != "random" and one.epochs]
    first = [parent(one) for one in wholes if children] + wholes
    effml.sweep(first, store, keep_weights=True)
    found = effml.sweep([one for _, one in asked], store, keep_weights=True)
    found = found.assign(arm=[name for name, _ in asked])
    if len(bad := found[found.status != "ok"]):
        told = f"{bad.arm.iloc[0]}: {bad.reason.iloc[0]}"
        raise RuntimeError(f"{len(bad)} of {len(found)} runs failed, first {told}")
    return found


def answers(run: pandas.Series, store: str | os.PathLike) -> Callable[[Any], NDArray]:
    """What gives the probabilities of a finished run (a row of `trained`) for uint8 images. In 8
    bits it is calibrated on the images that the run itself took."""
    import torch

    from effml.data import normalize
    from effml.deployment.int8 import MOST
    from effml.deployment.ladder import predicted

    if run.runtime == "eager":
        return effml.load_run(run.run_id, store).predict
    whole = effml.load_run(run.weights, store)
    images = effml.load_dataset(run.data, size=int(run["size"])).train.images
    index = effml.load_arrays(store, run.run_id).get("train_index")
    images = images if index is None else images[torch.from_numpy(index)]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(int(run.seed)))
    seen = normalize(images[order[:MOST]])
    predictor = effml.build_predictor(whole.model, run.runtime, seen[:1], seen)
    return lambda images: predicted(predictor, images, whole.task)


class Source(NamedTuple):
    """Where patients come from: images uint8 (N, C, H, W), whether each is ill, whose it is."""

    images: Any
    ill: NDArray
    patient: NDArray


def source(split: Any, positive: int, where: NDArray | None = None) -> Source:
    """Of a split, or of its images at `where` (bool or indices). Without groups each is a patient
    of its own."""
    where = np.arange(len(split))[slice(None) if where is None else where]
    whose = split.groups if split.groups is not None else np.arange(len(split))
    labels = np.asarray(split.labels)
    return Source(split.images[where], labels[where] == positive, np.asarray(whose)[where])


def of_sources(
    run: pandas.Series, store: str | os.PathLike, sources: dict[str, Source], positive: int
) -> dict[str, NDArray]:
    """By source the probabilities (N,) of the ill class that a finished run gives: those of
    validation and of new patients, its test images, are the ones that it kept."""
    answer, left = answers(run, store), effml.load_arrays(store, run.run_id)
    kept = {"validation": left["val_probabilities"], "new patients": left["test_probabilities"]}
    return {
        name: (kept[name] if name in kept else answer(at.images))[:, positive]
        for name, at in sources.items()
    }


def left_out(runs: pandas.DataFrame, store: str | os.PathLike, n: int) -> NDArray:
    """Bool of the training images: `n`, drawn, of those that none of these runs trained on."""
    indices = [effml.load_arrays(store, one).get("train_index") for one in runs.run_id]
    data = effml.load_dataset(runs.data.iloc[0], size=int(runs["size"].iloc[0]))
    free = np.ones(len(data.train), bool)
    free[np.concatenate(indices)] = False
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(free))[:n]
    return np.isin(np.arange(len(free)), drawn)


def rates(called: NDArray, ill: NDArray, patient: NDArray, draws: int = 1000) -> dict[str, float]:
    """Sensitivity and specificity of bool answers (N,), each with `_low` and `_high`: whole
    patients are drawn with replacement (percentile bootstrap), as their images are alike."""
    _, who = np.unique(patient, return_inverse=True)
    columns = np.stack([called & ill, ill, ~called & ~ill, ~ill])
    counts = np.stack([np.bincount(who, weights=one) for one in columns], axis=1)
    times = _drawn(len(counts), draws) @ counts
    found = {}
    with np.errstate(invalid="ignore"):
        for name, of in (("sensitivity", 0), ("specificity", 2)):
            value = counts[:, of].sum() / counts[:, of + 1].sum()
            ends = np.nanpercentile(times[:, of] / times[:, of + 1], (2.5, 97.5))
            found |= dict(zip((name, f"{name}_low", f"{name}_high"), (value, *ends)))
    return found


@cache
def _drawn(n: int, draws: int) -> NDArray:
    """How often each of `n` patients is drawn, (draws, n)."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(float)


def change(called: NDArray, before: NDArray, ill: NDArray, patient: NDArray) -> dict[str, float]:
    """Sensitivity of bool answers (N,) minus that of the answers `before`, with its interval over
    patients as in `rates`: difference, low, high. Rows of several seeds may be joined."""
    _, who = np.unique(patient[ill], return_inverse=True)
    gained = np.bincount(who, weights=called[ill].astype(float) - before[ill])
    cases, n = np.bincount(who), who.max() + 1
    times = _drawn(n, 1000)
    low, high = np.percentile(times @ gained / (times @ cases), (2.5, 97.5))
    return {"difference": gained.sum() / cases.sum(), "low": low, "high": high}


def chosen_again(p: NDArray, at: Source, **aim: Any) -> NDArray:
    """Answers (N,) at a threshold chosen among half of the patients of this source, for the other
    half, and the other way round: nobody is answered at a threshold that was chosen on them."""
    names = np.unique(at.patient)
    half = np.random.default_rng(0).permutation(names)[: len(names) // 2]
    first, called = np.isin(at.patient, half), np.zeros(len(p), bool)
    for here in (first, ~first):
        point = operating_point(p[~here], at.ill[~here].astype(int), positive=1, **aim)
        called[here] = p[here] >= point.threshold
    return called


def judged(
    p: dict[str, NDArray], sources: dict[str, Source], at_least: float
) -> Iterable[dict[str, Any]]:
    """For each source and aim what the threshold chosen on the first source, validation, gives, and
    what one chosen again there would give. `p`: by source, of the ill class (N,)."""
    val = next(iter(sources))
    for name, at in sources.items():
        auroc = evaluate(p[name], at.ill.astype(int), task="binary", positive=1).auroc
        for aim in AIMS:
            how = {"aim": aim, "at_least": at_least}
            cut = operating_point(p[val], sources[val].ill.astype(int), positive=1, **how)
            row = {"source": name, "aim": aim, "auroc": auroc, "threshold": cut.threshold}
            row |= rates(p[name] >= cut.threshold, at.ill, at.patient)
            if name != val:
                again = rates(chosen_again(p[name], at, **how), at.ill, at.patient)
                row |= {f"again_{rate}": again[rate] for rate in AIMS.values()}
            yield row | {"images": len(at.ill), "patients": len(np.unique(at.patient))}


def balanced(at: Source, n: int) -> Source:
    """`n` images of a source, half of them ill, drawn."""
    order = np.random.default_rng(0).permutation(len(at.ill))
    rows = np.concatenate([order[at.ill[order] == side][: n // 2] for side in (False, True)])
    return Source(*(part[rows] for part in at))


def corrupted(
    of: dict[tuple[str, int], Callable[[Any], NDArray]],
    cuts: dict[tuple[str, int], float],
    at: Source,
    positive: int,
) -> pandas.DataFrame:
    """Balanced errors with a row for each arm, seed and corruption (and `clean`) and a column for
    each severity: of the models `of`, that call ill what reaches their threshold of `cuts`."""
    images, rows = np.asarray(at.images), {}
    worse = [corrupt(images, kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES]
    every = np.concatenate([images, *worse])
    for key, answer in of.items():
        called = (answer(every)[:, positive] >= cuts[key]).reshape(-1, len(images))
        wrong = 1 - (called[:, at.ill].mean(axis=1) + (~called[:, ~at.ill]).mean(axis=1)) / 2
        rows[(*key, "clean")] = np.full(len(SEVERITIES), wrong[0])
        for kind, errors in zip(CORRUPTIONS, wrong[1:].reshape(-1, len(SEVERITIES))):
            rows[(*key, kind)] = errors
    found = pandas.DataFrame.from_dict(rows, orient="index", columns=map(str, SEVERITIES))
    found.index = pandas.MultiIndex.from_tuples(found.index, names=["arm", "seed", "corruption"])
    return found


CUTS = np.round(np.arange(0.1, 0.95, 0.1), 1)  # of a pixel's probability


def dices(p: NDArray, masks: NDArray) -> NDArray:
    """Dice of each picture (N, H, W) at each of `CUTS`, (len(CUTS), N)."""
    return np.stack([dice_of_each(p >= cut, masks) for cut in CUTS])


def masks_judged(of: dict[str, tuple[NDArray, NDArray]]) -> Iterable[dict[str, Any]]:
    """`of`: by source probabilities and masks (N, H, W), validation first. For each other source
    the mean Dice at the threshold of the best on validation, and at one chosen again on half of
    its pictures for the other half; each with its interval over pictures."""
    val, *others = of
    best = int(dices(*of[val]).mean(axis=1).argmax())
    for name in others:
        found = dices(*of[name])
        half = np.random.default_rng(0).permutation(found.shape[1]) < found.shape[1] // 2
        cuts = [found[:, ~here].mean(axis=1).argmax() for here in (half, ~half)]
        ways = {"dice": found[best], "again": np.where(half, found[cuts[0]], found[cuts[1]])}
        row = {"source": name, "threshold": CUTS[best]}
        for way, each in ways.items():
            value, low, high = paired_bootstrap(np.mean, each)
            row |= {way: value, f"{way}_low": low, f"{way}_high": high}
        yield row
