from tessera.deploy import DynamicBatcher

# Configure dynamic batching
batcher = DynamicBatcher(
    max_batch_size=32,
    max_latency_ms=10,
    padding_strategy="efficient",  # or "zero", "replicate"
    enable_sorting=True  # Sort by sequence length
)

# Batch inference server
class BatchedServer:
    def __init__(self, model):
        self.model = model
        self.batcher = batcher
        
    async def infer(self, request):
        # Add request to batch
        future = self.batcher.add_request(request)
        
        # Process when batch is ready
        if self.batcher.should_process():
            batch = self.batcher.get_batch()
            outputs = self.model.batch_inference(batch)
            self.batcher.return_results(outputs)
        
        # Wait for result
        return await future
