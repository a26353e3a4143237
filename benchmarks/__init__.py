"""Room 3: bundles → numbers → report. `python -m benchmarks run`: speed and accuracy of one artifact."""
