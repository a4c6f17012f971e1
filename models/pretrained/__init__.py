"""A checkpoint of CLIP's, SigLIP's or BiomedCLIP's shape, evaluated as it is."""
