"""An S3-compatible server on loopback, moto's, with a bucket into which a test puts files."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

BUCKET = "hospital"
# What botocore asks for; the server takes any.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass
class S3Server:
    """A running server.

    Attributes:
        endpoint: Its URL, which stands in AWS_ENDPOINT_URL.
        process: Its own.
    """

    endpoint: str
    process: subprocess.Popen[str]

    def storage(self) -> Any:
        """s3fs, as botocore finds it in the environment."""
        return fsspec.filesystem("s3", use_listings_cache=False)

    def put(self, folder: Path, prefix: str) -> str:
        """Copy a folder's files into the bucket; returns the URL of the prefix."""
        storage = self.storage()
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                storage.pipe_file(f"{BUCKET}/{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)


@contextmanager
def serving_s3() -> Iterator[S3Server]:
    """A server in a process of its own, until the end of the block; the environment names it meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    port = next(line.strip() for line in process.stdout if line.strip().isdigit())  # moto says more
    endpoint = f"http://127.0.0.1:{port}"
    before = {name: os.environ.get(name) for name in (*ENVIRONMENT, "AWS_ENDPOINT_URL")}
    os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=endpoint)
    known = fsspec.get_filesystem_class("s3")
    known.clear_instance_cache()  # of another endpoint
    server = S3Server(endpoint, process)
    try:
        server.storage().mkdir(BUCKET)
        yield server
    finally:
        known.clear_instance_cache()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for the tests of a process; each test has folders of its own in the bucket."""
    with serving_s3() as server:
        yield server


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Makes this process forget what it knows of storage, as if another one ran; so do the test's start and end."""

    # Here, for every test's process loads this file.
    from pipelines import archives, opened, storage

    def clear() -> None:
        for known in (storage.version, storage._listing, archives._cached_archive, opened._stacks):
            known.cache_clear()
        opened._LAST._files.clear()

    clear()
    yield clear
    clear()
