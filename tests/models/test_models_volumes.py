"""Classifiers of volumes: a 3-D ResNet-18, and a 2-D net slice by slice."""

import pytest
import torch

import effml
from effml.experiment.prepare import check_data


def test_resnet18_in_3d():
    model = effml.build_model("resnet18_3d", in_channels=1, classes=2, size=28, seed=1)
    blocks = sum(p.numel() for name, p in model.named_parameters() if name.startswith("layer"))
    stem, head = 64 * (3 * 3 * 7 * 7 + 2), 400 * 513
    assert blocks == 33_371_472 - stem - head  # torchvision's table of r3d_18
    assert model(torch.zeros(2, 1, 28, 28, 28)).shape == (2, 2)
    kinds = {type(m).__name__ for m in model.modules()}
    assert not {"Conv2d", "BatchNorm2d", "AdaptiveAvgPool2d"} & kinds


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vgg11", "densenet121"])
def test_slices_are_seen_alone_and_their_largest_features_count(name):
    flat = effml.build_model(name, in_channels=1, classes=3, size=32, seed=2)
    model = effml.build_model(f"slices:{name}", in_channels=1, classes=3, size=32, seed=2)
    assert all(a.equal(b) for a, b in zip(flat.parameters(), model.parameters()))
    x = torch.randn(2, 1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer = model(x)
        assert torch.allclose(model(x[:, :, :1]), flat(x[:, :, 0]), atol=1e-5)
        assert torch.allclose(model(x[:, :, [2, 0, 3, 1]]), answer, atol=1e-5)
        seen = [
            flat.forward_head(flat.forward_features(one), pre_logits=True) for one in x.unbind(2)
        ]
        by_hand = flat.get_classifier()(torch.stack(seen).max(0).values)
        assert torch.allclose(answer, by_hand, atol=1e-5)
    assert effml.embed(model, x).shape == (2, flat.get_classifier().in_features)


def test_models_and_data_of_other_axes_do_not_go_together():
    images = torch.randint(0, 256, (8, 1, 8, 8, 8), dtype=torch.uint8)
    data = effml.Dataset.of(images, torch.arange(8) % 2, test=(images[:4], torch.arange(4) % 2))
    for name in ("resnet18_3d", "slices:resnet18"):
        check_data(data, effml.Recipe(model=name))
        with pytest.raises(ValueError, match="does not fit"):
            check_data(effml.load_dataset("phantom-chest"), effml.Recipe(model=name))
    for name in ("resnet18", "unet3d"):
        with pytest.raises(ValueError, match="resnet18_3d, or a name of timm slice by slice"):
            check_data(data, effml.Recipe(model=name))
    with pytest.raises(ValueError, match="Unknown model 'slices:nothing'"):
        effml.Recipe(model="slices:nothing")
    with pytest.raises(ValueError, match="one linear layer"):
        effml.build_model("slices:deit_tiny_distilled_patch16_224", size=32)
