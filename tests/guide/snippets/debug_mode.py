from tessera.deploy import DebugMode

# Enable debug mode for detailed diagnostics
with DebugMode(verbose=True) as debug:
    # This will log detailed information
    model = load_model("deployment.tsd")
    
    # Trace execution
    debug.trace_execution(model, test_input)
    
    # Check for memory leaks
    debug.check_memory_leaks()
    
    # Profile kernel execution
    debug.profile_kernels()
    
    # Export debug report
    debug.export_report("debug_report.html")
