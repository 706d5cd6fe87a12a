from tessera.deploy import LoadBalancer, ModelReplica

# Create load balancer with multiple replicas
balancer = LoadBalancer()

# Add model replicas on different GPUs
for gpu_id in range(4):
    replica = ModelReplica(
        model_package="model_deployment.tsd",
        device=f"cuda:{gpu_id}",
        max_batch_size=32
    )
    balancer.add_replica(replica)

# Configure load balancing strategy
balancer.set_strategy("least_loaded")  # or "round_robin", "latency_aware"

# Serve requests
async def serve_request(request):
    # Load balancer automatically routes to best replica
    output = await balancer.infer(request.input)
    return output
