"""8-bit Adam on a CPU: ours, bitsandbytes' and fused AdamW in one process, interleaved. A step alone, without the gradients."""

import importlib.util
import statistics
import time

from effml.machine import import_timm

import_timm()
import timm  # noqa: E402
import torch  # noqa: E402

from effml.optimizers import make_optimizer, state_report  # noqa: E402


def main() -> None:
    names = ["torch_adamw", "adamw", "adamw8bit"] + ["adam8bit_bnb"] * bool(
        importlib.util.find_spec("bitsandbytes")
    )
    if "adam8bit_bnb" not in names:
        print(
            "bitsandbytes is not installed, so it is not compared: pip install bitsandbytes==0.50.2"
        )
    for model in ("resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224"):
        optimizers = {name: _optimizer(name, model) for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(22):
            for name, optimizer in optimizers.items():
                start = time.perf_counter()
                optimizer.step()
                times[name].append(time.perf_counter() - start)
        medians = {name: 1e3 * statistics.median(taken[2:]) for name, taken in times.items()}
        for name, optimizer in optimizers.items():
            found = state_report(optimizer)
            ratio = f"{medians[name] / medians['torch_adamw']:5.2f}× torch's fused AdamW  "
            ratio += (
                f"{medians['adam8bit_bnb'] / medians[name]:5.1f}× as fast as bitsandbytes"
                if "adam8bit_bnb" in names
                else ""
            )
            print(
                f"{model:22} {name:13} step {medians[name]:6.1f} ms ({1e3 * min(times[name]):.1f}–{1e3 * max(times[name]):.1f})  {ratio}"
                f"  state {found['bytes'] / 1e6:5.1f} MB, {found['bytes_per_parameter']:.2f} B per parameter, "
                f"{found['tensors_quantised']} of {found['tensors']} tensors in 8 bits",
                flush=True,
            )
    print(
        "aims: adamw8bit ≤ 2.2 B per parameter, ≥ 5× as fast as bitsandbytes, ≤ 1.5× torch's fused AdamW"
    )


def _optimizer(name: str, model: str) -> torch.optim.Optimizer:
    parameters = list(timm.create_model(model).to(memory_format=torch.channels_last).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 0.01
    if name == "torch_adamw":
        return torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    return make_optimizer(name, parameters, 1e-4)
