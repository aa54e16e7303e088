"""Which layers give a model's answer: timm's notion checked, and own models traced."""

import pytest
import torch
from torch import nn

from effml import Recipe
from effml.machine import import_timm, seeded
from effml.models import build_model, check_linear, embed, head, weights_bytes
from effml.selection.proxy import select_images as select
from effml.training import train
from test_training import dots

IMAGES = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers are registered in another order than they are called: the answer comes from
    `first`."""

    def __init__(self, *, beside=False, behind=False, chained=False):
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.trunk = nn.Linear(32 * 32, 6)
        self.second = nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.ones(())) if behind else 1.0
        self.beside, self.chained = beside, chained

    def forward(self, x):
        h = self.trunk(x.flatten(1)).relu()
        z = self.first(h)
        if self.beside:
            z = (z + self.second(h * 2)) / 2
        if self.chained:
            z = z[:, :4] + self.second(nn.functional.pad(z, (0, 2)))
        return z * self.scale


def test_the_head_of_a_net_is_what_it_ends_with_and_not_what_is_registered_last():
    net = Net().train()
    net.trunk.requires_grad_(False)
    assert head(net, IMAGES) is net.first and head(net, IMAGES.double()) is net.first
    assert net.training and not net.trunk.weight.requires_grad and net.first.weight.grad is None
    assert not net.first._forward_hooks
    two = Net(beside=True)
    assert [*head(two, IMAGES)] == [two.first, two.second]
    h = torch.relu(two.trunk(IMAGES.flatten(1)))
    assert torch.allclose(embed(two, IMAGES.split(2)), torch.cat([h, 2 * h], 1), atol=1e-6)
    with pytest.raises(ValueError, match="Give example="):
        head(net)
    for wrong in ({"behind": True}, {"chained": True}):  # a scale; a layer that sees another
        with pytest.raises(ValueError, match="no last layer whose outputs alone"):
            head(Net(**wrong), IMAGES)
    with pytest.raises(ValueError, match="gives a tuple"):
        head(Pair(), IMAGES)


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    "name, kinds, parameters",
    [
        ("deit_tiny_distilled_patch16_224", ["Linear", "Linear"], 772),
        ("levit_128s", ["NormLinear", "NormLinear"], 3076),
        ("pit_ti_distilled_224", ["Linear", "Linear"], 1028),
        ("repvit_m0_9", ["RepVitClassifier"], 3076),
        ("dla34", ["Conv2d"], 1026),
        ("dpn68", ["Conv2d"], 1666),
    ],
)
def test_the_head_of_timm_s_models_is_what_timm_says_and_is_the_answer(name, kinds, parameters):
    with torch.device("meta"):  # a trace needs no numbers
        model = import_timm().create_model(name, num_classes=2)
        for found in (head(model), head(model, torch.zeros(1, 3, 224, 224))):
            layers = [*found] if isinstance(found, nn.ModuleList) else [found]
            assert [type(layer).__name__ for layer in layers] == kinds
            assert sum(p.numel() for p in found.parameters()) == parameters


@pytest.mark.parametrize("name", ["lenet5", "unet"])
def test_where_the_head_gives_zeros_so_does_the_model(name):
    model = build_model(name, size=32, seed=0)
    before, found = model(IMAGES), head(model, IMAGES)
    found.weight.data.zero_(), found.bias.data.zero_()
    assert before.abs().max() > 0 and not model(IMAGES).any()


def test_both_heads_of_a_distilled_transformer_are_trained():
    from timm.models.deit import VisionTransformerDistilled

    with seeded(0):
        model = VisionTransformerDistilled(
            img_size=28,
            patch_size=14,
            in_chans=1,
            num_classes=2,
            embed_dim=16,
            depth=1,
            num_heads=2,
        )
    before, data = {key: t.clone() for key, t in model.state_dict().items()}, dots()
    model.requires_grad_(False)
    head(model, IMAGES[..., :28, :28]).requires_grad_(True)
    train(model, data.only(torch.arange(32)), recipe=Recipe(epochs=1, batch_size=16))
    changed = {key for key, tensor in model.state_dict().items() if not tensor.equal(before[key])}
    assert changed == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    with pytest.raises(ValueError, match="of one linear layer, and VisionTransformerDistilled"):
        check_linear(model, IMAGES[..., :28, :28])
    assert embed(model, IMAGES[..., :28, :28]).shape == (3, 2 * 16)


def test_both_heads_are_drawn_anew_for_other_classes(tmp_path):
    name, file = "deit_tiny_distilled_patch16_224", tmp_path / "w.safetensors"
    model = build_model(name, classes=5, seed=1)
    file.write_bytes(weights_bytes(model))
    again = build_model(name, weights=str(file), seed=2)
    assert torch.equal(again.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)
    one, other = (layer.weight for layer in again.get_classifier())
    assert one.shape == other.shape == (2, 192) and not torch.equal(one, other)


class Capped(nn.Sequential):
    def forward(self, x):
        return 30 * torch.tanh(super().forward(x) / 30)


def test_grand_is_refused_where_its_formula_is_not_exact():
    flat = [nn.Flatten(), nn.Linear(1024, 8), nn.ReLU()]
    map_of_one = [nn.Conv2d(1, 8, 32), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.Flatten()]
    for model in (nn.Sequential(*flat, nn.Linear(8, 2)), nn.Sequential(*map_of_one)):
        check_linear(model, IMAGES)
        h = embed(model, IMAGES)
        layer = head(model)
        assert torch.allclose(h @ layer.weight.flatten(1).T + layer.bias, model(IMAGES), atol=1e-6)
    for model in (
        nn.Sequential(*flat, nn.Linear(8, 2, bias=False)),
        Capped(*flat, nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ):
        with pytest.raises(ValueError, match="Choose el2n, or a proxy"):
            check_linear(model, IMAGES)
    with pytest.raises(ValueError, match="give features='embedding'"):
        select(
            dots(), Recipe(selection="grand", proxy="mlp@1", features="pixels", train_fraction=0.1)
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_proxy_gives_embeddings_in_every_precision(precision):
    recipe = Recipe(
        selection="kcenter",
        proxy="mlp@1",
        features="embedding",
        train_fraction=0.1,
        precision=precision,
    )
    assert len(set(select(dots(), recipe)[0].tolist())) == 14
