"""Models by name, their weights, their size, and their embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from effml.machine import import_timm, offline, reachable, seeded


class WeightsUnavailable(RuntimeError):
    """Weights were asked for and are not to be had here. They are never replaced by random ones."""


def build_model(
    name: str,
    *,
    in_channels: int = 1,
    classes: int = 2,
    size: int = 28,
    weights: str = "random",
    seed: int | None = None,
) -> nn.Module:
    """A model with `classes` outputs (logits) for images (N, in_channels, size, size), in eval
    mode.

    `name` is one of MODELS or any architecture of timm. `weights` is `random` (drawn from `seed`),
    `imagenet` (timm's own, from its cache or the network) or a .safetensors file; a head of another
    width is drawn anew. Without a `seed` it is that of the caller's torch.manual_seed (below
    2**32), or 0 where there was none. No global generator moves: two calls with one seed give one
    model.

    Raises ValueError for an unknown name and WeightsUnavailable when the weights cannot be had."""
    if seed is None:  # where nobody has seeded torch, its seed is a random number of 64 bits
        seed = torch.initial_seed() if torch.initial_seed() < 2**32 else 0
    with seeded(seed):
        build = _own if name in MODELS else _timms
        return build(name, in_channels, classes, size, weights).eval()


def _own(name: str, in_channels: int, classes: int, size: int, weights: str) -> nn.Module:
    if weights == "imagenet":
        raise WeightsUnavailable(
            f"There are no ImageNet weights for {name}. Choose a model of timm, or weights='random'."
        )
    model = MODELS[name](in_channels, classes, size)
    if weights != "random" and not _load_file(model, weights):
        raise WeightsUnavailable(
            f"{weights} does not fit {name} for {classes} classes of {in_channels}×{size}×{size} px."
        )
    return model


def _timms(name: str, in_channels: int, classes: int, size: int, weights: str) -> nn.Module:
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
        return model
    source = (
        {} if weights == "imagenet" else {"pretrained_cfg_overlay": {"file": weights}}
    )  # timm adapts stem and head
    _offline_unless_reachable()
    try:
        return timm.create_model(name, **fit, pretrained=True, **source)
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


def _lenet5(in_channels: int, classes: int, size: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998): 6-16-120-84 with average pooling, and ReLU where it had a scaled tanh."""
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


def _lenet_srinivas(in_channels: int, classes: int, size: int) -> nn.Module:
    """The LeNet of Srinivas & Babu (2015), which is Caffe's: 20-50-500 with maximum pooling; theirs had a ReLU after fc500 only,
    ours after each convolution as well."""
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
    def build(in_channels: int, classes: int, size: int) -> nn.Module:
        widths = [in_channels * size * size, *hidden]
        layers = [
            layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.ReLU())
        ]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes))

    return build


def _resnet18_medmnist(in_channels: int, classes: int, size: int) -> nn.Module:
    """ResNet-18 with MedMNIST's stem for small images: one 3×3 convolution of stride 1 and no pooling (Yang et al. 2023)."""
    model = import_timm().create_model("resnet18", in_chans=in_channels, num_classes=classes)
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _residual_unet(axes: int):
    def build(in_channels: int, classes: int, size: int) -> nn.Module:
        """Residual U-Net (Zhang et al. 2018; four levels of 16 to 128 channels): logits (N, classes, H, W) or (N, classes, D,
        H, W) for images of any size from 8 px on, since each level up takes the size of its way down."""
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


def count(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Parameters, parameters that are not zero, and MACs of one image; `example` is (1,C,H,W) float32."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(example)
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "nonzero_params": sum(int(p.count_nonzero()) for p in model.parameters()),
        "macs": flops.get_total_flops() // 2,
    }


def head(model: nn.Module, example: torch.Tensor | None = None) -> nn.Module:
    """The layer whose outputs are the answer, or a ModuleList of the layers where there are
    several: a distilled transformer answers with the mean of two.

    A model of timm says itself which they are (`get_classifier`, a linear layer or a convolution),
    and in a Sequential it is the last layer. With an `example`, images as the model takes them,
    that is checked, and in every other model the layers are found: the answer must be a function of
    their outputs alone, with nothing to train behind them.

    Raises ValueError where there are no such layers, or where they cannot be found without an
    `example`."""
    layers = _known(model) if example is None else _answering(model, example)
    if not layers:
        raise ValueError(
            f"Which layer of {type(model).__name__} gives the answer cannot be told without an image. Give "
            "example=, a batch as the model takes it, such as normalize(dataset.train.images[:1])."
        )
    return layers[0] if len(layers) == 1 else nn.ModuleList(layers)


def _known(model: nn.Module) -> list[nn.Module]:
    """The layers which timm calls the classifier, or the last layer of a Sequential; none if it is
    another model."""
    if hasattr(model, "get_classifier"):
        found, waiting = [], [model.get_classifier()]
        while waiting:
            given = waiting.pop(0)
            if isinstance(given, (tuple, list, nn.ModuleList)):
                waiting = [*given, *waiting]
            elif isinstance(given, nn.Module) and any(True for _ in given.parameters()):
                found.append(given)
        return found
    layer = model
    while isinstance(layer, nn.Sequential):
        layer = next((m for m in reversed(layer) if any(True for _ in m.parameters())), None)
    return [layer] if layer is not model and _multiplies(layer) else []


def _multiplies(layer: nn.Module | None) -> bool:
    return isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))


def _answering(model: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    """The layers of which the answer to `example` is a function: those known, where that is true of
    them, else Linear and convolution layers from the last called on, until no other parameter
    reaches the answer."""
    known = _known(model)
    if known and not (trace := _trace(model, example, known)).beside and not trace.chained:
        return known
    heads: list[nn.Module] = []
    while True:
        trace = _trace(model, example, heads)
        more = [m for m in trace.called if not trace.beside.isdisjoint(m.parameters())]
        if trace.chained or trace.beside and not more:
            names = [name for name, p in model.named_parameters() if p in trace.beside][:3]
            why = "one of its last layers sees what another gives"
            if not trace.chained:
                why = f"{', '.join(names) or 'the image'} has a part in it behind or beside the last one"
            raise ValueError(
                f"{type(model).__name__} has no last layer whose outputs alone are the answer: {why}. Train all of "
                "it, or choose a model that ends with a linear layer or a convolution."
            )
        if not trace.beside:
            return heads
        heads.insert(0, more[-1])


@dataclass
class _Trace:
    """What one image did: the `answer`; what the `heads` were given and gave in its course; the
    Linear and convolution layers `called`, in that order; what has a part in the answer `beside`
    the outputs of the heads (parameters, or the image); and whether one head is `chained` to
    another, whose outputs it sees."""

    answer: torch.Tensor
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    called: list[nn.Module]
    beside: set[torch.Tensor]
    chained: bool


def _trace(model: nn.Module, example: torch.Tensor, heads: list[nn.Module]) -> _Trace:
    """In eval mode with what the heads give cut off from what they were given, so that no gradient
    goes through them. The model is left as it was."""
    inputs, outputs, called, hooks = [], [], [], []

    def cut(layer: nn.Module, given: tuple, output: torch.Tensor) -> torch.Tensor:
        inputs.append(given[0])
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # what follows may change it in place

    parameters = list(model.parameters())
    weight = parameters[0] if parameters else example.float()
    x = example[:1].detach().to(weight.device, copy=True)
    if x.is_floating_point():  # token ids are whole numbers, and have no gradient
        x = x.to(weight.dtype).requires_grad_()
    modes = [(module, module.training) for module in model.modules()]
    wanted = [p.requires_grad for p in parameters]
    try:
        for layer in filter(_multiplies, model.modules()):
            hooks.append(layer.register_forward_hook(lambda layer, *_: called.append(layer)))
        hooks += [layer.register_forward_hook(cut) for layer in heads]
        model.eval().requires_grad_(True)
        with torch.enable_grad(), seeded(0):
            answer = model(x)
        if not isinstance(answer, torch.Tensor):
            raise ValueError(
                f"{type(model).__name__} gives a {type(answer).__name__}, not one tensor of logits. Wrap it in a "
                "module that gives the logits alone."
            )
        sources = [*outputs, *([x] if x.requires_grad else []), *parameters]
        parts = _reach(answer, sources)
        chained = any(_reach(given, outputs) for given in inputs)
        silent = set(outputs) - parts  # a head that has no part in the answer
        return _Trace(answer, inputs, outputs, called, parts - {*outputs} | silent, chained)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
        for p, grad in zip(parameters, wanted):
            p.requires_grad_(grad)


def _reach(target: torch.Tensor, sources: list[torch.Tensor]) -> set[torch.Tensor]:
    """Those of `sources` that `target` was computed from."""
    if not target.requires_grad or not sources:
        return set()
    found = torch.autograd.grad(target.sum(), sources, retain_graph=True, allow_unused=True)
    return {source for source, gradient in zip(sources, found) if gradient is not None}


def check_linear(model: nn.Module, example: torch.Tensor) -> None:
    """Raises ValueError unless the answer is W h + b of a single layer and h is what `embed` gives:
    for formulas about the gradient of a last linear layer. A convolution is one where it sees each
    image in one place."""
    layers = _answering(model, example)
    trace, layer = _trace(model, example, layers), layers[0]
    plain = type(layer) in (nn.Linear, nn.Conv2d) and len(layers) == len(trace.outputs) == 1
    if plain:
        h = trace.inputs[0]
        whole = (
            h.ndim == 2
            if type(layer) is nn.Linear
            else (
                tuple(h.shape[2:]) == layer.kernel_size
                and layer.groups == 1
                and not any(layer.padding)
            )
        )
        same = trace.outputs[0].flatten().equal(trace.answer.flatten())
        plain = whole and same and layer.bias is not None
    if not plain:
        raise ValueError(
            f"grand is exact for an answer W h + b of one linear layer, and {type(model).__name__} ends with "
            f"{' and '.join(type(m).__name__ for m in layers)} and takes their outputs otherwise. Choose el2n, or "
            "a proxy that ends with one linear layer, such as lenet5 or resnet18."
        )


def embed(
    model: nn.Module, batch: Callable[[slice], torch.Tensor], n: int, size: int = 512
) -> torch.Tensor:
    """What the layers of `head` see, (n, D) float32, of n images which `batch` gives a slice at a
    time, as float. Where they are several and see different things, these stand side by side."""
    weight, seen, rows = next(model.parameters()), [], []

    def note(layer: nn.Module, inputs: tuple) -> None:
        if not any(inputs[0] is one for one in seen):
            seen.append(inputs[0])

    layers = _answering(model, batch(slice(0, 1)))
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.inference_mode():
            for start in range(0, n, size):
                images = batch(slice(start, min(start + size, n))).to(weight)
                model.eval()(images)
                rows.append(torch.cat([h.reshape(len(images), -1) for h in seen], 1).float().cpu())
                seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(rows)


def weights_bytes(model: nn.Module) -> bytes:
    """The state dict as safetensors: no pickle, the same bytes for the same weights."""
    from safetensors.torch import save

    return save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    )


def _load_file(model: nn.Module, weights: str) -> bool:
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
