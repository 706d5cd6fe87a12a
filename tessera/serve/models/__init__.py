"""Several models in one server: names, versions, loading and unloading, and who gets which request."""
