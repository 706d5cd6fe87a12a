from tessera.deploy import DeploymentPackage

# Load deployment package
package = DeploymentPackage.load("model_deployment.tsd")

# Initialize runtime
runtime = package.create_runtime(
    device="cuda:0",
    memory_pool_size="4GB",
    enable_profiling=False
)

# Run inference
def inference(input_data):
    with runtime:
        output = runtime.execute(input_data)
    return output

# Batch inference
def batch_inference(batch_data):
    with runtime:
        outputs = runtime.execute_batch(batch_data, max_batch_size=32)
    return outputs
