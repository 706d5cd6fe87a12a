from tessera.deploy import AOTConfig, CompilationTarget

# Detailed compilation configuration
config = AOTConfig(
    # Target configurations
    targets=[
        CompilationTarget(
            architecture="sm_80",
            optimization_flags=["-O3", "--use_fast_math", "--maxrregcount=128"],
            tensor_core_config="auto"
        ),
        CompilationTarget(
            architecture="sm_90",
            optimization_flags=["-O3", "--use_fast_math"],
            enable_hopper_features=True,
            wgmma_config="m64n256k32"
        )
    ],
    
    # Compilation options
    enable_graph_optimization=True,
    enable_kernel_fusion=True,
    enable_autotuning=True,
    autotune_cache="autotune_cache.json",
    
    # Memory options
    max_shared_memory_per_block=163840,  # 160KB for H100
    
    # Debugging
    include_debug_info=False,
    generate_ptx=True,
    generate_cubin=True
)

# Compile with configuration
compiler = AOTCompiler(config)
