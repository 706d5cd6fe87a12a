from tessera.deploy import RuntimeOptimizer

# Optimize runtime configuration
optimizer = RuntimeOptimizer(model_package="deployment.tsd")

# Profile model
profile = optimizer.profile(
    test_inputs=generate_test_inputs(),
    num_iterations=100
)

# Get optimization recommendations
recommendations = optimizer.analyze(profile)
print(f"Recommended batch size: {recommendations.optimal_batch_size}")
print(f"Recommended memory pool: {recommendations.memory_pool_size}")
print(f"Recommended num workers: {recommendations.num_workers}")

# Apply optimizations
optimized_config = optimizer.optimize(
    target_latency_ms=10,
    target_throughput_qps=1000
)

# Save optimized configuration
optimized_config.save("runtime_config.json")
