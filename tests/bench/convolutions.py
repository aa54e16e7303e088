"""A training of ours, whose convolutions pick their way, beside a plain PyTorch loop.

Both train the same model on the same images in float32, channels last, with fused AdamW, and both validate after the
epoch; ours is metered too. A model is trained for two epochs before anything is timed, so that the shapes are known.
"""

import torch
from sklearn.metrics import roc_auc_score

from effml import Recipe, build_model, measure, train
from effml.data import Dataset, normalize
from tests.bench.common import compare

AIMED = (  # model, side, batch, aim: those of AVX2; with AVX-512 the library is the faster
    ("resnet18", 28, 128, 2.7),
    ("resnet34", 28, 128, 2.4),
    ("mobilenetv2_050", 28, 128, 2.3),
    ("mobilenetv3_small_100", 64, 32, 1.4),
    ("resnet18", 64, 32, 1.4),
    ("efficientnet_b0", 64, 32, 1.3),
    ("resnet50", 64, 32, 1.15),
    ("lenet5", 28, 128, 1.0),
)
SMALL = (  # of PePR's 131 architectures, 1 to 10 million parameters
    "dla46x_c mobilevitv2_050 semnasnet_075 convnext_atto mnasnet_100 ghostnet_100 hardcorenas_a fbnetc_100 "
    "mobilevit_s tinynet_a ese_vovnet19b_dw densenet121 resnet14t seresnext26ts"
).split()


def some(n: int, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, side, side), dtype=torch.uint8, generator=draw)
    return images, torch.arange(n) % 2


def plain_epoch(model: torch.nn.Module, data: Dataset, batch: int) -> None:
    last = {"memory_format": torch.channels_last}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()
    model.train()
    for index in torch.randperm(len(data.train)).split(batch):
        loss = loss_of(
            model(normalize(data.train.images[index]).to(**last)), data.train.labels[index]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    model.eval()
    with torch.inference_mode():
        logits = model(normalize(data.val.images).to(**last))
    roc_auc_score(data.val.labels.numpy(), logits.softmax(1)[:, 1].numpy())


def our_epoch(model: torch.nn.Module, data: Dataset, recipe: Recipe) -> None:
    with measure():
        train(model, data, recipe=recipe)


def main() -> None:
    for name, side, batch, aim in (*AIMED, *((name, 64, 32, 0.97) for name in SMALL)):
        data = Dataset.of(*some(8 * batch, side, 0), val=some(batch, side, 1))
        theirs, own = build_model(name, size=side), build_model(name, size=side)
        theirs.to(memory_format=torch.channels_last)
        recipe = Recipe(epochs=1, batch_size=batch)
        compare(
            f"{name}, {side} px, batch {batch}",
            lambda: plain_epoch(theirs, data, batch),
            lambda: our_epoch(own, data, recipe),
            5,
            aim,
        )
