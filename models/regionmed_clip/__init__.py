"""RegionMed-CLIP (paper 001): global and region alignment with hard negatives, trained in four phases."""
