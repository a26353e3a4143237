"""The PyTorch ladder, which the engines are compared with: one file a rung, each defines `BACKEND`."""
