"""What GPUs do right now, by NVML: sampled, marked, recorded, replayed, exported."""
