"""How clouds run a container that serves a model: ports, paths, bodies, and where the model lies."""
