"""Fetches the packages of package-lock.json into a folder, each held against the lock's SHA-512; none of their scripts runs.

The registry is the one that npm is set up to use. Usage: fetch.py FOLDER. Ends with 3 if it can't be reached.
"""

import base64
import hashlib
import http.client
import io
import json
import os
import re
import sys
import tarfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

PUBLIC = "https://registry.npmjs.org/"
MAX_BYTES = 128 << 20
SECONDS = 120


def registry() -> str:
    named = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY")
    settings = Path(os.environ.get("npm_config_userconfig") or Path.home() / ".npmrc")
    if not named and settings.exists():
        found = re.search(r"^\s*registry\s*=\s*\"?([^\s\"]+)", settings.read_text(), re.MULTILINE)
        named = found and found[1]
    return (named or PUBLIC).rstrip("/") + "/"


def fetch(base: str, folder: Path, place: str, package: dict[str, str]) -> None:
    name = place.rsplit("node_modules/", 1)[1]
    url = f"{base}{name}/-/{name.rsplit('/', 1)[-1]}-{package['version']}.tgz"
    with urllib.request.urlopen(url, timeout=SECONDS) as response:
        archive = response.read(MAX_BYTES + 1)
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != package["integrity"]:
        raise SystemExit(f"fetch: `{url}` is not what package-lock.json says: it has {digest}")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            # Archives of npm hold one folder, of any name; whatever is no plain file in it is left out.
            path = PurePosixPath(member.name.partition("/")[2])
            if member.isfile() and path.name and ".." not in path.parts and not path.is_absolute():
                to = folder / place / path
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(tar.extractfile(member).read())
                to.chmod(0o755 if member.mode & 0o100 else 0o644)


def main() -> None:
    folder, base = Path(sys.argv[1]), registry()
    lock = json.loads((Path(__file__).parent / "package-lock.json").read_text())
    packages = {place: package for place, package in lock["packages"].items() if place}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: fetch(base, folder, *one), packages.items()))


if __name__ == "__main__":
    try:
        main()
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        print(f"fetch: {error}", file=sys.stderr)
        sys.exit(3)
