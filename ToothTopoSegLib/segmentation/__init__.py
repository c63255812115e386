"""From a scan to labels: preprocessing, tiling, the integer network in ONNX Runtime, and the pipeline."""
