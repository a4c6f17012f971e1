"""Template, style and script of the audit's page."""
