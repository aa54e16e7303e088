"""The steps whose memory and time notebook 33 measures: what each way computes and counts."""

import pytest
import torch

import saved_memory
from saved_memory import Step


def gradients(work, way):
    """Of one step, which forgets them at its end."""
    found = {}
    for name, p in work.model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda p, name=name: found.update({name: p.grad}))
    work.step(way)
    assert all(p.grad is None for p in work.model.parameters())
    return torch.cat([found[name].flatten() for name, _ in work.model.named_parameters()])


@pytest.mark.parametrize("model, way", [("resnet10t", "computed again"), ("lenet5", "4 parts")])
def test_computing_again_and_parts_without_batch_norm_give_the_gradients_of_float32(model, way):
    plain, other = (gradients(Step(model, 32, 8), name) for name in ("float32", way))
    assert torch.allclose(plain, other, rtol=1e-4, atol=1e-7) and plain.norm() > 0.01
    assert way == "4 parts" or torch.equal(plain, other)


def test_few_bits_round_anew_in_each_step_and_the_more_the_fewer_they_are():
    work = Step("lenet5", 32, 64)
    plain = gradients(work, "float32")
    again, *few = (gradients(work, way) for way in ("float32", "8 bits", "8 bits", "2 bits"))
    errors = [float((one - plain).norm() / plain.norm()) for one in few]
    assert torch.equal(again, plain) and not torch.equal(few[0], few[1])
    assert 0 < errors[0] < 0.02 < errors[2] < 0.5


def test_what_a_step_keeps_is_counted_for_each_way(monkeypatch):
    monkeypatch.setattr(saved_memory, "give_back_freed_memory", lambda: True)  # of a child
    ways = ("float32", "8 bits", "2 bits", "2 parts")
    found = {way: saved_memory.measured(way, "lenet5", 32, 64, 1) for way in ways}
    kept = {way: one["saved_mb"] for way, one in found.items()}
    assert "saved_mb" not in saved_memory.measured("computed again", "resnet10t", 32, 4, 1)
    assert found["8 bits"]["float32_mb"] == found["float32"]["float32_mb"] == kept["float32"]
    assert 3.5 < kept["float32"] / kept["8 bits"] < 4 and kept["8 bits"] > 3 * kept["2 bits"]
    assert kept["2 parts"] == pytest.approx(kept["float32"] / 2, rel=0.01)
    assert all(one["step_s"] > 0 and one["gives_back"] for one in found.values())


def test_the_growth_is_that_of_the_steps_and_not_of_what_came_before():
    b"x" * 600_000_000  # a peak before the start
    assert saved_memory.measured("float32", "lenet5", 32, 64, 1)["growth_mb"] < 150


def test_blocks_are_computed_again_in_training_mode():
    work, calls = Step("resnet10t", 32, 4), []
    block = work.model.layer1[0].conv1
    block.register_forward_hook(lambda module, *_: calls.append(module.training))
    work.step("float32")
    assert calls == [True]
    work.step("computed again")
    assert calls == [True] * 3


def test_each_way_has_a_process_of_its_own():
    found = saved_memory.each_alone(["float32", "8 bits"], "lenet5", 32, 64, 1)
    assert [one["way"] for one in found] == ["float32", "8 bits"]
    assert found[0]["saved_mb"] > 3.5 * found[1]["saved_mb"]
