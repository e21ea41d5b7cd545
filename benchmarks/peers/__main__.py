"""`python -m benchmarks.peers`: make the environment of the peers, `.venv/peers`, from benchmarks/requirements.txt."""

import subprocess
import sys

from benchmarks.rivals import PEERS, ROOT

if __name__ == "__main__":
    if not PEERS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS.parents[1])], check=True)
    command = [str(PEERS), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "-r", str(ROOT / "benchmarks" / "requirements.txt")], check=True)
