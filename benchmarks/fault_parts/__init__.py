"""Parts of benchmarks/faults.py; tests/faults runs them too, at a few trials each."""
