"""PLAN (paper 000): words aligned with soft regions of their image, over iterations that drop the lesser words."""
