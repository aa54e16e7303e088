"""Low-rank layers: a layer's matrix W (outputs, inputs) becomes U (outputs, r) times V (r, inputs).
By channel (Denton et al. 2014) the inputs of a convolution are patches (I·kh·kw): one of r channels
and a 1×1 one. Spatial (Jaderberg et al. 2014): (O·kw, I·kh), a kh×1 and a 1×kw convolution."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, linear, pad

from effml.compression.compressor import Job, Layers, Outcome, compressor
from effml.machine import choose, seeded
from effml.models import head, visiting

SCHEMES = ("channel", "spatial")
_ALONG = {"stride": 1, "padding": 0, "dilation": 1, "padding_mode": "zeros"}  # and across: nothing
IMAGES = 128  # of `data` are enough to weigh the inputs with
Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@compressor()
def svd(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Linear and convolutional layers in two (convolutions by channel), of rank `keep` × outputs,
    at most the full rank. A layer that would not get smaller, and the head, stay. With `data` the
    error of the outputs on them is minimised, not that of the weights."""
    return _factorized(model, job, "channel", lambda full, energies: round(keep * full))


@compressor()
def svd_spatial(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`svd` with convolutions as kh×1 and 1×kw, of rank `keep` × output channels."""
    return _factorized(model, job, "spatial", lambda full, energies: round(keep * full))


@compressor()
def svd_energy(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`svd` where `keep` is the fraction of the energy (squared singular values): layers get the
    rank they need."""
    return _factorized(model, job, "channel", lambda full, energies: rank_of_energy(energies, keep))


@compressor()
def svd_spatial_energy(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`svd_energy` with convolutions as kh×1 and 1×kw."""
    return _factorized(model, job, "spatial", lambda full, energies: rank_of_energy(energies, keep))


def rank_of_energy(energies: torch.Tensor, keep: float) -> int:
    """The smallest rank whose energies (largest first) sum to the fraction `keep` of all."""
    share = energies.clamp(min=0).cumsum(0) / energies.clamp(min=0).sum()
    return int((share < keep - 1e-12).sum()) + 1


def break_even(outputs: int, inputs: int) -> float:
    """The rank from which on two factors hold as many weights as the matrix (outputs, inputs):
    mn / (m + n)."""
    return outputs * inputs / (outputs + inputs)


def low_rank(matrix: torch.Tensor, gram: torch.Tensor | None = None) -> Factors:
    """Left factor U (m, s), right factor V (s, n) and energies (s,), largest first, of W (m, n):
    U[:, :r] V[:r] is the best approximation of rank r, s the full rank.

    Where one side is twice the other or more, through the smaller Gram matrix, W Wᵀ or Wᵀ W, whose
    eigenvectors are the singular vectors, in float64; else torch's SVD, which is faster there. With
    the `gram` matrix E[(W x)(W x)ᵀ] (m, m) of the products, E‖(W − UV) x‖² is least (Denton et al.
    2014, §3.2, with the data's covariance).
    """
    weight = matrix.detach().double()
    m, n = weight.shape
    if gram is None and max(m, n) < 2 * min(m, n):
        u, s, v = torch.linalg.svd(matrix.detach().float(), full_matrices=False)
        return (u * s).double(), v.double(), s.double() ** 2
    if gram is None and n < m:
        energies, vectors = torch.linalg.eigh(weight.T @ weight)
        vectors = vectors.flip(1)
        return weight @ vectors, vectors.T, energies.flip(0)
    if gram is not None:  # half precision has no eigenvectors
        gram = gram.to(torch.promote_types(gram.dtype, torch.float32))
    energies, vectors = torch.linalg.eigh(weight @ weight.T if gram is None else gram)
    vectors = vectors.flip(1).double()
    return vectors, vectors.T @ weight, energies.flip(0).double()


def as_matrix(layer: nn.Module, scheme: str) -> torch.Tensor:
    """The weights of a linear layer or a convolution as (outputs, inputs) of the scheme."""
    weight = layer.weight.detach()
    if weight.ndim == 2 or scheme == "channel":
        return weight.flatten(1)
    return weight.permute(0, 3, 1, 2).flatten(2).flatten(0, 1)  # (O, I, kh, kw) → (O·kw, I·kh)


@seeded(0)  # torch draws new layers before they are filled
def two_layers(layer: nn.Module, rank: int, scheme: str) -> nn.Sequential:
    """The two layers that stand for `layer`, of this rank, with weights still to be filled in."""
    like, bias = (
        {"device": layer.weight.device, "dtype": layer.weight.dtype},
        layer.bias is not None,
    )
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False, **like)
        return nn.Sequential(first, nn.Linear(rank, layer.out_features, bias=bias, **like))
    ways = {name: getattr(layer, name) for name in _ALONG}
    if scheme == "channel":
        kernels, down, across = (layer.kernel_size, 1), ways, {}
    else:
        kernels = (layer.kernel_size[0], 1), (1, layer.kernel_size[1])
        words = {name: way for name, way in ways.items() if isinstance(way, str)}  # such as "same"
        down = {name: (way[0], _ALONG[name]) for name, way in ways.items()} | words
        across = {name: (_ALONG[name], way[1]) for name, way in ways.items()} | words
    first = nn.Conv2d(layer.in_channels, rank, kernels[0], **down, bias=False, **like)
    second = nn.Conv2d(rank, layer.out_channels, kernels[1], **across, bias=bias, **like)
    return nn.Sequential(first, second)


def factorize_layer(
    layer: nn.Module, rank: int, scheme: str = "channel", *, factors: Factors | None = None
) -> nn.Sequential:
    """`layer` as two of this rank, whether that is smaller or not (`factors` from `low_rank`, if
    they are known). Raises ValueError for a rank, scheme or layer of which there are none."""
    choose("scheme", scheme, SCHEMES)
    if not factorable(layer):
        raise ValueError(f"{layer} cannot be factorised: give a Linear, or a Conv2d with groups=1.")
    matrix = as_matrix(layer, scheme)
    if not 1 <= rank <= min(matrix.shape):
        m, n = matrix.shape
        raise ValueError(
            f"rank={rank} is not possible for a {m} × {n} matrix: 1 to {min(m, n)} is."
        )
    left, right, _ = factors or low_rank(matrix)
    pair, weight = two_layers(layer, rank, scheme), layer.weight
    first, second = right[:rank], left[:, :rank]
    if weight.ndim == 4 and scheme == "channel":
        first, second = first.unflatten(1, weight.shape[1:]), second[..., None, None]
    elif weight.ndim == 4:
        first = first.unflatten(1, weight.shape[1:3])[..., None]  # (r, I, kh, 1)
        second = second.unflatten(0, (len(weight), -1)).transpose(1, 2)[:, :, None]  # (O, r, 1, kw)
    pair[0].weight.data.copy_(first)
    pair[1].weight.data.copy_(second)
    if layer.bias is not None:
        pair[1].bias.data.copy_(layer.bias.detach())
    return pair.train(layer.training)


def factorable(layer: nn.Module) -> bool:
    """Whether a layer has these factors: exactly Linear or Conv2d (a subclass may compute something
    else), of one group."""
    return type(layer) is nn.Linear or type(layer) is nn.Conv2d and layer.groups == 1


def _factorized(
    model: nn.Module, job: Job, scheme: str, rank_of: Callable[[int, torch.Tensor], int]
) -> Outcome:
    """`rank_of(full, energies)` gives each layer's rank; `full` is the most it can have."""
    kept = total = 0
    layers: Layers = {}
    candidates = {name: layer for name, layer in model.named_modules() if factorable(layer)}
    try:
        answer = {*head(model, job.example).modules()}
    except ValueError:  # no head to be found: the last of the layers
        answer = {*[*candidates.values()][-1:]}
    candidates = {name: layer for name, layer in candidates.items() if layer not in answer}
    idle = _not_called(model, candidates, job.example)
    candidates = {name: layer for name, layer in candidates.items() if name not in idle}
    grams = {}
    if job.data is not None:
        grams = job.once("grams", lambda: product_grams(model, candidates, scheme, job.data))
    for name, layer in candidates.items():
        matrix = as_matrix(layer, scheme)
        factors = job.once(name, lambda: low_rank(matrix, grams.get(name)))
        full = min(len(layer.weight), *matrix.shape)
        rank = max(1, rank_of(full, factors[2]))
        total += full
        if rank >= break_even(*matrix.shape):
            kept += full
            continue
        kept += min(rank, full)
        layers[name] = {"kind": "svd", "scheme": scheme, "rank": rank}
        model.set_submodule(name, factorize_layer(layer, rank, scheme, factors=factors))
    notes = []
    if not layers:
        notes.append("No layer gets smaller at these ranks: the model stays. Give a smaller keep.")
    if idle:
        stay = "Layers that the model does not call as such stay as they are"
        notes.append(f"{stay}: {', '.join(idle)}.")
    return Outcome(model, kept / total if total else 1.0, layers, notes)


def _not_called(model: nn.Module, layers: dict[str, nn.Module], example: torch.Tensor) -> list[str]:
    """The layers whose forward does not run: some models read a layer's weights themselves. Watched
    without hooks, in whose presence torch's encoder layers take another way."""
    called = set()

    def watched(name: str, forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *inputs: called.add(name) or forward(*inputs)

    for name, layer in layers.items():
        layer.forward = watched(name, layer.forward)
    try:
        with torch.no_grad():
            model(example[:1])
    finally:
        for layer in layers.values():
            del layer.forward
    return [name for name in layers if name not in called]


def product_grams(
    model: nn.Module, layers: dict[str, nn.Module], scheme: str, data: torch.Tensor
) -> dict[str, torch.Tensor]:
    """E[(W x)(W x)ᵀ] (m, m) of each layer's matrix W (m, n) over what the layer sees of the first
    IMAGES images, in one pass. For the spatial scheme W x is what a kh×1 convolution gives, whose
    columns are weighed as if they were independent."""
    sums: dict[str, list[Any]] = {name: [0.0, 0] for name in layers}

    def adding(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            weight, x = as_matrix(layer, scheme), inputs[0]
            if layer.weight.ndim == 2:
                rows = linear(x, weight).flatten(0, -2)
            else:
                kernel, stride = layer.weight.shape[1:], layer.stride
                if scheme == "spatial":
                    kernel, stride = (*kernel[:2], 1), (stride[0], 1)
                mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
                x = pad(x, layer._reversed_padding_repeated_twice, mode)
                x = conv2d(x, weight.reshape(-1, *kernel), None, stride, 0, layer.dilation)
                rows = x.transpose(0, 1).flatten(1).T
            sums[name][0] += rows.T @ rows
            sums[name][1] += len(rows)

        return add

    with visiting(model) as hooks, torch.no_grad():
        hooks += [layer.register_forward_pre_hook(adding(name)) for name, layer in layers.items()]
        for batch in data[:IMAGES].split(32):
            model(batch)
    return {name: total / n for name, (total, n) in sums.items()}
