from tessera.deploy import ProductionServer
import asyncio

# Create production server
server = ProductionServer(
    model_package="model_deployment.tsd",
    config={
        "host": "0.0.0.0",
        "port": 8080,
        "workers": 4,
        "max_batch_size": 32,
        "batch_timeout_ms": 10,
        "memory_pool_size": "8GB",
        "enable_metrics": True,
        "enable_tracing": True
    }
)

# Request handler
@server.endpoint("/predict")
async def predict(request):
    input_data = request.json["input"]
    output = await server.infer(input_data)
    return {"output": output}

# Health check
@server.endpoint("/health")
async def health():
    return {"status": "healthy", "gpu_memory": server.get_memory_usage()}

# Start server
if __name__ == "__main__":
    server.run()
