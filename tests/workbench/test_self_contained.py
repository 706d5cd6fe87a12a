"""Which files mean the same each time they are run."""

import sys
from pathlib import Path

import pytest

from tessera.workbench.self_contained import NotSelfContainedError, self_contained

from .conftest import KERNELS

HEAD = "import math\nimport numpy as np\nfrom numba import cuda, float32\nimport tessera as ts\n"
PLAIN = {
    "kernels": KERNELS,
    "constant": "TABLE = np.arange(8, dtype=np.float32) * math.pi\n",
    "shared": "def k(x):\n    part = cuda.shared.array(32, float32)\n    part[cuda.threadIdx.x] = x[0]\n",
    "model": (
        "class Net(ts.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = ts.Parameter(np.ones((4, 4), np.float32))\n"
        "    def forward(self, x: ts.Tensor[ts.f32, 'n', 4]) -> ts.Tensor:\n"
        "        return ts.matmul(x, self.w)\nnet = Net()\n"
    ),
    "raises": "def k(n):\n    if n < 0:\n        raise ValueError(f'{n} is negative')\n",
    "closure": "import functools\n@functools.cache\ndef make(n):\n    return lambda x: x * n\n",
    "main": "if __name__ == '__main__':\n    import os\n    print(os.environ, open('x').read())\n",
    "gpu": "from tessera import gpu\ndef k(a):\n    gpu.lane_id() if a else None\n",
}


@pytest.mark.parametrize("name", PLAIN)
def test_file_of_kernels_and_constants_is_self_contained(tmp_path: Path, name: str) -> None:
    text = PLAIN[name].replace("gpu.lane_id()", "gpu." + sorted(_gpu_names())[0])
    (tmp_path / "kernels.py").write_text(HEAD + text)
    assert self_contained(tmp_path / "kernels.py", sys.path) == {"": tmp_path / "kernels.py"}


def _gpu_names() -> list[str]:
    from tessera import gpu

    return [name for name in gpu.__all__ if not name.startswith("_")]


DOUBTFUL = {
    "random": "W = np.random.rand(4)\n",
    "uninitialised": "W = np.empty(4)\n",
    "data": "W = np.load('w.npy')\n",
    "from-file": "W = np.fromfile('w.bin')\n",
    "array-method": "np.zeros(3).tofile('x')\n",
    "weights-without-seed": "layer = ts.Linear(4, 4)\n",
    "randn": "x = ts.randn(4)\n",
    "cuda-c++": "k = ts.cuda_kernel('k.cu', entry='k')\n",
    "environment": "import os\nN = int(os.environ['N'])\n",
    "time": "import time\nN = time.time()\n",
    "machine": "N = cuda.current_context()\n",
    "has-gpu": "N = 2 if cuda.is_available() else 3\n",
    "another-name": "lib = np\nW = lib.random.rand(4)\n",
    "renamed": "from numpy import random as r\nW = r.rand(4)\n",
    "by-string": "W = getattr(np, 'ran' + 'dom').rand(4)\n",
    "evaluated": "W = eval('1 + 1')\n",
    "open": "N = len(open('size').read())\n",
    "print": "print('hello')\n",
    "dunder": "N = ts.relu.__globals__\n",
    "import-function": "os = __import__('os')\n",
    "importlib": "import importlib\n",
    "unknown-package": "import scipy\n",
    "perhaps-missing": "try:\n    import not_here\nexcept ImportError:\n    pass\n",
    "relative": "from . import other\n",
    "star": "from math import *\n",
    "library-star": "from numpy import *\n",
    "annotation": "def f(x: '__import__(\"os\")'):\n    pass\n",
    "linked-file": "f = cuda.jit(link=['f.cu'])(lambda: 0)\n",
    "where-it-lies": "N = len(__file__)\n",
    "hash": "N = hash('a')\n",
    "identity": "N = id(ts)\n",
    "syntax": "def\n",
    "main-with-else": "if __name__ == '__main__':\n    pass\nelse:\n    import os\n",
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_file_that_may_do_something_else_next_time_is_not(tmp_path: Path, name: str) -> None:
    (tmp_path / "kernels.py").write_text(HEAD + DOUBTFUL[name])
    with pytest.raises(NotSelfContainedError):
        self_contained(tmp_path / "kernels.py", sys.path)


def test_files_that_it_imports_are_found_and_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(HEAD + "import scaling\nfrom deep import BASE\n")
    (tmp_path / "scaling.py").write_text("from deep import BASE\nRATE = BASE * 2\n")
    (tmp_path / "deep.py").write_text("BASE = 0.5\n")
    found = self_contained(tmp_path / "kernels.py", sys.path)
    assert found == {
        "": tmp_path / "kernels.py",
        "scaling": tmp_path / "scaling.py",
        "deep": tmp_path / "deep.py",
    }
    (tmp_path / "deep.py").write_text("import os\nBASE = 0.5\n")
    with pytest.raises(NotSelfContainedError, match="import os"):
        self_contained(tmp_path / "kernels.py", sys.path)


@pytest.mark.parametrize(
    "text",
    ["W = scaling.np.random.rand(3)\n", "from scaling import np as lib\nW = lib.random.rand(3)\n"],
    ids=["attribute", "from"],
)
def test_library_reached_through_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "kernels.py").write_text("import scaling\n" + text)
    (tmp_path / "scaling.py").write_text("import numpy as np\n")
    with pytest.raises(NotSelfContainedError):
        self_contained(tmp_path / "kernels.py", sys.path)


def test_own_file_named_like_a_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("import dataclasses\n")
    (tmp_path / "dataclasses.py").write_text("import os\n")
    with pytest.raises(NotSelfContainedError):
        self_contained(tmp_path / "kernels.py", sys.path)
