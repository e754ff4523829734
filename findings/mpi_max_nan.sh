#!/usr/bin/env bash
# The largest loss of all processes, of which one is NaN: MPI tells each process something else.
#
# Guess before the run: Allreduce with MPI.MAX gives NaN or leaves it out, but the same on all ranks.
# Seen with mpi4py 4.1.2 and mpich 5.0.2, two processes with one float32 each, 1 and 2, NaN in the place of one of them:
# NaN on rank 0: rank 0 is told 2, rank 1 NaN. NaN on rank 1: rank 0 is told NaN, rank 1 is told 1. Each hears the other's
# number. MPI.MIN does the same. With 100,000 numbers the ranks agree: a NaN of rank 1 is kept, one of rank 0 is lost.
# Why, as the results show: every comparison with a NaN is false, so of two numbers the one named second is kept, and each
# rank names its own in another place. Of long arrays each part is computed once, then handed round.
# What follows: `if isnan(allreduce(loss, MAX)): skip` parts the ranks, which then wait for each other for ever. Reduce
# a count, `allreduce(int(isnan(loss)), SUM)`; a sum of floats carries NaN to everybody, too.
# Exit 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mpi4py==4.1.2 mpich==5.0.2 numpy==2.4.6 2>/dev/null
cat >"$folder/ranks.py" <<'PYTHON'
import sys

import numpy as np
from mpi4py import MPI

world = MPI.COMM_WORLD
found = {}
for n in (1, 100_000):
    for who in (0, 1):
        for name in ("MAX", "MIN", "SUM"):
            x = np.full(n, np.nan if world.rank == who else world.rank + 1, np.float32)
            out = np.empty_like(x)
            world.Allreduce(x, out, getattr(MPI, name))
            found[n, who, name] = [str(v) for v in world.allgather(float(out[0]))]
            if world.rank == 0:
                print(f"{n:7,} numbers, NaN on rank {who}, {name}: told to ranks 0 and 1 {found[n, who, name]}")
as_seen = (
    found[1, 0, "MAX"] == found[1, 0, "MIN"] == ["2.0", "nan"]
    and found[1, 1, "MAX"] == found[1, 1, "MIN"] == ["nan", "1.0"]
    and found[100_000, 0, "MAX"] == ["2.0", "2.0"]
    and found[100_000, 1, "MAX"] == ["nan", "nan"]
    and all(found[n, who, "SUM"] == ["nan", "nan"] for n in (1, 100_000) for who in (0, 1))
)
if world.rank == 0:
    print("as described" if as_seen else "CHANGED: this no longer is what the header describes", flush=True)
sys.exit(not as_seen)
PYTHON
timeout 60 "$folder/venv/bin/mpiexec" -n 2 "$folder/venv/bin/python" "$folder/ranks.py" || exit 1
