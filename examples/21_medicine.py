"""Medicine: a second opinion, with its confidence.

569 patients with a lump in the breast; 30 numbers describe the cell nuclei under the microscope; a later examination
told which lumps were malignant (Street, Wolberg & Mangasarian 1993). The same framework that writes poems learns to
tell them apart. But a doctor needs more than a yes or no: how many malignant cases are found at how many false alarms
(the ROC curve; the area under it is the chance that a malignant case gets the higher score), and whether "80 % sure" is
right in 80 % of such cases (calibration). The reference is logistic regression, a single neuron: on a table as small as
this one, it is hard to beat, and the result says so: the network is right about as often, but trained this long it is
far too sure of itself, and the log loss (the cross-entropy on unseen patients) shows what the accuracy hides. Every
patient is judged by a model that has never seen him or her: the patients are split into five parts, and each part is
judged by a model that learned from the other four.

    python examples/21_medicine.py

takes about 2 seconds on 2 CPU cores. The last lines look like this:

    claim: both are right in over 95 %: logistic regression 98.07%, network 97.72%
    claim: on 569 patients the hidden layer makes no real difference: -0.35% of the answers
    claim: but it is too sure: log loss 0.134 against 0.074
    result: network=0.9772 logistic=0.9807 network_auc=0.9904 logistic_auc=0.9950
"""

from __future__ import annotations

import argparse

import common
import numpy as np
from common import pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim

FOLDS = 5


def patients() -> tuple[np.ndarray, np.ndarray]:
    """30 measurements of each of 569 patients (569, 30), and 1 where the lump was malignant (569,)."""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        common.fail("the table comes with scikit-learn: pip install 'tinygrad_z2g[examples]'")
    data = load_breast_cancer()
    return data.data, 1 - data.target  # there, 0 is malignant


def train(net: nn.Module, x: z2g.Tensor, t: z2g.Tensor, steps: int, weight_decay: float) -> list[float]:
    """Adam on all patients at once. Two scores, benign and malignant, go into cross-entropy; returns the losses."""
    optimizer = optim.AdamW(net.parameters(), lr=0.01, weight_decay=weight_decay)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(net(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def logistic_regression() -> nn.Module:
    """One weighted sum for each answer: (N, 30) -> (N, 2)"""
    return nn.Linear(30, 2)


def network() -> nn.Module:
    """A hidden layer of 32: (N, 30) -> (N, 2)"""
    return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 2))


def cross_validate(make, x: np.ndarray, t: np.ndarray, steps: int, args: argparse.Namespace) -> np.ndarray:
    """For each patient the probability of malignancy, by a model trained without that patient. (569,)"""
    part = np.random.default_rng(args.seed).permutation(len(t)) % FOLDS
    probability = np.zeros(len(t))
    for fold in range(FOLDS):
        asked = part == fold
        known = ~asked
        mean = x[known].mean(axis=0)  # of the known patients only: nothing leaks
        std = x[known].std(axis=0)
        z = z2g.tensor((x - mean) / std, dtype=z2g.float32, device=args.device)
        labels = z2g.tensor(t[known].astype(np.int64), device=args.device)
        net = make().to(args.device)
        losses = train(net, z[z2g.tensor(known, device=args.device)], labels, steps, weight_decay=0.1)
        net.eval()
        with z2g.no_grad():
            scores = net(z[z2g.tensor(asked, device=args.device)])
        probability[asked] = nn.functional.softmax(scores, dim=1)[:, 1].cpu().numpy()
        print(f"step {steps} of fold {fold + 1}  loss {losses[-1] if losses else float('nan'):.4f}")
    return probability


def roc(probability: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """False alarms and malignant cases found, as shares, for every threshold; and the area under the curve."""
    order = np.argsort(-probability)
    found = np.concatenate([[0], np.cumsum(t[order])]) / t.sum()
    alarms = np.concatenate([[0], np.cumsum(1 - t[order])]) / (1 - t).sum()
    return alarms, found, float(np.sum(np.diff(alarms) * (found[1:] + found[:-1]) / 2))


def calibration(probability: np.ndarray, t: np.ndarray) -> tuple[list[float], list[float], list[int]]:
    """In ten classes of probability: the mean stated, the share that was malignant, how many patients."""
    group = np.minimum((probability * 10).astype(int), 9)
    used = [g for g in range(10) if (group == g).any()]
    stated = [float(probability[group == g].mean()) for g in used]
    happened = [float(t[group == g].mean()) for g in used]
    patients_in = [int((group == g).sum()) for g in used]
    return stated, happened, patients_in


def main() -> None:
    args = common.parse(common.arguments("Benign or malignant, and how sure.", 300), steps=20)
    x, t = patients()
    z2g.manual_seed(args.seed)
    accuracy, area, log_loss, curves = {}, {}, {}, {}
    for name, make in (("logistic regression", logistic_regression), ("network", network)):
        probability = cross_validate(make, x, t, args.steps, args)
        accuracy[name] = float(np.mean((probability > 0.5) == t))
        alarms, found, area[name] = roc(probability, t)
        given = np.where(t == 1, probability, 1 - probability)  # the probability that it gave to what was true
        log_loss[name] = float(-np.log(np.maximum(given, 1e-7)).mean())  # float32 rounds some of them to 0
        curves[name] = alarms, found, *calibration(probability, t)
        print(f"{name}: {accuracy[name]:.2%} right, area under the ROC {area[name]:.4f}, log loss {log_loss[name]:.3f}")

    pictures.medicine(args, curves, area)
    if args.steps >= 300:
        common.claim(
            min(accuracy.values()) > 0.95 and min(area.values()) > 0.98,
            f"both are right in over 95 %: {', '.join(f'{name} {value:.2%}' for name, value in accuracy.items())}",
        )
        difference = accuracy["network"] - accuracy["logistic regression"]
        common.claim(
            abs(difference) < 0.02,
            f"on 569 patients the hidden layer makes no real difference: {difference:+.2%} of the answers",
        )
        common.claim(
            log_loss["network"] > log_loss["logistic regression"],
            f"but it is too sure: log loss {log_loss['network']:.3f} against {log_loss['logistic regression']:.3f}",
        )
    common.result(
        network=f"{accuracy['network']:.4f}",
        logistic=f"{accuracy['logistic regression']:.4f}",
        network_auc=f"{area['network']:.4f}",
        logistic_auc=f"{area['logistic regression']:.4f}",
    )


if __name__ == "__main__":
    main()
