"""AOTInductor: the model as machine code for one CPU thread, compiled by PyTorch's inductor and a C++ compiler.

PyTorch runs it, in Python or C++, on processors that have the instructions of the one it was made on.
Compiling happens in a process of its own (``python -m hpo.export.formats.aotinductor PROGRAM OUT``),
which can be stopped and keeps inductor's caches and settings out of ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hpo.errors import ExportFailed
from hpo.export.formats import Predict, Subject
from hpo.export.formats._program import exported, save

packages = ("torch",)
is_eager = False
is_program = True
largest_error = None
unverified = None
FILE = "model.pt2"
NAMES = "names.json"
TIMEOUT_S = 600.0
SETTINGS = {
    "cpp.threads": 1,  # otherwise the number of this machine's cores is compiled in
    "aot_inductor.enable_line_tables": False,
    "cpp_cache_precompile_headers": False,  # they would outlive this process in the machine's temporary folder
}


def write(subject: Subject, folder: Path) -> None:
    """Compile the captured program; of what inductor packs, only the machine code is kept.

    Raises:
        ExportFailed: there is no C++ compiler, it takes too long or fails; or what ``exported`` says.
        OSError: the file cannot be written.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ExportFailed(
            f"Compiling needs a C++ compiler; {compiler!r} is not there. Install g++, or name another in $CXX."
        )
    program = exported(subject)
    with tempfile.TemporaryDirectory(prefix="hpo-aotinductor-") as name:
        here = Path(name)
        save(program, here / "program.pt2", subject, example=True)
        _compile(here)
        _pack(here / FILE, folder / FILE, name)
    (folder / NAMES).write_text(json.dumps({"inputs": subject.inputs, "outputs": subject.outputs}), "utf-8")


def _compile(here: Path) -> None:
    command = [sys.executable, "-P", "-m", __name__, str(here / "program.pt2"), str(here / FILE)]
    paths = [path for path in (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")) if path]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(paths), "TORCHINDUCTOR_CACHE_DIR": str(here / "cache"),
        "OMP_NUM_THREADS": "1", "TMPDIR": str(here),
    }  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, env=environment, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ExportFailed(f"Compiling must end within {TIMEOUT_S:g} s; it did not.") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if "rror" in line), "nothing")
        raise ExportFailed(f"Compiling failed; its process ended with {done.returncode} and said: {said.strip()}")


def _pack(compiled: Path, path: Path, temporary: str) -> None:
    """Without the C++ sources, and with the paths that the compiler left in the code blanked."""
    import torch

    roots = [str(Path(torch.__file__).parents[1]), temporary]
    with zipfile.ZipFile(compiled) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as kept:
        for name in whole.namelist():
            if not name.endswith(".cpp"):
                content = whole.read(name)
                for root in roots:
                    content = content.replace(root.encode(), b"_" * len(root.encode()))
                kept.writestr(zipfile.ZipInfo(name), content)


def load(folder: Path, threads: int = 1) -> Predict:
    """The machine code as a function of arrays by name; matrix products alone heed ``threads``.

    Raises:
        RuntimeError: as PyTorch says, when the code is for another kind of machine.
    """
    import torch
    from torch._inductor import aoti_load_package

    from hpo.export.forward import predictor

    torch.set_num_threads(threads)
    names = json.loads((folder / NAMES).read_text("utf-8"))
    return predictor(aoti_load_package(str(folder / FILE)), names["inputs"], names["outputs"])


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"torch.from_numpy(example[{'inputs.' + name!r}])" for name in inputs)
    return f"""\
import torch
from torch._inductor import aoti_load_package

model = aoti_load_package("{folder}/{FILE}")
with torch.inference_mode():
    results = model({feed})
for name, value in zip({list(outputs)!r}, results):
    print(name, value.numpy().dtype, tuple(value.shape))
"""


def main(program: str, out: str) -> int:
    """Compile a saved program that holds its example."""
    import torch
    from torch._inductor import aoti_compile_and_package

    with torch.no_grad():
        aoti_compile_and_package(torch.export.load(program), package_path=out, inductor_configs=SETTINGS)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
