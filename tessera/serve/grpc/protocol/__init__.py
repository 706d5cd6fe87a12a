"""Messages of the protocols, made from the .proto files beside this by scripts/make_grpc_protocol.py."""
