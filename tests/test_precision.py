import pytest
import torch

from effml import Recipe, precision, run
from effml.precision import PRECISIONS, arithmetic, choose, probe


@pytest.mark.parametrize(
    "name, weights, products",
    [
        ("fp32", "float32", "float32"),
        ("amp_bf16", "float32", "bfloat16"),
        ("bf16", "bfloat16", "bfloat16"),
    ],
)
def test_a_layer_computes_in_what_it_says(name, weights, products):
    numbers = arithmetic(name, "cpu")
    layer = numbers.prepare(torch.nn.Linear(4, 4))
    with numbers.context():
        out = layer(numbers.cast(torch.ones(2, 4)))
    assert str(layer.weight.dtype) == f"torch.{weights}" and str(out.dtype) == f"torch.{products}"
    assert not numbers.scaler().is_enabled()


def test_fp16_on_a_cpu_is_refused_with_its_cost_and_scaled_on_a_gpu():
    for name in ("fp16", "amp_fp16"):
        with pytest.raises(
            ValueError, match="4 to 500 times slower.*Choose from: fp32, amp_bf16, bf16"
        ):
            arithmetic(name, "cpu")
        record = run(Recipe(model="mlp", epochs=1, precision=name))
        assert record.status == "unsupported" and "500 times" in record.reason
    assert PRECISIONS["amp_fp16"]("cuda").scaled and not PRECISIONS["fp16"]("cuda").scaled
    with pytest.raises(ValueError, match="Choose from: auto, fp32"):
        arithmetic("fp8", "cpu")


def test_the_record_says_what_was_asked_used_found_and_why(monkeypatch):
    monkeypatch.setattr(precision, "cpu", lambda: ("an old CPU", "avx2"))
    record = run(Recipe(model="mlp", epochs=1, precision="auto"))
    assert (record.status, record.precision, record.precision_used) == (
        "ok",
        "auto",
        "fp32",
    ) and "emulates" in record.precision_why
    record = run(Recipe(model="mlp", epochs=1, precision="amp_bf16"))
    assert record.precision_used == "amp_bf16" and record.precision_why == "asked for"
    assert (
        record.weights_dtype,
        record.activations_dtype,
        record.gradients_dtype,
        record.optimizer_dtype,
    ) == ("float32", "bfloat16", "float32", "float32")
    record = run(Recipe(model="lenet5", epochs=1, precision="bf16"))
    assert record.status == "ok" and record.model_file_bytes < 2.2 * record.params + 2000, (
        record.reason
    )
    assert {
        record.weights_dtype,
        record.activations_dtype,
        record.gradients_dtype,
        record.optimizer_dtype,
    } == {"bfloat16"}


@pytest.mark.parametrize("gain, chosen", [(2.0, "amp_bf16"), (0.5, "fp32"), (None, "amp_bf16")])
def test_the_policy_follows_the_probe_where_the_cpu_has_bf16(monkeypatch, gain, chosen):
    monkeypatch.setattr(precision, "cpu", lambda: ("a new CPU", "avx2 avx512_bf16"))
    monkeypatch.setattr(precision, "probe", lambda device: gain)
    used, why = choose("auto", "cpu")
    assert used == chosen and (f"{gain:.1f}×" in why if gain else "not probed" in why)


def test_the_probe_is_short_and_remembered_unless_others_disturb_it(monkeypatch, tmp_path):
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(
        precision, "_probe", lambda device: calls.append(device) or {"fp32": 3.0, "amp_bf16": 1.5}
    )
    for others, expected, times in ((0.5, None, 1), (0.0, 2.0, 2), (0.5, 2.0, 2)):
        monkeypatch.setattr(precision, "measure", lambda: Quiet(others))
        assert probe() == expected and len(calls) == times
    next(tmp_path.glob("probe-cpu-*.json")).write_text("damaged")
    monkeypatch.setattr(precision, "measure", lambda: Quiet(0.0))
    assert probe() == 2.0 and len(calls) == 3


def test_the_real_probe_gives_seconds():
    seconds = precision._probe("cpu", seconds=0.1)
    assert set(seconds) == {"fp32", "amp_bf16"} and min(seconds.values()) > 0


class Quiet:
    def __init__(self, others):
        self.others_cpu = others

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None
