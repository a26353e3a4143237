"""Room 2: checkpoint → bundle. `python -m deploy export`: one exact ONNX graph, verified, packed, torch-free to run."""
