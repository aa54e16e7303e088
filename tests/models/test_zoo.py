"""The 131 architectures of PePR against what timm builds.

That every one of them takes the sizes of the table, and at the one before the smallest raises, is
`python tests/models/test_zoo.py`, minutes; here a few of them.
"""

import hashlib
import random
import sys
import warnings

import pytest
import torch
from torch.nn.functional import cross_entropy

import effml
from effml import zoo
from effml.machine import import_timm, seeded
from effml.models import WeightsUnavailable, build_model, weights_bytes

TABLE = effml.architectures()
LOST = ["gluon_xception65"]


def test_all_131_are_there_once_with_the_paper_s_marks():
    assert len(TABLE) == 131 and TABLE.index.is_unique and TABLE.timm.is_unique
    assert TABLE.params.is_monotonic_increasing
    assert TABLE.kind.value_counts().to_dict() == {"CNN": 80, "Other": 51}
    assert TABLE.efficient.sum() == 31 and (TABLE.params < 24_671_464).sum() == 65


def test_each_builds_with_the_published_number_of_parameters():
    timm = import_timm()
    for name, of in TABLE.iterrows():
        with torch.device("meta"):
            model = timm.create_model(of.timm)
        assert sum(p.numel() for p in model.parameters()) == of.params, name


def test_weights_are_pinned_by_timm_s_tag_and_what_is_unknown_is_empty():
    import_timm()
    from timm.models import get_pretrained_cfg

    for name, of in TABLE.iterrows():
        cfg = get_pretrained_cfg(of.timm)
        if name in LOST:  # timm's default is somebody else's
            assert (of.timm, of.hub, of.pth_sha256) == ("xception65", "", "") and of.note
            continue
        assert of.timm == f"{cfg.architecture}.{cfg.tag}" and of.pth_sha256 in (cfg.url or "")
        assert of.hub == (f"timm/{of.timm}" if cfg.hf_hub_id else "")
        assert bool(of.revision) == bool(of.sha256), "a file has a SHA-256 at a revision"


@pytest.mark.parametrize("name", [n for n, t in TABLE.timm.items() if t.split(".")[0] != n])
def test_a_name_that_timm_has_renamed_still_leads_there(name):
    timm = import_timm()
    if name in LOST:
        assert not timm.is_model(name)
        return
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # timm: deprecated
        cfg = timm.create_model(name).pretrained_cfg
    assert f"{cfg['architecture']}.{cfg['tag']}" == TABLE.timm[name]


def step(name, size):
    """One training step of two grey images, whose loss must be a number."""
    model = build_model(name, size=size, seed=0).train()
    with seeded(0):
        loss = cross_entropy(model(torch.randn(2, 1, size, size)), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in list(model.parameters())[:1])


def check_sizes(name):
    """The smallest of the table is taken, and the one before it is not."""
    of = TABLE.loc[name]
    step(of.timm, of.smallest)
    if before := [side for side in zoo.SIZES if side < of.smallest]:
        with pytest.raises(Exception):
            step(of.timm, before[-1])


@pytest.mark.parametrize("name", random.Random(21).sample(sorted(TABLE.index[:60]), 6))
def test_the_smallest_size_is_the_smallest(name):
    check_sizes(name)


@pytest.mark.parametrize("name", random.Random(22).sample(sorted(TABLE.index[:60]), 4))
def test_larger_sizes_of_the_table_are_taken_too_and_no_others(name):
    of = TABLE.loc[name]
    for size in (side for side in zoo.SIZES if of.smallest < side <= 128):
        if size in of.sizes:
            step(of.timm, size)
        else:
            with pytest.raises(Exception):
                step(of.timm, size)


def test_a_file_is_refused_where_it_is_not_the_one_that_is_pinned(tmp_path, monkeypatch):
    name = "mobilenetv2_050.lamb_in1k"
    (tmp_path / "data").mkdir()
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("EFFML_DATA", str(tmp_path / "data"))
    file, given = tmp_path / "weights" / f"{name}.safetensors", build_model(name, seed=5)
    file.write_bytes(weights_bytes(given))
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    pin = {"hub": "timm/x", "revision": "0" * 40, "sha256": right}
    monkeypatch.setattr("effml.models.pin", lambda asked: pin)
    model = build_model(name, weights="imagenet")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), given.parameters()))
    pin["sha256"] = "0" * 64
    with pytest.raises(WeightsUnavailable, match=f"SHA-256 {right}, that of {name} is 0000"):
        build_model(name, weights="imagenet")


def test_a_pinned_revision_that_is_not_here_is_told(monkeypatch):
    monkeypatch.setenv("EFFML_OFFLINE", "1")
    pin = {"hub": "timm/dla34.in1k", "revision": "1" * 40, "sha256": "2" * 64}
    monkeypatch.setattr("effml.models.pin", lambda asked: pin)
    with pytest.raises(WeightsUnavailable, match="timm/dla34.in1k, revision 1111"):
        build_model("dla34.in1k", weights="imagenet")


def test_architectures_gives_a_copy():
    effml.architectures().drop(columns="timm", inplace=True)
    assert "timm" in effml.architectures() and zoo.pin("resnet18") == {
        "hub": "",
        "revision": "",
        "sha256": "",
    }


if __name__ == "__main__":
    for one in sys.argv[1:] or TABLE.index:
        check_sizes(one)
        print(one, TABLE.smallest[one], flush=True)
