"""Images: the same framework sees.

A letter was a number; a picture is a grid of them. The filters of step 13, which look at neighbours in a line of
letters, here look at neighbours in the plane: a small window of weights slides over the image and answers
wherever its pattern stands (LeCun et al. 1989, Neural Computation 1:541). Pooling keeps the strongest answer of each
neighbourhood, so that a stroke may be a pixel further left. What comes out goes into a linear layer, one score for each
digit, and cross-entropy as ever. The data are 1,797 real handwritten digits, 8 by 8 pixels, of which a fifth
is held out. The reference is a linear layer on the bare pixels.

    python examples/20_images.py

takes about 7 seconds on 2 CPU cores. The last lines look like this:

    claim: the conv net reads 99.17% of the held-out digits, a linear layer 95.28%
    result: accuracy=0.9917 linear=0.9528 mistakes=3
"""

from __future__ import annotations

import argparse

import common
import numpy as np
from common import pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim


def digits(seed: int, device: str) -> tuple[z2g.Tensor, ...]:
    """Images (N, 1, 8, 8) in 0..1 and labels (N,), four fifths to learn from and one fifth held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        common.fail("the digits come with scikit-learn: pip install 'tinygrad_z2g[examples]'")
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = (data.images[order] / 16).astype(np.float32)[:, None]  # (1797, 8, 8) -> (1797, 1, 8, 8)
    labels = data.target[order].astype(np.int64)
    cut = len(order) * 4 // 5
    parts = images[:cut], labels[:cut], images[cut:], labels[cut:]
    return tuple(z2g.tensor(part, device=device) for part in parts)


class ConvNet(nn.Module):
    """Two layers of filters, each followed by pooling, and a linear layer: (N, 1, 8, 8) -> (N, 10)"""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: z2g.Tensor) -> z2g.Tensor:
        x = self.pool(self.conv1(x).relu())  # (N, 1, 8, 8) -> (N, 16, 4, 4)
        x = self.pool(self.conv2(x).relu())  # (N, 16, 4, 4) -> (N, 32, 2, 2)
        return self.out(self.dropout(x.flatten(1)))  # (N, 32, 2, 2) -> (N, 128) -> (N, 10)


def train(net: nn.Module, images: z2g.Tensor, labels: z2g.Tensor, steps: int, args: argparse.Namespace) -> None:
    """Adam on random batches of 64."""
    optimizer = optim.Adam(net.parameters(), lr=2e-3)
    bar = common.progress(steps)
    for step in bar:
        batch = z2g.randint(0, len(labels), (64,)).to(args.device)
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 5) == 0:
            bar.write(f"step {step:4d}  loss {loss.item():.4f}")


@z2g.no_grad()
def predict(net: nn.Module, images: z2g.Tensor) -> np.ndarray:
    """The digit with the highest score for each image."""
    net.eval()
    return net(images).argmax(dim=1).cpu().numpy()


def main() -> None:
    args = common.parse(common.arguments("A small convolutional net reads handwritten digits.", 1500), steps=60)
    images, labels, unseen, truth = digits(args.seed, args.device)
    truth = truth.cpu().numpy()
    z2g.manual_seed(args.seed)
    nets = {
        "linear layer": nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(args.device),
        "conv net": ConvNet().to(args.device),
    }
    accuracy = {}
    for name, net in nets.items():
        train(net, images, labels, args.steps, args)
        answers = predict(net, unseen)
        accuracy[name] = float(np.mean(answers == truth))
        size = sum(p.numel() for p in net.parameters())
        print(f"{name}: {size} weights, {accuracy[name]:.2%} of {len(truth)} held-out digits are right")
    wrong = np.flatnonzero(answers != truth)

    filters = nets["conv net"].conv1.weight.detach().cpu().numpy()[:, 0]  # (16, 1, 3, 3) -> (16, 3, 3)
    shown = unseen.cpu().numpy()[:, 0]  # (N, 1, 8, 8) -> (N, 8, 8)
    pictures.images(args, filters, [(shown[k], truth[k], answers[k]) for k in wrong])
    if args.steps >= 1500:
        common.claim(
            accuracy["conv net"] >= 0.97 and accuracy["conv net"] > accuracy["linear layer"],
            f"the conv net reads {accuracy['conv net']:.2%} of the held-out digits, a linear layer "
            f"{accuracy['linear layer']:.2%}",
        )
    common.result(accuracy=f"{accuracy['conv net']:.4f}", linear=f"{accuracy['linear layer']:.4f}", mistakes=len(wrong))


if __name__ == "__main__":
    main()
