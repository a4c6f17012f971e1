"""The training loop. It stands alone: torch, transformers, numpy, pillow, safetensors and webdataset, nothing else."""
