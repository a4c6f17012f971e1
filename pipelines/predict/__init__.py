"""A trained model's answers about files of any kind; `flows/predict.py` is the command."""
