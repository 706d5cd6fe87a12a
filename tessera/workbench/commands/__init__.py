"""One module per command. Heavy imports stay inside the functions: `--help` loads these modules."""
