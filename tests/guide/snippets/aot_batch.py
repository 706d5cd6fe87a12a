# Compile multiple kernels at once
from tessera.deploy import BatchCompiler

batch_compiler = BatchCompiler(config)

# Add kernels to compilation batch
batch_compiler.add_kernel(attention_kernel, name="attention")
batch_compiler.add_kernel(feedforward_kernel, name="feedforward")
batch_compiler.add_kernel(layernorm_kernel, name="layernorm")

# Compile all kernels
compiled_package = batch_compiler.compile_all()

# Save as single package
compiled_package.save("model_kernels.tsp")
