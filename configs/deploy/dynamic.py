# Any number of images of any size.
_base_ = ["./_base_.py"]
onnx_config = dict(dynamic_axes=dict(input={0: "batch", 2: "height", 3: "width"}))
