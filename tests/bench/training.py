"""Loading and training, and import.

The peer is a loop in the manner of MedMNIST's own training script (MedMNIST/experiments, train_and_eval_pytorch.py): a
PIL image per sample, torchvision's ToTensor and Normalize, a DataLoader in the main process, Adam, fp32, contiguous.
Both train the same model on the same images with the same batch size; neither evaluates.
"""

import statistics

from effml.machine import import_timm

import_timm()
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402

from effml import Recipe, build_model, load_dataset, native_precision  # noqa: E402
from effml.data import Dataset, Split, at_hand, normalize  # noqa: E402
from effml.training import train  # noqa: E402
from tests.bench import convolutions  # noqa: E402
from tests.bench.common import compare, time_of  # noqa: E402


class PerSample(torch.utils.data.Dataset):
    """Sample by sample, as MedMNIST's class does it."""

    def __init__(self, split: Split) -> None:
        self.images, self.labels = split.images[:, 0].numpy(), split.labels.numpy()[:, None]
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(mean=[0.5], std=[0.5])]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, np.ndarray]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i].astype(int)


def peer_epoch(model: torch.nn.Module, split: Split, batch_size: int) -> None:
    optimizer, loss_of = torch.optim.Adam(model.parameters(), lr=1e-3), torch.nn.CrossEntropyLoss()
    model.train()
    for inputs, targets in DataLoader(PerSample(split), batch_size=batch_size, shuffle=True):
        optimizer.zero_grad()
        loss = loss_of(model(inputs), targets.squeeze(1).long())
        loss.backward()
        optimizer.step()
        loss.item()


def peer_loading(split: Split, batch_size: int) -> None:
    for _ in DataLoader(PerSample(split), batch_size=batch_size, shuffle=True):
        continue


def our_loading(split: Split, batch_size: int) -> None:
    for index in torch.randperm(len(split)).split(batch_size):
        normalize(split.images.index_select(0, index)), split.labels[index]


def main() -> None:
    name = at_hand("pneumoniamnist|pneumoniamnist_reordered|phantom-chest")
    data = load_dataset(name)
    part = Dataset(name, data.task, data.classes, data.positive, {}, train=data.train)
    small = Dataset(
        name,
        data.task,
        data.classes,
        data.positive,
        {},
        train=Split(data.train.images[:1280], data.train.labels[:1280]),
    )
    print(
        f"{name}, {len(data.train)} images, batch 128, {torch.get_num_threads()} threads, native precision {native_precision()}"
    )
    compare(
        "loading alone",
        lambda: peer_loading(data.train, 128),
        lambda: our_loading(data.train, 128),
        7,
        60,
    )
    cases = [
        ("lenet5", "fp32", part, 9, 3.0),
        ("resnet18_medmnist", "fp32", small, 5, 1.1),
        ("resnet18", "fp32", small, 5, 2.5),
    ]
    if native_precision() == "amp_bf16":
        cases.append(("resnet18_medmnist", "amp_bf16", small, 5, 2.2))
    for model, precision, subset, repeats, aim in cases:
        theirs, own, one = (
            build_model(model),
            build_model(model),
            Recipe(epochs=1, precision=precision),
        )
        compare(
            f"loading + training, {model}, {precision}",
            lambda: peer_epoch(theirs, subset.train, 128),
            lambda: train(own, subset, recipe=one),
            repeats,
            aim,
        )
    convolutions.main()
    starts = [time_of("import effml") - time_of("pass") for _ in range(9)]
    print(
        f"import effml                                       {statistics.median(starts):6.3f} s (aim ≤ 0.15 s)"
    )
