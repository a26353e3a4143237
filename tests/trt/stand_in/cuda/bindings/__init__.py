"""Stand-in of cuda-bindings, for tests only: see tests/trt/trt_fixtures.py."""

__version__ = "13.0.0"
