"""Locations that may be URLs: of shards, and of sources' raw data."""

from urllib.parse import urlsplit

HTTP = ("http", "https")


def is_url(location: str) -> bool:
    """Whether a location is a URL, and not a path."""
    return "://" in location


def check_location(location: str) -> None:
    """Refuse a URL that holds a secret, or to which no file's name can be appended.

    Raises:
        ValueError: One line that says what to change; the secret is not repeated.
    """
    parts = urlsplit(location)
    # Azure's URLs name a container before the @, and that is no login.
    if is_url(location) and (parts.password or (parts.username and parts.scheme in HTTP)):
        raise ValueError("the URL holds a login: remove it, and give credentials where the storage's package looks")
    if is_url(location) and (parts.query or parts.fragment):
        raise ValueError("the URL ends in a query or fragment: give that of the folder alone")
