"""The stage that trains a method."""
