import time

import pytest
import torch

from step_timing import step_seconds

IMAGES, LABELS = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])


class Watched(torch.nn.Module):
    """Sleeps longer in float32 than in mixed precision, and keeps a list, shared by its copies, of
    what it computed in."""

    def __init__(self, seen):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(64, 2), seen

    def __deepcopy__(self, memo):
        copy = Watched(self.seen)
        copy.load_state_dict(self.state_dict())
        return copy

    def forward(self, images):
        out = self.layer(images.flatten(1))
        self.seen.append(str(out.dtype))
        time.sleep(0.02 if out.dtype == torch.float32 else 0.002)
        return out


def test_steps_are_taken_by_turns_after_a_warm_up_and_the_model_is_left_as_it_was():
    seen: list[str] = []
    model = Watched(seen)
    before = model.layer.weight.clone()
    seconds = step_seconds(model, IMAGES, LABELS, repeats=3)
    assert seen == ["torch.float32", "torch.bfloat16"] * (2 + 3)
    assert list(seconds) == [
        "fp32",
        "amp_bf16",
    ]
    assert all(len(values) == 3 for values in seconds.values()) and min(seconds["fp32"]) >= 0.02
    assert min(seconds["amp_bf16"]) < min(seconds["fp32"])
    assert torch.equal(model.layer.weight, before) and model.layer.weight.grad is None


def test_half_weights_are_timed_as_such_and_what_cannot_be_timed_is_an_instruction():
    seen: list[str] = []
    step_seconds(Watched(seen), IMAGES, LABELS, precisions=["bf16"], repeats=1)
    assert set(seen) == {"torch.bfloat16"}
    with pytest.raises(ValueError, match="500 times slower"):
        step_seconds(Watched(seen), IMAGES, LABELS, precisions=["amp_fp16"])
    with pytest.raises(ValueError, match="give 1 or more"):
        step_seconds(Watched(seen), IMAGES, LABELS, repeats=0)
