from tessera.deploy import Diagnostics

# Run diagnostics
diagnostics = Diagnostics()

# Check system requirements
if not diagnostics.check_cuda_version():
    print("CUDA version mismatch. Required: >=11.8")

if not diagnostics.check_gpu_capability():
    print("GPU compute capability too low. Required: >=7.0")

# Check package integrity
if not diagnostics.verify_package("deployment.tsd"):
    print("Package corrupted. Re-download or recompile.")

# Memory diagnostics
mem_status = diagnostics.check_memory()
if mem_status.available < mem_status.required:
    print(f"Insufficient GPU memory. Required: {mem_status.required}GB")

# Performance diagnostics
perf = diagnostics.benchmark_model("deployment.tsd")
if perf.latency > perf.target_latency:
    print(f"Performance degradation detected: {perf.latency}ms > {perf.target_latency}ms")
    print("Recommendations:")
    for rec in perf.recommendations:
        print(f"  - {rec}")
