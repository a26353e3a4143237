"""What the processes of `faulty` are forked with: all that training and export import when they begin."""

from importlib import import_module

from train import compat

compat.use("mmpretrain")
_MODULES = (
    "matplotlib.pyplot",
    "sklearn.datasets",
    "benchmarks.__main__",
    "benchmarks.run",
    "deploy.__main__",
    "deploy.export",
)
for name in (*_MODULES, "deploy.parity", "deploy.trace", "train.__main__", "train.loop"):
    import_module(name)
