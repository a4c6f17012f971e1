"""Formats of image files, one module each: from bytes to arrays.

`pipelines.opened` holds a file's volume, `pipelines.images` says what becomes of a picture; nothing else should import
these modules. Errors of the libraries are let through: those two turn them into reason codes.
"""
