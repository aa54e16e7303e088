"""Models by name, their weights, their size, and their embeddings."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from effml.machine import import_timm, offline, reachable

if TYPE_CHECKING:
    import torch
    from torch import nn


class WeightsUnavailable(RuntimeError):
    """Weights were asked for and are not to be had here. They are never replaced by random ones."""


def build_model(
    name: str,
    *,
    in_channels: int = 1,
    classes: int = 2,
    size: int = 28,
    weights: str = "random",
    seed: int = 0,
) -> "nn.Module":
    """A model with `classes` outputs (logits) for images (N, in_channels, size, size), in eval mode.

    `name` is one of MODELS or any architecture of timm. `weights` is `random` (drawn from `seed`), `imagenet` (timm's
    own, from its cache or the network) or a .safetensors file; a head of another width is drawn anew.

    Raises ValueError for an unknown name and WeightsUnavailable when the weights cannot be had.
    """
    import torch

    torch.manual_seed(seed)
    if name in MODELS:
        if weights == "imagenet":
            raise WeightsUnavailable(
                f"There are no ImageNet weights for {name}. Choose a model of timm, or weights='random'."
            )
        model = MODELS[name](in_channels, classes, size)
        if weights != "random" and not _load_file(model, weights):
            raise WeightsUnavailable(
                f"{weights} does not fit {name} for {classes} classes of {in_channels}×{size}×{size} px."
            )
        return model.eval()
    timm = import_timm()
    if not timm.is_model(name):
        near = get_close_matches(name, [*MODELS, *timm.list_models()], n=6)
        raise ValueError(
            f"Unknown model {name!r}. Choose from: {', '.join(MODELS)}, or a name of timm"
            f"{'; did you mean ' + ', '.join(near) + '?' if near else ' (timm.list_models() lists them).'}"
        )
    fit = {"in_chans": in_channels, "num_classes": classes, **_image_size(name, size)}
    model = timm.create_model(name, **fit)
    if weights == "random" or weights != "imagenet" and _load_file(model, weights):
        return model.eval()
    source = (
        {} if weights == "imagenet" else {"pretrained_cfg_overlay": {"file": weights}}
    )  # timm adapts stem and head
    _offline_unless_reachable()
    try:
        return timm.create_model(name, **fit, pretrained=True, **source).eval()
    except Exception as error:  # of many kinds, from the hub to the shapes
        raise WeightsUnavailable(
            f"The weights {weights!r} of {name} could not be loaded ({type(error).__name__}: {error}). "
            "Connect to the network once, or give the path of a .safetensors file."
        ) from error


def _image_size(name: str, size: int) -> dict[str, int]:
    """What timm must be told where an architecture has a fixed input size (ViT: one position embedding per patch)."""
    from timm.models import get_pretrained_cfg

    made_for = get_pretrained_cfg(name)
    return (
        {"img_size": size}
        if made_for and made_for.fixed_input_size and made_for.input_size[-1] != size
        else {}
    )


def _lenet5(in_channels: int, classes: int, size: int) -> "nn.Module":
    """LeNet-5 (LeCun et al. 1998): 6-16-120-84 with average pooling, and ReLU where it had a scaled tanh."""
    from torch import nn

    side = (size // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"lenet5 needs images of at least 12 px, not {size}.")
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * side * side, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


def _lenet_srinivas(in_channels: int, classes: int, size: int) -> "nn.Module":
    """The LeNet of Srinivas & Babu (2015), which is Caffe's: 20-50-500 with maximum pooling; theirs had a ReLU after fc500 only,
    ours after each convolution as well."""
    from torch import nn

    side = ((size - 4) // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"lenet_srinivas needs images of at least 16 px, not {size}.")
    return nn.Sequential(
        nn.Conv2d(in_channels, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * side * side, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def _perceptron(*hidden: int):
    def build(in_channels: int, classes: int, size: int) -> "nn.Module":
        from torch import nn

        widths = [in_channels * size * size, *hidden]
        layers = [
            layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.ReLU())
        ]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes))

    return build


def _resnet18_medmnist(in_channels: int, classes: int, size: int) -> "nn.Module":
    """ResNet-18 with MedMNIST's stem for small images: one 3×3 convolution of stride 1 and no pooling (Yang et al. 2023)."""
    from torch import nn

    model = import_timm().create_model("resnet18", in_chans=in_channels, num_classes=classes)
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _residual_unet(axes: int):
    def build(in_channels: int, classes: int, size: int) -> "nn.Module":
        """Residual U-Net (Zhang et al. 2018; four levels of 16 to 128 channels): logits (N, classes, H, W) or (N, classes, D,
        H, W) for images of any size from 8 px on, since each level up takes the size of its way down."""
        import torch
        from torch import nn
        from torch.nn import functional

        convolution, normalization = (
            (nn.Conv2d, nn.BatchNorm2d) if axes == 2 else (nn.Conv3d, nn.BatchNorm3d)
        )

        class Block(nn.Module):
            def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
                super().__init__()
                self.body = nn.Sequential(
                    convolution(inputs, outputs, 3, stride, 1, bias=False),
                    normalization(outputs),
                    nn.ReLU(),
                    convolution(outputs, outputs, 3, 1, 1, bias=False),
                    normalization(outputs),
                )
                self.skip = convolution(inputs, outputs, 1, stride, bias=False)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return functional.relu(self.body(x) + self.skip(x))

        class UNet(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                widths = (16, 32, 64, 128)
                self.down = nn.ModuleList(
                    [Block(in_channels, widths[0])]
                    + [Block(a, b, 2) for a, b in zip(widths, widths[1:])]
                )
                self.up = nn.ModuleList(
                    Block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1])
                )
                self.head = convolution(widths[0], classes, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                seen = []
                for block in self.down:
                    seen.append(x := block(x))
                for block, beside in zip(self.up, seen[-2::-1]):
                    x = block(torch.cat([functional.interpolate(x, beside.shape[2:]), beside], 1))
                return self.head(x)

        return UNet()

    return build


MODELS = {
    "lenet5": _lenet5,
    "lenet300_100": _perceptron(300, 100),  # LeCun et al. 1998
    "mlp": _perceptron(128),
    "lenet_srinivas": _lenet_srinivas,
    "resnet18_medmnist": _resnet18_medmnist,
    "unet": _residual_unet(2),
    "unet3d": _residual_unet(3),
}
SEGMENTING = ("unet", "unet3d")


def count(model: "nn.Module", example: "torch.Tensor") -> dict[str, int]:
    """Parameters, parameters that are not zero, and MACs of one image; `example` is (1,C,H,W) float32."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(example)
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "nonzero_params": sum(int(p.count_nonzero()) for p in model.parameters()),
        "macs": flops.get_total_flops() // 2,
    }


def head(model: "nn.Module") -> "nn.Module":
    """The last linear layer, which gives the logits."""
    from torch import nn

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no linear layer at its end, so no embedding. Choose a classifier."
        )
    return layers[-1]


def embed(
    model: "nn.Module", batch: "Callable[[slice], torch.Tensor]", n: int, size: int = 512
) -> "torch.Tensor":
    """The inputs of the model's last linear layer, (n, D) float32, of n images which `batch` gives a slice at a time."""
    import torch

    seen: list[torch.Tensor] = []
    hook = head(model).register_forward_pre_hook(
        lambda layer, inputs: seen.append(inputs[0].flatten(1).float().cpu())
    )
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            for start in range(0, n, size):
                model.eval()(batch(slice(start, min(start + size, n))).to(device))
    finally:
        hook.remove()
    return torch.cat(seen)


def weights_bytes(model: "nn.Module") -> bytes:
    """The state dict as safetensors: no pickle, the same bytes for the same weights."""
    from safetensors.torch import save

    return save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    )


def _load_file(model: "nn.Module", weights: str) -> bool:
    """Load a file into `model` if every tensor fits; else leave the model as it is and return False."""
    from safetensors.torch import load_file

    if not Path(weights).is_file():
        raise WeightsUnavailable(
            f"There is no weights file {weights}. Give 'random', 'imagenet', the path of a .safetensors "
            "file, or the id of an earlier run in the same store whose weights were kept."
        )
    try:
        tensors = load_file(weights)
    except Exception as error:  # safetensors' own error is no public class
        raise WeightsUnavailable(f"{weights} is no .safetensors file: {error}") from error
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if fits := {name: tensor.shape for name, tensor in tensors.items()} == own:
        model.load_state_dict(tensors)
    return fits


def _offline_unless_reachable() -> None:
    """Without a network timm would retry for 47 s a model."""
    if offline() or not reachable("huggingface.co"):
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True
