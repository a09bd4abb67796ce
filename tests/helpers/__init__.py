"""What several tests share: data to make, nets and runs to start, processes to watch, and where things lie."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
