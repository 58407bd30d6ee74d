"""Fuzzes each target with atheris (libFuzzer), each in its own process: ``make fuzz SECONDS=60``.

An input that raises, or takes more than three seconds or 1 GB, ends the run. It is kept in the corpus, which
test_fuzz.py runs at every test.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
SLOW = 3  #: seconds that an input may take, on a shared machine, with tracing of each line


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz a target in this process."""
    import atheris

    with atheris.instrument_imports(include=["argus_ros"]):
        from fuzz.targets import TARGETS

        for seed in TARGETS[name].seeds:  # imports modules, so that no input is timed with them
            TARGETS[name].run(seed)
    atheris.Setup([name, *arguments], TARGETS[name].run)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args()
    if given.target:
        fuzz(given.target, rest)
        return 0
    from fuzz.targets import TARGETS

    CORPUS.mkdir(exist_ok=True)
    total, failed = 0, []
    for name, target in TARGETS.items():
        with tempfile.TemporaryDirectory() as seeds:
            for number, seed in enumerate(target.seeds):
                Path(seeds, str(number)).write_bytes(seed)
            done = subprocess.run(
                [
                    *(sys.executable, __file__, "--target", name),
                    f"-max_total_time={max(given.seconds // len(TARGETS), 1)}",
                    *(
                        f"-timeout={SLOW}",
                        "-rss_limit_mb=1024",
                        f"-max_len={target.longest}",
                        "-print_final_stats=1",
                    ),
                    f"-artifact_prefix={CORPUS}/{name}-",
                    seeds,
                ],
                capture_output=True,
                text=True,
                errors="replace",
            )
        runs = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        count = int(runs[1]) if runs else 0
        total += count
        print(f"{name}: {count} inputs" + ("" if done.returncode == 0 else ", FAILED"), flush=True)
        if done.returncode:
            failed.append(name)
            print("\n".join((done.stdout + done.stderr).splitlines()[-30:]))
    print(f"{'fail' if failed else 'pass'}: {total} inputs to {len(TARGETS)} targets")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
