# What every shape policy shares. File, input, output and codebase names are the bundle's and the task's own
# (deploy/trace.py), whatever an MMDeploy config says of them.
onnx_config = dict(type="onnx", opset_version=17, input_shape=None)
