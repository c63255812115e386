"""Quantization: from a trained float network to one integer ONNX graph, and the proof that it is one."""
