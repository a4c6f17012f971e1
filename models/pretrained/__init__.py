"""A checkpoint of CLIP's or SigLIP's shape in `transformers` format, evaluated as it is."""
