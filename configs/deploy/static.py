# One image of the test pipeline's own size: every shape in the graph is a constant.
_base_ = ["./_base_.py"]
