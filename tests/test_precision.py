import json

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
    number_format = arithmetic(name, "cpu")
    layer = number_format.prepare(torch.nn.Linear(4, 4))
    with number_format.context():
        out = layer(number_format.cast(torch.ones(2, 4)))
    assert str(layer.weight.dtype) == f"torch.{weights}" and str(out.dtype) == f"torch.{products}"
    assert not number_format.scaler().is_enabled()


def test_fp16_on_a_cpu_is_refused_with_its_cost_and_scaled_on_a_gpu():
    for name in ("fp16", "amp_fp16"):
        for device in ("cpu", "cpu:0"):
            with pytest.raises(
                ValueError, match="4 to 500 times slower.*Choose from: fp32, amp_bf16, bf16"
            ):
                arithmetic(name, device)
        record = run(Recipe(model="mlp", epochs=1, precision=name))
        assert record.status == "unsupported" and "500 times" in record.reason
    assert PRECISIONS["amp_fp16"]("cuda").scaled and not PRECISIONS["fp16"]("cuda").scaled
    with pytest.raises(ValueError, match="Choose from: fp32.*native_precision"):
        arithmetic("fp8", "cpu")


def test_the_record_says_what_was_asked_used_found_and_why(monkeypatch):
    monkeypatch.setattr(precision, "cpu", lambda: ("an old CPU", "avx2"))
    record = run(Recipe(model="mlp", epochs=1, precision="auto"))
    assert (record.status, record.precision, record.precision_used) == (
        "ok",
        "auto",
        "fp32",
    )
    assert "emulates" in record.precision_why
    assert record.precision_emulated == 0
    record = run(Recipe(model="mlp", epochs=1, precision="amp_bf16"))
    assert record.precision_used == "amp_bf16" and record.precision_emulated == 1
    assert record.precision_why == (
        "asked for; emulated: this CPU does not compute in bf16, so its time and energy say "
        "nothing of a saving"
    )
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


@pytest.mark.parametrize("name", ["fp32", "amp_bf16", "bf16", "fp16", "amp_fp16"])
@pytest.mark.parametrize(
    "flags, isa, has",
    [
        ("avx2", "", False),
        ("avx2 avx512f avx512_vnni", "", False),
        ("asimd sve i8mm", "", False),
        ("avx2 avx512f avx512_bf16", "", True),
        ("avx2 amx_tile amx_bf16", "", True),
        ("asimd bf16", "", True),
        ("avx2 avx512f avx512_bf16", "AVX2", False),
        ("avx2 avx512f avx512_bf16", "avx512_core", False),
        ("avx2 avx512f avx512_bf16", "AVX512_CORE_BF16", True),
        ("avx2 avx512f avx512_bf16", "ALL", True),
        ("avx2", "ALL", False),
    ],
)
def test_bf16_is_emulated_where_the_cpu_or_its_settings_lack_it(monkeypatch, name, flags, isa, has):
    monkeypatch.setattr(precision, "cpu", lambda: ("a CPU", flags))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    slow = "bf16" in name and not has
    assert precision.emulated(name, "cpu") == slow and precision.has_bf16("cpu") == has
    assert precision.label(name, "cpu") == name + " (emulated)" * slow
    assert choose(name, "cpu") == (name, choose(name, "cpu")[1])
    assert slow == ("emulated" in choose(name, "cpu")[1])


@pytest.mark.parametrize("flags", [{}, {"avx2": True, "avx512_bf16": False}, {"bf16": True}])
def test_where_the_system_tells_no_flags_torch_is_asked(monkeypatch, flags):
    """Windows and macOS."""
    monkeypatch.setattr(precision, "cpu", lambda: ("a CPU", ""))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert precision.has_bf16("cpu") == bool(flags.get("bf16"))


@pytest.mark.parametrize("capability, has", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_of_before_2020_emulates_bf16_and_none_fp16(monkeypatch, capability, has):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert precision.emulated("amp_bf16", "cuda") != has
    assert not precision.emulated("amp_fp16", "cuda") and not precision.emulated("fp32", "cuda")


def test_the_level_of_aten_does_not_make_bf16_emulated(monkeypatch):
    """Tried: amp_bf16 stays twice as fast as fp32, and oneDNN reports avx512_core_bf16."""
    monkeypatch.setattr(precision, "cpu", lambda: ("a CPU", "avx2 avx512f avx512_bf16"))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert precision.has_bf16("cpu")


def test_torch_agrees_that_bf16_is_there_on_this_machine():
    flags = {name for name, have in torch.cpu.get_capabilities().items() if have is True}
    if "ONEDNN_MAX_CPU_ISA" not in precision.os.environ:
        assert precision.has_bf16("cpu") == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def test_the_probe_is_no_part_of_the_preparation(monkeypatch):
    from effml import metering

    events = []

    def chosen(*given):
        events.append("choose")
        return "fp32", "probed"

    def measured(device, measure=metering.measure):
        events.append("measure")
        return measure(device)

    monkeypatch.setattr("effml.experiment.prepare.choose", chosen)
    for step in ("prepare", "fit", "assess"):
        monkeypatch.setattr(f"effml.experiment.{step}.measure", measured)
    assert run(Recipe(model="mlp", epochs=0, precision="auto")).status == "ok"
    assert events == ["choose", "measure", "measure", "measure"]


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


@pytest.mark.parametrize("given, rounds", [({}, 2), ({"seconds": 20.0}, 5)])
def test_the_probe_takes_the_fastest_of_steps_by_turns_after_a_warm_up(monkeypatch, given, rounds):
    """On a clock that the gradients move: both formats by turns; the warm-up is the fastest."""
    took, now = [0.25, 0.25, 0.625, 0.75, 4.0, 5.0, 1.0, 3.0, 6.0, 7.0], [0.0]
    left = iter(took)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda loss: now.append(now.pop() + next(left, 99))
    )
    found = precision._probe("cpu", **given)
    seen = took[2 : 2 * rounds]
    assert found == {"fp32": min(seen[::2]), "amp_bf16": min(seen[1::2])}
    assert len(list(left)) == len(took) - 2 * rounds


@pytest.mark.parametrize(
    "device, there, asked",
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_native_precision_is_that_of_the_device(monkeypatch, device, there, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(precision, "choose", lambda *given: (given, "why"))
    assert precision.native_precision(device) == ("auto", asked)


class Quiet:
    def __init__(self, others):
        self.others_cpu = others

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


@pytest.mark.parametrize("has", [True, False])
def test_notebook_30_draws_no_saving_from_an_emulated_format(has):
    """Its cells that judge and draw times, on made-up times of half those of fp32."""
    from types import SimpleNamespace

    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd

    import effml
    from effml.figures import COLOURS, MARKERS
    from effml.machine import ROOT

    told = []
    faces = SimpleNamespace(results=effml.results, seeds=effml.seeds, report=told.append)
    ok = pd.DataFrame({"precision_emulated": [0, int(not has)], "data_phantom": 0})
    clock = pd.DataFrame({"model": [*"aabb"], "time ratio": [0.5, 0.51, 0.52, 0.53]})
    runs = pd.Series([0.9, 0.91], index=pd.MultiIndex.from_product([["a"], [0, 1]])).to_frame()
    names = {"effml": faces, "np": np, "ok": ok, "COLOURS": COLOURS, "MARKERS": MARKERS}
    names |= {"full": clock.groupby("model"), "timed": ["a", "b"], "models": ["a"]}
    names |= {"fp32": runs.rename(columns={0: "test_auroc"}), "pinn_steps": 1000}
    names |= {"bf16": names["fp32"], "pinn_widths": [20], "pinn": clock.assign(width=20)}
    names["errors"] = pd.DataFrame({"fp32": [0.01, 0.02], "amp_bf16": [0.01, 0.02]})
    book = json.loads((ROOT / "notebooks" / "30_mixed_precision.ipynb").read_text(encoding="utf-8"))
    sources = {cell["id"]: "".join(cell["source"]) for cell in book["cells"]}
    judged = [line for line in sources["cell-27"].splitlines() if line.startswith(("slow", "note"))]
    exec("\n".join([*judged, sources["cell-24-a"], sources["cell-44"]]), names)
    times = [told[0][f"yuan-mixed-time-{end}"] for end in ("low", "high")]
    times.append(list(told[0]["hayford-time-mixed"]))
    assert all(map(len, times)) == has and len(told[0]["hayford-error-mixed"]) == 2
    assert ("emulated" in names["note"]) == (not has)
    figure, axes = plt.subplots()
    names["bars"](axes, names["full"], "time ratio")
    assert (axes.lines[1].get_markerfacecolor() == "none") == (not has)
    plt.close(figure)


def test_a_device_is_one_that_there_is():
    with pytest.raises(ValueError, match="Unknown device 'gpu'. Choose from: cpu, cuda"):
        arithmetic("fp32", "gpu")


@pytest.mark.parametrize(
    "device, capability, allowed, has",
    [
        ("cuda", (8, 0), "tf32", True),
        ("cuda", (7, 5), "tf32", False),
        ("cpu", (8, 0), "tf32", False),
    ]
    + [("cuda", (9, 0), "ieee", False)],
)
def test_convolutions_of_float32_in_tf32_are_told(monkeypatch, device, capability, allowed, has):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = allowed
    try:
        assert precision.tf32(device) == has
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert before == "tf32"  # torch's default, of which the record says so
    monkeypatch.setattr("effml.experiment.prepare.tf32", lambda device: True)
    for name in ("fp32", "bf16"):
        record = run(Recipe(model="mlp", epochs=0, precision=name))
        assert ("in TF32" in record.precision_why) == (name == "fp32")
