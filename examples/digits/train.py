"""Trains the digits classifier and writes `digits.npz` and `held_out.npz`.

    pip install scikit-learn && python examples/digits/train.py

The data are the 1797 digits that scikit-learn carries: the test part of
"Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI
Machine Learning Repository, CC BY 4.0). A fifth is held out, chosen by seed.
Plain NumPy and Adam; the same seed gives the same weights on the same NumPy.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
SIZES = (64, 128, 64, 10)
LAYERS = (0, 2, 4)
EPOCHS, BATCH, RATE, DECAY = 60, 64, 2e-3, 1e-4
Array = np.ndarray


def gelu(x: Array) -> tuple[Array, Array]:
    """GELU in its tanh form, and its derivative."""
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    t = np.tanh(inner)
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + t), slope


def relu(x: Array) -> tuple[Array, Array]:
    return np.maximum(x, 0), (x > 0).astype(x.dtype)


def gradients(weights: list[Array], biases: list[Array], x: Array, labels: Array) -> list[Array]:
    """Gradients of the mean cross-entropy, weights first, then biases."""
    inputs, slopes = [x], []
    for weight, bias, activation in zip(weights[:-1], biases[:-1], (gelu, relu), strict=True):
        value, slope = activation(inputs[-1] @ weight.T + bias)
        inputs.append(value)
        slopes.append(slope)
    scores = inputs[-1] @ weights[-1].T + biases[-1]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    delta = odds / odds.sum(axis=1, keepdims=True)
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    weight_grads, bias_grads = [], []
    for layer in reversed(range(3)):
        weight_grads.insert(0, delta.T @ inputs[layer])
        bias_grads.insert(0, delta.sum(axis=0))
        if layer:
            delta = (delta @ weights[layer]) * slopes[layer - 1]
    return weight_grads + bias_grads


def train(images: Array, labels: Array, rng: np.random.Generator) -> list[Array]:
    """Adam over shuffled batches, with pixel noise against overfitting."""
    weights = [rng.standard_normal((o, i)) * np.sqrt(2 / i) for i, o in pairwise(SIZES)]
    parameters = weights + [np.zeros(o) for o in SIZES[1:]]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    step = 0
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        rate = RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        for start in range(0, len(order), BATCH):
            picked = order[start : start + BATCH]
            noisy = images[picked] + rng.normal(0, 0.08, (len(picked), 64))
            step += 1
            for i, grad in enumerate(gradients(parameters[:3], parameters[3:], noisy, labels[picked])):
                first[i] = 0.9 * first[i] + 0.1 * grad
                second[i] = 0.999 * second[i] + 0.001 * grad**2
                move = (first[i] / (1 - 0.9**step)) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8)
                parameters[i] = parameters[i] - rate * (move + DECAY * parameters[i])
    return parameters


def main() -> None:
    rng = np.random.default_rng(7)
    data = load_digits()
    order = rng.permutation(len(data.data))
    test, rest = order[:360], order[360:]
    parameters = train(data.data[rest] / 16.0, data.target[rest], rng)
    named: dict[str, Array] = {}
    for layer, weight, bias in zip(LAYERS, parameters[:3], parameters[3:], strict=True):
        named[f"layers.{layer}.weight"] = weight.astype(np.float32)
        named[f"layers.{layer}.bias"] = bias.astype(np.float32)
    np.savez(HERE / "digits.npz", **named)
    np.savez(
        HERE / "held_out.npz",
        images=data.data[test].astype(np.uint8),
        labels=data.target[test].astype(np.uint8),
    )
    value = data.data[test] / 16.0
    for weight, bias, activation in zip(parameters[:2], parameters[3:5], (gelu, relu), strict=True):
        value = activation(value @ weight.T + bias)[0]
    right = (value @ parameters[2].T + parameters[5]).argmax(axis=1) == data.target[test]
    print(f"held-out accuracy {right.mean():.2%} ({right.sum()} of {len(right)})")


if __name__ == "__main__":
    main()
