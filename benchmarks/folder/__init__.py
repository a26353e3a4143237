"""How fast whole folders of images become predictions: `ort_infer`, `slipway_runtime` and PyTorch in one run."""
