"""A page to try a trained model on one image; `flows/try_model.py` is the command."""
