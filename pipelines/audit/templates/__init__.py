"""Templates and styles of the report."""
