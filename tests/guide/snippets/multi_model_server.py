from tessera.deploy import MultiModelServer

# Serve multiple models from single server
server = MultiModelServer()

# Register models
server.register_model(
    name="model_v1",
    package="model_v1.tsd",
    version="1.0.0",
    device="cuda:0"
)

server.register_model(
    name="model_v2",
    package="model_v2.tsd",
    version="2.0.0",
    device="cuda:1"
)

# Route requests to specific models
@server.endpoint("/predict/{model_name}")
async def predict(model_name: str, request):
    model = server.get_model(model_name)
    output = await model.infer(request.input)
    return {"model": model_name, "output": output}

# A/B testing support
@server.endpoint("/predict/ab")
async def ab_test(request):
    # Route percentage of traffic to different models
    if random.random() < 0.1:  # 10% to v2
        model = server.get_model("model_v2")
    else:
        model = server.get_model("model_v1")
    
    output = await model.infer(request.input)
    return {"output": output}
