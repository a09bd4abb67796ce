"""The PyTorch engine: engine.py needs no PyTorch until it loads it; the modules beside it import it."""

NO_TORCH = (
    "PyTorch is not installed: pip install torch safetensors, or pip install -r requirements-torch.txt in an "
    "environment of its own"
)
