"""A classifier of handwritten digits: 8×8 grey images in, ten scores out.

The weights in `digits.npz` come from `train.py`.
"""

from pathlib import Path

import numpy as np

import tessera as ts

HERE = Path(__file__).parent


class Digits(ts.Module):
    """Two hidden layers; `x: (batch, 64)` pixels of 0 to 16, result `(batch, 10)` scores."""

    def __init__(self, dtype=ts.f32):
        super().__init__()
        self.dtype = dtype
        self.layers = [
            ts.Linear(64, 128, dtype=dtype),
            ts.GELU(),
            ts.Linear(128, 64, dtype=dtype),
            ts.ReLU(),
            ts.Linear(64, 10, dtype=dtype),
        ]

    def forward(self, x: ts.Tensor[ts.f32, "batch", 64]):
        x = ts.cast(x / 16.0, self.dtype)
        for layer in self.layers:
            x = layer(x)
        return ts.softmax(ts.cast(x, ts.f32), axis=-1)


def load(dtype=ts.f32):
    """The trained model, its weights rounded to `dtype`."""
    model = Digits(dtype)
    with np.load(HERE / "digits.npz") as weights:
        model.load_state_dict({name: weights[name].astype(dtype.numpy) for name in weights.files})
    return model


def held_out():
    """The 360 images that training never saw: pixels `(360, 64)` float32, labels `(360,)`."""
    with np.load(HERE / "held_out.npz") as data:
        return data["images"].astype(np.float32), data["labels"]


digits_f32 = load(ts.f32)
digits_bf16 = load(ts.bf16)
