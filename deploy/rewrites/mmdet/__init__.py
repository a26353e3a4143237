"""Rewrites of mmdetection's own code, imported for its models only.

mmdet selects and suppresses image by image, in lists of any length. Here a batch goes through at one time, in tensors with
as many rows as the test config allows, and each image's rows are those that mmdet's list would hold, in its order.

A file here also has `RELIES_ON`: the methods that the original calls and the rewrite does the work of. A head with others of
its own is refused (`deploy.tasks.detection.check`).
"""
