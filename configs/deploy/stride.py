# Any number of images of any size; a segmenter's logits keep the network's stride and the runtime resizes them: up to 64
# times less to copy from a GPU.
_base_ = ["./dynamic.py"]
codebase_config = dict(logits="stride")
