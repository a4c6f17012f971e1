"""Formats of image files, one module each: from bytes to arrays.

`pipelines.images` says what becomes of them; nothing else should import these modules. Errors of the libraries are let
through: `pipelines.images` turns them into reason codes.
"""
