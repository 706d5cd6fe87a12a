from tessera.deploy import PackageBuilder

builder = PackageBuilder()

# Add compiled kernels
builder.add_kernels(compiled_kernels, architectures=["sm_80", "sm_90"])

# Add model weights
builder.add_weights(model.state_dict(), compression="gzip")

# Add configuration
builder.add_config({
    "model_type": "transformer",
    "hidden_size": 1024,
    "num_layers": 24,
    "num_heads": 16
})

# Add runtime dependencies
builder.add_runtime_library("libtessera_rt.so")

# Build package
package = builder.build(
    name="my_model",
    version="1.0.0",
    metadata={
        "author": "MyCompany",
        "description": "Production transformer model",
        "requirements": {
            "cuda": ">=11.8",
            "memory": "16GB"
        }
    }
)

# Save package
package.save("my_model_v1.0.0.tsd")
