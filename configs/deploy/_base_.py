# What every shape policy shares: MMDeploy's own keys. The codebase and the outputs come from the experiment's task.
onnx_config = dict(
    type="onnx",
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=17,
    save_file="model.onnx",
    input_names=["input"],
    input_shape=None,
    optimize=False,
)
backend_config = dict(type="onnxruntime")
