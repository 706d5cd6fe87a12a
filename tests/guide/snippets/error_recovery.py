from tessera.deploy import ErrorRecovery

# Setup error recovery
recovery = ErrorRecovery(
    max_retries=3,
    retry_delay_ms=100,
    fallback_model="model_v1_stable.tsd"
)

@recovery.with_recovery
def robust_inference(input_data):
    try:
        return primary_model(input_data)
    except OutOfMemoryError:
        # Clear cache and retry
        clear_gpu_cache()
        return fallback_model(input_data)
    except Exception as e:
        # Log and use fallback
        logger.error(f"Inference failed: {e}")
        return fallback_response()
