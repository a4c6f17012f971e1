"""Template of the page that shows a source."""
