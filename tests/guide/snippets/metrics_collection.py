from tessera.deploy import MetricsCollector
import prometheus_client

# Setup metrics
metrics = MetricsCollector()

# Define custom metrics
inference_counter = prometheus_client.Counter(
    'inference_requests_total',
    'Total inference requests'
)

inference_latency = prometheus_client.Histogram(
    'inference_latency_seconds',
    'Inference latency'
)

gpu_utilization = prometheus_client.Gauge(
    'gpu_utilization_percent',
    'GPU utilization percentage'
)

# Collect metrics during inference
@metrics.track
def inference_with_metrics(input_data):
    inference_counter.inc()
    
    with inference_latency.time():
        output = model(input_data)
    
    # Update GPU metrics
    gpu_utilization.set(get_gpu_utilization())
    
    return output

# Export metrics
metrics.export_to_prometheus(port=9090)
