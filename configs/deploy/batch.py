# Any number of images of the test pipeline's own size.
_base_ = ["./_base_.py"]
onnx_config = dict(dynamic_axes=dict(input={0: "batch"}))
