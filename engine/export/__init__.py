"""A trained network as a file for others: ONNX, torch.export or safetensors, proved against its checkpoint."""
