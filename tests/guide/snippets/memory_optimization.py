from tessera.deploy import MemoryOptimizer

# Optimize memory usage
mem_optimizer = MemoryOptimizer()

# Analyze memory patterns
analysis = mem_optimizer.analyze_model(model_package)

# Apply optimizations
mem_optimizer.apply_optimizations({
    "enable_memory_pooling": True,
    "pool_size": "8GB",
    "enable_tensor_reuse": True,
    "enable_gradient_checkpointing": False,  # Inference only
    "max_workspace_size": "2GB"
})

# Memory-efficient inference
class MemoryEfficientServer:
    def __init__(self, model_package):
        self.model = load_model(model_package)
        self.memory_pool = create_memory_pool("8GB")
        
    def infer(self, input_data):
        # Reuse memory buffers
        with self.memory_pool.get_buffer() as buffer:
            output = self.model(input_data, workspace=buffer)
        return output
