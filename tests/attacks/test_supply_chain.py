"""A package of the right name and version from somebody else is not installed."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_package_with_another_content_is_refused_by_its_hash(tmp_path):
    pinned = (ROOT / "requirements" / "dev.txt").read_text()
    (version, lines) = re.search(
        r"^iniconfig==([\d.]+)((?: \\\n    --hash=\S+)+)", pinned, re.MULTILINE
    ).groups()
    (tmp_path / "requirements.txt").write_text(f"iniconfig=={version}{lines}\n")
    forged = tmp_path / f"iniconfig-{version}-py3-none-any.whl"
    with zipfile.ZipFile(forged, "w") as wheel:
        wheel.writestr("iniconfig/__init__.py", "raise SystemExit('taken over')\n")
        info = f"iniconfig-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: iniconfig\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    common = [sys.executable, "-m", "pip", "install", "--no-index", "--target", str(tmp_path / "place")]
    environment = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run(
        [*common, "--require-hashes", "-r", str(tmp_path / "requirements.txt")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "place").exists()
    without = subprocess.run(
        [*common, f"iniconfig=={version}"], env=environment, capture_output=True, check=False
    )
    assert without.returncode == 0  # what the hash is for
