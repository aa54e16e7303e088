"""Models by name, their weights, their size, and their embeddings."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from effml.machine import (
    choose,
    imagenet_file,
    import_timm,
    offline,
    out_of_memory,
    reachable,
    seeded,
)
from effml.zoo import pin


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
    """A model with `classes` outputs (logits), in eval mode. No global generator moves.

    Args:
        name: One of MODELS (lenet5, mlp, unet, …) or any architecture of timm; for volumes
            resnet18_3d, unet3d, or slices: before a name of timm (the 2.5-D way).
        in_channels: Channels of the images (N, in_channels, size, size), or of volumes.
        classes: Number of outputs.
        size: Pixels of a side.
        weights: "random" (drawn from `seed`), "imagenet" (`name`.….safetensors in a folder
            `weights` in or beside EFFML_DATA, else timm's own, from its cache or the network) or a
            .safetensors file; a head of another width is drawn anew.
        seed: Default: that of the caller's torch.manual_seed, or 0 where there was none.

    Returns:
        The model.

    Raises:
        ValueError: There is no such model.
        WeightsUnavailable: The weights cannot be had.

    Example:
        >>> model = effml.build_model("lenet5", classes=3, seed=1)
        >>> sum(p.numel() for p in model.parameters())
        61111
    """
    if seed is None:  # where nobody has seeded torch, its seed is a random number of 64 bits
        seed = torch.initial_seed() if torch.initial_seed() < 2**32 else 0
    with seeded(seed):
        build = _own if name in MODELS else _sliced if name.startswith(SLICES) else _timms
        return build(name, in_channels, classes, size, weights).eval()


def _own(name: str, in_channels: int, classes: int, size: int, weights: str) -> nn.Module:
    if weights == "imagenet":
        raise WeightsUnavailable(f"There are no ImageNet weights for {name}: choose one of timm.")
    model = MODELS[name](in_channels, classes, size)
    if weights != "random" and not _load_file(model, weights):
        what = f"{name} for {classes} classes of {in_channels}×{size}×{size} px"
        raise WeightsUnavailable(f"{weights} does not fit {what}.")
    return model


def _timms(name: str, in_channels: int, classes: int, size: int, weights: str) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, [*MODELS, *timm.list_models()], n=6))
        hint = f"; did you mean {near}?" if near else " (timm.list_models() lists them)."
        choose("model", name, MODELS, f", or a name of timm{hint}")
    from timm.models import get_pretrained_cfg

    fit = {"in_chans": in_channels, "num_classes": classes}
    made_for = get_pretrained_cfg(name)  # ViT, say: one position embedding per patch
    if made_for and made_for.fixed_input_size and made_for.input_size[-1] != size:
        fit["img_size"] = size
    model = _small_head(timm.create_model(name, **fit))
    if weights == "imagenet":
        weights = _imagenet(name)
    if weights == "random" or weights != "imagenet" and _load_file(model, weights):
        return model
    source = {"pretrained_cfg_overlay": {"file": weights}} if weights != "imagenet" else {}
    timm.models.set_pretrained_check_hash()  # of .pth files, whose names hold its first digits
    try:
        model = timm.create_model(name, **fit, pretrained=True, **source)  # stem and head adapted
    except Exception as error:  # of many kinds, from the hub to the shapes
        raise WeightsUnavailable(
            f"The weights {weights!r} of {name} could not be loaded ({type(error).__name__}: "
            f"{error}). Connect to the network once, or give the path of a .safetensors file."
        ) from error
    return model if classes == model.pretrained_cfg["num_classes"] else _small_head(model)


def _imagenet(name: str) -> str:
    """The file of a model's ImageNet weights, that which `zoo` pins; "imagenet" where none is at
    hand and none pinned: timm takes what it has."""
    pinned, file = pin(name), imagenet_file(name)
    if file is None and (offline() or not reachable("huggingface.co")):
        from huggingface_hub import constants  # without a network timm tries for 47 s

        constants.HF_HUB_OFFLINE = True
    if file is None and pinned["revision"]:
        from huggingface_hub import hf_hub_download

        hub, revision = pinned["hub"], pinned["revision"]
        try:
            file = hf_hub_download(hub, "model.safetensors", revision=revision)
        except OSError as error:
            raise WeightsUnavailable(
                f"The weights of {name} ({hub}, revision {revision}) could not be had "
                f"({type(error).__name__}: {error}). Connect to the network once, or put them as "
                f"{name}.safetensors into a folder weights beside EFFML_DATA."
            ) from error
    if file and pinned["sha256"]:
        with open(file, "rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != pinned["sha256"]:
            told = f"{file} has the SHA-256 {found}, that of {name} is {pinned['sha256']}."
            raise WeightsUnavailable(f"{told} Delete it and get it again.")
    return str(file or "imagenet")


def _sliced(name: str, *how: Any) -> nn.Module:
    return OfSlices(_timms(name.removeprefix(SLICES), *how))


class OfSlices(nn.Module):
    """The 2.5-D way: a 2-D net of timm looks at every slice of a volume (N, C, D, H, W) along D;
    each feature counts where it is largest (as in Su et al. 2015), and its last layer answers."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net.get_classifier(), nn.Linear):
            raise ValueError(
                f"{type(net).__name__} does not end with one linear layer: choose one "
                "that does, such as slices:resnet18."
            )
        self.net = net

    def get_classifier(self) -> nn.Module:
        return self.net.get_classifier()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slices = x.transpose(1, 2).flatten(0, 1)
        seen = self.net.forward_head(self.net.forward_features(slices), pre_logits=True)
        return self.net.get_classifier()(seen.unflatten(0, (len(x), -1)).amax(1))


def _small_head(model: nn.Module) -> nn.Module:
    """timm's EfficientNets and MobileNets draw the last layer from ±1/√classes, as for a thousand
    classes; with two, logits of ±15 drown what the features say for the first epochs. A layer as
    large as that gets the size of torch's own, whose weights are drawn from ±1/√inputs."""
    for layer in _known(model):
        if isinstance(layer, nn.Linear) and not layer.weight.is_meta:
            size, bound = float(layer.weight.detach().std()), layer.in_features**-0.5
            if size > bound:
                layer.weight.data *= bound / 3**0.5 / size
    return model


def _lenet5(in_channels: int, classes: int, size: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998): 6-16-120-84, average pooling, and ReLU instead of tanh."""
    side = (size // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"lenet5 needs images of at least 12 px, not {size}.")
    first = [nn.Conv2d(in_channels, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)]
    second = [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *second, *_dense(16 * side * side, 120, 84, classes))


def _lenet_srinivas(in_channels: int, classes: int, size: int) -> nn.Module:
    """The LeNet of Srinivas & Babu (2015), Caffe's: 20-50-500, maximum pooling; theirs had a ReLU
    after fc500 only."""
    side = ((size - 4) // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"lenet_srinivas needs images of at least 16 px, not {size}.")
    first = [nn.Conv2d(in_channels, 20, 5), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *second, *_dense(50 * side * side, 500, classes))


def _perceptron(hidden: tuple[int, ...], in_channels: int, classes: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *_dense(in_channels * size * size, *hidden, classes))


def _dense(*widths: int) -> list[nn.Module]:
    """Linear layers with ReLU between them."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return layers[:-1]


def _resnet18_medmnist(in_channels: int, classes: int, size: int) -> nn.Module:
    """ResNet-18 with MedMNIST's stem: 3×3 of stride 1, without pooling (Yang et al. 2023)."""
    model = import_timm().create_model("resnet18", in_chans=in_channels, num_classes=classes)
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _resnet18_3d(in_channels: int, classes: int, size: int) -> nn.Module:
    """torchvision's ResNet-18 of 3-D convolutions, its stem that of ResNet on all three axes
    (7×7×7, stride 2, pooled)."""
    import_timm()  # which mends torchvision
    from torchvision.models.video import r3d_18

    model, first = r3d_18(num_classes=classes), nn.Conv3d(in_channels, 64, 7, 2, 3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    model.stem = nn.Sequential(first, nn.BatchNorm3d(64), nn.ReLU(), nn.MaxPool3d(3, 2, 1))
    return model


_AXES = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}


class ResidualBlock(nn.Module):
    """Two 3×3 (or 3×3×3) convolutions, and a 1×1 one beside them."""

    def __init__(self, axes: int, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        conv, norm = _AXES[axes]
        first = [conv(inputs, outputs, 3, stride, 1, bias=False), norm(outputs), nn.ReLU()]
        second = [conv(outputs, outputs, 3, 1, 1, bias=False), norm(outputs)]
        self.body = nn.Sequential(*first, *second)
        self.skip = conv(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.skip(x))


class ResidualUNet(nn.Module):
    """Residual U-Net (Zhang et al. 2018; four levels of 16 to 128 channels): logits
    (N, classes, H, W) or (N, classes, D, H, W) for images of any size from 8 px on."""

    def __init__(self, axes: int, in_channels: int, classes: int, size: int) -> None:
        super().__init__()
        widths = (16, 32, 64, 128)
        first = ResidualBlock(axes, in_channels, widths[0])
        down = [first, *(ResidualBlock(axes, a, b, 2) for a, b in pairwise(widths))]
        up = (ResidualBlock(axes, a + b, b) for a, b in pairwise(widths[::-1]))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.head = _AXES[axes][0](widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for block in self.down:
            seen.append(x := block(x))
        for block, beside in zip(self.up, seen[-2::-1]):
            x = block(torch.cat([functional.interpolate(x, beside.shape[2:]), beside], 1))
        return self.head(x)


class Part(nn.Module):
    """A model as the only part of another, for tools that add modules to what they are given: a
    Sequential would call these too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


MODELS = {
    "lenet5": _lenet5,
    "lenet300_100": partial(_perceptron, (300, 100)),  # LeCun et al. 1998
    "mlp": partial(_perceptron, (128,)),
    "lenet_srinivas": _lenet_srinivas,
    "resnet18_medmnist": _resnet18_medmnist,
    "resnet18_3d": _resnet18_3d,
    "unet": partial(ResidualUNet, 2),
    "unet3d": partial(ResidualUNet, 3),
}
SEGMENTING = ("unet", "unet3d")
SLICES = "slices:"  # before a name of timm: volumes, slice by slice


def takes_volumes(name: str) -> bool:
    return name in ("resnet18_3d", "unet3d") or name.startswith(SLICES)


def first_weight(model: Any, what: str = "model") -> torch.Tensor:
    """Its first parameter, which says where and in which type it computes. ValueError for what is
    no model, or has no parameters."""
    advice = "Give an nn.Module with weights, such as effml.build_model('lenet5')."
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"{model!r:.60}"
        advice = f"Give {model.__name__}(…)." if isinstance(model, type) else advice
        raise ValueError(f"{what} must be a model, got {kind}. {advice}")
    if (weight := next(model.parameters(), None)) is None:
        raise ValueError(f"{what}: {type(model).__name__} has no parameters. {advice}")
    return weight


def answer(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the model gives for a batch: one tensor. ValueError where it does not take the batch,
    or gives something else."""
    kind = type(model).__name__
    try:
        outputs = model(x)
    except Exception as error:  # of many kinds: the model's own
        if out_of_memory(error):
            raise
        given = f"{tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}"
        raise ValueError(
            f"{kind} does not take this batch ({given}); it says: {error}. Give images (N, C, H, "
            "W) with as many channels and pixels as it was made for: images[:, None] adds a "
            "channel, numpy.moveaxis(images, -1, 1) brings the last axis there."
        ) from error
    if not isinstance(outputs, torch.Tensor):
        given = f"{kind} gives a {type(outputs).__name__}"
        raise ValueError(f"{given}, not one tensor of logits. Wrap it so that it does.")
    return outputs


class Taking(TorchDispatchMode):
    """A context in which `numbers` becomes True where a forward takes one out of a tensor: an if on
    a value, .item(). Not in inference mode, which hides it."""

    numbers = False

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        self.numbers |= call is torch.ops.aten._local_scalar_dense.default
        return call(*args, **(kwargs or {}))


def takes_values(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether its forward decides by values, of which a traced graph has one branch only."""
    with seeded(0), torch.no_grad(), Taking() as taking:
        answer(model, x.clone())
    return taking.numbers


def as_input(batch: Any) -> torch.Tensor:
    """A batch as models take it: images of uint8 normalised, as effml.data.normalize does."""
    x = torch.as_tensor(batch)
    if x.dtype == torch.uint8:
        return x.div(127.5).sub_(1)
    if x.ndim > 2 and not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise ValueError(f"Images are {kind}. Give uint8 from 0 to 255, or floats from −1 to 1.")
    return x


def count(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Parameters, those that are not zero, and MACs of one image (1, C, H, W)."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(example)
    weights = [*model.parameters()]
    nonzero = sum(int(p.count_nonzero()) for p in weights)
    macs, params = flops.get_total_flops() // 2, sum(p.numel() for p in weights)
    return {"params": params, "nonzero_params": nonzero, "macs": macs}


def head(model: nn.Module, example: torch.Tensor | None = None) -> nn.Module:
    """The layer whose outputs are the answer, or a ModuleList of several (a distilled transformer
    answers with the mean of two). timm's models know them (`get_classifier`), and in a Sequential
    it is the last. With an `example`, images as the model takes them, that is checked, and in other
    models they are found: the answer must be a function of their outputs alone, with nothing to
    train behind them. Raises ValueError where there are none, or none without an `example`."""
    layers = _known(model) if example is None else _answering(model, example)
    if not layers:
        told = f"Which layer of {type(model).__name__} gives the answer cannot be told"
        raise ValueError(f"{told} without an image. Give example=, a batch as the model takes it.")
    return layers[0] if len(layers) == 1 else nn.ModuleList(layers)


def _known(model: nn.Module) -> list[nn.Module]:
    """timm's classifier, or the last layer of a Sequential; none in other models."""
    if hasattr(model, "get_classifier"):
        return _trained(model.get_classifier())
    layer = model
    while isinstance(layer, nn.Sequential):
        layer = next((m for m in reversed(layer) if _trained(m)), None)
    return [layer] if layer is not model and _multiplies(layer) else []


def _trained(given: Any) -> list[nn.Module]:
    """The modules with parameters in a module or nested lists of them."""
    if isinstance(given, (tuple, list, nn.ModuleList)):
        return [layer for part in given for layer in _trained(part)]
    return [given] if isinstance(given, nn.Module) and any(True for _ in given.parameters()) else []


def _multiplies(layer: nn.Module | None) -> bool:
    return isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))


def _answering(model: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    """Those known, if the answer to `example` is a function of them alone, else linear layers and
    convolutions from the last called on, until no other parameter reaches the answer."""
    heads = _known(model)
    trace = _trace(model, example, heads)
    if heads and (trace.beside or trace.chained):
        heads, trace = [], _trace(model, example, [])
    while trace.beside or trace.chained:
        more = [m for m in trace.called if not trace.beside.isdisjoint(m.parameters())]
        if trace.chained or not more:
            names = [name for name, p in model.named_parameters() if p in trace.beside][:3]
            others = f"{', '.join(names) or 'the image'} has a part in it behind or beside them"
            why = "one of them sees what another gives" if trace.chained else others
            raise ValueError(
                f"{type(model).__name__} has no last layer whose outputs alone are the answer: "
                f"{why}. Choose a model that ends with a linear layer or a convolution."
            )
        heads.insert(0, more[-1])
        trace = _trace(model, example, heads)
    return heads


@contextmanager
def visiting(model: nn.Module) -> Iterator[list[Any]]:
    """Within it the model is in eval mode; afterwards modes and requires_grad are as before, and
    the hooks put into the list are gone."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    hooks: list[Any] = []
    try:
        model.eval()
        yield hooks
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
        for p, grad in wanted:
            p.requires_grad_(grad)


def _trace(model: nn.Module, example: torch.Tensor, heads: list[nn.Module]) -> SimpleNamespace:
    """What one image did: what the heads were given and gave, the linear layers and convolutions
    `called`, in order, what has a part in the answer `beside` the outputs of the heads (parameters,
    or the image), and whether one head sees the outputs of another (`chained`)."""
    inputs, outputs, called = [], [], []

    def cut(layer: nn.Module, given: tuple, output: torch.Tensor) -> torch.Tensor:
        inputs.append(given[0])
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # what follows may change it in place

    parameters = list(model.parameters())
    weight = parameters[0] if parameters else example.float()
    x = example[:1].detach().to(weight.device, copy=True)
    if x.is_floating_point():  # token ids are whole numbers, and have no gradient
        x = x.to(weight.dtype).requires_grad_()
    with visiting(model) as hooks, torch.enable_grad(), seeded(0):
        for layer in filter(_multiplies, model.modules()):
            hooks.append(layer.register_forward_hook(lambda layer, *_: called.append(layer)))
        hooks += [layer.register_forward_hook(cut) for layer in heads]
        given = answer(model.requires_grad_(True), x)
        parts = _reach(given, [*outputs, *([x] if x.requires_grad else []), *parameters])
        chained = any(_reach(seen, outputs) for seen in inputs)
    found = {"answer": given, "inputs": inputs, "outputs": outputs, "called": called}
    beside = parts ^ {*outputs}  # also a head that has no part in the answer
    return SimpleNamespace(**found, beside=beside, chained=chained)


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
        whole = trace.inputs[0].shape[2:] == getattr(layer, "kernel_size", ())
        one_place = type(layer) is nn.Linear or layer.groups == 1 and not any(layer.padding)
        plain = whole and one_place and layer.bias is not None
    if not plain or not trace.outputs[0].flatten().equal(trace.answer.flatten()):
        kinds = " and ".join(type(m).__name__ for m in layers)
        raise ValueError(
            "grand is exact for an answer W h + b of one linear layer, and "
            f"{type(model).__name__} ends with {kinds} and takes their outputs otherwise. Choose "
            "el2n, or a proxy that ends with one linear layer, such as lenet5 or resnet18."
        )


def embed(model: nn.Module, loader: Any) -> torch.Tensor:
    """What the last layer of a model sees of each image: its features. Where several layers give
    the answer and see different things, these stand side by side. The model is left as it is.

    Args:
        model: Any module that gives one tensor and ends with a linear layer or a convolution.
        loader: A DataLoader or another iterable of batches: tensors, or tuples that begin with one;
            or all inputs as one tensor, array or Split. Images of uint8 are normalised to −1…1.

    Returns:
        Features (N, D) float32, on the CPU, in the order of the loader.

    Raises:
        ValueError: What the loader gives is no batch, or the model has no such last layer.

    Example:
        >>> images = effml.load_dataset("phantom-chest").val.images
        >>> effml.embed(effml.build_model("lenet5"), images[:20]).shape
        torch.Size([20, 84])
    """
    weight, layers, seen, rows = first_weight(model), [], [], []

    def note(layer: nn.Module, inputs: tuple) -> None:
        if not any(inputs[0] is one for one in seen):
            seen.append(inputs[0])

    with visiting(model) as hooks:
        for x in _batches(loader):
            x = x.to(weight) if x.is_floating_point() else x.to(weight.device)
            if not layers:
                layers = _answering(model, x)
                hooks += [layer.register_forward_pre_hook(note) for layer in layers]
            with torch.inference_mode():
                if len(answer(model, x)) != len(x):
                    raise ValueError("Give batches, images (N, C, H, W), not single images.")
                rows.append(torch.cat([h.reshape(len(x), -1) for h in seen], 1).float().cpu())
                seen.clear()
    if not rows:
        raise ValueError("The loader gave no batch. Give one that is not empty or used up.")
    return torch.cat(rows)


def _batches(loader: Any, size: int = 512) -> Iterator[torch.Tensor]:
    """The inputs batch by batch, images of uint8 normalised."""
    if not hasattr(loader, "__iter__"):
        loader = getattr(loader, "images", loader)  # of a Split
    if hasattr(loader, "shape"):
        loader = torch.as_tensor(loader).split(size)
    for batch in loader:
        x = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
        if not hasattr(x, "shape") or len(x.shape) < 2:
            got = f"shape {tuple(x.shape)}" if hasattr(x, "shape") else type(x).__name__
            kinds = "images (N, C, H, W) or rows (N, D), or a tuple that begins with them"
            raise ValueError(f"A batch is {kinds}; got {got}.")
        if len(x):
            yield as_input(x)


def weights_bytes(model: nn.Module) -> bytes:
    """The state dict as safetensors: no pickle, the same bytes for the same weights."""
    from safetensors.torch import save

    tensors = model.state_dict().items()  # clones: tied layers share one
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors})


def _load_file(model: nn.Module, weights: str) -> bool:
    """Load a file into `model` if every tensor fits; else change nothing and return False."""
    from safetensors.torch import load_file

    if not Path(weights).is_file():
        raise WeightsUnavailable(
            f"There is no weights file {weights}. Give 'random', 'imagenet', the path of a "
            ".safetensors file, or the id of an earlier run in this store that kept its weights "
            "(done by sweep; effml.run keeps no record: of its run give STORE/RUN_ID.safetensors)."
        )
    try:
        tensors = load_file(weights)
    except Exception as error:  # safetensors' own error is no public class
        raise WeightsUnavailable(f"{weights} is no .safetensors file: {error}") from error
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if fits := {name: tensor.shape for name, tensor in tensors.items()} == own:
        model.load_state_dict(tensors)
    return fits
