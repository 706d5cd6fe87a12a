import tessera as ts
from tessera.deploy import AOTCompiler

# Define your model/kernel
@ts.jit
def my_kernel(x: ts.Tensor, W: ts.Tensor) -> ts.Tensor:
    y = ts.matmul(x, W)
    y = ts.relu(y)
    return y

# Create AOT compiler
compiler = AOTCompiler(
    target_architectures=["sm_70", "sm_80", "sm_90"],  # V100, A100, H100
    optimization_level=3,
    enable_fast_math=True
)

# Compile kernel
compiled_kernel = compiler.compile(
    my_kernel,
    input_specs=[
        ts.TensorSpec(shape=(None, 1024), dtype=ts.bf16),
        ts.TensorSpec(shape=(1024, 1024), dtype=ts.bf16)
    ]
)

# Save compiled kernel
compiled_kernel.save("my_kernel.tsc")
