# Export entire model for deployment
from tessera.deploy import ModelExporter

class MyModel(ts.Module):
    def __init__(self):
        super().__init__()
        self.layers = [...]
    
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

model = MyModel()

# Export model with all kernels compiled
exporter = ModelExporter(
    model=model,
    example_inputs=ts.randn(1, 512, 1024),
    target_architectures=["sm_80", "sm_90"],
    optimization_level=3
)

# Export to deployment package
deployment_package = exporter.export(
    output_path="model_deployment.tsd",
    include_weights=True,
    quantization="int8"  # Optional quantization
)
