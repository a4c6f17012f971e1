"""The stage that finds candidate regions with models or weight-free rules, and gives them masks."""
