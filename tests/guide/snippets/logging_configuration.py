from tessera.deploy import LoggingConfig
import logging

# Configure structured logging
LoggingConfig.setup(
    level=logging.INFO,
    format="json",
    output_file="/var/log/tessera/model.log",
    enable_rotation=True,
    max_bytes=100_000_000,  # 100MB
    backup_count=10
)

# Get logger
logger = logging.getLogger("tessera.deployment")

# Log with context
logger.info("Inference request", extra={
    "request_id": request_id,
    "model_version": "1.0.0",
    "input_shape": input_data.shape,
    "device": "cuda:0"
})
