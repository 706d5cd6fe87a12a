"""What a developer writes: jit, kernel, Tensor, Module and the operators."""
