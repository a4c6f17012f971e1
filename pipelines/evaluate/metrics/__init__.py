"""Metrics: functions from arrays to numbers, without models and without files."""
