"""What computes: one small contract, two implementations (OpenVINO and PyTorch)."""
