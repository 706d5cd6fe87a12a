from tessera.deploy import TracingConfig
from opentelemetry import trace

# Setup distributed tracing
TracingConfig.setup(
    service_name="tessera-model",
    jaeger_endpoint="http://jaeger:14268/api/traces"
)

tracer = trace.get_tracer(__name__)

# Trace inference
def traced_inference(input_data):
    with tracer.start_as_current_span("inference") as span:
        span.set_attribute("input.shape", str(input_data.shape))
        
        # Preprocessing
        with tracer.start_span("preprocessing"):
            processed = preprocess(input_data)
        
        # Model inference
        with tracer.start_span("model_forward"):
            output = model(processed)
        
        # Postprocessing
        with tracer.start_span("postprocessing"):
            result = postprocess(output)
        
        span.set_attribute("output.shape", str(result.shape))
        return result
